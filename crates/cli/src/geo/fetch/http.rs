//! A client for downloads: HTTP/1.1 over TLS, redirects followed, credentials told to nobody but whom they are for.

use std::{error::Error, fmt, net::SocketAddr, path::Path, sync::Arc, time::Duration};

use anyhow::{Context, anyhow, bail, ensure};
use bytes::Bytes;
use http::{HeaderMap, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use perigee_node::clock;
use perigee_upstream::{Resolve, SystemResolver};
use reqwest::Url;
use rustls::pki_types::ServerName;
use tokio::{net::TcpStream, time::timeout};
use tokio_rustls::TlsConnector;

use crate::tls::{Stream, config};

const REDIRECTS_MAX: usize = 5;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// For the head of an answer, and between two pieces of its body.
const IDLE_TIMEOUT: Duration = Duration::from_secs(30);

/// The longest that a server's Retry-After is believed.
const PAUSE_MAX: Duration = Duration::from_secs(86_400);

/// A `Basic` pair (RFC 7617).
pub(super) struct Credentials {
    pub(super) user: String,
    pub(super) password: String,
}

pub(super) struct Client {
    resolver: SystemResolver,
    tls: TlsConnector,
}

/// A server that is to be left alone for a while (RFC 9110 §10.2.3).
#[derive(Debug)]
pub(super) struct Later {
    said: String,
    pub(super) after: Duration,
}

impl fmt::Display for Later {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}; it wants to be left alone for {} s", self.said, self.after.as_secs())
    }
}

impl Error for Later {}

/// An answer with status 200, whose body is still to come, or with 304 where conditions were set.
pub(super) struct Answer {
    pub(super) is_unchanged: bool,
    /// What a later request can ask by: ETag, Last-Modified.
    pub(super) validators: [Option<String>; 2],
    /// Where it came from in the end, without what may be secret.
    pub(super) from: String,
    /// By Content-Length.
    pub(super) bytes: Option<u64>,
    body: Incoming,
}

impl Client {
    /// Trusts the authorities of a PEM file, or the public ones as bundled.
    pub(super) fn new(ca: Option<&Path>) -> anyhow::Result<Self> {
        let config = config(ca)?;
        Ok(Self { resolver: SystemResolver::from_system()?, tls: Arc::new(config).into() })
    }

    /// Asks, and follows redirects. Credentials go to the first host alone, and over TLS or the loopback only.
    pub(super) async fn get(
        &self,
        url: &Url,
        credentials: Option<&Credentials>,
        conditions: &HeaderMap,
    ) -> anyhow::Result<Answer> {
        let has_user = !url.username().is_empty() || url.password().is_some();
        ensure!(
            !has_user,
            "{}: a user or a password in a URL is not sent, and all on this machine can read it",
            shown(url)
        );
        let mut next = url.clone();
        for _ in 0..=REDIRECTS_MAX {
            // RFC 9110 §15.4: fields that were meant for the first target are not for another.
            let own = credentials.filter(|_| next.origin() == url.origin());
            let asked = shown(&next);
            let answer = self.ask(&next, own, conditions).await.with_context(|| format!("cannot ask {asked}"))?;
            if !answer.status().is_redirection() || answer.status() == StatusCode::NOT_MODIFIED {
                return taken(asked, answer);
            }
            let target = answer.headers().get(header::LOCATION).and_then(|target| target.to_str().ok());
            let target = target.and_then(|target| next.join(target).ok());
            let target = target.with_context(|| format!("{asked} redirects to nowhere ({})", answer.status()))?;
            ensure!(
                target.scheme() == "https" || next.scheme() == "http",
                "{asked} redirects from https to {}, which is refused",
                shown(&target)
            );
            next = target;
        }
        bail!("{} redirects more than {REDIRECTS_MAX} times", shown(url))
    }

    async fn ask(
        &self,
        url: &Url,
        credentials: Option<&Credentials>,
        conditions: &HeaderMap,
    ) -> anyhow::Result<Response<Incoming>> {
        let host = url.host_str().context("there is no host in it")?;
        let is_tls = match url.scheme() {
            "https" => true,
            "http" => false,
            other => bail!("{other} is not understood; it takes http or https"),
        };
        let port = url.port_or_known_default().context("there is no port in it")?;
        let literal = host.trim_start_matches('[').trim_end_matches(']');
        let addresses = match literal.parse() {
            Ok(address) => vec![address],
            Err(_) => self.resolver.resolve(host).await?,
        };
        if credentials.is_some() && !is_tls {
            let is_here = addresses.iter().all(|address| address.is_loopback());
            ensure!(is_here, "the licence key would go over the network for all to read; use https");
        }
        let tcp = connect(addresses.into_iter().map(|address| SocketAddr::new(address, port))).await?;
        let stream: Box<dyn Stream> = if is_tls {
            let name = ServerName::try_from(literal.to_owned())?;
            let handshake = timeout(CONNECT_TIMEOUT, self.tls.connect(name, tcp)).await;
            Box::new(handshake.map_err(|_| anyhow!("the TLS handshake takes too long"))??)
        } else {
            Box::new(tcp)
        };
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        // It ends with the answer, or by the answer being dropped.
        tokio::spawn(async move { connection.await.unwrap_or_default() });
        let authority = url.port().map_or(host.to_owned(), |port| format!("{host}:{port}"));
        let path = match url.query() {
            Some(query) => format!("{}?{query}", url.path()),
            None => url.path().to_owned(),
        };
        let mut request = Request::get(path)
            .header(header::HOST, authority)
            .header(header::USER_AGENT, concat!("perigee/", env!("CARGO_PKG_VERSION")))
            .header(header::ACCEPT, "*/*");
        if let Some(Credentials { user, password }) = credentials {
            let mut value =
                http::HeaderValue::try_from(format!("Basic {}", base64(format!("{user}:{password}").as_bytes())))?;
            value.set_sensitive(true);
            request = request.header(header::AUTHORIZATION, value);
        }
        let mut request = request.body(Empty::<Bytes>::new())?;
        request.headers_mut().extend(conditions.clone());
        let answer = timeout(IDLE_TIMEOUT, sender.send_request(request)).await;
        Ok(answer.map_err(|_| anyhow!("no answer within {IDLE_TIMEOUT:?}"))??)
    }
}

async fn connect(addresses: impl Iterator<Item = SocketAddr>) -> anyhow::Result<TcpStream> {
    let mut last = anyhow!("it has no address");
    for address in addresses {
        match timeout(CONNECT_TIMEOUT, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => return Ok(stream),
            Ok(Err(error)) => last = anyhow!(error).context(format!("cannot connect to {address}")),
            Err(_) => last = anyhow!("{address} takes no connection within {CONNECT_TIMEOUT:?}"),
        }
    }
    Err(last)
}

fn taken(from: String, answer: Response<Incoming>) -> anyhow::Result<Answer> {
    let is_unchanged = answer.status() == StatusCode::NOT_MODIFIED;
    let field = |name| answer.headers().get(name).and_then(|value| value.to_str().ok());
    match answer.status() {
        StatusCode::OK | StatusCode::NOT_MODIFIED => {}
        status @ (StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) => {
            bail!(
                "{from} answers {status}: the account id or the licence key is wrong, or the key may not have this edition"
            )
        }
        status @ StatusCode::NOT_FOUND => bail!("{from} answers {status}: there is no such database"),
        status => {
            let why = if status == StatusCode::TOO_MANY_REQUESTS { ": too many downloads today" } else { "" };
            let said = format!("{from} answers {status}{why}");
            match field(header::RETRY_AFTER).and_then(|value| pause(value, clock::now_ms() / 1_000)) {
                Some(after) => return Err(Later { said, after }.into()),
                None if why.is_empty() => bail!("{said}"),
                None => bail!("{said}; come back later"),
            }
        }
    }
    let length = field(header::CONTENT_LENGTH).and_then(|length| length.parse().ok());
    let validators = [header::ETAG, header::LAST_MODIFIED].map(|name| field(name).map(str::to_owned));
    Ok(Answer { is_unchanged, validators, from, bytes: length, body: answer.into_body() })
}

/// RFC 9110 §10.2.3: seconds, or a date; no more than a day is believed.
fn pause(retry_after: &str, now_s: u64) -> Option<Duration> {
    let seconds = retry_after.trim().parse().ok().or_else(|| {
        let until = httpdate::parse_http_date(retry_after).ok()?;
        let until = until.duration_since(std::time::UNIX_EPOCH).ok()?;
        Some(until.as_secs().saturating_sub(now_s))
    })?;
    Some(Duration::from_secs(seconds).min(PAUSE_MAX))
}

impl Answer {
    /// The next piece of the body; None at its end, which is told from a cut.
    pub(super) async fn piece(&mut self) -> anyhow::Result<Option<Bytes>> {
        loop {
            let frame = timeout(IDLE_TIMEOUT, self.body.frame()).await;
            let frame = frame.map_err(|_| anyhow!("{} sends nothing for {IDLE_TIMEOUT:?}", self.from))?;
            let Some(frame) = frame.transpose().with_context(|| format!("{} broke off", self.from))? else {
                return Ok(None);
            };
            // Trailers are no content.
            if let Ok(piece) = frame.into_data() {
                return Ok(Some(piece));
            }
        }
    }
}

/// Without user, password and query, of which any may be a key.
pub(super) fn shown(url: &Url) -> String {
    let mut url = url.clone();
    let has_query = url.query().is_some();
    url.set_query(None);
    url.set_fragment(None);
    // Only URLs without a host cannot have them.
    url.set_username("").unwrap_or_default();
    url.set_password(None).unwrap_or_default();
    format!("{url}{}", if has_query { "?…" } else { "" })
}

fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let group =
            chunk.iter().fold(0_usize, |group, byte| group << 8 | usize::from(*byte)) << (8 * (3 - chunk.len()));
        for digit in 0..4 {
            let is_there = digit <= chunk.len();
            let value = DIGITS.get(group >> (18 - 6 * digit) & 63).copied().unwrap_or(b'=');
            text.push(if is_there { char::from(value) } else { '=' });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 4648 §10
    #[test]
    fn test_vectors_of_base64() {
        for (plain, coded) in
            [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foob", "Zm9vYg=="), ("foobar", "Zm9vYmFy")]
        {
            assert_eq!(base64(plain.as_bytes()), coded);
        }
    }

    #[test]
    fn how_long_a_server_is_left_alone() {
        let check = |said: &str, expected: Option<u64>| {
            assert_eq!(pause(said, 784_111_777).map(|pause| pause.as_secs()), expected, "{said}");
        };
        check("120", Some(120));
        check("0", Some(0));
        check("86400", Some(86_400));
        check("86401", Some(86_400));
        check("Sun, 06 Nov 1994 08:49:47 GMT", Some(10));
        check("Sun, 06 Nov 1994 08:49:07 GMT", Some(0));
        for none in ["", "soon", "-1", "99999999999999999999999"] {
            check(none, None);
        }
    }

    #[test]
    fn what_is_shown_holds_no_secret() {
        let check = |url: &str, expected: &str| assert_eq!(shown(&url.parse().unwrap()), expected);
        check("https://a.example/x/y?license_key=SECRET#z", "https://a.example/x/y?…");
        check("https://user:SECRET@a.example:8443/", "https://a.example:8443/");
        check("http://[::1]:80/x", "http://[::1]/x");
    }
}
