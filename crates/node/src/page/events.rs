//! `text/event-stream` as it comes off the wire, in bounded memory.

/// Longest event that is read, in bytes; a fleet of hundreds of PoPs tells a tenth of it.
pub(super) const EVENT_BYTES_MAX: usize = 512 * 1024;

/// An event or a line of it is longer than [`EVENT_BYTES_MAX`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TooLong;

/// Events out of pieces of a stream.
#[derive(Debug, Default)]
pub(super) struct Events {
    line: Vec<u8>,
    data: Vec<u8>,
}

impl Events {
    /// The last event that is complete with this piece; those before it are passed over, since figures grow old.
    ///
    /// Lines end as our nodes end them, with a line feed, or with one after a carriage return; fields other than `data`
    /// say nothing here.
    pub(super) fn push(&mut self, piece: &[u8]) -> Result<Option<Vec<u8>>, TooLong> {
        let mut last = None;
        let mut rest = piece;
        while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
            let (ended, after) = rest.split_at(end);
            self.extend_line(ended)?;
            rest = after.get(1..).unwrap_or_default();
            if let Some(event) = self.end_line()? {
                last = Some(event);
            }
        }
        self.extend_line(rest)?;
        Ok(last)
    }

    fn extend_line(&mut self, piece: &[u8]) -> Result<(), TooLong> {
        if self.line.len() + piece.len() > EVENT_BYTES_MAX {
            return Err(TooLong);
        }
        self.line.extend_from_slice(piece);
        Ok(())
    }

    /// WHATWG HTML §9.2.6: an empty line ends an event; lines of data are joined by line feeds.
    fn end_line(&mut self) -> Result<Option<Vec<u8>>, TooLong> {
        let line = std::mem::take(&mut self.line);
        let line = line.strip_suffix(b"\r").unwrap_or(&line);
        if line.is_empty() {
            let data = std::mem::take(&mut self.data);
            return Ok((!data.is_empty()).then_some(data));
        }
        let Some(data) = line.strip_prefix(b"data:") else { return Ok(None) };
        let data = data.strip_prefix(b" ").unwrap_or(data);
        if self.data.len() + data.len() >= EVENT_BYTES_MAX {
            return Err(TooLong);
        }
        if !self.data.is_empty() {
            self.data.push(b'\n');
        }
        self.data.extend_from_slice(data);
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(pieces: &[&str], expected: &[&str]) {
        let mut events = Events::default();
        let found: Vec<_> = pieces.iter().filter_map(|piece| events.push(piece.as_bytes()).unwrap()).collect();
        assert_eq!(
            found.iter().map(|event| String::from_utf8_lossy(event)).collect::<Vec<_>>(),
            expected,
            "{pieces:?}"
        );
    }

    #[test]
    fn events_out_of_pieces() {
        check(&["retry: 2000\n\n", "data: [1]\n\n"], &["[1]"]);
        check(&["da", "ta:", " [1", "]\n", "\n"], &["[1]"]);
        check(&["data:a\r\ndata: b\r\n\r\n"], &["a\nb"]);
        check(&["data: 1\n\ndata: 2\n\ndata: 3\n"], &["2"]);
        check(&[": still here\n\nevent: x\nid: 7\n\n", "HTTP/1.1 200 OK\r\n"], &[]);
    }

    #[test]
    fn where_a_stream_is_cut_does_not_matter() {
        let stream = "retry: 2000\n\ndata: [1]\n\ndata: {\r\ndata: é}\r\n\r\n:\n\ndata\ndata:\n\n".as_bytes();
        let whole = Events::default().push(stream).unwrap();
        assert_eq!(whole.as_deref(), Some("{\né}".as_bytes()));
        for first in 0..=stream.len() {
            for second in first..=stream.len() {
                let mut events = Events::default();
                let pieces = [&stream[..first], &stream[first..second], &stream[second..]];
                let last = pieces.into_iter().filter_map(|piece| events.push(piece).unwrap()).last();
                assert_eq!(last, whole, "cut at {first} and {second}");
            }
        }
    }

    #[test]
    fn no_event_is_longer_than_its_limit() {
        let line = |length: usize| [b"data: ".as_slice(), &vec![b'a'; length], b"\n\n"].concat();
        let most = EVENT_BYTES_MAX - b"data: ".len();
        assert_eq!(Events::default().push(&line(most)).unwrap().map(|event| event.len()), Some(most));
        assert_eq!(Events::default().push(&line(most + 1)), Err(TooLong));
        let mut unending = Events::default();
        let refused = (0..=EVENT_BYTES_MAX / 1024).find_map(|_| unending.push(&[b'a'; 1024]).err());
        assert_eq!(refused, Some(TooLong));
        let mut many = Events::default();
        let refused = (0..=EVENT_BYTES_MAX / 1024)
            .find_map(|_| many.push(format!("data:{}\n", "a".repeat(1024)).as_bytes()).err());
        assert_eq!(refused, Some(TooLong));
    }
}
