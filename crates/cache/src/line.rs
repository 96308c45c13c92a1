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
    number(line, "{\"time\":", record.time);
    text(line, ",\"node\":", record.node.as_bytes());
    text(line, ",\"site\":", record.site.as_bytes());
    address(line, ",\"client\":", record.client);
    text(line, ",\"method\":", record.method.as_str().as_bytes());
    text(line, ",\"host\":", field(record.host.as_ref()));
    text(line, ",\"target\":", record.target.as_ref().map_or("", PathAndQuery::as_str).as_bytes());
    text(line, ",\"protocol\":", record.protocol.as_bytes());
    number(line, ",\"status\":", record.status.into());
    number(line, ",\"bytes\":", record.bytes);
    line.extend_from_slice(if record.cut { b",\"cut\":true" } else { b",\"cut\":false" });
    text(line, ",\"cache\":", record.cache.as_bytes());
    text(line, ",\"reason\":", record.reason.as_bytes());
    text(line, ",\"tier\":", record.tier.as_bytes());
    text(line, ",\"upstream\":", record.upstream.as_bytes());
    hexadecimal(line, ",\"key\":", record.key);
    number(line, ",\"generation\":", record.generation);
    number(line, ",\"head_us\":", record.head_us);
    number(line, ",\"total_us\":", record.total_us);
    text(line, ",\"user_agent\":", field(record.user_agent.as_ref()));
    line.push(b'}');
}

pub(crate) fn field(value: Option<&HeaderValue>) -> &[u8] {
    let bytes = value.map_or(&b""[..], HeaderValue::as_bytes);
    bytes.get(..FIELD_BYTES_MAX).unwrap_or(bytes)
}

fn text(line: &mut Vec<u8>, name: &str, value: &[u8]) {
    line.extend_from_slice(name.as_bytes());
    if value.iter().all(|byte| PLAIN.get(usize::from(*byte)).is_some_and(|plain| *plain)) {
        line.push(b'"');
        line.extend_from_slice(value);
        line.push(b'"');
        return;
    }
    // A vector takes whatever is written, and text has a JSON form.
    serde_json::to_writer(line, &String::from_utf8_lossy(value)).unwrap_or_default();
}

/// Bytes that stand in a JSON string as they are, and are UTF-8 whatever stands beside them.
static PLAIN: [bool; 256] = {
    let mut plain = [false; 256];
    let mut byte = b' ';
    while byte <= b'~' {
        plain[byte as usize] = byte != b'"' && byte != b'\\';
        byte += 1;
    }
    plain
};

fn number(line: &mut Vec<u8>, name: &str, value: u64) {
    line.extend_from_slice(name.as_bytes());
    digits(line, value);
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

fn address(line: &mut Vec<u8>, name: &str, value: IpAddr) {
    line.extend_from_slice(name.as_bytes());
    line.push(b'"');
    match value {
        IpAddr::V4(v4) => {
            for (index, octet) in v4.octets().into_iter().enumerate() {
                if index > 0 {
                    line.push(b'.');
                }
                digits(line, octet.into());
            }
        }
        // A vector takes whatever is written.
        IpAddr::V6(v6) => write!(line, "{v6}").unwrap_or_default(),
    }
    line.push(b'"');
}

fn hexadecimal(line: &mut Vec<u8>, name: &str, value: Option<u64>) {
    line.extend_from_slice(name.as_bytes());
    line.push(b'"');
    if let Some(value) = value {
        for shift in (0..16).rev() {
            let digit = (value >> (shift * 4)) as u8 & 0xf;
            line.push(if digit < 10 { b'0' + digit } else { b'a' - 10 + digit });
        }
    }
    line.push(b'"');
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
        check(&Record { method: Method::PUT, host: None, target: None, key: None, ..crate::record::tests::record() });
    }
}
