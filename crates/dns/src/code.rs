//! The numbers of the wire that we use (IANA "Domain Name System (DNS) Parameters").

use std::{borrow::Cow, fmt};

/// A record type.
pub(crate) mod kind {
    pub(crate) const A: u16 = 1;
    pub(crate) const NS: u16 = 2;
    pub(crate) const CNAME: u16 = 5;
    pub(crate) const SOA: u16 = 6;
    pub(crate) const PTR: u16 = 12;
    pub(crate) const HINFO: u16 = 13;
    pub(crate) const MX: u16 = 15;
    pub(crate) const TXT: u16 = 16;
    pub(crate) const AAAA: u16 = 28;
    pub(crate) const SRV: u16 = 33;
    pub(crate) const DNAME: u16 = 39;
    pub(crate) const OPT: u16 = 41;
    pub(crate) const DS: u16 = 43;
    pub(crate) const RRSIG: u16 = 46;
    pub(crate) const NSEC: u16 = 47;
    pub(crate) const DNSKEY: u16 = 48;
    pub(crate) const CDS: u16 = 59;
    pub(crate) const CDNSKEY: u16 = 60;
    pub(crate) const SVCB: u16 = 64;
    pub(crate) const HTTPS: u16 = 65;
    /// In NSEC's map: the name does not exist (RFC 9824 §3.2).
    pub(crate) const NXNAME: u16 = 128;
    pub(crate) const IXFR: u16 = 251;
    pub(crate) const AXFR: u16 = 252;
    pub(crate) const ANY: u16 = 255;
    pub(crate) const CAA: u16 = 257;
}

/// The class of the Internet.
pub(crate) const CLASS_IN: u16 = 1;

/// The option code of EDNS Client Subnet (RFC 7871 §6).
pub(crate) const OPTION_ECS: u16 = 8;
/// Name Server Identifier (RFC 5001 §2.3).
pub(crate) const OPTION_NSID: u16 = 3;
/// edns-tcp-keepalive (RFC 7828 §3.1).
pub(crate) const OPTION_KEEPALIVE: u16 = 11;
/// Padding (RFC 7830 §3).
pub(crate) const OPTION_PADDING: u16 = 12;
/// Extended DNS Error (RFC 8914 §2).
pub(crate) const OPTION_EXTENDED_ERROR: u16 = 15;

/// How an answer ends, extended codes included (RFC 6895 §2.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Rcode {
    /// Also for names without records of the type asked.
    NoError,
    /// The query breaks a rule.
    FormErr,
    /// The name does not exist.
    NxDomain,
    /// An opcode or type that is not served here.
    NotImp,
    /// Not our zone, class or business.
    Refused,
    /// A DNAME makes a name of it that is too long (RFC 6672 §2.2).
    YxDomain,
    /// The signature is not one of ours (RFC 8945 §5.3.2).
    NotAuth,
    /// An EDNS version above 0.
    BadVers,
    /// Come again with the cookie that is here (RFC 7873 §8).
    BadCookie,
}

impl Rcode {
    /// As `dig` writes it; the metric's label too.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NoError => "NOERROR",
            Self::FormErr => "FORMERR",
            Self::NxDomain => "NXDOMAIN",
            Self::NotImp => "NOTIMP",
            Self::Refused => "REFUSED",
            Self::YxDomain => "YXDOMAIN",
            Self::NotAuth => "NOTAUTH",
            Self::BadVers => "BADVERS",
            Self::BadCookie => "BADCOOKIE",
        }
    }

    /// The twelve bits of the wire: the upper eight travel in OPT.
    pub fn number(self) -> u16 {
        match self {
            Self::NoError => 0,
            Self::FormErr => 1,
            Self::NxDomain => 3,
            Self::NotImp => 4,
            Self::Refused => 5,
            Self::YxDomain => 6,
            Self::NotAuth => 9,
            Self::BadVers => 16,
            Self::BadCookie => 23,
        }
    }
}

impl fmt::Display for Rcode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The mnemonic of a record type, or `TYPE123` (RFC 3597 §5).
pub fn kind_name(number: u16) -> Cow<'static, str> {
    Cow::Borrowed(match number {
        kind::A => "A",
        kind::NS => "NS",
        kind::CNAME => "CNAME",
        kind::SOA => "SOA",
        kind::PTR => "PTR",
        kind::HINFO => "HINFO",
        kind::MX => "MX",
        kind::TXT => "TXT",
        17 => "RP",
        18 => "AFSDB",
        kind::AAAA => "AAAA",
        kind::SRV => "SRV",
        35 => "NAPTR",
        kind::DNAME => "DNAME",
        kind::DS => "DS",
        44 => "SSHFP",
        kind::RRSIG => "RRSIG",
        kind::NSEC => "NSEC",
        kind::DNSKEY => "DNSKEY",
        52 => "TLSA",
        53 => "SMIMEA",
        kind::CDS => "CDS",
        kind::CDNSKEY => "CDNSKEY",
        61 => "OPENPGPKEY",
        kind::SVCB => "SVCB",
        kind::HTTPS => "HTTPS",
        kind::IXFR => "IXFR",
        kind::AXFR => "AXFR",
        kind::ANY => "ANY",
        256 => "URI",
        kind::CAA => "CAA",
        other => return Cow::Owned(format!("TYPE{other}")),
    })
}
