//! Whether the bytes of a database hang together, before anything is answered from them.
//!
//! An MMDB has no checksum, so that this is all a reader can know: every record of the search tree points to another
//! node, to nothing, or into the data; every value that can be reached from the tree is well-formed to its last byte and
//! every string is text. What a flipped bit turns into another well-formed value stays unnoticed.
//!
//! Each value is walked once, so that a database of 57 MB takes some ten milliseconds; the only memory is one bit for
//! each byte of data, given back at the end. (The reader's own `verify` takes seconds and hundreds of megabytes.)

/// Why a database is not to be trusted; offsets are bytes from the file's start.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Damage {
    /// No metadata where the format wants it.
    #[error("no metadata in its last 128 KiB: not a MaxMind database, or cut short")]
    NoMetadata,
    /// Metadata promise more than the file holds.
    #[error("its search tree of {nodes} nodes does not fit the file: cut short or damaged")]
    TreeTooLong {
        /// By the metadata.
        nodes: u32,
    },
    /// The sixteen zeros between tree and data are not.
    #[error("tree and data are not separated where the metadata say: cut short or damaged")]
    Separator,
    /// A record of the tree points nowhere.
    #[error("node {node} of its search tree points outside the file")]
    TreePointer {
        /// Which.
        node: usize,
    },
    /// A value of the data section is not well-formed.
    #[error("its data is damaged at byte {offset}: {what}")]
    Value {
        /// Where.
        offset: usize,
        /// In what way.
        what: &'static str,
    },
}

/// The format puts the metadata's marker within so many bytes of the end.
const METADATA_BYTES_MAX: usize = 128 * 1024;
const METADATA_MARKER: &[u8] = b"\xab\xcd\xefMaxMind.com";
const SEPARATOR_BYTES: usize = 16;
/// A cursor that has met more values than this share of the data's bytes walks in circles.
const VALUES_PER_BYTE_MAX: usize = 2;

/// Where the metadata's marker begins.
pub(crate) fn metadata_marker(file: &[u8]) -> Result<usize, Damage> {
    let start = file.len().saturating_sub(METADATA_BYTES_MAX);
    let tail = file.get(start..).unwrap_or_default();
    let at = tail.windows(METADATA_MARKER.len()).rposition(|window| window == METADATA_MARKER);
    at.map(|at| start + at).ok_or(Damage::NoMetadata)
}

/// Walks all of tree and data and counts the different records. `nodes` and `record_bits` (24, 28 or 32) are the
/// metadata's.
pub(crate) fn walk(file: &[u8], nodes: u32, record_bits: u16) -> Result<usize, Damage> {
    let too_long = Damage::TreeTooLong { nodes };
    let node_bytes = usize::from(record_bits) / 4;
    let marker = metadata_marker(file)?;
    let node_count = usize::try_from(nodes).map_err(|_| too_long)?;
    let tree_len = node_count.checked_mul(node_bytes).filter(|len| *len > 0).ok_or(too_long)?;
    let (tree, rest) = file.get(..marker).and_then(|body| body.split_at_checked(tree_len)).ok_or(too_long)?;
    let (separator, data) = rest.split_at_checked(SEPARATOR_BYTES).ok_or(too_long)?;
    if separator.iter().any(|byte| *byte != 0) {
        return Err(Damage::Separator);
    }
    let mut values = Values { data, seen: vec![0; data.len() / 64 + 1], met: 0, todo: Vec::new() };
    let mut records = 0;
    for (node, bytes) in tree.chunks_exact(node_bytes).enumerate() {
        for record in split_node(bytes) {
            // Below the count: another node. The count itself: nothing known. Above: data, past the separator.
            let Some(above) = record.checked_sub(node_count).filter(|above| *above > 0) else { continue };
            let offset = above.checked_sub(SEPARATOR_BYTES).filter(|offset| *offset < data.len());
            let offset = offset.ok_or(Damage::TreePointer { node })?;
            if values.is_new(offset) {
                records += 1;
                values.check(offset).map_err(|fault| Damage::Value {
                    offset: tree_len + SEPARATOR_BYTES + fault.offset,
                    what: fault.what,
                })?;
            }
        }
    }
    Ok(records)
}

/// Both records of one node; anything but 6, 7 or 8 bytes was refused with the metadata.
fn split_node(bytes: &[u8]) -> [usize; 2] {
    let join = |bytes: &[u8]| bytes.iter().fold(0, |value, byte| (value << 8) | usize::from(*byte));
    match *bytes {
        [_, _, _, middle, _, _, _] => {
            let (high, low) = (usize::from(middle >> 4), usize::from(middle & 15));
            [high << 24 | join(&bytes[..3]), low << 24 | join(&bytes[4..])]
        }
        _ => {
            let (left, right) = bytes.split_at(bytes.len() / 2);
            [join(left), join(right)]
        }
    }
}

struct Fault {
    offset: usize,
    what: &'static str,
}

/// The walk over the data section.
struct Values<'a> {
    data: &'a [u8],
    /// One bit a byte: a value that begins there was walked, or is in `todo`.
    seen: Vec<u64>,
    met: usize,
    todo: Vec<usize>,
}

impl Values<'_> {
    fn is_new(&mut self, offset: usize) -> bool {
        let bit = 1 << (offset % 64);
        self.seen.get_mut(offset / 64).is_some_and(|word| {
            let new = *word & bit == 0;
            *word |= bit;
            new
        })
    }

    /// Checks the value at `root` and all that it points to.
    fn check(&mut self, root: usize) -> Result<(), Fault> {
        self.todo.push(root);
        while let Some(start) = self.todo.pop() {
            // Containers hold their values in line, so that one count of values outstanding is all the state there is.
            let (mut at, mut outstanding) = (start, 1_usize);
            while outstanding > 0 {
                outstanding -= 1;
                let token = Token::read(self.data, at)?;
                match token.body {
                    Body::Scalar => {}
                    Body::Text => self.check_text(&token)?,
                    Body::Values(count) => outstanding += count,
                    Body::Pointer(target) => {
                        if target >= self.data.len() {
                            return Err(Fault { offset: at, what: "a pointer leaves the data" });
                        }
                        if self.is_new(target) {
                            self.todo.push(target);
                        }
                    }
                }
                at = token.end;
                self.met += 1;
                // Also bounds the walk over values inside values that point into one another.
                if outstanding > self.data.len() || self.met / VALUES_PER_BYTE_MAX > self.data.len() {
                    return Err(Fault { offset: at, what: "its values are tangled" });
                }
            }
        }
        Ok(())
    }

    fn check_text(&self, token: &Token) -> Result<(), Fault> {
        let text = self.data.get(token.start..token.end).unwrap_or_default();
        match std::str::from_utf8(text) {
            Ok(_) => Ok(()),
            Err(_) => Err(Fault { offset: token.start, what: "a string is not UTF-8" }),
        }
    }
}

enum Body {
    Scalar,
    Text,
    /// So many values follow in line.
    Values(usize),
    Pointer(usize),
}

/// One control sequence and, but for containers, its payload.
struct Token {
    /// Where the payload begins.
    start: usize,
    /// Where the next token begins.
    end: usize,
    body: Body,
}

impl Token {
    fn read(data: &[u8], at: usize) -> Result<Self, Fault> {
        let cut = Fault { offset: at, what: "a value is cut short" };
        let mut rest = data.get(at..).unwrap_or_default().iter();
        let mut next = || rest.next().map(|byte| usize::from(*byte));
        let Some(control) = next() else { return Err(cut) };
        let (kind, low) = (control >> 5, control & 31);
        if kind == 1 {
            return Self::pointer(data, at, low).ok_or(cut);
        }
        let kind = match kind {
            // Extended types begin at 8, so that zeros, which is what holes in files are full of, are no value.
            0 => next().filter(|extended| *extended > 0).map(|extended| extended + 7),
            kind => Some(kind),
        };
        let Some(kind) = kind else { return Err(cut) };
        let (base, size_bytes) = match low {
            29 => (29, 1),
            30 => (285, 2),
            31 => (65_821, 3),
            size => (size, 0),
        };
        let mut size = 0;
        for _ in 0..size_bytes {
            let Some(byte) = next() else { return Err(cut) };
            size = size << 8 | byte;
        }
        let (size, start) = (base + size, data.len() - rest.len());
        let (longest, body) = match kind {
            2 => (usize::MAX, Body::Text),
            4 => (usize::MAX, Body::Scalar),
            3 if size == 8 => (8, Body::Scalar),
            15 if size == 4 => (4, Body::Scalar),
            5 => (2, Body::Scalar),
            6 | 8 => (4, Body::Scalar),
            9 => (8, Body::Scalar),
            10 => (16, Body::Scalar),
            // A boolean's size is its value.
            14 if size <= 1 => return Ok(Self { start, end: start, body: Body::Scalar }),
            7 => return Ok(Self { start, end: start, body: Body::Values(size * 2) }),
            11 => return Ok(Self { start, end: start, body: Body::Values(size) }),
            _ => return Err(Fault { offset: at, what: "a value of no known type" }),
        };
        if size > longest {
            return Err(Fault { offset: at, what: "a number is too long for its type" });
        }
        let end = start.checked_add(size).filter(|end| *end <= data.len());
        end.map(|end| Self { start, end, body }).ok_or(cut)
    }

    /// A pointer's control byte is `001SSVVV`: SS + 1 bytes follow, of which VVV are the highest bits, except that with
    /// four the three bits do not count. The longer forms begin where the shorter ones end.
    fn pointer(data: &[u8], at: usize, low: usize) -> Option<Self> {
        let (size, high) = (low >> 3, low & 7);
        let (start, end) = (at + 1, at + 2 + size);
        let value = data.get(start..end)?.iter().fold(0, |value, byte| value << 8 | usize::from(*byte));
        let target = match size {
            0 => high << 8 | value,
            1 => (high << 16 | value) + 2_048,
            2 => (high << 24 | value) + 526_336,
            _ => value,
        };
        Some(Self { start, end, body: Body::Pointer(target) })
    }
}
