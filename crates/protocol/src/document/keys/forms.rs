//! What strings look like: a pattern for editors, and examples of both sides for the test that asks the reader.

use crate::{
    document::limits::{COOKIE_NAME_BYTES_MAX, METHOD_BYTES_MAX, PATH_PATTERN_BYTES_MAX, REDIRECT_BYTES_MAX},
    rdata::KINDS,
};

use super::super::{names::NAME_BYTES_MAX, value::TEXT_BYTES_MAX};

/// The form of a string.
#[derive(Debug)]
pub struct Form {
    /// In a word or two: `host name`.
    pub what: &'static str,
    /// A regular expression of ECMA-262 that whatever the reader takes matches. Empty: anything does.
    pub pattern: &'static str,
    /// The most characters.
    pub chars_max: usize,
    /// What the reader takes, as far as the string alone decides.
    pub good: &'static [&'static str],
    /// What reader and pattern refuse.
    pub bad: &'static [&'static str],
    /// What the reader refuses though the pattern cannot say it.
    pub beyond: &'static [&'static str],
}

const ANY: Form = Form { what: "", pattern: "", chars_max: TEXT_BYTES_MAX, good: &[], bad: &[], beyond: &[] };

macro_rules! address {
    ($after:literal) => {
        concat!(
            "^(((25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])[.]){3}(25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])|",
            "[0-9A-Fa-f:]*:[0-9A-Fa-f:.]*)",
            $after,
            "$"
        )
    };
}
macro_rules! id {
    () => {
        "[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?"
    };
}
macro_rules! host {
    () => {
        "([A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?[.])*[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?[.]?"
    };
}
macro_rules! token {
    ($count:literal) => {
        concat!("^[!#$%&'*+.^_`|~0-9A-Za-z-]", $count, "$")
    };
}

pub(super) static TEXT: Form = Form { what: "text", good: &["São Paulo", ""], ..ANY };
pub(super) static FILE: Form =
    Form { what: "file", pattern: "^[^\\u0000]+$", good: &["a.pem", "/etc/x"], bad: &["", "a\0"], ..ANY };
pub(super) static WORD: Form = Form {
    what: "1 to 63 letters, digits and `-._~+`",
    pattern: "^[A-Za-z0-9._~+-]{1,63}$",
    good: &["perigee", "a.b_c~d+e-9"],
    bad: &["", "two words", "a/b", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"],
    ..ANY
};
pub(super) static ID: Form = Form {
    what: "identifier",
    pattern: concat!("^", id!(), "$"),
    good: &["x", "x-1", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"],
    bad: &["", "X", "-x", "x-", "a.b", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"],
    ..ANY
};
pub(super) static POP: Form = Form {
    what: "PoP",
    pattern: concat!("^", id!(), "$"),
    good: &["lon"],
    bad: &["", "LON"],
    beyond: &["nowhere"],
    ..ANY
};
pub(super) static POP_OR_ALL: Form =
    Form { what: "PoP or `\"*\"`", pattern: concat!("^([*]|", id!(), ")$"), good: &["*", "lon"], ..POP };
pub(super) static SITE: Form = Form {
    what: "site",
    pattern: concat!("^", id!(), "$"),
    good: &["www"],
    bad: &["", "WWW"],
    beyond: &["none"],
    ..ANY
};
pub(super) static HOST: Form = Form {
    what: "host name",
    pattern: concat!("^", host!(), "$"),
    chars_max: NAME_BYTES_MAX + 1,
    good: &["a.example", "WWW.Example.COM."],
    bad: &["", ".", "a..b", "-a.b", "a_b", "*.a", "a:80", "a b"],
    beyond: &[],
};
pub(super) static MAIL: Form = Form {
    what: "mail address",
    pattern: "^[^@\\s]{1,63}@[^@\\s]+$",
    good: &["a@b.example", "a.b+c@d.example"],
    bad: &["", "a", "@b", "a@", "a@b@c", "a b@c"],
    beyond: &["a@1", "a,b@c.example"],
    ..ANY
};
pub(super) static ADDRESS: Form = Form {
    what: "address",
    pattern: address!(""),
    good: &["203.0.113.99", "2001:db8::99"],
    bad: &["", "203.0.113", "203.0.113.256", "a.example", "203.0.113.1:80"],
    beyond: &["::", "224.0.0.1", "::ffff:1.2.3.4", "1::2::3"],
    ..ANY
};
pub(super) static PREFIX: Form = Form {
    what: "prefix",
    pattern: address!("/[0-9]{1,3}"),
    good: &["203.0.113.0/24", "2001:db8::/48", "0.0.0.0/0"],
    bad: &["", "203.0.113.0", "203.0.113/24", "a/8"],
    beyond: &["203.0.113.1/24", "203.0.113.0/33"],
    ..ANY
};
pub(super) static URL: Form = Form {
    what: "`http://HOST[:PORT]` or `https://…`",
    pattern: "^[Hh][Tt][Tt][Pp][Ss]?://(\\[[0-9A-Fa-f:.]+\\]|[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?[.]?)(:[0-9]{1,5})?$",
    good: &["http://198.18.0.99", "https://a.example:8443", "http://[2001:db8::1]:8080"],
    bad: &["", "a", "ftp://a", "http://a/", "http://a?b", "http://u@a", "http://a:"],
    beyond: &["http://a:0", "http://a:65536", "http://[1::2::3]", "http://1.2.3"],
    ..ANY
};
pub(super) static AUTHORITY: Form = Form {
    what: "host, or host and port",
    pattern: "^(\\[[0-9A-Fa-f:.]+\\]|[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?[.]?)(:[0-9]{1,5})?$",
    good: &["www.example.com", "a:8080"],
    bad: &["", "http://a", "a/b", "a:"],
    beyond: &["a:0"],
    ..ANY
};
pub(super) static NATS: Form = Form {
    what: "`nats://HOST:PORT` or `tls://…`",
    pattern: "^(nats|tls)://[^/@?#\\s]+$",
    good: &["nats://nats.example:4222", "tls://a"],
    bad: &["", "http://a", "nats://", "nats://a/b"],
    ..ANY
};
pub(super) static SHA256: Form = Form {
    what: "64 hexadecimal digits",
    pattern: "^[0-9A-Fa-f]{64}$",
    good: &["9F86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a09"],
    bad: &["", "abc", "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a0g"],
    ..ANY
};
pub(super) static COUNTRY: Form =
    Form { what: "two capital letters", pattern: "^[A-Z]{2}$", good: &["DE"], bad: &["", "de", "DEU", "1A"], ..ANY };
pub(super) static FENCED: Form = Form {
    what: "CLIENTS",
    pattern: "^([A-Z]{2}|continent:(AF|AN|AS|EU|NA|OC|SA)|AS[1-9][0-9]{0,9}|[*])$",
    good: &["DE", "continent:EU", "AS64500", "*"],
    bad: &["", "de", "DEU", "continent:XX", "AS0", "ASX"],
    beyond: &["AS4294967295"],
    ..ANY
};
pub(super) static PATH: Form = Form {
    what: "path",
    pattern: "^/[!-\"$-~]*$",
    good: &["/", "/healthz?a=b"],
    bad: &["", "healthz", "/a b", "/a#b", "/ä"],
    ..ANY
};
pub(super) static STATUS: Form = Form {
    what: "STATUS",
    pattern: "^(30[0-35-9]|3[1-9][0-9]|[45][0-9][0-9])$",
    good: &["300", "303", "305", "404", "599"],
    bad: &["", "200", "299", "304", "600", "4xx", "0404"],
    ..ANY
};
pub(super) static QUERY: Form = Form {
    what: "parameter, or its beginning and `*`",
    pattern: "^([!-\"$%'-)+-<>-~]+[*]?|[*])$",
    good: &["utm_*", "fbclid", "*"],
    bad: &["", "a*b", "a=b", "a&b", "a#", "a b", "**"],
    ..ANY
};
pub(super) static FIELD: Form = Form {
    what: "header field",
    pattern: token!("+"),
    good: &["X-Frame-Options", "accept"],
    bad: &["", "a b", "a:", "ä"],
    beyond: &["Connection", "content-length", "Perigee-Proof"],
    ..ANY
};
pub(super) static FIELD_VALUE: Form = Form {
    what: "visible ASCII with inner spaces",
    pattern: "^([!-~]([ -~]*[!-~])?)?$",
    good: &["", "DENY", "a b"],
    bad: &[" a", "a ", "ä", "a\nb", "a\tb"],
    ..ANY
};
pub(super) static FIELD_PATTERN: Form = Form {
    what: "pattern with `*`",
    pattern: "^[!-~]([ -~]*[!-~])?$",
    chars_max: PATH_PATTERN_BYTES_MAX,
    good: &["1", "*image/webp*", "a b"],
    bad: &["", " a", "a ", "ä"],
    beyond: &["*a*b*c*d*e*f*g*h*"],
};
pub(super) static PATH_PATTERN: Form = Form {
    what: "path pattern with `*`",
    pattern: "^[/*][!-\"$->@-~]*$",
    chars_max: PATH_PATTERN_BYTES_MAX,
    good: &["/", "*", "/static/*", "*.css"],
    bad: &["", "static", "/a?b", "/a#b", "/a b", "/ä"],
    beyond: &["/*a*b*c*d*e*f*g*h*"],
};
pub(super) static EXTENSION: Form = Form {
    what: "extension",
    pattern: "^[A-Za-z0-9_-]{1,32}$",
    good: &["jpg", "WOFF2"],
    bad: &["", ".jpg", "a/b", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"],
    ..ANY
};
pub(super) static HOST_PATTERN: Form = Form {
    what: "host name, or `*.` and the end of one",
    pattern: concat!("^([*][.])?", host!(), "$"),
    chars_max: NAME_BYTES_MAX + 3,
    good: &["a.example", "*.example.com"],
    bad: &["", "*", "a.*", "a:80"],
    beyond: &[],
};
pub(super) static METHOD: Form = Form {
    what: "method",
    pattern: token!("+"),
    chars_max: METHOD_BYTES_MAX,
    good: &["GET", "M-SEARCH"],
    bad: &["", "A B"],
    beyond: &[],
};
pub(super) static COOKIE: Form = Form {
    what: "cookie's name",
    pattern: token!("+"),
    chars_max: COOKIE_NAME_BYTES_MAX,
    good: &["session", "__Host-a"],
    bad: &["", "a=b", "a b"],
    beyond: &[],
};
pub(super) static REDIRECT: Form = Form {
    what: "URL or path with `{host}`, `{path}`, `{query}`",
    pattern: "^(https?://[!-~]+|/([!-.0-~][!-~]*)?|\\{path\\}[!-~]*)$",
    chars_max: REDIRECT_BYTES_MAX,
    good: &["/", "/a{query}", "https://www.example.com{path}{query}", "http://{host}/", "{path}/"],
    bad: &["", "//a", "ftp://a", "www.example.com", "/a b"],
    beyond: &["/{colour}", "https://a_b/", "/a{path"],
};
pub(super) static OWNER: Form = Form {
    what: "`\"@\"` or a name",
    pattern: "^(@|[*]|([*][.])?[A-Za-z0-9_]([A-Za-z0-9_.-]*[A-Za-z0-9_])?[.]?)$",
    good: &["@", "txt", "_dmarc.a", "*", "*.img", "mail.cdn.example."],
    bad: &["", "a b", "a.*", "-a", "ä"],
    beyond: &["a..b", "mail.cdn.example", "other.example."],
    ..ANY
};
pub(super) static RECORD_TYPE: Form = Form {
    what: "type",
    pattern: "^[A-Z][A-Z0-9]*$",
    good: &KINDS,
    bad: &["", "txt", "A B"],
    beyond: &["BOGUS", "TYPE", "TYPE41", "TYPE70000"],
    ..ANY
};
pub(super) static ZONE_NAME: Form =
    Form { what: "name in the zone", good: &["cdn.example", "a.cdn.example."], beyond: &["other.example"], ..NAME };
pub(super) static NAME: Form = Form {
    what: "domain name",
    pattern: "^([*]|([*][.])?[A-Za-z0-9_]([A-Za-z0-9_.-]*[A-Za-z0-9_])?[.]?)$",
    good: &["transfer.cdn.example", "a_b"],
    bad: &["", "a b", "a.*", "-a", "ä"],
    beyond: &["a..b"],
    ..ANY
};
pub(super) static KEY: Form =
    Form { what: "name of a `[[zone.key]]`", good: &["transfer.cdn.example"], beyond: &["other.example"], ..NAME };
pub(super) static SECONDARY: Form = Form {
    what: "address, or address and port",
    pattern: concat!(
        "^(((25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])[.]){3}(25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])(:[0-9]{1,5})?|",
        "[0-9A-Fa-f:]*:[0-9A-Fa-f:.]*|\\[[0-9A-Fa-f:.]*\\]:[0-9]{1,5})$"
    ),
    good: &["198.18.0.99", "198.18.0.99:5353", "2001:db8::99", "[2001:db8::99]:5353"],
    bad: &["", "a.example", "198.18.0.99:", "198.18.0"],
    beyond: &["198.18.0.99:0", "0.0.0.0", "224.0.0.1"],
    ..ANY
};
pub(super) static RECORD_VALUE: Form = Form { what: "data in zone-file form", ..ANY };
