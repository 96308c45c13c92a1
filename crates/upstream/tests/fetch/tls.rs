//! Fetches over TLS and HTTP/2, against hyper's own server.

use std::{
    convert::Infallible,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use http::{Method, Request, Response, StatusCode, Version};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody, combinators::UnsyncBoxBody};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo};
use perigee_testkit::{patiently, wait_until};
use perigee_upstream::{BodyFraming, FetchErrorKind, RequestBody, Roots, Trust};
use rustls::{
    ServerConfig,
    crypto::aws_lc_rs,
    pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer},
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::Notify,
};
use tokio_rustls::TlsAcceptor;

use super::*;

type Answer = Response<UnsyncBoxBody<Bytes, std::io::Error>>;

/// The client has the head of what is to be cut.
static HEAD_SEEN: Notify = Notify::const_new();

fn answer(pieces: Vec<Result<&'static str, ()>>) -> Answer {
    let frames = stream::iter(pieces).then(|piece| async move {
        if piece.is_err() {
            // A reset takes along what was not sent yet, the head too.
            HEAD_SEEN.notified().await;
        }
        piece.map(|text| Frame::data(Bytes::from(text))).map_err(|()| std::io::Error::other("cut"))
    });
    Response::new(StreamBody::new(frames).boxed_unsync())
}

/// A server with a certificate of its own authority.
struct Secure {
    address: SocketAddr,
    roots: Roots,
    connections: Arc<AtomicUsize>,
}

/// Says what was asked; `/cut` breaks off, `/echo` gives the content back.
async fn respond(request: Request<Incoming>) -> Result<Answer, Infallible> {
    let (parts, body) = request.into_parts();
    let host = match parts.uri.authority() {
        Some(authority) => authority.to_string(),
        None => parts.headers.get("host").map(|host| host.to_str().unwrap().to_owned()).unwrap_or_default(),
    };
    match parts.uri.path() {
        "/cut" => return Ok(answer(vec![Ok("half"), Err(())])),
        "/pieces" => return Ok(answer(vec![Ok("one "), Ok("two")])),
        "/echo" => {
            let bytes = body.collect().await.unwrap().to_bytes();
            let said = format!("{} bytes", bytes.len()).leak();
            return Ok(answer(vec![Ok(said)]));
        }
        _ => {}
    }
    let te = parts.headers.contains_key("transfer-encoding");
    let said = format!("{:?} {} {host} {te}", parts.version, parts.uri.path()).leak();
    let mut response = answer(vec![Ok(said)]);
    response.headers_mut().insert("x-h", "1".parse().unwrap());
    Ok(response)
}

async fn serve(io: impl AsyncRead + AsyncWrite + Unpin + Send + 'static, h2: bool) {
    // Its end, clean or not, is the client's business.
    if h2 {
        let builder = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
        drop(builder.serve_connection(TokioIo::new(io), service_fn(respond)).await);
    } else {
        drop(http1::Builder::new().serve_connection(TokioIo::new(io), service_fn(respond)).await);
    }
}

impl Secure {
    /// Agrees on the first of `alpn` that the client offers.
    async fn start(alpn: &[&str]) -> Self {
        let made = rcgen::generate_simple_self_signed(["origin.example".to_owned()]).unwrap();
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(made.signing_key.serialize_der()));
        let mut config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![made.cert.der().clone()], key)
            .unwrap();
        config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (address, connections) = (listener.local_addr().unwrap(), Arc::new(AtomicUsize::new(0)));
        let counted = Arc::clone(&connections);
        tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                counted.fetch_add(1, Ordering::SeqCst);
                let acceptor = acceptor.clone();
                tokio::spawn(async move {
                    let Ok(stream) = acceptor.accept(socket).await else { return };
                    let h2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
                    serve(stream, h2).await;
                });
            }
        });
        Self { address, roots: Roots::from_pem(made.cert.pem().as_bytes()).unwrap(), connections }
    }

    fn trust(&self) -> Trust {
        let mut trust = Trust::default();
        trust.add(Path::new("ca.pem"), self.roots.clone());
        trust
    }

    /// A fleet whose origin is this server, expected to be `name`.
    fn as_origin(&self, name: Option<&str>, ca: Option<&str>) -> World {
        let setup = Setup::of(vec![origin(&format!("https://{}", self.address))]);
        let tls = UpstreamTls { ca: ca.map(PathBuf::from), name: name.map(str::to_owned) };
        Setup { trust: self.trust(), ..setup.policy(|policy| policy.tls = tls) }.build()
    }

    /// A fleet whose shield is this server, over HTTP/2.
    fn as_shield(&self) -> World {
        let tls = UpstreamTls { ca: Some("ca.pem".into()), name: Some("origin.example".into()) };
        let shield = Shield {
            protocol: ShieldProtocol::Http2,
            tls,
            ..shield("eu", &format!("https://{}", self.address), "fra")
        };
        let nowhere = origin("http://127.0.0.1:1");
        Setup { shields: vec![shield], trust: self.trust(), ..Setup::of(vec![nowhere]) }.build()
    }
}

#[tokio::test]
async fn an_https_origin_is_asked_over_http_1_1() {
    let server = Secure::start(&["h2", "http/1.1"]).await;
    let world = server.as_origin(Some("origin.example"), Some("ca.pem"));
    assert_eq!(world.read(get("/a")).await, "HTTP/1.1 /a shop.example false");
    assert_eq!(world.read(get("/b")).await, "HTTP/1.1 /b shop.example false");
    assert_eq!(server.connections.load(Ordering::SeqCst), 1, "the connection is kept");
}

#[tokio::test]
async fn a_certificate_of_another_name_or_authority_is_refused() {
    let server = Secure::start(&[]).await;
    for (name, ca) in [
        (Some("other.example"), Some("ca.pem")),
        // The URL's address is not in the certificate.
        (None, Some("ca.pem")),
        // The public authorities do not know it.
        (Some("origin.example"), None),
        // A file that nobody read is no reason to trust anybody.
        (Some("origin.example"), Some("unread.pem")),
    ] {
        let world = server.as_origin(name, ca);
        assert_eq!(world.fails(get("/")).await, FetchErrorKind::Connect, "{name:?} {ca:?}");
    }
}

#[tokio::test]
async fn a_shield_is_asked_over_http_2() {
    let server = Secure::start(&["h2", "http/1.1"]).await;
    let world = server.as_shield();
    let together = futures_util::future::join_all((0..20).map(|_| world.read(get("/a")))).await;
    assert!(together.iter().all(|text| text == "HTTP/2.0 /a shop.example false"), "{together:?}");
    assert_eq!(server.connections.load(Ordering::SeqCst), 1, "twenty exchanges share one connection");

    let response = world.fetch(get("/pieces")).await.unwrap();
    assert_eq!((response.version, response.framing), (Version::HTTP_2, BodyFraming::Chunked));
    assert_eq!(whole(response.body).await.unwrap(), b"one two");
    let body =
        RequestBody::new(StreamBody::new(stream::iter([Ok::<_, Infallible>(Frame::data(Bytes::from("hello")))])));
    let post = FetchRequest { body: Some(body), ..request(Method::POST, "/echo") };
    assert_eq!(world.read(post).await, "5 bytes");
}

#[tokio::test]
async fn a_reset_stream_is_a_cut_body_and_ends_nobody_elses() {
    let server = Secure::start(&["h2"]).await;
    let world = server.as_shield();
    let response = world.fetch(get("/cut")).await.unwrap();
    assert_eq!(response.status, StatusCode::OK);
    HEAD_SEEN.notify_one();
    whole(response.body).await.expect_err("the stream was reset");
    assert_eq!(world.read(get("/a")).await, "HTTP/2.0 /a shop.example false");
    assert_eq!(server.connections.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_shield_that_knows_no_http_2_gets_http_1_1() {
    let server = Secure::start(&["http/1.1"]).await;
    let world = server.as_shield();
    for _ in 0..3 {
        assert_eq!(world.read(get("/a")).await, "HTTP/1.1 /a shop.example false");
    }
    assert_eq!(server.connections.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn http_2_without_tls_is_by_prior_knowledge() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let open = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&open);
    tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            counted.fetch_add(1, Ordering::SeqCst);
            let counted = Arc::clone(&counted);
            tokio::spawn(async move {
                serve(socket, true).await;
                counted.fetch_sub(1, Ordering::SeqCst);
            });
        }
    });
    let shield = Shield { protocol: ShieldProtocol::Http2, ..shield("eu", &format!("http://{address}"), "fra") };
    let world = Setup { shields: vec![shield], ..Setup::of(vec![origin("http://127.0.0.1:1")]) }.build();
    assert_eq!(world.read(get("/a")).await, "HTTP/2.0 /a shop.example false");
    assert_eq!(open.load(Ordering::SeqCst), 1);
    drop(world);
    wait_until("the fleet's connection closing", || open.load(Ordering::SeqCst) == 0).await;
}

/// Answers one request by hand: a body that the end of the connection delimits.
async fn until_the_end(clean: bool) -> Result<Vec<u8>, FetchError> {
    let made = rcgen::generate_simple_self_signed(["origin.example".to_owned()]).unwrap();
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(made.signing_key.serialize_der()));
    let config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let roots = Roots::from_pem(made.cert.pem().as_bytes()).unwrap();
    tokio::spawn(async move {
        let (socket, _) = listener.accept().await.unwrap();
        let mut stream = TlsAcceptor::from(Arc::new(config)).accept(socket).await.unwrap();
        let mut head = [0; 4096];
        assert!(stream.read(&mut head).await.unwrap() > 0);
        stream.write_all(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nall of it").await.unwrap();
        stream.flush().await.unwrap();
        if clean {
            stream.shutdown().await.unwrap();
        } else {
            let (mut socket, _): (TcpStream, _) = stream.into_inner();
            socket.shutdown().await.unwrap();
        }
    });
    let mut trust = Trust::default();
    trust.add(Path::new("ca.pem"), roots);
    let tls = UpstreamTls { ca: Some("ca.pem".into()), name: Some("origin.example".into()) };
    let setup = Setup::of(vec![origin(&format!("https://{address}"))]).policy(|policy| policy.tls = tls);
    let world = Setup { trust, ..setup }.build();
    let response = world.fetch(get("/")).await.unwrap();
    assert_eq!(response.framing, BodyFraming::Close);
    whole(response.body).await
}

/// RFC 9112 §9.8: only close_notify says that a body delimited by the connection's end is complete.
#[tokio::test]
async fn over_tls_only_close_notify_ends_a_body() {
    assert_eq!(patiently("a clean end", until_the_end(true)).await.unwrap(), b"all of it");
    patiently("an end", until_the_end(false)).await.expect_err("the connection ended without close_notify");
}
