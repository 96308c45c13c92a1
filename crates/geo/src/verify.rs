//! Whether the bytes of a database hang together, before anything is answered from them.
//!
//! An MMDB has no checksum, so that this is all a reader can know: every record of the search tree points to another
//! node, to nothing, or into the data; values are well-formed to their last byte, strings are text, pointers stay inside.
//! Of databases with more than [`LEAVES_WALKED_MAX`] leaves, the data of every second, third … is looked at, spread over
//! the whole tree: a hole of some pages does not hide, a single bit may, and a record that turns out to be unusable is a
//! miss when it is asked for. What a flipped bit turns into another well-formed value stays unnoticed at any price.
//!
//! The tree is read straight through and the samples in the order of the file. The memory, one bit for each byte of data
//! and a word for each sample, is given back at the end. (The reader's own `verify` takes seconds and hundreds of
//! megabytes for GeoLite2-City.)

mod shape;

use shape::Shape;

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
    #[error("its search tree is damaged: node {node} points outside the file")]
    TreePointer {
        /// Which.
        node: usize,
    },
    /// Nodes of the tree are below themselves, or reached in more ways than any writer makes.
    #[error("its search tree is damaged: its nodes are tangled")]
    Tangled,
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
/// Of so many of the tree's pointers the data are walked; GeoLite2-City has some 3,600,000, to 450,000 records.
const LEAVES_WALKED_MAX: usize = 1 << 15;
/// More values than so many for each byte of data: they overlap without end.
const VALUES_PER_BYTE_MAX: usize = 2;
/// Containers and pointers on the way to a value of the metadata; writers make a map of maps and arrays of strings. The
/// reader goes down 512, which is more than the stacks of some threads hold.
const METADATA_DEPTH_MAX: usize = 16;

/// Where the metadata's marker begins.
pub(crate) fn metadata_marker(file: &[u8]) -> Result<usize, Damage> {
    let start = file.len().saturating_sub(METADATA_BYTES_MAX);
    let tail = file.get(start..).unwrap_or_default();
    let at = tail.windows(METADATA_MARKER.len()).rposition(|window| window == METADATA_MARKER);
    at.map(|at| start + at).ok_or(Damage::NoMetadata)
}

/// Whether the metadata behind `marker` are one well-formed value that ends, before a reader that recurses takes them.
pub(crate) fn metadata(file: &[u8], marker: usize) -> Result<(), Damage> {
    let start = marker + METADATA_MARKER.len();
    let fault = |fault: Fault| Damage::Value { offset: start + fault.offset, what: fault.what };
    walk_metadata(file.get(start..).unwrap_or_default()).map_err(fault)
}

fn walk_metadata(data: &[u8]) -> Result<(), Fault> {
    // Of each container and pointer that is open: values to come, and where the one behind a pointer begins.
    let mut open = vec![(1_usize, None)];
    let (mut at, mut met) = (0, 0);
    while let Some((left, behind)) = open.last_mut() {
        if *left == 0 {
            at = behind.unwrap_or(at);
            open.pop();
            continue;
        }
        *left -= 1;
        let start = at;
        let control = *data.get(at).ok_or(Fault::cut(at))?;
        if control >> 5 == POINTER {
            let (target, end) = pointer(data, at).ok_or(Fault::cut(at))?;
            open.push((1, Some(end)));
            at = target;
        } else {
            let token = value(data, at, control)?;
            open.push((token.held, None));
            at = token.end;
        }
        met += 1;
        if open.len() > METADATA_DEPTH_MAX || met / VALUES_PER_BYTE_MAX > data.len() {
            return Err(Fault { offset: start, what: "its metadata are tangled" });
        }
    }
    Ok(())
}

/// Walks all of the tree and, as the module says, the data. `nodes`, `record_bits` (24, 28 or 32) and `is_ipv6` are the
/// metadata's.
pub(crate) fn walk(file: &[u8], nodes: u32, record_bits: u16, is_ipv6: bool) -> Result<(), Damage> {
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
    // A tree has one leaf more than nodes, some of which are empty.
    let stride = node_count / LEAVES_WALKED_MAX + 1;
    let (mut until_sample, mut samples) = (0_usize, Vec::new());
    let mut shape = Shape::new(tree, node_bytes, node_count, is_ipv6);
    for (node, bytes) in tree.chunks_exact(node_bytes).enumerate() {
        for record in split_node(bytes) {
            // Below the count: another node. The count itself: nothing known. Above: data, past the separator.
            if record > nodes {
                let offset = usize::try_from(record - nodes).ok().and_then(|above| above.checked_sub(SEPARATOR_BYTES));
                let offset = offset.filter(|offset| *offset < data.len()).ok_or(Damage::TreePointer { node })?;
                if until_sample == 0 {
                    samples.push(offset);
                    until_sample = stride;
                }
                until_sample -= 1;
            } else if let Some(child) = usize::try_from(record).ok().filter(|_| record < nodes) {
                shape.meet(child);
            }
        }
    }
    if !shape.is_walkable() {
        return Err(Damage::Tangled);
    }
    samples.sort_unstable();
    let mut values = Values { data, checked: Offsets::new(data.len()), met: 0 };
    for sample in samples {
        let fault =
            |fault: Fault| Damage::Value { offset: tree_len + SEPARATOR_BYTES + fault.offset, what: fault.what };
        values.check(sample).map_err(fault)?;
    }
    Ok(())
}

/// Both records of one node; sizes but 6, 7 and 8 bytes were refused with the metadata.
fn split_node(bytes: &[u8]) -> [u32; 2] {
    match *bytes {
        [a, b, c, d, e, f] => [u32::from_be_bytes([0, a, b, c]), u32::from_be_bytes([0, d, e, f])],
        // The byte in the middle holds the highest four bits of both, the left one's first.
        [a, b, c, m, d, e, f] => [u32::from_be_bytes([m >> 4, a, b, c]), u32::from_be_bytes([m & 15, d, e, f])],
        [a, b, c, d, e, f, g, h] => [u32::from_be_bytes([a, b, c, d]), u32::from_be_bytes([e, f, g, h])],
        _ => [u32::MAX; 2],
    }
}

struct Fault {
    offset: usize,
    what: &'static str,
}

impl Fault {
    fn cut(offset: usize) -> Self {
        Self { offset, what: "a value is cut short" }
    }
}

/// A set of numbers below some length: one bit for each.
struct Offsets(Vec<u64>);

impl Offsets {
    fn new(length: usize) -> Self {
        Self(vec![0; length / 64 + 1])
    }

    fn insert(&mut self, offset: usize) {
        if let Some(word) = self.0.get_mut(offset / 64) {
            *word |= 1 << (offset % 64);
        }
    }

    fn contains(&self, offset: usize) -> bool {
        self.0.get(offset / 64).is_some_and(|word| *word & (1 << (offset % 64)) != 0)
    }
}

/// The walk over the data section.
struct Values<'a> {
    data: &'a [u8],
    /// Where a value begins that is well-formed, or being walked.
    checked: Offsets,
    /// Values met, to bound the walk over values that overlap.
    met: usize,
}

/// A control sequence with, but for containers, its payload.
struct Token {
    /// Where the next one begins.
    end: usize,
    /// So many values follow in line: a container's.
    held: usize,
}

impl Values<'_> {
    /// Walks the value at `root` and all that it points to.
    fn check(&mut self, root: usize) -> Result<(), Fault> {
        let mut todo = vec![root];
        while let Some(start) = todo.pop() {
            if !self.checked.contains(start) {
                self.check_one(start, &mut todo)?;
            }
        }
        Ok(())
    }

    fn check_one(&mut self, start: usize, todo: &mut Vec<usize>) -> Result<(), Fault> {
        // Containers hold their values in line, so that one count of values outstanding is all the state there is.
        let (mut at, mut outstanding) = (start, 1_usize);
        while outstanding > 0 {
            self.checked.insert(at);
            let token = match self.data.get(at) {
                Some(control) if control >> 5 == POINTER => {
                    let (target, end) = pointer(self.data, at).ok_or(Fault::cut(at))?;
                    if target >= self.data.len() {
                        return Err(Fault { offset: at, what: "a pointer leaves the data" });
                    }
                    if !self.checked.contains(target) {
                        todo.push(target);
                    }
                    Token { end, held: 0 }
                }
                Some(control) => value(self.data, at, *control)?,
                None => return Err(Fault::cut(at)),
            };
            outstanding = outstanding - 1 + token.held;
            at = token.end;
            self.met += 1;
            if outstanding > self.data.len() || self.met / VALUES_PER_BYTE_MAX > self.data.len() {
                return Err(Fault { offset: at, what: "its values are tangled" });
            }
        }
        Ok(())
    }
}

/// A control byte's three highest bits.
const POINTER: u8 = 1;
const STRING: u8 = 2;

/// A pointer's control byte is `001SSVVV`: SS + 1 bytes follow, of which VVV are the highest bits, except that with four
/// the three bits do not count. The longer forms begin where the shorter ones end. Gives its target and its end.
fn pointer(data: &[u8], at: usize) -> Option<(usize, usize)> {
    let control = usize::from(*data.get(at)?);
    let (size, high) = (control >> 3 & 3, control & 7);
    let end = at + 2 + size;
    let value = match *data.get(at + 1..end)? {
        [a] => high << 8 | usize::from(a),
        [a, b] => (high << 16 | usize::from(u16::from_be_bytes([a, b]))) + 2_048,
        [a, b, c] => (high << 24 | usize::from(a) << 16 | usize::from(u16::from_be_bytes([b, c]))) + 526_336,
        [a, b, c, d] => usize::try_from(u32::from_be_bytes([a, b, c, d])).ok()?,
        _ => return None,
    };
    Some((value, end))
}

/// Any value but a pointer.
fn value(data: &[u8], at: usize, control: u8) -> Result<Token, Fault> {
    let (size, mut start) = (usize::from(control & 31), at + 1);
    let byte = |at: usize| data.get(at).map(|byte| usize::from(*byte)).ok_or(Fault::cut(at));
    let kind = match control >> 5 {
        0 => {
            start += 1;
            // Extended types begin at 8, so that zeros, which is what holes in files are full of, are no value.
            match byte(at + 1)? {
                0 => return Err(Fault { offset: at, what: "a value of no known type" }),
                extended => extended + 7,
            }
        }
        kind => usize::from(kind),
    };
    let (base, size_bytes) = match size {
        29 => (29, 1),
        30 => (285, 2),
        31 => (65_821, 3),
        size => (size, 0),
    };
    let mut size = 0;
    for at in start..start + size_bytes {
        size = size << 8 | byte(at)?;
    }
    let (size, start) = (base + size, start + size_bytes);
    let longest = match kind {
        // In line follow a key and a value for each entry of a map, and the values of an array.
        7 => return Ok(Token { end: start, held: size * 2 }),
        11 => return Ok(Token { end: start, held: size }),
        // A boolean's size is its value.
        14 if size <= 1 => return Ok(Token { end: start, held: 0 }),
        // Strings and bytes; doubles and floats, which have no other size; integers, from the widest.
        2 | 4 => usize::MAX,
        3 if size == 8 => 8,
        15 if size == 4 => 4,
        10 => 16,
        9 => 8,
        6 | 8 => 4,
        5 => 2,
        _ => return Err(Fault { offset: at, what: "a value of no known type" }),
    };
    if size > longest {
        return Err(Fault { offset: at, what: "a number is too long for its type" });
    }
    let payload = data.get(start..start.saturating_add(size)).ok_or(Fault::cut(at))?;
    if control >> 5 == STRING && std::str::from_utf8(payload).is_err() {
        return Err(Fault { offset: at, what: "a string is not UTF-8" });
    }
    Ok(Token { end: start + size, held: 0 })
}
