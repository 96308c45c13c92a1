//! `/v1/explain/http`: what would become of a request at this node, and why. Reads only.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::Arc,
};

use axum::{
    Json, Router,
    extract::{Query, State, rejection::JsonRejection},
    response::Response,
    routing::get,
};
use http::{HeaderName, HeaderValue, Method, Request, StatusCode, Uri, header, request::Parts};
use perigee_cache::{Engine, Explanation, PurgeSaid, RuleSaid, Stored};
use perigee_node::admin::{json_response, problem};
use perigee_protocol::model::Scheme;
use serde::Deserialize;
use serde_json::{Value, json};

/// Whom a request is from that does not say: an address of no country.
const NOBODY: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
/// Header fields that a question may have.
const FIELDS_MAX: usize = 100;

/// The request that is asked about.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Asked {
    /// `http://www.example.com/a?b`, or https.
    url: String,
    #[serde(default = "get_method")]
    method: String,
    /// Names and values; `Host` replaces the URL's.
    #[serde(default)]
    headers: Vec<(String, String)>,
    /// From where; it matters to rules that key by country.
    client: Option<IpAddr>,
}

/// As much of it as fits a query.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct AskedInShort {
    url: String,
    #[serde(default = "get_method")]
    method: String,
    client: Option<IpAddr>,
}

fn get_method() -> String {
    "GET".to_owned()
}

/// The routes, for the admin API.
pub(crate) fn routes(engine: Arc<Engine>) -> Router {
    Router::new().route("/v1/explain/http", get(by_query).post(by_json)).with_state(engine)
}

async fn by_query(
    State(engine): State<Arc<Engine>>,
    asked: Result<Query<AskedInShort>, axum::extract::rejection::QueryRejection>,
) -> Response {
    match asked {
        Ok(Query(AskedInShort { url, method, client })) => {
            explain(&engine, Asked { url, method, headers: Vec::new(), client }).await
        }
        Err(rejection) => bad(&format!("{rejection}; it takes ?url=URL, and method and client")),
    }
}

async fn by_json(State(engine): State<Arc<Engine>>, asked: Result<Json<Asked>, JsonRejection>) -> Response {
    match asked {
        Ok(Json(asked)) => explain(&engine, asked).await,
        Err(rejection) => bad(&format!("{rejection}; it takes {{\"url\", \"method\", \"headers\", \"client\"}}")),
    }
}

async fn explain(engine: &Engine, asked: Asked) -> Response {
    let client = SocketAddr::new(asked.client.unwrap_or(NOBODY), 0);
    let (parts, scheme) = match request(&asked) {
        Ok(request) => request,
        Err(message) => return bad(message),
    };
    match engine.explain(parts, client, scheme).await {
        Ok(explanation) => json_response(StatusCode::OK, &told(&asked, &explanation)),
        Err((status, reason)) => {
            let refused = json!({ "url": asked.url, "method": asked.method, "refused": { "status": status.as_u16(), "reason": reason } });
            json_response(StatusCode::OK, &refused)
        }
    }
}

fn bad(message: &str) -> Response {
    problem(StatusCode::BAD_REQUEST, "bad-question", message)
}

/// The request as it would come. Err: what is wrong with it.
fn request(asked: &Asked) -> Result<(Parts, Scheme), &'static str> {
    let url: Uri = asked.url.parse().map_err(|_| "url must be a URL: http://www.example.com/a")?;
    let scheme = match url.scheme_str() {
        Some("http") => Scheme::Http,
        Some("https") => Scheme::Https,
        _ => return Err("url must begin with http:// or https://"),
    };
    let authority = url.authority().ok_or("url must have a host")?;
    let method = Method::from_bytes(asked.method.as_bytes()).map_err(|_| "method must be a token")?;
    let target = url.path_and_query().map_or("/", |target| target.as_str());
    let host = HeaderValue::from_str(authority.as_str()).map_err(|_| "url must have a host")?;
    let (mut parts, ()) = Request::builder()
        .method(method)
        .uri(target)
        .header(header::HOST, host)
        .body(())
        .map_err(|_| "url must have a path")?
        .into_parts();
    if asked.headers.len() > FIELDS_MAX {
        return Err("headers must be at most 100 fields");
    }
    for (name, value) in &asked.headers {
        let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| "headers must have names of header fields")?;
        let value = HeaderValue::from_str(value).map_err(|_| "headers must have values of header fields")?;
        if name == header::HOST {
            parts.headers.insert(name, value);
        } else {
            parts.headers.append(name, value);
        }
    }
    Ok((parts, scheme))
}

fn told(asked: &Asked, explanation: &Explanation) -> Value {
    let Explanation { rules, stored, verdict, .. } = explanation;
    let fires = rules.iter().position(|rule| rule.outcome == perigee_semantics::rules::describe::Outcome::Fires);
    let parts = explanation.key_parts.iter().map(|(name, value)| json!({ "name": name, "value": value }));
    let redirect = explanation.redirect.as_ref().map(|(status, location)| {
        json!({ "status": status.as_u16(), "location": String::from_utf8_lossy(location.as_bytes()) })
    });
    json!({
        "url": asked.url,
        "method": asked.method,
        "generation": explanation.generation,
        "site": explanation.site,
        "rule": fires,
        "rules": rules.iter().enumerate().map(|(index, rule)| told_rule(index, rule)).collect::<Vec<_>>(),
        "redirect": redirect,
        "key": explanation.key,
        "key_parts": parts.collect::<Vec<_>>(),
        "key_hash": format!("{:016x}", explanation.key_hash),
        "verdict": { "action": verdict.action, "reason": verdict.reason, "clause": verdict.clause },
        "fetching": explanation.fetching,
        "known_private": explanation.known_private,
        "stored": stored.iter().map(told_stored).collect::<Vec<_>>(),
        "upstreams": explanation.upstreams,
    })
}

fn told_rule(index: usize, rule: &RuleSaid) -> Value {
    json!({ "rule": index, "match": rule.matching, "does": rule.doing, "outcome": rule.outcome.as_str() })
}

fn told_stored(stored: &Stored) -> Value {
    let freshness = &stored.freshness;
    let selects = stored.selects.iter().map(|(name, value)| json!({ "name": name.as_str(), "value": value }));
    json!({
        "selected": stored.selected,
        "selects": selects.collect::<Vec<_>>(),
        "status": stored.status.as_u16(),
        "bytes": stored.bytes,
        "head": stored.tier,
        "segments": {
            "memory": stored.segments.memory,
            "disk": stored.segments.disk,
            "missing": stored.segments.missing,
        },
        "rule": stored.rule,
        "freshness": {
            "lifetime_ms": freshness.lifetime_ms,
            "source": freshness.source.as_str(),
            "clause": freshness.source.clause(),
            "response_time_ms": freshness.response_time.as_millis(),
            "initial_age_ms": freshness.initial_age_ms,
            "age_ms": stored.age_ms,
            "ttl_ms": stored.ttl_ms,
            "stale_while_revalidate_ms": stored.stale_while_revalidate_ms,
            "stale_if_error_ms": stored.stale_if_error_ms,
            "no_cache": freshness.no_cache,
            "must_revalidate": freshness.must_revalidate,
            "immutable": freshness.immutable,
        },
        "tags": stored.tags,
        "fence": stored.fence,
        "purged": stored.purged.as_ref().map(told_purge),
    })
}

fn told_purge(purge: &PurgeSaid) -> Value {
    json!({ "reason": purge.reason, "seq": purge.seq, "what": purge.what })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(url: &str, headers: &[(&str, &str)]) -> Asked {
        let headers = headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        Asked { url: url.to_owned(), method: get_method(), headers, client: None }
    }

    #[test]
    fn questions() {
        let check = |url: &str, headers: &[(&str, &str)], expected: Result<(&str, &str), &str>| {
            let found = request(&asked(url, headers));
            let found = found.as_ref().map(|(parts, _)| {
                (parts.headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or(""), parts.uri.path())
            });
            assert_eq!(found.map_err(|message| *message), expected, "{url} {headers:?}");
        };
        check("http://a.example/b?c", &[], Ok(("a.example", "/b")));
        check("https://a.example:8443", &[], Ok(("a.example:8443", "/")));
        check("http://a.example/b", &[("Host", "b.example")], Ok(("b.example", "/b")));
        check("/b", &[], Err("url must begin with http:// or https://"));
        check("ftp://a.example/b", &[], Err("url must begin with http:// or https://"));
        check("http://a b/", &[], Err("url must be a URL: http://www.example.com/a"));
        check("http://a.example/", &[("a b", "c")], Err("headers must have names of header fields"));
        check("http://a.example/", &[("a", "\n")], Err("headers must have values of header fields"));
        let many = vec![("a", "b"); FIELDS_MAX + 1];
        check("http://a.example/", &many[..FIELDS_MAX], Ok(("a.example", "/")));
        check("http://a.example/", &many, Err("headers must be at most 100 fields"));
    }
}
