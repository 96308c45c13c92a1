//! A response's head, byte for byte as hyper writes it, where the response is of the usual kind.

use std::io::Write as _;

use ::http::{HeaderValue, Response, StatusCode, Version, header};
use http_body::Body;

use crate::clock;

/// Writes the head of an answer to a GET or a HEAD into `out` and returns how many bytes of content follow it. None, with
/// anything in `out`, where hyper has to write it: content of unknown length, or fields that are about the connection.
pub(super) fn encode<B: Body>(out: &mut Vec<u8>, is_head: bool, response: &Response<B>) -> Option<u64> {
    out.clear();
    let status = response.status();
    let ended = response.body().is_end_stream();
    let length = if ended { 0 } else { response.body().size_hint().exact()? };
    // RFC 9110 §15.3.5 and §15.4.5
    let contentless = matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
    let is_usual = response.version() == Version::HTTP_11
        && !status.is_informational()
        // A reason phrase, or names in another case.
        && response.extensions().is_empty()
        && (length == 0 || !contentless);
    if !is_usual {
        return None;
    }
    if status == StatusCode::OK {
        out.extend_from_slice(b"HTTP/1.1 200 OK\r\n");
    } else {
        put(out, &[b"HTTP/1.1 ", status.as_str().as_bytes(), b" ", status.canonical_reason()?.as_bytes(), b"\r\n"]);
    }

    let (mut has_length, mut has_date) = (false, false);
    for (name, value) in response.headers() {
        match *name {
            header::CONTENT_LENGTH if has_length => return None,
            // Of content that there is none of only a HEAD tells the length.
            header::CONTENT_LENGTH if ended && !is_head => {
                if value != "0" {
                    return None;
                }
                continue;
            }
            header::CONTENT_LENGTH => {
                if !ended && digits(value) != Some(length) {
                    return None;
                }
                has_length = true;
            }
            header::DATE => has_date = true,
            header::CONNECTION | header::TRANSFER_ENCODING | header::TRAILER | header::UPGRADE => return None,
            _ => {}
        }
        put(out, &[name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"]);
    }
    if !has_length && (length > 0 || !(contentless || is_head)) {
        // Into memory.
        let _infallible = write!(out, "content-length: {length}\r\n");
    }
    if !has_date {
        // RFC 9110 §6.6.1
        put(out, &[b"date: ", clock::http_date(clock::now_ms()).as_bytes(), b"\r\n"]);
    }
    out.extend_from_slice(b"\r\n");
    Some(if is_head { 0 } else { length })
}

fn put(out: &mut Vec<u8>, parts: &[&[u8]]) {
    for part in parts {
        out.extend_from_slice(part);
    }
}

/// RFC 9110 §8.6: nothing but digits.
fn digits(value: &HeaderValue) -> Option<u64> {
    let digits = value.as_bytes();
    if digits.is_empty() {
        return None;
    }
    digits.iter().try_fold(0_u64, |number, &digit| match digit {
        b'0'..=b'9' => number.checked_mul(10)?.checked_add(u64::from(digit - b'0')),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths() {
        let check = |text: &'static str, expected| {
            assert_eq!(digits(&HeaderValue::from_static(text)), expected, "{text}");
        };
        check("0", Some(0));
        check("00123", Some(123));
        check("18446744073709551615", Some(u64::MAX));
        for bad in ["18446744073709551616", "", "+1", "1 ", "1,1", "0x1"] {
            check(bad, None);
        }
    }
}
