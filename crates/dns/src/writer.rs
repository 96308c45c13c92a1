//! A reply, written once from front to back into the caller's buffer, within a limit.

use smallvec::SmallVec;

use crate::{
    name::{self, Name},
    query::HEADER_BYTES,
    rdata::Rdata,
};

/// The longest message with a length in front (RFC 1035 §4.2.2).
pub(crate) const TCP_BYTES_MAX: usize = 65_535;
/// Pointers have 14 bits (RFC 1035 §4.1.4).
const POINTER_MAX: usize = 0x3fff;
/// How many label beginnings are remembered for compression; what comes later is written out.
const TARGETS_MAX: usize = 64;
/// Labels compared at most in one attempt to compress: pointers only lead backwards, so that this bounds the work.
const STEPS_MAX: usize = name::LABELS_MAX + 1;

/// Which of a message's record sections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Section {
    Answer,
    Authority,
    Additional,
}

/// Whose record it is.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Owner<'a> {
    /// The name asked for, as it was asked.
    Question,
    /// Uncompressed, in lower case.
    Wire(&'a [u8]),
}

/// The record does not fit; what was begun of it is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Full;

/// The reply under construction. The header's flags come last, in [`Writer::finish`].
#[derive(Debug)]
pub(crate) struct Writer<'o> {
    out: &'o mut Vec<u8>,
    /// Where records must end.
    limit: usize,
    after_question: usize,
    has_question: bool,
    counts: [u16; 3],
    /// Of names that were written; the question's too once [`Writer::name`] wants any: most answers have none but it.
    targets: SmallVec<[Target; TARGETS_MAX]>,
    has_targets: bool,
}

/// Where a name, or the rest of one, stands in the message.
#[derive(Clone, Copy, Debug, Default)]
struct Target {
    at: u16,
    /// Written out, so that most others need no second look.
    length: u8,
}

impl<'o> Writer<'o> {
    /// Begins a reply of at most `limit` bytes, of which the last `reserved` are for OPT.
    pub(crate) fn new(out: &'o mut Vec<u8>, question: Option<&[u8]>, limit: usize, reserved: usize) -> Self {
        out.clear();
        out.resize(HEADER_BYTES, 0);
        out.extend(question.unwrap_or_default());
        Self {
            after_question: out.len(),
            limit: limit.saturating_sub(reserved),
            has_question: question.is_some(),
            counts: [0; 3],
            targets: SmallVec::new(),
            has_targets: false,
            out,
        }
    }

    /// Remembers the labels of the question.
    fn begin_targets(&mut self) {
        self.has_targets = true;
        let question = self.out.get(HEADER_BYTES..self.after_question).unwrap_or_default();
        let length: usize = name::labels(question).map(|label| 1 + label.len()).sum::<usize>() + 1;
        let mut at = 0;
        while at + 1 < length {
            self.remember(HEADER_BYTES + at, length - at);
            at += 1 + self.out.get(HEADER_BYTES + at).map_or(length, |label| usize::from(*label));
        }
    }

    /// Adds a record, or nothing of it.
    pub(crate) fn record(
        &mut self,
        section: Section,
        owner: Owner<'_>,
        kind: u16,
        ttl_s: u32,
        rdata: &Rdata,
    ) -> Result<(), Full> {
        self.add(section, owner, kind, ttl_s, |writer| {
            writer.out.extend(&*rdata.head);
            for name in &*rdata.names {
                writer.name(name.as_wire());
            }
            writer.out.extend(&*rdata.tail);
        })
    }

    /// Adds a record whose data is `bytes`, or nothing of it.
    pub(crate) fn bytes_record(
        &mut self,
        section: Section,
        owner: Owner<'_>,
        kind: u16,
        ttl_s: u32,
        bytes: &[u8],
    ) -> Result<(), Full> {
        self.add(section, owner, kind, ttl_s, |writer| writer.out.extend(bytes))
    }

    fn add(
        &mut self,
        section: Section,
        owner: Owner<'_>,
        kind: u16,
        ttl_s: u32,
        data: impl FnOnce(&mut Self),
    ) -> Result<(), Full> {
        let (start, targets_before) = (self.out.len(), self.targets.len());
        match owner {
            Owner::Question => self.pointer(HEADER_BYTES),
            Owner::Wire(wire) => self.name(wire),
        }
        self.out.extend(kind.to_be_bytes());
        self.out.extend(crate::code::CLASS_IN.to_be_bytes());
        self.out.extend(ttl_s.to_be_bytes());
        let length_at = self.out.len();
        self.out.extend([0, 0]);
        data(self);
        let length = u16::try_from(self.out.len() - length_at - 2).ok().filter(|_| self.out.len() <= self.limit);
        match (length, self.out.get_mut(length_at..length_at + 2)) {
            (Some(length), Some(place)) => place.copy_from_slice(&length.to_be_bytes()),
            _ => {
                self.out.truncate(start);
                self.forget(targets_before, start);
                return Err(Full);
            }
        }
        let [answers, authorities, additionals] = &mut self.counts;
        let count = match section {
            Section::Answer => answers,
            Section::Authority => authorities,
            Section::Additional => additionals,
        };
        *count = count.saturating_add(1);
        Ok(())
    }

    /// Takes every record back.
    pub(crate) fn clear_records(&mut self) {
        self.out.truncate(self.after_question);
        self.counts = [0; 3];
        // Whatever pointed behind the question is gone.
        self.forget(0, self.after_question);
    }

    /// Drops what is remembered from `end` on, of which the first `kept` targets are not.
    fn forget(&mut self, kept: usize, end: usize) {
        let before_end = |target: &&Target| usize::from(target.at) < end;
        let kept = kept + self.targets.iter().skip(kept).take_while(before_end).count();
        self.targets.truncate(kept);
    }

    fn remember(&mut self, at: usize, length: usize) {
        if let (Ok(offset), Ok(length)) = (u16::try_from(at), u8::try_from(length))
            && at <= POINTER_MAX
            && self.targets.len() < TARGETS_MAX
        {
            self.targets.push(Target { at: offset, length });
        }
    }

    fn pointer(&mut self, target: usize) {
        // Targets are at most POINTER_MAX.
        let target = u16::try_from(target & POINTER_MAX).unwrap_or(0);
        self.out.extend((0xc000 | target).to_be_bytes());
    }

    /// Writes a name: labels until one whose rest was written before.
    fn name(&mut self, wire: &[u8]) {
        if !self.has_targets {
            self.begin_targets();
        }
        let mut rest = wire;
        while let Some((length, _)) = rest.split_first().filter(|(length, _)| **length > 0) {
            let mut alike = self.targets.iter().filter(|target| usize::from(target.length) == rest.len());
            if let Some(target) = alike.find(|target| says(self.out, target.at.into(), rest)) {
                self.pointer(target.at.into());
                return;
            }
            let Some((label, after)) = rest.split_at_checked(1 + usize::from(*length)) else { break };
            self.remember(self.out.len(), rest.len());
            self.out.extend(label);
            rest = after;
        }
        self.out.push(0);
    }

    /// Ends the reply: OPT, if there is one (its data made by `options`), and the header.
    pub(crate) fn finish(self, header: Header, opt: Option<(u16, u32)>, options: impl FnOnce(&mut Vec<u8>)) {
        let [answers, authorities, mut additionals] = self.counts;
        if let Some((payload_bytes, ttl)) = opt {
            self.out.push(0);
            self.out.extend(crate::code::kind::OPT.to_be_bytes());
            self.out.extend(payload_bytes.to_be_bytes());
            self.out.extend(ttl.to_be_bytes());
            let length_at = self.out.len();
            self.out.extend([0, 0]);
            options(self.out);
            let length = u16::try_from(self.out.len() - length_at - 2).unwrap_or(0);
            if let Some(place) = self.out.get_mut(length_at..length_at + 2) {
                place.copy_from_slice(&length.to_be_bytes());
            }
            additionals = additionals.saturating_add(1);
        }
        let [[id_high, id_low], [f1, f2]] = [header.id, header.flags.to_be_bytes()];
        let [[q1, q2], [a1, a2], [n1, n2], [r1, r2]] =
            [u16::from(self.has_question), answers, authorities, additionals].map(u16::to_be_bytes);
        let bytes: [u8; HEADER_BYTES] = [id_high, id_low, f1, f2, q1, q2, a1, a2, n1, n2, r1, r2];
        if let Some(place) = self.out.first_chunk_mut() {
            *place = bytes;
        }
    }
}

/// The first four bytes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Header {
    pub(crate) id: [u8; 2],
    pub(crate) flags: u16,
}

/// Whether the name at `at` of the message, pointers followed, is `wire`; letters' case does not count.
fn says(message: &[u8], at: usize, wire: &[u8]) -> bool {
    let (mut at, mut rest) = (at, wire);
    for _ in 0..STEPS_MAX {
        let Some(length) = message.get(at).copied() else { return false };
        if length >= 0xc0 {
            let Some(low) = message.get(at + 1) else { return false };
            at = usize::from(length & 0x3f) << 8 | usize::from(*low);
            continue;
        }
        let end = 1 + usize::from(length);
        let (Some(ours), Some((theirs, after))) = (message.get(at..at + end), rest.split_at_checked(end)) else {
            return false;
        };
        if !ours.eq_ignore_ascii_case(theirs) {
            return false;
        }
        if length == 0 {
            return true;
        }
        (at, rest) = (at + end, after);
    }
    false
}

/// A name as an owner.
impl<'a> From<&'a Name> for Owner<'a> {
    fn from(name: &'a Name) -> Self {
        Self::Wire(name.as_wire())
    }
}
