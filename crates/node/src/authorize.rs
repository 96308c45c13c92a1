//! Who may change what through the admin API: bearer tokens of the document's `[admin]`.

use std::sync::Arc;

use ::http::{HeaderMap, StatusCode, header};
use arc_swap::ArcSwap;
use axum::response::{IntoResponse, Response};
use perigee_protocol::model::{Admin, AdminToken, Scope};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use crate::admin::problem;

/// The longest bearer token, in bytes.
pub const TOKEN_BYTES_MAX: usize = 1024;

/// The tokens in force; a reload of the document replaces them. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Authorizer(Arc<ArcSwap<Admin>>);

/// Why a request is refused. Answers itself as JSON.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    /// The document has no tokens: nobody may change anything.
    #[error(
        "this node has no admin tokens, so nothing may be changed through it; add one to [admin] tokens of the document"
    )]
    NoTokens,
    /// No token, or none that is known.
    #[error("this needs the header Authorization: Bearer TOKEN with a token of [admin] tokens")]
    Unknown,
    /// A known token without that scope.
    #[error("the token lacks the scope {0}; add it to the token's scopes in the document")]
    Scope(&'static str),
}

impl Denied {
    /// The word in answers and logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NoTokens => "no-tokens",
            Self::Unknown => "unknown-token",
            Self::Scope(_) => "missing-scope",
        }
    }

    fn status(self) -> StatusCode {
        match self {
            Self::Unknown => StatusCode::UNAUTHORIZED,
            Self::NoTokens | Self::Scope(_) => StatusCode::FORBIDDEN,
        }
    }
}

impl IntoResponse for Denied {
    fn into_response(self) -> Response {
        let mut response = problem(self.status(), self.as_str(), &self.to_string());
        if self == Self::Unknown {
            // RFC 9110 §11.6.1: a 401 carries a challenge.
            response.headers_mut().insert(header::WWW_AUTHENTICATE, ::http::HeaderValue::from_static("Bearer"));
        }
        response
    }
}

impl Authorizer {
    /// With the tokens of a document, or none.
    pub fn new(admin: Admin) -> Self {
        Self(Arc::new(ArcSwap::from_pointee(admin)))
    }

    /// Replaces the tokens.
    pub fn set(&self, admin: Admin) {
        self.0.store(Arc::new(admin));
    }

    /// The name of the token that the request carries, if it may do what `scope` says.
    pub fn authorize(&self, headers: &HeaderMap, scope: Scope) -> Result<String, Denied> {
        let admin = self.0.load();
        if admin.tokens.is_empty() {
            return Err(Denied::NoTokens);
        }
        let token = bearer(headers).ok_or(Denied::Unknown)?;
        let known = find(&admin.tokens, token).ok_or(Denied::Unknown)?;
        if known.scopes.contains(&scope) { Ok(known.name.clone()) } else { Err(Denied::Scope(word(scope))) }
    }

    /// Whether the token may do what `scope` says.
    pub fn permits(&self, token: &[u8], scope: Scope) -> bool {
        let token = token.trim_ascii();
        let is_token = !token.is_empty() && token.len() <= TOKEN_BYTES_MAX;
        is_token && find(&self.0.load().tokens, token).is_some_and(|known| known.scopes.contains(&scope))
    }
}

fn bearer(headers: &HeaderMap) -> Option<&[u8]> {
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let (Some(value), None) = (values.next(), values.next()) else { return None };
    let value = value.as_bytes();
    let (scheme, token) = value.split_at_checked("Bearer ".len())?;
    // RFC 9110 §11.1: the scheme's case does not count.
    let token = token.trim_ascii();
    (scheme.eq_ignore_ascii_case(b"Bearer ") && !token.is_empty() && token.len() <= TOKEN_BYTES_MAX).then_some(token)
}

/// Compares with every token in full, so that time tells nothing of which one was near.
fn find<'a>(tokens: &'a [AdminToken], token: &[u8]) -> Option<&'a AdminToken> {
    let digest: [u8; 32] = Sha256::digest(token).into();
    tokens.iter().fold(None, |found, known| if bool::from(known.sha256.ct_eq(&digest)) { Some(known) } else { found })
}

fn word(scope: Scope) -> &'static str {
    match scope {
        Scope::Purge => "purge",
        Scope::Drain => "drain",
        Scope::Read => "read",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn authorizer() -> Authorizer {
        let token = |name: &str, token: &str, scopes: &[Scope]| AdminToken {
            name: name.into(),
            sha256: Sha256::digest(token).into(),
            scopes: scopes.into(),
        };
        Authorizer::new(Admin {
            tokens: vec![token("ops", "one", &[Scope::Drain, Scope::Read]), token("ci", "two", &[Scope::Purge])],
        })
    }

    fn check(authorization: &[&str], scope: Scope, expected: Result<&str, Denied>) {
        let mut headers = HeaderMap::new();
        for value in authorization {
            headers.append(header::AUTHORIZATION, value.parse().unwrap());
        }
        let said = authorizer().authorize(&headers, scope);
        assert_eq!(said, expected.map(str::to_owned), "{authorization:?} {scope:?}");
    }

    #[test]
    fn bare_tokens() {
        let authorizer = authorizer();
        let check = |token: &[u8], scope: Scope, expected: bool| assert_eq!(authorizer.permits(token, scope), expected);
        check(b"one", Scope::Read, true);
        check(b" one ", Scope::Read, true);
        check(b"two", Scope::Read, false);
        for unknown in [&b""[..], b"Bearer one", b"on", &[b'x'; TOKEN_BYTES_MAX], &[b'x'; TOKEN_BYTES_MAX + 1]] {
            check(unknown, Scope::Read, false);
        }
        assert!(!Authorizer::new(Admin::default()).permits(b"one", Scope::Read));
    }

    #[test]
    fn tokens_and_scopes() {
        check(&["Bearer one"], Scope::Drain, Ok("ops"));
        check(&["bearer  one "], Scope::Drain, Ok("ops"));
        check(&["Bearer two"], Scope::Purge, Ok("ci"));
        check(&["Bearer two"], Scope::Drain, Err(Denied::Scope("drain")));
        for bad in ["Bearer on", "Bearer onee", "Bearer ", "Bearer", "", "Basic one", "one"] {
            check(&[bad], Scope::Drain, Err(Denied::Unknown));
        }
        check(&[], Scope::Drain, Err(Denied::Unknown));
        check(&["Bearer one", "Bearer one"], Scope::Drain, Err(Denied::Unknown));
    }

    #[test]
    fn without_tokens_nobody_may_and_a_reload_changes_it() {
        let authorizer = authorizer();
        let mut headers = HeaderMap::new();
        headers.insert(header::AUTHORIZATION, "Bearer one".parse().unwrap());
        assert!(authorizer.authorize(&headers, Scope::Read).is_ok());
        authorizer.set(Admin::default());
        assert_eq!(authorizer.authorize(&headers, Scope::Read), Err(Denied::NoTokens));
    }
}
