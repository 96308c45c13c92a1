//! Which browsers may ask an admin API, whose reading needs no token and whose listener often is on loopback, where every
//! browser of the machine reaches it.
//!
//! A web page elsewhere can make its own name lead here (DNS rebinding), and could then read what this server tells, as
//! its own. So a name in `Host` must be one that nobody out there can own: an address, `localhost`, a name without dots, or one
//! that the operator gave. `/metrics`, `/healthz` and `/readyz` are asked by machines, by any name, and tell no URL.

use std::{net::IpAddr, sync::Arc};

use ::http::{HeaderMap, Request, StatusCode, Uri, header};
use axum::{
    Router,
    body::Body,
    middleware::{Next, from_fn},
    response::{IntoResponse, Response},
};

use super::problem;

/// For machines, by whatever name they use.
const OPEN: [&str; 3] = ["/metrics", "/healthz", "/readyz"];

/// `router` behind the guard; `names` are the operator's own for this server, without ports.
pub fn guarded(router: Router, names: &[String]) -> Router {
    let names: Arc<[String]> = names.into();
    router.layer(from_fn(move |request: Request<Body>, next: Next| {
        let refused = refusal(request.uri(), request.headers(), &names);
        async move {
            match refused {
                Some(refused) => refused.into_response(),
                None => next.run(request).await,
            }
        }
    }))
}

/// Why a request is not answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Refused {
    Name,
    Site,
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        match self {
            // RFC 9110 §15.5.20.
            Self::Name => problem(
                StatusCode::MISDIRECTED_REQUEST,
                "unknown-name",
                "this listener is asked by its address, as localhost, by a name without dots, or by one that --admin-name gives",
            ),
            Self::Site => {
                problem(StatusCode::FORBIDDEN, "other-site", "another site's page asks; this answers its own alone")
            }
        }
    }
}

fn refusal(uri: &Uri, headers: &HeaderMap, names: &[String]) -> Option<Refused> {
    if OPEN.contains(&uri.path()) {
        return None;
    }
    // RFC 9112 §3.2.2: the target's own authority goes before Host. Without either it is no browser.
    let field = |name| headers.get(name).map(|value: &::http::HeaderValue| String::from_utf8_lossy(value.as_bytes()));
    let host = uri.authority().map(|authority| authority.as_str().into()).or_else(|| field(header::HOST));
    if headers.get_all(header::HOST).iter().count() > 1 || host.as_deref().is_some_and(|host| !is_ours(host, names)) {
        return Some(Refused::Name);
    }
    if let Some(origin) = field(header::ORIGIN) {
        let from = origin.split_once("://").map_or("null", |(_, from)| from);
        let is_own = host.as_deref().is_some_and(|host| host.eq_ignore_ascii_case(from)) || is_named(from, names);
        return (!is_own).then_some(Refused::Site);
    }
    // W3C Fetch Metadata: pictures and scripts of other sites carry no Origin; a link that is followed may lead here.
    let site = field("sec-fetch-site".parse().ok()?);
    let is_elsewhere = matches!(site.as_deref(), Some("cross-site" | "same-site"));
    let is_link = field("sec-fetch-mode".parse().ok()?).as_deref() == Some("navigate");
    let to_the_page = is_link && !uri.path().starts_with("/v1/");
    (is_elsewhere && !to_the_page).then_some(Refused::Site)
}

/// Of `HOST` or `HOST:PORT`.
fn host_of(authority: &str) -> &str {
    let without_port = match authority.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => host,
        _ => authority,
    };
    without_port.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(without_port)
}

fn is_named(authority: &str, names: &[String]) -> bool {
    names.iter().any(|name| name.eq_ignore_ascii_case(host_of(authority)))
}

fn is_ours(authority: &str, names: &[String]) -> bool {
    let host = host_of(authority);
    // RFC 6761 §6.3: every name under localhost is loopback.
    let is_local = !host.contains('.') || host.to_ascii_lowercase().ends_with(".localhost");
    host.parse::<IpAddr>().is_ok() || is_local || is_named(authority, names)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(path: &str, fields: &[(&'static str, &str)], expected: Option<Refused>) {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(*name, value.parse().unwrap());
        }
        let names = ["admin.example.com".to_owned()];
        assert_eq!(refusal(&path.parse().unwrap(), &headers, &names), expected, "{path} {fields:?}");
    }

    #[test]
    fn names_that_nobody_out_there_can_own() {
        for good in [
            "127.0.0.1:9100",
            "127.0.0.1",
            "[::1]:9100",
            "[2001:db8::1]",
            "10.0.0.7:80",
            "localhost:9000",
            "LocalHost",
            "a.localhost:1",
            "edge-fra:9100",
            "admin.example.com",
            "Admin.Example.com:443",
            "",
        ] {
            check("/v1/live", &[("host", good)], None);
        }
        for bad in [
            "evil.example:9100",
            "127.0.0.1.evil.example",
            "localhost.evil.example:9100",
            "www.admin.example.com",
            "evil.example.",
            "1.2.3",
            "127.0.0.1@evil.example",
            "evil.example:80:90",
            "localhost.",
        ] {
            check("/v1/live", &[("host", bad)], Some(Refused::Name));
            check("/", &[("host", bad)], Some(Refused::Name));
            check("/page/page.js", &[("host", bad)], Some(Refused::Name));
            for open in OPEN {
                check(open, &[("host", bad)], None);
            }
        }
        check("/v1/live", &[], None);
        check("/v1/live", &[("host", "127.0.0.1"), ("host", "evil.example")], Some(Refused::Name));
        check("http://evil.example/v1/live", &[("host", "127.0.0.1")], Some(Refused::Name));
    }

    #[test]
    fn pages_of_other_sites() {
        let host = ("host", "127.0.0.1:9100");
        let origin = |origin| [host, ("origin", origin)];
        check("/v1/purge", &origin("http://127.0.0.1:9100"), None);
        check("/v1/purge", &origin("https://admin.example.com"), None);
        for bad in ["http://127.0.0.1:9200", "http://evil.example", "null", "", "http://localhost:9100"] {
            check("/v1/purge", &origin(bad), Some(Refused::Site));
            check("/v1/live", &origin(bad), Some(Refused::Site));
        }
        let metadata = |site, mode| [host, ("sec-fetch-site", site), ("sec-fetch-mode", mode)];
        check("/", &metadata("cross-site", "navigate"), None);
        check("/", &metadata("none", "navigate"), None);
        check("/v1/live", &metadata("same-origin", "cors"), None);
        check("/v1/live", &metadata("none", "navigate"), None);
        check("/v1/live", &metadata("cross-site", "no-cors"), Some(Refused::Site));
        check("/v1/live", &metadata("same-site", "no-cors"), Some(Refused::Site));
        check("/v1/live", &metadata("cross-site", "navigate"), Some(Refused::Site));
        check("/page/page.js", &metadata("cross-site", "no-cors"), Some(Refused::Site));
    }
}
