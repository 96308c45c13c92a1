//! OTLP 1.x in protobuf, as far as traces go: `opentelemetry/proto/trace/v1/trace.proto` and what it needs. Writing alone.

use perigee_semantics::trace::{SpanId, TraceId};

/// Strings are cut at so many bytes: URLs and agents are their senders' to make long.
const TEXT_BYTES_MAX: usize = 1024;

const VARINT: u8 = 0;
const FIXED64: u8 = 1;
const BYTES: u8 = 2;
const FIXED32: u8 = 5;

/// A message in the making.
#[derive(Debug, Default)]
pub(crate) struct Message(Vec<u8>);

impl Message {
    pub(crate) fn into_bytes(self) -> Vec<u8> {
        self.0
    }

    fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
    }

    fn tag(&mut self, field: u32, wire: u8) {
        self.varint(u64::from(field << 3 | u32::from(wire)));
    }

    pub(crate) fn number(&mut self, field: u32, value: u64) {
        self.tag(field, VARINT);
        self.varint(value);
    }

    pub(crate) fn fixed64(&mut self, field: u32, value: u64) {
        self.tag(field, FIXED64);
        self.0.extend_from_slice(&value.to_le_bytes());
    }

    pub(crate) fn fixed32(&mut self, field: u32, value: u32) {
        self.tag(field, FIXED32);
        self.0.extend_from_slice(&value.to_le_bytes());
    }

    pub(crate) fn bytes(&mut self, field: u32, value: &[u8]) {
        self.tag(field, BYTES);
        self.varint(value.len() as u64);
        self.0.extend_from_slice(value);
    }

    /// At most [`TEXT_BYTES_MAX`] of it.
    pub(crate) fn text(&mut self, field: u32, value: &str) {
        let end = (0..=TEXT_BYTES_MAX.min(value.len())).rev().find(|end| value.is_char_boundary(*end));
        self.bytes(field, value.get(..end.unwrap_or(0)).unwrap_or_default().as_bytes());
    }

    pub(crate) fn message(&mut self, field: u32, make: impl FnOnce(&mut Message)) {
        let mut inner = Message::default();
        make(&mut inner);
        self.bytes(field, &inner.0);
    }

    /// `KeyValue` with an `AnyValue` that is a string.
    pub(crate) fn attribute(&mut self, field: u32, key: &str, value: &str) {
        self.message(field, |pair| {
            pair.text(1, key);
            pair.message(2, |any| any.text(1, value));
        });
    }

    /// The same with a number.
    pub(crate) fn attribute_number(&mut self, field: u32, key: &str, value: u64) {
        self.message(field, |pair| {
            pair.text(1, key);
            pair.message(2, |any| any.number(3, value));
        });
    }

    /// The same with `true`.
    pub(crate) fn attribute_true(&mut self, field: u32, key: &str) {
        self.message(field, |pair| {
            pair.text(1, key);
            pair.message(2, |any| any.number(2, 1));
        });
    }

    pub(crate) fn ids(&mut self, fields: (u32, u32), trace: TraceId, span: SpanId) {
        self.bytes(fields.0, &trace.to_bytes());
        self.bytes(fields.1, &span.to_bytes());
    }
}

/// An `ExportTraceServiceRequest` of those spans, each a `Span` already.
pub(crate) fn request(resource: &[(String, String)], spans: &[Vec<u8>]) -> Vec<u8> {
    let mut request = Message::default();
    request.message(1, |of_resource| {
        of_resource.message(1, |described| {
            for (key, value) in resource {
                described.attribute(1, key, value);
            }
        });
        of_resource.message(2, |of_scope| {
            of_scope.message(1, |scope| {
                scope.text(1, env!("CARGO_PKG_NAME"));
                scope.text(2, env!("CARGO_PKG_VERSION"));
            });
            for span in spans {
                of_scope.bytes(2, span);
            }
        });
    });
    request.into_bytes()
}

/// How many spans an `ExportTraceServiceResponse` says were refused, and why. What cannot be read says nothing.
pub(crate) fn refused(response: &[u8]) -> (u64, String) {
    let Some(partial) = field(response, 1) else { return (0, String::new()) };
    let why = field(partial.bytes, 2).map(|why| String::from_utf8_lossy(why.bytes).into_owned());
    (field(partial.bytes, 1).map_or(0, |count| count.number), why.unwrap_or_default())
}

#[derive(Clone, Copy, Debug, Default)]
struct Field<'a> {
    number: u64,
    bytes: &'a [u8],
}

/// The last field of that number.
fn field(mut message: &[u8], wanted: u64) -> Option<Field<'_>> {
    let mut found = None;
    while !message.is_empty() {
        let tag = varint(&mut message)?;
        let field = match (tag & 7) as u8 {
            VARINT => Field { number: varint(&mut message)?, bytes: &[] },
            FIXED64 => Field { number: 0, bytes: take(&mut message, 8)? },
            FIXED32 => Field { number: 0, bytes: take(&mut message, 4)? },
            BYTES => {
                let length = usize::try_from(varint(&mut message)?).ok()?;
                Field { number: 0, bytes: take(&mut message, length)? }
            }
            _ => return None,
        };
        if tag >> 3 == wanted {
            found = Some(field);
        }
    }
    found
}

fn take<'a>(message: &mut &'a [u8], length: usize) -> Option<&'a [u8]> {
    let (taken, rest) = message.split_at_checked(length)?;
    *message = rest;
    Some(taken)
}

fn varint(message: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for place in 0..10 {
        let (byte, rest) = message.split_first()?;
        *message = rest;
        value |= u64::from(byte & 0x7f) << (7 * place);
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn numbers_are_read_as_they_are_written() {
        for number in [0, 1, 127, 128, 300, u64::from(u32::MAX), u64::MAX] {
            let mut message = Message::default();
            message.number(1, 7);
            message.fixed64(2, 1);
            message.fixed32(3, 1);
            message.number(16, number);
            assert_eq!(field(&message.into_bytes(), 16).unwrap().number, number);
        }
    }

    #[test]
    fn texts_are_cut_between_characters() {
        let check = |text: String, bytes: usize| {
            let mut message = Message::default();
            message.text(1, &text);
            let message = message.into_bytes();
            let cut = field(&message, 1).unwrap().bytes;
            assert_eq!((cut.len(), std::str::from_utf8(cut).is_ok()), (bytes, true));
        };
        check("a".repeat(TEXT_BYTES_MAX), TEXT_BYTES_MAX);
        check("a".repeat(TEXT_BYTES_MAX + 1), TEXT_BYTES_MAX);
        check("é".repeat(TEXT_BYTES_MAX), TEXT_BYTES_MAX);
        check(format!("a{}", "é".repeat(TEXT_BYTES_MAX)), TEXT_BYTES_MAX - 1);
    }

    #[test]
    fn what_a_collector_refuses_is_heard() {
        let mut response = Message::default();
        response.message(1, |partial| {
            partial.number(1, 3);
            partial.text(2, "too old");
        });
        assert_eq!(refused(&response.into_bytes()), (3, "too old".to_owned()));
        assert_eq!(refused(b""), (0, String::new()));
        assert_eq!(refused(b"{\"partialSuccess\":{}}"), (0, String::new()));
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..100)) {
            refused(&bytes);
        }
    }
}
