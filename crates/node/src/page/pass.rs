//! Questions and purges that are for another node, handed on, since a browser may ask only the server that a page came from.
//!
//! Nothing but three paths of nodes that are known is asked, a token goes nowhere else, and of an answer come back its
//! status and its body.

use std::{collections::BTreeMap, net::SocketAddr, sync::Arc, time::Duration};

use ::http::{HeaderMap, HeaderValue, Method, Request, StatusCode, Uri, header};
use axum::{
    Router,
    body::{self, Body, Bytes},
    extract::{DefaultBodyLimit, Path, State},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::{net::TcpStream, time::timeout};

use crate::{admin::problem, report};

/// Longest question, in bytes.
const BODY_BYTES_MAX: usize = 256 * 1024;
/// Longest answer, in bytes.
const ANSWER_BYTES_MAX: usize = 1 << 20;
/// How long the other node may take for all of it.
const BOUND: Duration = Duration::from_secs(5);

type Nodes = Arc<BTreeMap<String, SocketAddr>>;

/// `/v1/at/NODE/…` for the nodes of those names.
pub fn routes(nodes: Nodes) -> Router {
    Router::new()
        .route("/v1/at/{node}/explain/http", get(async |from: From, body| pass("explain/http", from, body).await))
        .route("/v1/at/{node}/explain/dns", get(async |from: From, body| pass("explain/dns", from, body).await))
        .route("/v1/at/{node}/purge", post(async |from: From, body| pass("purge", from, body).await))
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .with_state(nodes)
}

type From = (State<Nodes>, Path<String>, Method, Uri, HeaderMap);

async fn pass(what: &str, (State(nodes), Path(node), method, uri, headers): From, body: Bytes) -> Response {
    let Some(address) = nodes.get(&node).copied() else {
        return problem(StatusCode::NOT_FOUND, "unknown-node", &format!("this page has no node {node:?}"));
    };
    let query = uri.query().map(|query| format!("?{query}")).unwrap_or_default();
    let mut request = Request::builder().method(method).uri(format!("/v1/{what}{query}"));
    request = request.header(header::HOST, address.to_string());
    for name in [header::AUTHORIZATION, header::CONTENT_TYPE] {
        if let Some(value) = headers.get(&name) {
            request = request.header(name, value);
        }
    }
    let answered = async {
        let request = request.body(Body::from(body)).map_err(|error| error.to_string())?;
        timeout(BOUND, ask(address, request)).await.map_err(|_| format!("no answer within {} s", BOUND.as_secs()))?
    };
    match answered.await {
        Ok((status, body)) => {
            let mut response = (status, body).into_response();
            let fields = response.headers_mut();
            fields.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
            fields.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
            response
        }
        Err(why) => problem(StatusCode::BAD_GATEWAY, "node-away", &format!("{node} does not answer: {why}")),
    }
}

async fn ask(address: SocketAddr, request: Request<Body>) -> Result<(StatusCode, Bytes), String> {
    let stream = TcpStream::connect(address).await.map_err(|error| error.to_string())?;
    let line = |error: hyper::Error| report::line(&error);
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(line)?;
    let answered = async {
        let response = sender.send_request(request).await.map_err(line)?;
        let status = response.status();
        if status.is_informational() || status.is_redirection() {
            return Err(format!("{status} is no node's answer"));
        }
        let body = body::to_bytes(Body::new(response.into_body()), ANSWER_BYTES_MAX).await;
        Ok((status, body.map_err(|error| report::line(&error))?))
    };
    let mut answered = std::pin::pin!(answered);
    tokio::select! {
        biased;
        done = &mut answered => done,
        // What had come before the end is still there to be read.
        ended = connection => match ended {
            Ok(()) => answered.await,
            Err(error) => Err(line(error)),
        },
    }
}
