//! The access log's line of a record. Written by hand, as it is written for every request: by way of serde it cost a fifth
//! of a hit. What it says is what serde would say of the record; a test holds the two together.

use std::{io::Write as _, net::IpAddr};

use http::{HeaderValue, uri::PathAndQuery};

use crate::record::{FIELD_BYTES_MAX, Record};

/// What most lines fit into.
const LINE_BYTES: usize = 512;

/// Appends the record as one JSON object, without a line's end.
pub(crate) fn write(record: &Record, line: &mut Vec<u8>) {
    line.reserve(LINE_BYTES);
    put(line, "{\"time\":");
    digits(line, record.time);
    put(line, ",\"node\":");
    text(line, record.node.as_bytes());
    put(line, ",\"site\":");
    text(line, record.site.as_bytes());
    put(line, ",\"client\":\"");
    address(line, record.client);
    put(line, "\",\"method\":\"");
    // A token, and the program's own words further below, hold nothing that JSON escapes.
    line.extend_from_slice(record.method.as_str().as_bytes());
    put(line, "\",\"host\":");
    text(line, field(record.host.as_ref()));
    put(line, ",\"target\":");
    text(line, record.target.as_ref().map_or("", PathAndQuery::as_str).as_bytes());
    put(line, ",\"protocol\":\"");
    line.extend_from_slice(record.protocol.as_bytes());
    put(line, "\",\"status\":");
    digits(line, record.status.into());
    put(line, ",\"bytes\":");
    digits(line, record.bytes);
    put(line, if record.cut { ",\"cut\":true,\"cache\":\"" } else { ",\"cut\":false,\"cache\":\"" });
    line.extend_from_slice(record.cache.as_bytes());
    put(line, "\",\"reason\":\"");
    line.extend_from_slice(record.reason.as_bytes());
    put(line, "\",\"tier\":\"");
    line.extend_from_slice(record.tier.as_bytes());
    put(line, "\",\"upstream\":");
    text(line, record.upstream.as_bytes());
    put(line, ",\"key\":\"");
    hexadecimal(line, record.key);
    put(line, "\",\"generation\":");
    digits(line, record.generation);
    put(line, ",\"rule\":");
    match record.rule {
        Some(rule) => digits(line, rule.into()),
        None => put(line, "null"),
    }
    put(line, ",\"head_us\":");
    digits(line, record.head_us);
    put(line, ",\"total_us\":");
    digits(line, record.total_us);
    put(line, ",\"user_agent\":");
    text(line, field(record.user_agent.as_ref()));
    if let Some(trace) = &record.trace {
        // A vector takes whatever is written.
        write!(line, ",\"trace_id\":\"{}\"", trace.id()).unwrap_or_default();
    }
    line.push(b'}');
}

/// What is known when this is compiled: inlined, it becomes a few stores instead of a call.
#[inline(always)]
fn put(line: &mut Vec<u8>, known: &'static str) {
    line.extend_from_slice(known.as_bytes());
}

pub(crate) fn field(value: Option<&HeaderValue>) -> &[u8] {
    let bytes = value.map_or(&b""[..], HeaderValue::as_bytes);
    bytes.get(..FIELD_BYTES_MAX).unwrap_or(bytes)
}

/// A string, with its quotes.
fn text(line: &mut Vec<u8>, value: &[u8]) {
    // Without a way out in between, so that several bytes are looked at at once.
    if value.iter().fold(true, |plain, byte| plain & is_plain(*byte)) {
        line.push(b'"');
        line.extend_from_slice(value);
        line.push(b'"');
        return;
    }
    // A vector takes whatever is written, and text has a JSON form.
    serde_json::to_writer(line, &String::from_utf8_lossy(value)).unwrap_or_default();
}

/// Stands in a JSON string as it is, and is UTF-8 whatever stands beside it.
fn is_plain(byte: u8) -> bool {
    (b' '..=b'~').contains(&byte) & (byte != b'"') & (byte != b'\\')
}

/// Decimal, from the last digit to the first.
fn digits(line: &mut Vec<u8>, mut value: u64) {
    let mut text = [0; 20];
    let mut length = 0;
    for place in text.iter_mut().rev() {
        *place = b'0' + (value % 10) as u8;
        length += 1;
        value /= 10;
        if value == 0 {
            break;
        }
    }
    line.extend_from_slice(text.get(text.len() - length..).unwrap_or_default());
}

fn address(line: &mut Vec<u8>, value: IpAddr) {
    match value {
        IpAddr::V4(v4) => {
            let [a, b, c, d] = v4.octets();
            digits(line, a.into());
            for octet in [b, c, d] {
                line.push(b'.');
                digits(line, octet.into());
            }
        }
        // A vector takes whatever is written.
        IpAddr::V6(v6) => write!(line, "{v6}").unwrap_or_default(),
    }
}

fn hexadecimal(line: &mut Vec<u8>, value: Option<u64>) {
    let Some(value) = value else { return };
    let digits: [u8; 16] = std::array::from_fn(|place| {
        let digit = (value >> ((15 - place) * 4)) as u8 & 0xf;
        if digit < 10 { b'0' + digit } else { b'a' - 10 + digit }
    });
    line.extend_from_slice(&digits);
}

#[cfg(test)]
mod tests {
    use http::Method;
    use proptest::prelude::*;

    use super::*;

    fn check(record: &Record) {
        let mut line = Vec::new();
        write(record, &mut line);
        assert_eq!(String::from_utf8(line).unwrap(), serde_json::to_string(record).unwrap());
    }

    proptest! {
        #[test]
        fn says_what_serde_says(
            numbers in any::<[u64; 6]>(),
            small in any::<[u8; 2]>(),
            cut in any::<bool>(),
            key in any::<Option<u64>>(),
            client in any::<IpAddr>(),
            agent in proptest::collection::vec(any::<u8>().prop_filter("no control", |b| *b >= 32 && *b != 127), 0..300),
            site in "\\PC{0,8}",
            target in "/[ -~]{0,20}",
        ) {
            let mut record = crate::record::tests::record();
            [record.time, record.bytes, record.generation, record.head_us, record.total_us, _] = numbers;
            record.status = u16::from(small[0]) * 4;
            (record.cut, record.key, record.client) = (cut, key, client);
            record.user_agent = HeaderValue::from_bytes(&agent).ok();
            record.site = site.into();
            record.target = target.parse().ok();
            check(&record);
        }
    }

    #[test]
    fn the_ends_of_numbers_and_what_is_absent() {
        for number in [0, 9, 10, 99, 100, u64::MAX] {
            let record = Record { time: number, bytes: number, key: Some(number), ..crate::record::tests::record() };
            check(&record);
        }
        let (host, target, key, rule) = (None, None, None, None);
        check(&Record { method: Method::PUT, host, target, key, rule, ..crate::record::tests::record() });
    }
}
