//! Which `[[site.rule]]` fires, and what it makes of a request: fields, key, redirect.
//!
//! A request has one rule: the first without `status` that matches it. It says whether the request passes, what is keyed,
//! which request fields change, and where to redirect. A response has one rule too: the first, with or without `status`,
//! that matches the request and the status that upstream gave. It says how long the response is fresh, how long it may be
//! stale, and which fields clients see. Without rules that name a status the two are one.
//!
//! Matching costs at most the rules' patterns times the length of what they are compared with, and allocates only where
//! rules with `status` match.

pub mod describe;
mod device;
mod key;
mod redirect;
#[cfg(test)]
mod tests;

use std::fmt::Write as _;

use http::{
    HeaderMap, HeaderName, HeaderValue, Method,
    header::{COOKIE, Entry},
};
use perigee_protocol::model::{HeaderRules, Rule, RuleMatch};
use xxhash_rust::xxh3::xxh3_64;

pub use device::DeviceClass;
pub use key::{Client, KeyPart, key_of_strangers, prepare};
pub use redirect::location;

use crate::fields::trim;

/// What a rule is matched with.
#[derive(Clone, Copy, Debug)]
pub struct RuleView<'a> {
    /// As it was sent, without the query.
    pub path: &'a str,
    /// Of the client's Host, without port.
    pub host: &'a str,
    /// The client's.
    pub method: &'a Method,
    /// The client's, without hop-by-hop and internal fields.
    pub headers: &'a HeaderMap,
}

/// What of a rule's `match` a request does not fit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mismatch {
    /// `match.path`
    Path,
    /// `match.extension`
    Extension,
    /// `match.host`
    Host,
    /// `match.method`
    Method,
    /// `match.header`
    Header,
    /// `match.cookie`
    Cookie,
    /// `match.status`
    Status,
}

impl Mismatch {
    /// The key, as the document spells it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Path => "path",
            Self::Extension => "extension",
            Self::Host => "host",
            Self::Method => "method",
            Self::Header => "header",
            Self::Cookie => "cookie",
            Self::Status => "status",
        }
    }
}

/// The first key of `match`, but for `status`, that the request does not fit; `None`: it fits.
pub fn mismatch(when: &RuleMatch, request: &RuleView<'_>) -> Option<Mismatch> {
    if !when.path.is_empty() && !when.path.iter().any(|pattern| pattern.matches(request.path)) {
        return Some(Mismatch::Path);
    }
    if !when.extension.is_empty() {
        let found = extension(request.path);
        if !when.extension.iter().any(|wanted| found.is_some_and(|found| found.eq_ignore_ascii_case(wanted))) {
            return Some(Mismatch::Extension);
        }
    }
    if !when.host.is_empty() && !when.host.iter().any(|pattern| pattern.matches(request.host)) {
        return Some(Mismatch::Host);
    }
    if !when.method.is_empty() && !when.method.iter().any(|method| is_method(method, request.method)) {
        return Some(Mismatch::Method);
    }
    let has = |(name, patterns): &(HeaderName, Vec<_>)| {
        let mut lines = request.headers.get_all(name).into_iter().map(|line| trim(line.as_bytes()));
        lines.any(|line| patterns.iter().any(|pattern: &perigee_protocol::model::TextPattern| pattern.matches(line)))
    };
    if !when.header.iter().all(has) {
        return Some(Mismatch::Header);
    }
    if !when.cookie.is_empty()
        && !cookies(request.headers).any(|(name, _)| when.cookie.iter().any(|wanted| wanted.as_bytes() == name))
    {
        return Some(Mismatch::Cookie);
    }
    None
}

/// RFC 9110 §9.3.2: HEAD is answered as GET would be, so a rule for GET is one for HEAD.
fn is_method(wanted: &Method, method: &Method) -> bool {
    wanted == method || (*wanted == Method::GET && *method == Method::HEAD)
}

/// What stands after the last dot of a path's last segment.
fn extension(path: &str) -> Option<&str> {
    let segment = path.rsplit('/').next().unwrap_or(path);
    segment.rsplit_once('.').map(|(_, extension)| extension)
}

/// Names and values of all cookies (RFC 6265 §4.2.1), in order; over HTTP/2 they come in several lines (RFC 9113 §8.2.3).
pub(crate) fn cookies(headers: &HeaderMap) -> impl Iterator<Item = (&[u8], &[u8])> {
    headers.get_all(COOKIE).into_iter().flat_map(|line| line.as_bytes().split(|byte| *byte == b';')).filter_map(
        |pair| {
            let equals = pair.iter().position(|byte| *byte == b'=')?;
            let (name, value) = pair.split_at_checked(equals)?;
            Some((trim(name), trim(value.get(1..)?)))
        },
    )
}

/// The rules of one request, by their place in the site's list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Choice {
    rule: Option<u16>,
    /// Rules with `status` that match the request and come before `rule`: later ones never fire.
    by_status: Vec<u16>,
}

impl Choice {
    /// Matches the rules, the first first.
    pub fn new(rules: &[Rule], request: &RuleView<'_>) -> Self {
        let mut choice = Self::default();
        for (index, rule) in (0..).zip(rules) {
            if mismatch(&rule.when, request).is_some() {
                continue;
            }
            if !rule.needs_status() {
                choice.rule = Some(index);
                break;
            }
            choice.by_status.push(index);
        }
        choice
    }

    /// The place of the request's rule.
    pub fn index(&self) -> Option<usize> {
        self.rule.map(usize::from)
    }

    /// The request's rule: key, pass, request fields, redirect.
    pub fn rule<'r>(&self, rules: &'r [Rule]) -> Option<&'r Rule> {
        rules.get(self.index()?)
    }

    /// The place of the rule of a response with that status.
    pub fn index_for(&self, rules: &[Rule], status: u16) -> Option<usize> {
        // RFC 9110 §15.3.7, §15.4.5: parts of a 200, and word that one still holds, whoever asked for them so.
        let status = if matches!(status, 206 | 304) { 200 } else { status };
        let fits = |index: &usize| {
            rules.get(*index).is_some_and(|rule| rule.when.status.iter().any(|pattern| pattern.matches(status)))
        };
        self.by_status.iter().map(|index| usize::from(*index)).find(fits).or(self.index())
    }

    /// The rule of a response with that status: freshness, response fields.
    pub fn rule_for<'r>(&self, rules: &'r [Rule], status: u16) -> Option<&'r Rule> {
        if self.by_status.is_empty() {
            return self.rule(rules);
        }
        rules.get(self.index_for(rules, status)?)
    }

    /// What an edge tells a shield: `fingerprint:rule:status rules`. A shield sees the request as the edge sends it on, and
    /// could not tell which rule the client's own request matched. `None` where there are no rules.
    pub fn claim(&self, fingerprint: u64) -> Option<String> {
        if fingerprint == NO_RULES {
            return None;
        }
        let mut claim = format!("{fingerprint:016x}:");
        // Writing to a String cannot fail.
        self.rule.map_or(Ok(()), |rule| write!(claim, "{rule}")).unwrap_or_default();
        for (place, index) in self.by_status.iter().enumerate() {
            write!(claim, "{}{index}", if place == 0 { ':' } else { ',' }).unwrap_or_default();
        }
        Some(claim)
    }

    /// A claim read back, empty where there was none; `None` where it speaks of other rules: another generation of the
    /// document. What such a peer asks for has a key of its own: see [`key_of_strangers`].
    pub fn from_claim(claim: &str, fingerprint: u64, rules: &[Rule]) -> Option<Self> {
        if claim.is_empty() && fingerprint == NO_RULES {
            return Some(Self::default());
        }
        let mut parts = claim.splitn(3, ':');
        if u64::from_str_radix(parts.next()?, 16).ok()? != fingerprint {
            return None;
        }
        let index = |text: &str| text.parse::<u16>().ok().filter(|index| usize::from(*index) < rules.len());
        let rule = match parts.next()? {
            "" => None,
            text => Some(index(text)?),
        };
        let by_status = parts.next().map_or(Some(Vec::new()), |list| list.split(',').map(index).collect())?;
        Some(Self { rule, by_status })
    }
}

/// The fingerprint of an empty list.
const NO_RULES: u64 = 0;

/// A number for a site's rules: equal on all nodes that read the same ones.
pub fn fingerprint(rules: &[Rule]) -> u64 {
    if rules.is_empty() { NO_RULES } else { xxh3_64(format!("{rules:?}").as_bytes()).max(1) }
}

/// Changes fields: `remove`, then `set`, then `add`.
pub fn apply(rules: &HeaderRules, headers: &mut HeaderMap) {
    for name in &rules.remove {
        headers.remove(name);
    }
    for (name, value) in &rules.set {
        headers.insert(name, value.clone());
    }
    for (name, value) in &rules.add {
        append(headers, name, value);
    }
}

fn append(headers: &mut HeaderMap, name: &HeaderName, value: &HeaderValue) {
    match headers.entry(name) {
        Entry::Occupied(mut lines) => lines.append(value.clone()),
        Entry::Vacant(empty) => drop(empty.insert(value.clone())),
    }
}
