//! A message from the network → what it asks, or what is wrong with it. Nothing is copied but the name.

use std::net::IpAddr;

use crate::{
    code::{CLASS_IN, OPTION_ECS, OPTION_KEEPALIVE, OPTION_NSID, OPTION_PADDING, Rcode, kind},
    cookie::{OPTION_COOKIE, Shown},
    ecs::ClientSubnet,
    name::QueryName,
    outcome::Reason,
};

pub(crate) const HEADER_BYTES: usize = 12;

/// A message, as far as it could be read.
#[derive(Debug)]
pub(crate) struct Query<'a> {
    pub(crate) id: [u8; 2],
    pub(crate) opcode: u8,
    pub(crate) recursion_desired: bool,
    pub(crate) question: Option<Question<'a>>,
    pub(crate) edns: Option<Edns>,
    /// Where the signature begins that ends the message (RFC 8945 §5.1).
    pub(crate) tsig_at: Option<usize>,
    /// What the answer must say instead of an answer.
    pub(crate) fault: Option<(Rcode, Reason)>,
}

#[derive(Debug)]
pub(crate) struct Question<'a> {
    /// As sent, to be echoed byte for byte: resolvers check the case of letters that they chose at random.
    pub(crate) raw: &'a [u8],
    pub(crate) kind: u16,
    pub(crate) class: u16,
}

/// What the OPT record says (RFC 6891 §6.1.2).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Edns {
    pub(crate) payload_bytes: u16,
    pub(crate) dnssec_ok: bool,
    /// Takes NXDOMAIN together with a compact denial (RFC 9824 §5.1).
    pub(crate) compact_ok: bool,
    pub(crate) subnet: Option<ClientSubnet>,
    pub(crate) cookie: Option<Shown>,
    /// Asks who answers (RFC 5001).
    pub(crate) nsid: bool,
    /// Asks how long an idle connection is kept (RFC 7828).
    pub(crate) keepalive: bool,
    /// Is padded, and so takes padding (RFC 7830).
    pub(crate) padded: bool,
}

/// Reads a message, the name of its question into `name`. `Err` is one that must not be answered at all.
pub(crate) fn read<'a>(message: &'a [u8], name: &mut QueryName) -> Result<Query<'a>, Reason> {
    let mut reader = Reader { message, at: 0 };
    let header: [u8; HEADER_BYTES] = reader.array().ok_or(Reason::TooShort)?;
    let [id_high, id_low, flags, _, q1, q2, rest @ ..] = header;
    // A response that is answered makes two servers talk to each other for ever.
    if flags & 0x80 != 0 {
        return Err(Reason::IsResponse);
    }
    let mut query = Query {
        id: [id_high, id_low],
        opcode: (flags >> 3) & 15,
        recursion_desired: flags & 1 != 0,
        question: None,
        edns: None,
        tsig_at: None,
        fault: None,
    };
    let [a1, a2, n1, n2, r1, r2] = rest;
    let [questions, answers, authorities, additionals] =
        [[q1, q2], [a1, a2], [n1, n2], [r1, r2]].map(u16::from_be_bytes);
    query.fault = if query.opcode != 0 {
        // Other opcodes lay the rest out as they like; the question is echoed where it looks like one, and OPT is answered by
        // OPT (RFC 6891 §6.1.1) where it is found.
        query.question = (questions == 1).then(|| reader.question(name)).flatten();
        if query.question.is_some() || questions == 0 {
            query.edns = reader.records(answers, authorities, additionals).and_then(|found| found.edns);
        }
        Some((if matches!(query.opcode, NOTIFY | UPDATE) { Rcode::Refused } else { Rcode::NotImp }, Reason::Opcode))
    } else if questions == 0 {
        // RFC 9619 §4: none is for those who want nothing but a cookie (RFC 7873 §5.4).
        query.edns = reader.records(answers, authorities, additionals).and_then(|found| found.edns);
        let wants_cookie = query.edns.is_some_and(|edns| edns.cookie.is_some());
        Some(if wants_cookie { (Rcode::NoError, Reason::Cookie) } else { (Rcode::FormErr, Reason::QuestionCount) })
    } else if questions != 1 {
        // RFC 9619 §4: a query has at most one question. OPT comes behind all of them.
        if questions <= QUESTIONS_MAX && (0..questions).all(|_| reader.question(name).is_some()) {
            query.edns = reader.records(answers, authorities, additionals).and_then(|found| found.edns);
        }
        Some((Rcode::FormErr, Reason::QuestionCount))
    } else {
        query.question = reader.question(name);
        match query.question {
            None => Some(MALFORMED),
            Some(_) => match reader.records(answers, authorities, additionals) {
                None => Some(MALFORMED),
                Some(Additionals { edns, tsig_at, fault }) => {
                    query.edns = edns;
                    query.tsig_at = tsig_at;
                    fault
                }
            },
        }
    };
    if query.fault.is_none() {
        query.fault = query.question.as_ref().and_then(refusal);
    }
    Ok(query)
}

/// Passed in search of OPT, in a message that is refused anyway.
const QUESTIONS_MAX: u16 = 16;
/// RFC 8945 §4.2: the type of what signs a message.
const TSIG: u16 = 250;
/// RFC 1996 and RFC 2136: known, and not for strangers.
const NOTIFY: u8 = 4;
const UPDATE: u8 = 5;

const MALFORMED: (Rcode, Reason) = (Rcode::FormErr, Reason::Malformed);

/// Questions that no zone can answer.
fn refusal(question: &Question<'_>) -> Option<(Rcode, Reason)> {
    match (question.kind, question.class) {
        (kind::AXFR | kind::IXFR, _) => Some((Rcode::Refused, Reason::Transfer)),
        // RFC 6895 §3.1: 0 is reserved and 128 to 255 are for queries and metadata, of which ANY alone is a question
        // for us. RFC 9824 §3.5: NXNAME is FORMERR; so are those that belong elsewhere in a message.
        (0 | kind::OPT | kind::NXNAME | TSIG, _) => Some((Rcode::FormErr, Reason::QueryType)),
        // RFC 8906 §3.1.2: NOTIMP for meta-types that are unknown. TKEY, MAILB and MAILA are questions for others.
        (129..=254, _) => Some((Rcode::NotImp, Reason::MetaType)),
        (_, class) if class != CLASS_IN => Some((Rcode::Refused, Reason::Class)),
        _ => None,
    }
}

#[derive(Default)]
struct Additionals {
    edns: Option<Edns>,
    tsig_at: Option<usize>,
    fault: Option<(Rcode, Reason)>,
}

struct Reader<'a> {
    message: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    fn bytes(&mut self, count: usize) -> Option<&'a [u8]> {
        let end = self.at.checked_add(count)?;
        let bytes = self.message.get(self.at..end)?;
        self.at = end;
        Some(bytes)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.bytes(N)?.try_into().ok()
    }

    fn u16(&mut self) -> Option<u16> {
        self.array().map(u16::from_be_bytes)
    }

    fn question(&mut self, name: &mut QueryName) -> Option<Question<'a>> {
        let start = self.at;
        let taken = name.read(self.message.get(start..)?)?;
        self.bytes(taken)?;
        let (kind, class) = (self.u16()?, self.u16()?);
        Some(Question { raw: self.message.get(start..self.at)?, kind, class })
    }

    /// Passes a name that may be compressed; says whether it is the root.
    fn skip_name(&mut self) -> Option<bool> {
        let start = self.at;
        loop {
            let length = usize::from(*self.bytes(1)?.first()?);
            match length {
                0 => return Some(self.at == start + 1),
                1..=63 => drop(self.bytes(length)?),
                0xc0..=0xff => {
                    // RFC 1035 §4.1.4: a pointer points to a prior occurrence.
                    let low = usize::from(*self.bytes(1)?.first()?);
                    return ((length & 0x3f) << 8 | low < start).then_some(false);
                }
                _ => return None,
            }
        }
    }

    /// Passes records. Their number is a claim: the first that is not there ends it.
    fn skip_records(&mut self, count: u32) -> Option<()> {
        for _ in 0..count {
            self.skip_name()?;
            let kind = self.u16()?;
            self.bytes(6)?;
            let length = self.u16()?;
            self.bytes(usize::from(length))?;
            // RFC 6891 §6.1.1, RFC 8945 §5.1: OPT and TSIG belong to the additional section.
            if matches!(kind, kind::OPT | TSIG) {
                return None;
            }
        }
        Some(())
    }

    /// Reads everything behind the question, of which only OPT matters.
    fn records(&mut self, answers: u16, authorities: u16, additionals: u16) -> Option<Additionals> {
        self.skip_records(u32::from(answers) + u32::from(authorities))?;
        self.additionals(additionals)
    }

    /// Reads the additional section to the message's end; None where it is not well-formed.
    fn additionals(&mut self, count: u16) -> Option<Additionals> {
        let mut found = Additionals::default();
        let mut is_misplaced = false;
        for index in 1..=count {
            let start = self.at;
            let is_root = self.skip_name()?;
            let (kind, class) = (self.u16()?, self.u16()?);
            let [extended_rcode, version, flags, _] = self.array()?;
            let length = self.u16()?;
            let data = self.bytes(usize::from(length))?;
            if kind != kind::OPT {
                if kind == TSIG {
                    // RFC 8945 §5.1: the last record, and one of them. What is not is looked at no further.
                    is_misplaced |= index < count;
                    found.tsig_at = (!is_misplaced).then_some(start);
                }
                continue;
            }
            let _ = extended_rcode;
            if found.edns.is_some() || !is_root {
                // RFC 6891 §6.1.1: more than one OPT is FORMERR.
                found.fault = Some((Rcode::FormErr, Reason::Edns));
                continue;
            }
            let (dnssec_ok, compact_ok) = (flags & 0x80 != 0, flags & 0x40 != 0);
            let mut edns = Edns { payload_bytes: class, dnssec_ok, compact_ok, ..Edns::default() };
            found.fault = if version != 0 {
                // RFC 6891 §6.1.3; the options of another version are not ours to read.
                Some((Rcode::BadVers, Reason::EdnsVersion))
            } else {
                read_options(data, &mut edns).err().map(|reason| (Rcode::FormErr, reason))
            };
            found.edns = Some(edns);
        }
        if is_misplaced || self.at != self.message.len() {
            // What follows the last record is no part of a message; OPT is answered by OPT all the same.
            found.fault = Some(MALFORMED);
        }
        Some(found)
    }
}

/// Reads OPT's options; unknown ones are ignored (RFC 6891 §6.1.2).
fn read_options(data: &[u8], edns: &mut Edns) -> Result<(), Reason> {
    let mut reader = Reader { message: data, at: 0 };
    while reader.at < data.len() {
        let code = reader.u16().ok_or(Reason::Edns)?;
        let length = reader.u16().ok_or(Reason::Edns)?;
        let value = reader.bytes(usize::from(length)).ok_or(Reason::Edns)?;
        match code {
            OPTION_ECS => {
                let subnet = ClientSubnet::read(value).filter(|_| edns.subnet.is_none());
                edns.subnet = Some(subnet.ok_or(Reason::ClientSubnet)?);
            }
            // RFC 7873 §5.2: of several the first counts.
            OPTION_COOKIE if edns.cookie.is_none() => {
                edns.cookie = Some(Shown::read(value).ok_or(Reason::Cookie)?);
            }
            OPTION_NSID => edns.nsid = true,
            // RFC 7828 §3.2.1: clients send no time-out of theirs; one that is sent all the same is nothing to us, and over UDP
            // the whole option is not (§3.3.2).
            OPTION_KEEPALIVE => edns.keepalive = true,
            OPTION_PADDING => edns.padded = true,
            _ => {}
        }
    }
    Ok(())
}

/// The serial of the version that the asker of IXFR has (RFC 1995 §3): that of the SOA in the authority section.
pub(crate) fn ixfr_serial(message: &[u8]) -> Option<u32> {
    let mut reader = Reader { message, at: 0 };
    let header: [u8; HEADER_BYTES] = reader.array()?;
    let [.., a1, a2, _, _, _, _] = header;
    reader.skip_name()?;
    reader.bytes(4)?;
    reader.skip_records(u16::from_be_bytes([a1, a2]).into())?;
    reader.skip_name()?;
    let kind = reader.u16()?;
    reader.bytes(8)?;
    reader.skip_name()?;
    reader.skip_name()?;
    let serial = reader.array().map(u32::from_be_bytes)?;
    (kind == kind::SOA).then_some(serial)
}

/// What a message asks, in words: for logs, not for answering.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    /// Lower-case, without the trailing dot.
    pub name: String,
    /// See [`crate::kind_name`].
    pub kind: u16,
    /// The client's network by ECS, unless it opted out.
    pub subnet: Option<(IpAddr, u8)>,
}

/// What a message asks; None where its question cannot be read.
pub fn asked(message: &[u8]) -> Option<Asked> {
    let mut name = QueryName::new();
    let query = read(message, &mut name).ok()?;
    let question = query.question?;
    let subnet = query.edns.and_then(|edns| edns.subnet).and_then(|subnet| subnet.network());
    Some(Asked { name: name.to_string(), kind: question.kind, subnet })
}
