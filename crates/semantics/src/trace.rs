//! Which trace a request belongs to: W3C Trace Context, level 1 (Recommendation) and level 2.
//!
//! Reading and writing of `traceparent` and `tracestate`. Whether a request is traced, and with what ids, is for others to
//! say: there is no chance here.

use std::{
    fmt,
    num::{NonZeroU64, NonZeroU128},
};

use http::{HeaderMap, HeaderName, HeaderValue};

/// Trace Context §3.2: who asks, in which trace.
pub const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
/// Trace Context §3.3: what the systems on the way add to it, each for itself.
pub const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");

/// §3.3.1.1: a list has at most so many members.
pub const TRACESTATE_MEMBERS_MAX: usize = 32;
/// §3.3.1.5: so much at least must be handed on. No more is.
pub const TRACESTATE_BYTES_MAX: usize = 512;
/// §3.3.1.5: longer members go first where not all can be handed on.
const MEMBER_BYTES_LONG: usize = 128;
const KEY_BYTES_MAX: usize = 256;
const VALUE_BYTES_MAX: usize = 256;

/// Names a trace: 32 hexadecimal digits, not all zero (§3.2.2.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TraceId(NonZeroU128);

/// Names a span of a trace: 16 hexadecimal digits, not all zero (§3.2.2.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SpanId(NonZeroU64);

impl TraceId {
    /// The number as an id; zero, which is none, becomes one.
    pub fn new(number: u128) -> Self {
        Self(NonZeroU128::new(number).unwrap_or(NonZeroU128::MIN))
    }

    /// As it goes over wires.
    pub fn to_bytes(self) -> [u8; 16] {
        self.0.get().to_be_bytes()
    }
}

impl SpanId {
    /// The number as an id; zero, which is none, becomes one.
    pub fn new(number: u64) -> Self {
        Self(NonZeroU64::new(number).unwrap_or(NonZeroU64::MIN))
    }

    /// As it goes over wires.
    pub fn to_bytes(self) -> [u8; 8] {
        self.0.get().to_be_bytes()
    }
}

impl fmt::Display for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl fmt::Display for SpanId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// What `traceparent` says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TraceParent {
    /// The trace.
    pub trace: TraceId,
    /// The span that asks.
    pub span: SpanId,
    /// §3.2.2.5.1: whether who asks records it.
    pub sampled: bool,
    /// Level 2 §3.2.2.5.2: whether the last seven bytes of the trace's id came by chance.
    pub random: bool,
}

const SAMPLED: u8 = 1;
const RANDOM: u8 = 2;
/// Of version 00: `00-`, 32 digits, `-`, 16 digits, `-`, 2 digits.
const PARENT_BYTES: usize = 55;

impl TraceParent {
    /// Reads the field's value. None: it is malformed, and then whoever asked has said nothing.
    pub fn parse(value: &[u8]) -> Option<Self> {
        let fields: &[u8; PARENT_BYTES] = value.first_chunk()?;
        let rest = value.get(PARENT_BYTES..)?;
        let [v0, v1, b'-', after @ ..] = fields else { return None };
        let (trace, after) = after.split_first_chunk::<32>()?;
        let (b'-', after) = after.split_first()? else { return None };
        let (span, after) = after.split_first_chunk::<16>()?;
        let (b'-', flags) = after.split_first()? else { return None };
        let version = hexadecimal(&[*v0, *v1])?;
        // §3.2.2.1: ff is invalid. §3.2.4: of versions to come, what follows begins with a dash; 00 has nothing more.
        let fits = match (version, rest.first()) {
            (0xff, _) => false,
            (_, None) => true,
            (0, Some(_)) => false,
            (_, Some(first)) => *first == b'-',
        };
        let flags = u8::try_from(hexadecimal(flags)?).ok().filter(|_| fits)?;
        Some(Self {
            trace: TraceId(NonZeroU128::new(hexadecimal(trace)?)?),
            span: SpanId(NonZeroU64::new(u64::try_from(hexadecimal(span)?).ok()?)?),
            sampled: flags & SAMPLED != 0,
            random: flags & RANDOM != 0,
        })
    }

    /// What a request says of its trace. None: nothing, or nothing that can be understood; several fields are that too.
    pub fn of(headers: &HeaderMap) -> Option<Self> {
        let mut values = headers.get_all(TRACEPARENT).iter();
        let one = values.next().filter(|_| values.next().is_none())?;
        Self::parse(one.as_bytes().trim_ascii())
    }

    /// As a field's value, of version 00 whatever was read (§3.2.4).
    pub fn to_value(self) -> HeaderValue {
        // Digits and dashes: a value takes them all.
        HeaderValue::try_from(self.to_string()).unwrap_or_else(|_| HeaderValue::from_static(""))
    }
}

impl fmt::Display for TraceParent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // §3.2.2.5.3: flags that are not known are set to zero.
        let flags = if self.sampled { SAMPLED } else { 0 } | if self.random { RANDOM } else { 0 };
        write!(f, "00-{}-{}-{flags:02x}", self.trace, self.span)
    }
}

/// §3.2.1: lower case alone.
fn hexadecimal(digits: &[u8]) -> Option<u128> {
    digits.iter().try_fold(0_u128, |number, digit| {
        let value = match digit {
            b'0'..=b'9' => digit - b'0',
            b'a'..=b'f' => digit - b'a' + 10,
            _ => return None,
        };
        Some(number << 4 | u128::from(value))
    })
}

/// The `tracestate` of a request, several fields joined in their order (§3.3.1). None: there is none, or it is malformed and
/// so all of it is dropped; the request's `traceparent` counts all the same (§3.3.1.5).
pub fn tracestate(headers: &HeaderMap) -> Option<HeaderValue> {
    let mut members = Vec::new();
    for value in headers.get_all(TRACESTATE) {
        // §3.3.1.1: empty members may be sent; they are not sent on.
        let listed = value.as_bytes().split(|byte| *byte == b',').map(<[u8]>::trim_ascii);
        for member in listed.filter(|member| !member.is_empty()) {
            if members.len() == TRACESTATE_MEMBERS_MAX || !is_member(member) {
                return None;
            }
            members.push(member);
        }
    }
    // §3.3.1.5: whole members, the long ones first, then from the end.
    if length(&members) > TRACESTATE_BYTES_MAX {
        members.retain(|member| member.len() <= MEMBER_BYTES_LONG);
    }
    while length(&members) > TRACESTATE_BYTES_MAX {
        members.pop();
    }
    if members.is_empty() { None } else { HeaderValue::from_bytes(&members.join(&b',')).ok() }
}

fn length(members: &[&[u8]]) -> usize {
    members.iter().map(|member| member.len()).sum::<usize>() + members.len().saturating_sub(1)
}

/// Level 2 §3.3.1.3, which takes all that level 1 takes.
fn is_member(member: &[u8]) -> bool {
    let Some(equals) = member.iter().position(|byte| *byte == b'=') else { return false };
    let (key, value) = (member.get(..equals).unwrap_or_default(), member.get(equals + 1..).unwrap_or_default());
    let leads = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let keyed = |byte: &u8| leads(byte) || b"_-*/@".contains(byte);
    let valued = |byte: &u8| (b' '..=b'~').contains(byte) && !b",=".contains(byte);
    key.first().is_some_and(leads)
        && key.iter().all(keyed)
        && key.len() <= KEY_BYTES_MAX
        && (1..=VALUE_BYTES_MAX).contains(&value.len())
        && value.iter().all(valued)
}

#[cfg(test)]
mod tests;
