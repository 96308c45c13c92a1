//! Asking the admin listeners of nodes, and telling them.

use std::{fmt, io::Write, net::SocketAddr, time::Duration};

use anyhow::{Context, anyhow, bail};
use serde_json::Value;

const TIMEOUT: Duration = Duration::from_secs(5);
/// Longest answer, in bytes; a node says a few kilobytes.
const ANSWER_BYTES_MAX: usize = 4 << 20;

/// For admin listeners. A proxy of the environment must not come between an operator and a node that is given by address.
pub(crate) fn client() -> reqwest::Result<reqwest::Client> {
    reqwest::Client::builder().no_proxy().timeout(TIMEOUT).redirect(reqwest::redirect::Policy::none()).build()
}

/// Whom a question is for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Whom {
    pub(crate) at: SocketAddr,
    /// `node`, `nameserver`
    pub(crate) kind: &'static str,
    /// That named it.
    pub(crate) flag: &'static str,
    /// Who it is that answers 404, and whom to ask instead.
    pub(crate) other: &'static str,
}

/// What a node answers. Anything but success is an error with the node's own words.
pub(crate) async fn ask(request: reqwest::RequestBuilder, whom: Whom) -> anyhow::Result<Value> {
    let Whom { at, kind, flag, other } = whom;
    let nobody = || format!("no {kind} answers at {at} (see {flag})");
    let answer = request.send().await.map_err(cause).with_context(nobody)?;
    let url = answer.url().clone();
    let (status, body) = read(answer).await?;
    if status == reqwest::StatusCode::NOT_FOUND {
        bail!("{url} answers {status}: {other}");
    }
    if !status.is_success() {
        bail!("{url} answers {status}: {}", said(&body));
    }
    serde_json::from_slice(&body)
        .with_context(|| format!("{url} does not answer JSON: that is no node's admin listener"))
}

/// A word for several nodes.
#[derive(Debug)]
pub(crate) struct Word<'a> {
    /// `/v1/purge`
    pub(crate) path: String,
    pub(crate) token: String,
    pub(crate) body: Value,
    /// Whether each node's JSON is printed as it came.
    pub(crate) json: bool,
    /// `node`, `nameserver`
    pub(crate) kind: &'a str,
    /// `the purge`
    pub(crate) what: &'a str,
}

/// Not all nodes acknowledged, which is a failure whether or not somebody reads what the others said.
#[derive(Debug)]
pub(crate) struct Unacknowledged(String);

impl fmt::Display for Unacknowledged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Unacknowledged {}

/// Tells each node in turn, in the order given, and writes a line about each that acknowledges; `said` is of that line, and
/// None where what was answered acknowledges nothing. Fails with [`Unacknowledged`], naming the others, when not all have.
/// Lines that cannot be written keep no node from being told.
pub(crate) async fn tell_each(
    nodes: &[SocketAddr],
    word: &Word<'_>,
    said: impl Fn(&Value) -> Option<String>,
    out: &mut impl Write,
) -> anyhow::Result<()> {
    let client = client()?;
    let (mut failed, mut written) = (Vec::<String>::new(), Ok(()));
    for node in nodes {
        let told = post(&client, &format!("http://{node}{}", word.path), word).await;
        let told = told.and_then(|told| match said(&told) {
            Some(said) => Ok((told, said)),
            None => Err(anyhow!("it answers as no {} does", word.kind)),
        });
        match told {
            Ok((told, _)) if word.json => written = written.and(writeln!(out, "{told}")),
            Ok((_, said)) => written = written.and(writeln!(out, "{node} {said}")),
            Err(error) => failed.push(format!("{node}: {}", perigee_node::report::line(error.as_ref()))),
        }
    }
    if failed.is_empty() {
        return Ok(written?);
    }
    let (acknowledged, all) = (nodes.len() - failed.len(), nodes.len());
    let others = failed.join("\n  ");
    let said = format!("{acknowledged} of {all} {}s acknowledged {}; not:\n  {others}", word.kind, word.what);
    Err(Unacknowledged(said).into())
}

/// What the node answers, null where that is no JSON.
async fn post(client: &reqwest::Client, url: &str, word: &Word<'_>) -> anyhow::Result<Value> {
    let request = client.post(url).bearer_auth(&word.token).header("content-type", "application/json");
    let answer = request.body(word.body.to_string()).send().await.map_err(cause).context("no node answers")?;
    let (status, body) = read(answer).await?;
    if !status.is_success() {
        bail!("{status}: {}", said(&body));
    }
    Ok(serde_json::from_slice(&body).unwrap_or_default())
}

/// Status and whole body of an answer.
async fn read(mut answer: reqwest::Response) -> anyhow::Result<(reqwest::StatusCode, Vec<u8>)> {
    let url = answer.url().clone();
    let mut body = Vec::new();
    while let Some(chunk) = answer.chunk().await.with_context(|| format!("{url} broke off"))? {
        if body.len() + chunk.len() > ANSWER_BYTES_MAX {
            bail!("{url} answers more than {ANSWER_BYTES_MAX} bytes: that is no node's");
        }
        body.extend_from_slice(&chunk);
    }
    Ok((answer.status(), body))
}

/// A node's own words.
fn said(body: &[u8]) -> String {
    let told: Option<Value> = serde_json::from_slice(body).ok();
    let message = told.as_ref().and_then(|told| told["message"].as_str()).map(str::to_owned);
    message.unwrap_or_else(|| String::from_utf8_lossy(body).trim().to_owned())
}

/// Why nobody answered: what the system says, without the names of what is between it and us.
fn cause(error: reqwest::Error) -> anyhow::Error {
    if error.is_timeout() {
        return anyhow!("nothing within {TIMEOUT:?}");
    }
    anyhow!(anyhow!(error).root_cause().to_string())
}

impl fmt::Display for Whom {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "http://{}", self.at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_nodes_own_words() {
        let check = |body: &str, expected: &str| assert_eq!(said(body.as_bytes()), expected);
        check("{\"error\":\"bad\",\"message\":\"no such site\"}", "no such site");
        check("{\"error\":\"bad\"}", "{\"error\":\"bad\"}");
        check(" no\n", "no");
        check("", "");
    }

    #[tokio::test]
    async fn why_nobody_answers_is_said_once() {
        // Bound, and not listening: whoever dials is refused.
        let held = tokio::net::TcpSocket::new_v4().unwrap();
        held.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let at = held.local_addr().unwrap();
        let whom = Whom { at, kind: "node", flag: "--node", other: "somebody else" };
        let error = ask(client().unwrap().get(format!("{whom}/")), whom).await.unwrap_err();
        let expected = format!("no node answers at {at} (see --node): Connection refused (os error 111)");
        assert_eq!(perigee_node::report::line(error.as_ref()), expected);
    }
}
