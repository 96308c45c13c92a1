//! What goes on the wire and what is believed of what comes back: fields made, fields stripped, framing judged. Pure.

use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use perigee_protocol::{headers, proof::FleetSecret};

use crate::{BodyFraming, FetchRequest, RequestBody};

/// RFC 9110 §7.6.1: meant for one connection, whether or not `Connection` names them.
const HOP_BY_HOP: [HeaderName; 6] = [
    header::CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    header::TE,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
];

/// The names that `Connection` lists.
fn nominated(headers: &HeaderMap) -> Vec<HeaderName> {
    let values = headers.get_all(header::CONNECTION).iter();
    let tokens = values.filter_map(|value| value.to_str().ok()).flat_map(|value| value.split(','));
    tokens.filter_map(|token| HeaderName::from_bytes(token.trim().as_bytes()).ok()).collect()
}

/// The fields of an outgoing request, `Host` first, before those that prove it to a shield.
pub(crate) fn request_headers(request: &FetchRequest) -> HeaderMap {
    let ours = &request.headers;
    let nominated = nominated(ours);
    let mut headers = HeaderMap::with_capacity(ours.len() + 5);
    headers.insert(header::HOST, request.host.clone());
    for (name, value) in ours {
        // Expect: the body follows at once, nobody waits for 100. Trailer: trailers are not sent on.
        let made_anew = matches!(*name, header::HOST | header::CONTENT_LENGTH | header::EXPECT | header::TRAILER);
        if !(made_anew || HOP_BY_HOP.contains(name) || nominated.contains(name) || headers::is_internal(name)) {
            headers.append(name, value.clone());
        }
    }
    match request.body.as_ref().map(RequestBody::exact_length) {
        Some(Some(length)) => drop(headers.insert(header::CONTENT_LENGTH, length.into())),
        Some(None) => drop(headers.insert(header::TRANSFER_ENCODING, HeaderValue::from_static("chunked"))),
        // RFC 9110 §8.6: said where the method anticipates content.
        None if matches!(request.method, Method::POST | Method::PUT | Method::PATCH) => {
            headers.insert(header::CONTENT_LENGTH, 0.into());
        }
        None => {}
    }
    headers
}

/// Adds the internal fields that a shield believes, and returns their proof. None: no claims, or some that no field can hold.
pub(crate) fn prove(
    request: &FetchRequest,
    headers: &mut HeaderMap,
    secret: &FleetSecret,
    now_ms: u64,
) -> Option<String> {
    let claims = request.shield_claims.as_ref()?;
    let (site, authority) = (claims.site.as_str(), claims.key_authority.as_str());
    let scheme = claims.key_scheme.as_str();
    let mut said = vec![site, authority, scheme];
    said.extend(claims.rule.as_deref());
    let proof = secret.prove_request(now_ms, request.method.as_str(), request.target.as_str(), &said);
    let rule = claims.rule.as_deref().map(HeaderValue::from_str).transpose().ok()?;
    let values = [site, authority, &proof].map(HeaderValue::from_str);
    let [Ok(site), Ok(authority), Ok(value)] = values else { return None };
    headers.insert(headers::SITE, site);
    headers.insert(headers::KEY_AUTHORITY, authority);
    headers.insert(headers::KEY_SCHEME, HeaderValue::from_static(scheme));
    if let Some(rule) = rule {
        headers.insert(headers::RULE, rule);
    }
    headers.insert(headers::PROOF, value);
    Some(proof)
}

/// What a response's head says, once it is clean.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Head {
    pub(crate) framing: BodyFraming,
    /// Whether another request may follow on this connection.
    pub(crate) reusable: bool,
    pub(crate) trusted_age_ms: Option<u64>,
}

/// Why a head is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refusal {
    #[error("a switch of protocols that nobody asked for")]
    Switched,
    #[error("a transfer coding other than one chunked")]
    TransferCoding,
}

/// Judges the framing and leaves in `headers` what is end-to-end. `length` is what hyper reads the body by; `delimited`:
/// the end of a body of unknown length is signalled (RFC 9113 §8.1); `asked` is our proof, with the secret that checks the
/// answer's.
pub(crate) fn receive(
    method: &Method,
    status: StatusCode,
    headers: &mut HeaderMap,
    length: Option<u64>,
    delimited: bool,
    asked: Option<(&FleetSecret, &str)>,
) -> Result<Head, Refusal> {
    if status == StatusCode::SWITCHING_PROTOCOLS {
        return Err(Refusal::Switched);
    }
    let chunked = headers.contains_key(header::TRANSFER_ENCODING);
    let no_content = *method == Method::HEAD || matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
    let framing = if no_content {
        BodyFraming::Empty
    } else if chunked {
        coded_framing(headers)?
    } else {
        let unknown = if delimited { BodyFraming::Chunked } else { BodyFraming::Close };
        length.map_or(unknown, BodyFraming::Length)
    };
    // RFC 9112 §6.3: with both, the coding counts, the length is not passed on, and the connection ends here.
    let both = chunked && headers.contains_key(header::CONTENT_LENGTH);
    clean_length(headers, framing, chunked, status);
    let trusted_age_ms = asked.and_then(|(secret, proof)| proven_age(headers, secret, proof));
    strip_hop(headers);
    Ok(Head { framing, reusable: !both && framing != BodyFraming::Close, trusted_age_ms })
}

/// Leaves what is end-to-end.
pub(crate) fn strip_hop(headers: &mut HeaderMap) {
    for name in nominated(headers) {
        headers.remove(name);
    }
    for name in &HOP_BY_HOP {
        headers.remove(name);
    }
    let internal: Vec<HeaderName> = headers.keys().filter(|name| headers::is_internal(name)).cloned().collect();
    for name in internal {
        headers.remove(name);
    }
}

/// Framing by Transfer-Encoding. We ask for no coding but chunked (RFC 9112 §7.4), and hyper would read `gzip, chunked` as
/// if it were chunked alone.
fn coded_framing(headers: &HeaderMap) -> Result<BodyFraming, Refusal> {
    let mut codings = headers.get_all(header::TRANSFER_ENCODING).iter();
    let one = codings.next().filter(|_| codings.next().is_none()).ok_or(Refusal::TransferCoding)?;
    let coding = one.as_bytes().trim_ascii();
    if coding.eq_ignore_ascii_case(b"chunked") {
        return Ok(BodyFraming::Chunked);
    }
    // RFC 9112 §6.3: whatever does not end in chunked ends with the connection. A word that names no coding has changed no
    // byte: `identity` of old, and what origins make up. Of the real ones the body cannot be told from its coding.
    let is_word = !coding.is_empty() && coding.iter().all(|byte| byte.is_ascii_alphanumeric() || *byte == b'-');
    if is_word && !CODINGS.iter().any(|known| coding.eq_ignore_ascii_case(known.as_bytes())) {
        return Ok(BodyFraming::Close);
    }
    Err(Refusal::TransferCoding)
}

/// The registered transfer codings beside chunked (RFC 9112 §12.3), and those that HTTP compresses content with.
const CODINGS: [&str; 9] = ["compress", "deflate", "gzip", "x-compress", "x-gzip", "br", "zstd", "dcb", "dcz"];

/// Leaves at most one `Content-Length` with one meaning.
fn clean_length(headers: &mut HeaderMap, framing: BodyFraming, chunked: bool, status: StatusCode) {
    if !headers.contains_key(header::CONTENT_LENGTH) {
        return;
    }
    match framing {
        // Five times the same, or "5, 5", is 5 (RFC 9110 §8.6): hyper took it for that.
        BodyFraming::Length(length) => drop(headers.insert(header::CONTENT_LENGTH, length.into())),
        // Of a body that is elsewhere: kept where it is one number.
        BodyFraming::Empty if !chunked && status != StatusCode::NO_CONTENT => {
            let mut all = headers.get_all(header::CONTENT_LENGTH).iter();
            let one = all.next().filter(|_| all.next().is_none());
            if !one.is_some_and(|value| !value.is_empty() && value.as_bytes().iter().all(u8::is_ascii_digit)) {
                headers.remove(header::CONTENT_LENGTH);
            }
        }
        _ => drop(headers.remove(header::CONTENT_LENGTH)),
    }
}

fn proven_age(headers: &HeaderMap, secret: &FleetSecret, asked: &str) -> Option<u64> {
    let proof = headers.get(headers::PROOF)?.to_str().ok()?;
    let age = headers.get(headers::AGE_MS)?.to_str().ok()?;
    secret.verify_response(proof, asked, &[age]).then(|| age.parse().ok())?
}

#[cfg(test)]
mod tests;
