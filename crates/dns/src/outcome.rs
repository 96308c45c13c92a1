//! What became of a message, for metrics and logs.

use perigee_geo::{
    place::Country,
    steer::{PlaceSource, SteerReason},
};
use perigee_protocol::id::PopId;

use crate::code::Rcode;

/// What became of a message.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome<'s> {
    /// None: `out` is empty and nothing must be sent. Else `out` is the answer, which ends so.
    pub rcode: Option<Rcode>,
    /// Why.
    pub reason: Reason,
    /// The TC bit: the rest is to be had over TCP.
    pub truncated: bool,
    /// The type asked for, where the question could be read.
    pub kind: Option<u16>,
    /// Of steered answers.
    pub steered: Option<SteeredTo<'s>>,
}

/// Where a steered answer sends the client.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SteeredTo<'s> {
    /// Whose address comes first; None: there was none to answer.
    pub pop: Option<&'s PopId>,
    /// Of the client, where known.
    pub country: Option<Country>,
    /// What told where the client is.
    pub source: PlaceSource,
    /// How many bits of the client's address decided (RFC 7871 §6, SCOPE PREFIX-LENGTH).
    pub scope: u8,
}

/// Why a message was answered so; spelled by [`Reason::as_str`] and nowhere else.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reason {
    /// A steered name: addresses of edges, or none that the client may use.
    Steered(SteerReason),
    /// Records of the document, nameservers and SOA included.
    Static,
    /// A CNAME or DNAME that leaves the zone, or one too many.
    Alias,
    /// A DNAME whose target makes the name too long.
    NameTooLong,
    /// ANY, minimally (RFC 8482).
    Any,
    /// `_why.NAME`: an explanation.
    Why,
    /// The name is there, records of this type are not.
    NoData,
    /// The name is not there.
    NxDomain,
    /// Below a delegation.
    Referral,
    /// Not in our zone.
    OutOfZone,
    /// Not of class IN.
    Class,
    /// AXFR or IXFR, by nobody who may, or on a way that has no room for it.
    Transfer,
    /// AXFR or IXFR, by a secondary: the zone, or that it has it already.
    Transferred,
    /// Signed (RFC 8945), but not with what its key makes of the message.
    BadSignature,
    /// Signed with a key that is not known here.
    BadKey,
    /// Signed at a time that is too far from ours.
    BadTime,
    /// A type that is no question for us.
    MetaType,
    /// A type that is no question for anybody (RFC 9824 §3.5).
    QueryType,
    /// Not a QUERY.
    Opcode,
    /// Not one question.
    QuestionCount,
    /// Not well-formed.
    Malformed,
    /// OPT is not well-formed, or there are two.
    Edns,
    /// An EDNS version above 0.
    EdnsVersion,
    /// ECS is not well-formed.
    ClientSubnet,
    /// A cookie that is not well-formed; or a query for nothing but a cookie.
    Cookie,
    /// More than the client's network may have: dropped, or sent to TCP.
    RateLimit,
    /// Dropped: no whole header.
    TooShort,
    /// Dropped: itself an answer.
    IsResponse,
    /// Dropped: over QUIC, with an ID or with keepalive (RFC 9250 §4.2.1, §5.5.2).
    QuicRules,
}

impl Reason {
    /// What tells a person more than the code (RFC 8914 §4), where something does.
    pub(crate) fn extended_error(self) -> Option<u16> {
        match self {
            Self::OutOfZone | Self::Class => Some(20), // Not Authoritative
            Self::Transfer => Some(18),                // Prohibited
            Self::Opcode | Self::MetaType => Some(21), // Not Supported
            Self::QueryType => Some(30),               // Invalid Query Type
            _ => None,
        }
    }

    /// The metric's label and the log's field.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Steered(reason) => reason.as_str(),
            Self::Static => "static",
            Self::Alias => "alias",
            Self::NameTooLong => "name-too-long",
            Self::Why => "why",
            Self::Any => "any",
            Self::NoData => "no-data",
            Self::NxDomain => "nx-domain",
            Self::Referral => "referral",
            Self::OutOfZone => "out-of-zone",
            Self::Class => "class",
            Self::Transfer => "transfer",
            Self::Transferred => "transferred",
            Self::BadSignature => "tsig-bad-signature",
            Self::BadKey => "tsig-bad-key",
            Self::BadTime => "tsig-bad-time",
            Self::MetaType => "meta-type",
            Self::QueryType => "query-type",
            Self::Opcode => "opcode",
            Self::QuestionCount => "question-count",
            Self::Malformed => "malformed",
            Self::Edns => "edns",
            Self::EdnsVersion => "edns-version",
            Self::ClientSubnet => "client-subnet",
            Self::Cookie => "cookie",
            Self::RateLimit => "rate-limit",
            Self::TooShort => "too-short",
            Self::IsResponse => "is-response",
            Self::QuicRules => "quic-rules",
        }
    }
}
