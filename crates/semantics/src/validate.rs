//! Conditional requests: answering the client's, making our own, and what a 304 changes (RFC 9110 §13, RFC 9111 §4.3).

use http::{
    HeaderMap, HeaderName, HeaderValue, Method, StatusCode,
    header::{
        CONTENT_ENCODING, CONTENT_LANGUAGE, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, DATE, ETAG, IF_MATCH,
        IF_MODIFIED_SINCE, IF_NONE_MATCH, IF_UNMODIFIED_SINCE, LAST_MODIFIED, SET_COOKIE,
    },
};
use perigee_protocol::model::SetCookie;

use crate::{
    fields::first,
    head::{EntityTag, StoredHead},
    headers::strip_hop_by_hop,
    policy::Policy,
    request::RequestView,
    storable::{Candidate, Times},
    time::{Timestamp, parse_http_date},
};

/// What a client's conditions come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Precondition {
    /// Answer in full.
    Proceed,
    /// 304.
    NotModified,
    /// 412.
    Failed,
}

impl Precondition {
    /// The word for logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Proceed => "proceed",
            Self::NotModified => "not-modified",
            Self::Failed => "precondition-failed",
        }
    }
}

/// Evaluates the request's conditions against the stored response, in the order of RFC 9110 §13.2.2. Does not allocate.
///
/// Only GET and HEAD have conditions that a cache may answer, and only a stored success has any (§13.2.1).
pub fn evaluate(request: RequestView<'_>, stored: &StoredHead) -> Precondition {
    let headers = request.headers;
    if !matches!(*request.method, Method::GET | Method::HEAD) || !stored.status.is_success() {
        return Precondition::Proceed;
    }
    // Nearly no request has any; one look at the fields that are there is cheaper than asking for four.
    if !headers.keys().any(|name| name.as_str().starts_with("if-")) {
        return Precondition::Proceed;
    }
    // §13.1.1: strong comparison.
    if headers.contains_key(IF_MATCH) {
        if !any_tag(headers, &IF_MATCH, |tag| tag.strong_equals(stored.etag.as_ref())) {
            return Precondition::Failed;
        }
    } else if let (Some(limit), Some(modified)) = (date(headers, &IF_UNMODIFIED_SINCE), stored.last_modified)
        && modified > limit
    {
        return Precondition::Failed;
    }
    // §13.1.2: weak comparison; goes before If-Modified-Since.
    if headers.contains_key(IF_NONE_MATCH) {
        return if any_tag(headers, &IF_NONE_MATCH, |tag| tag.weak_equals(stored.etag.as_ref())) {
            Precondition::NotModified
        } else {
            Precondition::Proceed
        };
    }
    // §13.1.3. RFC 9111 §4.3.2: without Last-Modified, Date stands for it.
    let modified = || stored.last_modified.or_else(|| first(&stored.fields, &DATE).and_then(parse_http_date));
    match date(headers, &IF_MODIFIED_SINCE) {
        Some(since) if modified().is_some_and(|modified| modified <= since) => Precondition::NotModified,
        _ => Precondition::Proceed,
    }
}

/// A condition's date; more than one line, or none that can be read, is no condition (RFC 9110 §13.1.3).
fn date(headers: &HeaderMap, name: &HeaderName) -> Option<Timestamp> {
    let mut lines = headers.get_all(name).into_iter();
    let only = lines.next().filter(|_| lines.next().is_none())?;
    only.to_str().ok().and_then(parse_http_date)
}

/// One member of If-Match or If-None-Match.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Member<'a> {
    Any,
    Tag { weak: bool, opaque: &'a [u8] },
}

impl Member<'_> {
    /// RFC 9110 §8.8.3.2
    fn weak_equals(self, stored: Option<&EntityTag>) -> bool {
        match self {
            Self::Any => true,
            Self::Tag { opaque, .. } => stored.is_some_and(|stored| *stored.opaque == *opaque),
        }
    }

    fn strong_equals(self, stored: Option<&EntityTag>) -> bool {
        match self {
            Self::Any => true,
            Self::Tag { weak, opaque } => {
                stored.is_some_and(|stored| !weak && !stored.weak && *stored.opaque == *opaque)
            }
        }
    }
}

fn any_tag(headers: &HeaderMap, name: &HeaderName, accept: impl Fn(Member<'_>) -> bool) -> bool {
    headers.get_all(name).iter().any(|line| {
        let mut rest = line.as_bytes();
        std::iter::from_fn(|| next_member(&mut rest)).any(&accept)
    })
}

/// Takes the next well-formed member. Entity tags know no escapes and may hold commas, so this is no ordinary list.
fn next_member<'a>(rest: &mut &'a [u8]) -> Option<Member<'a>> {
    loop {
        let line = rest.trim_ascii_start();
        let (weak, tail) = match line.strip_prefix(b"W/") {
            Some(tail) => (true, tail),
            None => (false, line),
        };
        if let Some(tail) = tail.strip_prefix(b"\"")
            && let Some(end) = tail.iter().position(|b| *b == b'"')
        {
            let (opaque, after) = tail.split_at_checked(end)?;
            *rest = after.get(1..).unwrap_or_default();
            return Some(Member::Tag { weak, opaque });
        }
        // Not a tag: `*`, nothing, or junk up to the next comma.
        let end = line.iter().position(|b| *b == b',');
        let (item, after) = line.split_at_checked(end.unwrap_or(line.len()))?;
        *rest = after.get(1..).unwrap_or_default();
        if item.trim_ascii_end() == b"*" {
            return Some(Member::Any);
        }
        end?;
    }
}

/// The conditions of our own request for what is stored; empty if it has no validator (RFC 9110 §13.1.2, §13.1.3: both,
/// where both are known).
pub fn conditions(stored: &StoredHead) -> Vec<(HeaderName, HeaderValue)> {
    let mut conditions = Vec::with_capacity(2);
    let mut add = |condition, validator: HeaderName, known| {
        if let Some(value) = stored.fields.get(validator).filter(|_| known) {
            conditions.push((condition, value.clone()));
        }
    };
    add(IF_NONE_MATCH, ETAG, stored.etag.is_some());
    add(IF_MODIFIED_SINCE, LAST_MODIFIED, stored.last_modified.is_some());
    conditions
}

/// What a 304 makes of what is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Freshened {
    /// Its new head; the body stays.
    Updated(Box<StoredHead>),
    /// The body still holds for this request, but is to be forgotten.
    NoLongerStorable,
    /// The body still holds for this request, whose own fields forbid to learn more from the 304: what is stored stays.
    OnlyHere,
    /// The 304 speaks of another representation: forget what is stored and ask again without conditions.
    Mismatch,
}

impl Freshened {
    /// The word for logs.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Updated(_) => "updated",
            Self::NoLongerStorable => "no-longer-storable",
            Self::OnlyHere => "only-here",
            Self::Mismatch => "validator-mismatch",
        }
    }
}

/// Applies a 304 for our own conditional request (RFC 9111 §4.3.4, §3.2). `request` is the one that was sent upstream,
/// whose selecting fields the response keeps.
pub fn freshen(
    stored: &StoredHead,
    request: RequestView<'_>,
    response_304: &HeaderMap,
    policy: &Policy<'_>,
    times: Times,
    trusted_age_ms: Option<u64>,
) -> Freshened {
    if !selects(stored, response_304) {
        return Freshened::Mismatch;
    }
    let mut arrived = response_304.clone();
    strip_hop_by_hop(&mut arrived);
    let fields = merged(stored, &arrived, policy);
    // A HEAD that was revalidated freshens the GET that is stored.
    let method = Method::GET;
    let request = RequestView { method: &method, headers: request.headers };
    let candidate =
        Candidate { request, status: stored.status, fields: &fields, arrived: &arrived, policy, times, trusted_age_ms };
    match candidate.assess() {
        Ok(head) => Freshened::Updated(Box::new(head)),
        Err(reason) if reason.is_of_the_request() => Freshened::OnlyHere,
        Err(_) => Freshened::NoLongerStorable,
    }
}

/// A response to HEAD.
#[derive(Clone, Copy, Debug)]
pub struct HeadResponse<'a> {
    /// Final.
    pub status: StatusCode,
    /// All fields.
    pub headers: &'a HeaderMap,
    /// What a proved peer said of its age, in milliseconds.
    pub trusted_age_ms: Option<u64>,
}

/// What a response to HEAD makes of a stored response to GET.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HeadEffect {
    /// It is still the same representation; this is its new head.
    Updated(Box<StoredHead>),
    /// The representation has changed: what is stored is stale, and its body worthless for it.
    Outdated,
    /// It says nothing of what is stored.
    None,
}

impl HeadEffect {
    /// The word for logs.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Updated(_) => "updated",
            Self::Outdated => "outdated",
            Self::None => "none",
        }
    }
}

/// Applies a HEAD response that was fetched while a GET is stored under the same selecting fields (RFC 9111 §4.3.5).
/// `length` is that of the stored body in bytes.
pub fn apply_head(
    stored: &StoredHead,
    request: RequestView<'_>,
    response: HeadResponse<'_>,
    length: u64,
    policy: &Policy<'_>,
    times: Times,
) -> HeadEffect {
    let HeadResponse { status, headers, trusted_age_ms } = response;
    if !crate::vary::matches(&stored.vary, request.headers) {
        return HeadEffect::None;
    }
    // RFC 9110 §15.5.5, §15.5.11: a GET would find no more than this HEAD did.
    if matches!(status, StatusCode::NOT_FOUND | StatusCode::GONE) && stored.status.is_success() {
        return HeadEffect::Outdated;
    }
    // Only a 200 is about the representation.
    if status != StatusCode::OK || stored.status != StatusCode::OK {
        return HeadEffect::None;
    }
    let new_length = first(headers, &CONTENT_LENGTH).and_then(|length| length.parse::<u64>().ok());
    let same_tag = match (headers.get(ETAG).map(|tag| EntityTag::parse(tag.as_bytes())), &stored.etag) {
        (Some(new), old) => new.as_ref() == old.as_ref(),
        (None, _) => true,
    };
    if !same_tag || !selects(stored, headers) || new_length.is_some_and(|new| new != length) {
        return HeadEffect::Outdated;
    }
    match freshen(stored, request, headers, policy, times, trusted_age_ms) {
        Freshened::Updated(head) => HeadEffect::Updated(head),
        Freshened::OnlyHere => HeadEffect::None,
        Freshened::NoLongerStorable | Freshened::Mismatch => HeadEffect::Outdated,
    }
}

/// Whether the 304 is about what is stored (RFC 9111 §4.3.4). One without validators is: it answers our one condition.
fn selects(stored: &StoredHead, response_304: &HeaderMap) -> bool {
    let etag = response_304.get(ETAG).and_then(|value| EntityTag::parse(value.as_bytes()));
    match (etag, &stored.etag) {
        (Some(new), Some(old)) => return new.opaque == old.opaque,
        // A strong validator that no stored response has updates none.
        (Some(new), None) if !new.weak => return false,
        _ => {}
    }
    let modified = first(response_304, &LAST_MODIFIED).and_then(parse_http_date);
    match (modified, stored.last_modified) {
        (Some(new), Some(old)) => new == old,
        _ => true,
    }
}

/// Fields that describe the stored body, which a 304 does not change (RFC 9111 §3.2).
const OF_THE_BODY: [HeaderName; 7] = [
    CONTENT_LENGTH,
    CONTENT_ENCODING,
    CONTENT_RANGE,
    HeaderName::from_static("content-md5"),
    HeaderName::from_static("content-digest"),
    HeaderName::from_static("repr-digest"),
    HeaderName::from_static("digest"),
];

fn merged(stored: &StoredHead, arrived: &HeaderMap, policy: &Policy<'_>) -> HeaderMap {
    let mut fields = stored.fields.clone();
    // RFC 9110 §6.6.1: the 304's own Date, or when it came.
    fields.remove(DATE);
    for name in arrived.keys().filter(|name| !OF_THE_BODY.contains(name)) {
        // Cookies of a validation are the validating client's; whether they are kept is policy.
        if *name == SET_COOKIE && policy.cache.set_cookie != SetCookie::Store {
            continue;
        }
        fields.remove(name);
        for value in arrived.get_all(name) {
            fields.append(name.clone(), value.clone());
        }
    }
    fields
}

/// The stored fields that go on a 304: those that RFC 9110 §15.4.5 requires and all others that may guide caches behind us;
/// not what describes the body that is not sent. Age and Cache-Status are the caller's.
pub fn not_modified_fields(stored: &StoredHead) -> HeaderMap {
    let mut fields = not_modified_fields_for_peer(stored);
    fields.remove(CONTENT_TYPE);
    fields.remove(CONTENT_LANGUAGE);
    fields
}

/// The same for a cache of the fleet: all that it is to update (RFC 9111 §3.2), the content's type and language included.
pub fn not_modified_fields_for_peer(stored: &StoredHead) -> HeaderMap {
    let mut fields = stored.fields.clone();
    for name in &OF_THE_BODY {
        fields.remove(name);
    }
    fields
}

#[cfg(test)]
mod tests;
