//! A head that shares no memory with the connection it came from.

use bytes::BytesMut;
use http::HeaderValue;
use perigee_semantics::head::StoredHead;

/// hyper hands out field values as slices of its read buffer: kept as they are, each small response would keep 8 KiB and
/// more alive, uncounted. All values move into one allocation of just their size.
pub(super) fn head(head: &StoredHead) -> StoredHead {
    let mut head = head.clone();
    let mut text = BytesMut::with_capacity(head.fields.values().map(HeaderValue::len).sum());
    for value in head.fields.values_mut() {
        text.extend_from_slice(value.as_bytes());
        // It was a valid value a moment ago; if it were not, it stays as it was.
        if let Ok(mut copy) = HeaderValue::from_maybe_shared(text.split().freeze()) {
            copy.set_sensitive(value.is_sensitive());
            *value = copy;
        }
    }
    head
}
