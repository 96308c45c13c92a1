//! Frame Streams (the fstrm protocol): data frames with their length in front, and control frames behind a length of zero.

use std::io::{self, Read, Write};

/// What is in the data frames.
const CONTENT_TYPE: &[u8] = b"protobuf:dnstap.Dnstap";
/// A control frame is no longer than this.
const CONTROL_BYTES_MAX: usize = 512;
/// The one field that control frames have.
const FIELD_CONTENT_TYPE: u32 = 1;
/// More than any frame of ours: 64 KiB of DNS, and what is told of it.
pub(super) const FRAME_BYTES_MAX: usize = 128 * 1024;

/// Control frames, by their number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Control {
    Accept = 1,
    Start = 2,
    Stop = 3,
    Ready = 4,
    Finish = 5,
}

impl Control {
    fn of(number: u32) -> Option<Self> {
        [Self::Accept, Self::Start, Self::Stop, Self::Ready, Self::Finish]
            .into_iter()
            .find(|control| *control as u32 == number)
    }

    /// Whole, with the zero that escapes it.
    pub(super) fn frame(self) -> Vec<u8> {
        let mut body = (self as u32).to_be_bytes().to_vec();
        if matches!(self, Self::Accept | Self::Start | Self::Ready) {
            body.extend(FIELD_CONTENT_TYPE.to_be_bytes());
            body.extend((CONTENT_TYPE.len() as u32).to_be_bytes());
            body.extend(CONTENT_TYPE);
        }
        [&[0; 4], &(body.len() as u32).to_be_bytes(), body.as_slice()].concat()
    }
}

/// Reads a control frame, escape and all.
pub(super) fn read_control(from: &mut impl Read) -> io::Result<Control> {
    if read_u32(from)? != 0 {
        return Err(invalid("a data frame where a control frame must be"));
    }
    read_escaped(from)
}

/// Reads what follows the zero of a control frame. One that names other contents than ours is an error.
pub(super) fn read_escaped(from: &mut impl Read) -> io::Result<Control> {
    let length = usize::try_from(read_u32(from)?).unwrap_or(usize::MAX);
    let mut body = vec![0; length.min(CONTROL_BYTES_MAX)];
    if body.len() < length {
        return Err(invalid("a control frame that is too long"));
    }
    from.read_exact(&mut body)?;
    parse(&body).ok_or_else(|| invalid("a control frame that is none, or of other contents than dnstap's"))
}

fn parse(body: &[u8]) -> Option<Control> {
    let (number, mut fields) = body.split_first_chunk()?;
    let control = Control::of(u32::from_be_bytes(*number))?;
    // Who names no contents takes any.
    let (mut is_named, mut is_ours) = (false, false);
    while !fields.is_empty() {
        let (field, rest) = fields.split_first_chunk()?;
        let (length, rest) = rest.split_first_chunk()?;
        let (value, rest) = rest.split_at_checked(usize::try_from(u32::from_be_bytes(*length)).ok()?)?;
        if u32::from_be_bytes(*field) == FIELD_CONTENT_TYPE {
            is_named = true;
            is_ours |= value == CONTENT_TYPE;
        }
        fields = rest;
    }
    (is_ours || !is_named).then_some(control)
}

/// Says what contents there will be, and has them accepted.
pub(super) fn greet(stream: &mut (impl Read + Write)) -> io::Result<()> {
    stream.write_all(&Control::Ready.frame())?;
    match read_control(stream)? {
        Control::Accept => stream.write_all(&Control::Start.frame()),
        _ => Err(invalid("another word than ACCEPT from the collector")),
    }
}

/// Says that this was all, and waits until that is known.
pub(super) fn finish(stream: &mut (impl Read + Write)) -> io::Result<()> {
    stream.write_all(&Control::Stop.frame())?;
    match read_control(stream)? {
        Control::Finish => Ok(()),
        _ => Err(invalid("another word than FINISH from the collector")),
    }
}

/// How many of the frames lie within the first `written` bytes, and where the last of them ends.
pub(super) fn whole(frames: &[u8], written: usize) -> (u64, usize) {
    let (mut count, mut end) = (0, 0);
    while let Some((length, _)) = frames.get(end..).and_then(<[u8]>::split_first_chunk::<4>) {
        let next = end + 4 + usize::try_from(u32::from_be_bytes(*length)).unwrap_or(usize::MAX - 4 - end);
        if next > written {
            break;
        }
        (count, end) = (count + 1, next);
    }
    (count, end)
}

pub(super) fn read_u32(from: &mut impl Read) -> io::Result<u32> {
    let mut bytes = [0; 4];
    from.read_exact(&mut bytes)?;
    Ok(u32::from_be_bytes(bytes))
}

pub(super) fn invalid(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_frames() {
        assert_eq!(Control::Stop.frame(), [0, 0, 0, 0, 0, 0, 0, 4, 0, 0, 0, 3]);
        assert_eq!(Control::Ready.frame(), b"\0\0\0\0\0\0\0\x22\0\0\0\x04\0\0\0\x01\0\0\0\x16protobuf:dnstap.Dnstap");
        for control in [Control::Accept, Control::Start, Control::Stop, Control::Ready, Control::Finish] {
            assert_eq!(read_control(&mut control.frame().as_slice()).unwrap(), control);
        }
    }

    #[test]
    fn what_is_no_control_frame_of_ours() {
        let check = |bytes: &[u8], is_read: bool| {
            assert_eq!(read_control(&mut &*bytes).is_ok(), is_read, "{bytes:?}");
        };
        check(b"\0\0\0\0\0\0\0\x04\0\0\0\x01", true);
        check(b"\0\0\0\x01\0\0\0\x04\0\0\0\x01", false);
        check(b"\0\0\0\0\0\0\0\x04\0\0\0\x06", false);
        check(b"\0\0\0\0\0\0\0\x04\0\0\0\0", false);
        check(b"\0\0\0\0\0\0\0\x03\0\0\x01", false);
        check(b"\0\0\0\0\0\0\0\x05\0\0\0\x01\0", false);
        check(b"\0\0\0\0\0\0\0\x0d\0\0\0\x01\0\0\0\x01\0\0\0\x01x", false);
        // Among several, ours is enough; a field that nobody knows is no fault.
        let ours = [&[0, 0, 0, 1, 0, 0, 0, 22], CONTENT_TYPE].concat();
        let body = [b"\0\0\0\x01\0\0\0\x01\0\0\0\x01x\0\0\0\x02\0\0\0\0".as_slice(), &ours].concat();
        check(&[&[0, 0, 0, 0, 0, 0, 0, body.len() as u8], body.as_slice()].concat(), true);
        let long = |length: usize| {
            let field = length - 12;
            let fields = [&[0, 0, 0, 1, 0, 0, 0, 2], (field as u32).to_be_bytes().as_slice(), &vec![0; field]].concat();
            [&[0; 4], (length as u32).to_be_bytes().as_slice(), &fields].concat()
        };
        check(&long(CONTROL_BYTES_MAX), true);
        check(&long(CONTROL_BYTES_MAX + 1), false);
    }

    #[test]
    fn frames_that_are_whole() {
        let frames = b"\0\0\0\x02ab\0\0\0\x01c";
        for (written, expected) in [(0, (0, 0)), (5, (0, 0)), (6, (1, 6)), (10, (1, 6)), (11, (2, 11)), (99, (2, 11))] {
            assert_eq!(whole(frames, written), expected, "{written}");
        }
        assert_eq!(whole(b"\xff\xff\xff\xffa", 5), (0, 0));
    }
}
