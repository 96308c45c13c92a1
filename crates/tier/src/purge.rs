//! `POST /v1/purge` and `GET /v1/purges`: what an operator takes out of this node's cache.
//!
//! A purge is answered when every core knows of it and it is on disk. It holds on this node alone.

use std::sync::Arc;

use axum::{
    Router,
    body::Bytes,
    extract::{DefaultBodyLimit, State},
    response::Response,
    routing::{get, post},
};
use http::{HeaderMap, StatusCode, Uri};
use perigee_cache::{Engine, Site, Snapshot};
use perigee_node::{
    admin::{json_response, problem},
    authorize::{Authorizer, Denied},
    clock,
    state::NodeState,
};
use perigee_protocol::model::{self, Scheme};
use perigee_semantics::{
    purge::{Kind, Scope},
    time::Timestamp,
};
use perigee_store::PurgeAck;
use serde::Deserialize;
use serde_json::{Value, json};

/// The body of one request, in bytes.
const BODY_BYTES_MAX: usize = 512 * 1024;
/// URLs, and surrogate keys, of one purge.
const NAMES_MAX: usize = 256;
/// One URL, prefix or surrogate key, in bytes.
const NAME_BYTES_MAX: usize = 8 * 1024;

/// What a body may be, in words.
const SHAPES: &str = "{\"url\": URL}, {\"urls\": [URL]}, {\"site\", \"prefix\"}, {\"site\", \"tags\": [TAG]}, {\"site\"} or \
                      {\"everything\": true}, each with \"soft\": true if wanted";

/// What is asked for; exactly one of `url`, `urls`, `prefix`, `tags`, `everything`, or `site` alone.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Asked {
    url: Option<String>,
    urls: Option<Vec<String>>,
    site: Option<String>,
    host: Option<String>,
    prefix: Option<String>,
    tags: Option<Vec<String>>,
    everything: bool,
    soft: bool,
}

/// Why nothing is purged.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Refused {
    status: StatusCode,
    code: &'static str,
    message: String,
}

#[derive(Clone)]
struct Shared {
    engine: Arc<Engine>,
    node: Arc<NodeState>,
    authorizer: Authorizer,
}

/// The routes, for the admin API.
pub(crate) fn routes(engine: Arc<Engine>, node: Arc<NodeState>, authorizer: Authorizer) -> Router {
    Router::new()
        .route("/v1/purge", post(purge))
        .route("/v1/purges", get(purges))
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .with_state(Shared { engine, node, authorizer })
}

async fn purge(State(shared): State<Shared>, headers: HeaderMap, body: Bytes) -> Response {
    let token = match authorize(&shared, &headers, model::Scope::Purge) {
        Ok(token) => token,
        Err(denied) => return denied,
    };
    let (kind, scopes) = match read(&body, &shared.engine.snapshot()) {
        Ok(read) => read,
        Err(Refused { status, code, message }) => return problem(status, code, &message),
    };
    let now = Timestamp::from_millis(clock::now_ms());
    let ack = shared.engine.store().purge(kind, &scopes, now).await;
    let purged: Vec<String> = scopes.iter().map(ToString::to_string).collect();
    let scope = scopes.first().map_or("", Scope::as_str);
    tracing::info!(
        token,
        seq = ack.seq.as_u64(),
        kind = kind.as_str(),
        scope,
        purged = purged.first().map_or("", String::as_str),
        of = purged.len(),
        durable = ack.durable,
        "purged"
    );
    answer(&shared, kind, scope, &purged, ack)
}

fn answer(shared: &Shared, kind: Kind, scope: &str, purged: &[String], ack: PurgeAck) -> Response {
    let mut told = json!({
        "seq": ack.seq.as_u64(),
        "node": shared.node.id(),
        "kind": kind.as_str(),
        "scope": scope,
        "purged": purged,
        "durable": ack.durable,
    });
    if ack.durable {
        return json_response(StatusCode::OK, &told);
    }
    told["error"] = "not-durable".into();
    told["message"] = "it is purged, but that could not be written to the cache folder: it holds until this node \
                       restarts; look at the node's log and disk, and purge again"
        .into();
    json_response(StatusCode::INTERNAL_SERVER_ERROR, &told)
}

async fn purges(State(shared): State<Shared>, headers: HeaderMap) -> Response {
    if let Err(denied) = authorize(&shared, &headers, model::Scope::Read) {
        return denied;
    }
    let store = shared.engine.store();
    let recent: Vec<Value> = store
        .recent_purges()
        .iter()
        .map(|purge| {
            json!({
                "seq": purge.seq.as_u64(),
                "at_ms": purge.at.as_millis(),
                "kind": purge.kind.as_str(),
                "purged": purge.text,
            })
        })
        .collect();
    let told = json!({
        "node": shared.node.id(),
        "applied": store.fence().as_u64(),
        "entries": store.purge_entries(),
        "recent": recent,
    });
    json_response(StatusCode::OK, &told)
}

#[expect(clippy::result_large_err, reason = "the answer itself, once per request of an operator")]
fn authorize(shared: &Shared, headers: &HeaderMap, scope: model::Scope) -> Result<String, Response> {
    use axum::response::IntoResponse;
    shared.authorizer.authorize(headers, scope).map_err(Denied::into_response)
}

/// What a body asks for, for the sites that are served.
fn read(body: &[u8], snapshot: &Snapshot) -> Result<(Kind, Vec<Scope>), Refused> {
    // A list would be taken for the fields in their order.
    let read = match body.trim_ascii_start().first() {
        Some(b'{') => serde_json::from_slice(body).map_err(|error| error.to_string()),
        _ => Err("the body is no JSON object".to_owned()),
    };
    let mut asked: Asked = read.map_err(|error| bad(format!("{error}; it takes {SHAPES}")))?;
    let kind = if asked.soft { Kind::Soft } else { Kind::Hard };
    let wanted =
        [asked.url.is_some(), asked.urls.is_some(), asked.prefix.is_some(), asked.tags.is_some(), asked.everything];
    let kinds = wanted.into_iter().filter(|wanted| *wanted).count();
    if kinds > 1 || (kinds == 0 && asked.site.is_none()) {
        return Err(bad("say exactly one of url, urls, prefix, tags, everything, or site alone".into()));
    }
    if asked.host.is_some() && asked.prefix.is_none() {
        return Err(bad("host goes with prefix alone".into()));
    }
    if asked.site.is_some() && (asked.url.is_some() || asked.urls.is_some() || asked.everything) {
        return Err(
            bad("site goes with prefix and tags: a URL's host tells its site, and everything is of all".into()),
        );
    }
    if asked.everything {
        return Ok((kind, vec![Scope::Everything]));
    }
    if let Some(urls) = asked.url.take().map(|url| vec![url]).or(asked.urls.take()) {
        number("urls", urls.len())?;
        let mut scopes = Vec::new();
        for url in &urls {
            scopes.extend(of_url(url, snapshot)?);
        }
        return Ok((kind, scopes));
    }
    Ok((kind, of_site(asked, snapshot)?))
}

fn of_site(asked: Asked, snapshot: &Snapshot) -> Result<Vec<Scope>, Refused> {
    let Some(id) = &asked.site else { return Err(bad("prefix and tags need a site".into())) };
    let site = site(id, snapshot)?;
    let id = site.model.id.clone();
    if let Some(path) = asked.prefix {
        name("prefix", &path)?;
        if !path.starts_with('/') || path.contains(['?', '#', '*']) {
            return Err(bad("prefix must begin with / and have no ?, # or *: it is the beginning of paths".into()));
        }
        let authority = asked.host.map(|host| Scope::authority_of(&site.model, Scheme::Http, &host));
        return Ok(vec![Scope::Prefix { site: id, authority, path }]);
    }
    let Some(tags) = asked.tags else { return Ok(vec![Scope::Site(id)]) };
    number("tags", tags.len())?;
    tags.into_iter()
        .map(|tag| {
            name("tag", &tag)?;
            Ok(Scope::Tag { site: id.clone(), tag })
        })
        .collect()
}

fn of_url(text: &str, snapshot: &Snapshot) -> Result<Vec<Scope>, Refused> {
    name("url", text)?;
    let shape = || bad(format!("{text} is no URL like http://www.example.com/a?b"));
    let url: Uri = text.parse().map_err(|_| shape())?;
    let scheme = match url.scheme_str() {
        Some("http") => Scheme::Http,
        Some("https") => Scheme::Https,
        _ => return Err(shape()),
    };
    let authority = url.authority().ok_or_else(shape)?.as_str();
    if authority.contains('@') {
        return Err(shape());
    }
    let site = snapshot.by_authority(&authority.to_ascii_lowercase()).ok_or_else(|| Refused {
        status: StatusCode::NOT_FOUND,
        code: "unknown-host",
        message: format!("no site of this node has the host of {text}"),
    })?;
    let path = if url.path().is_empty() { "/" } else { url.path() };
    Ok(Scope::of_url(&site.model, scheme, authority, path, url.query()))
}

fn site<'a>(id: &str, snapshot: &'a Snapshot) -> Result<&'a Arc<Site>, Refused> {
    snapshot.by_id(id).ok_or_else(|| {
        let known: Vec<&str> = snapshot.sites().iter().map(|site| site.model.id.as_str()).collect();
        Refused {
            status: StatusCode::NOT_FOUND,
            code: "unknown-site",
            message: format!("this node has no site {id:?}; it has: {}", known.join(", ")),
        }
    })
}

fn name(what: &str, text: &str) -> Result<(), Refused> {
    if text.is_empty() || text.len() > NAME_BYTES_MAX || text.contains(char::is_control) {
        return Err(bad(format!("{what} must be 1 to {NAME_BYTES_MAX} bytes without control characters")));
    }
    Ok(())
}

fn number(what: &str, count: usize) -> Result<(), Refused> {
    if count == 0 || count > NAMES_MAX {
        return Err(bad(format!("{what} must be 1 to {NAMES_MAX}; send several requests for more")));
    }
    Ok(())
}

fn bad(message: String) -> Refused {
    Refused { status: StatusCode::BAD_REQUEST, code: "bad-purge", message }
}

#[cfg(test)]
#[path = "purge_tests.rs"]
mod tests;
