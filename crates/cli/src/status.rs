//! `perigee status`: asks a node how it is.

use std::{io::Write, net::SocketAddr, time::Duration};

use anyhow::{Context, bail};
use serde_json::Value;

const TIMEOUT: Duration = Duration::from_secs(5);
/// Longest answer, in bytes; a node says a few kilobytes.
const ANSWER_BYTES_MAX: usize = 4 << 20;

/// Writes what the node at `admin` says of itself.
pub(crate) async fn status(admin: SocketAddr, json: bool, out: &mut impl Write) -> anyhow::Result<()> {
    let told = ask(admin).await?;
    if json {
        serde_json::to_writer_pretty(&mut *out, &told)?;
        writeln!(out)?;
    } else {
        for (name, value) in facts(&told) {
            writeln!(out, "{name}: {value}")?;
        }
    }
    Ok(())
}

async fn ask(admin: SocketAddr) -> anyhow::Result<Value> {
    let url = format!("http://{admin}/v1/status");
    let request = client()?.get(&url);
    let response = request.send().await.with_context(|| format!("no node answers at {admin} (see --admin)"))?;
    let (status, body) = read(&url, response).await?;
    if !status.is_success() {
        bail!("{url} answers {status}: {}", String::from_utf8_lossy(&body).trim());
    }
    serde_json::from_slice(&body)
        .with_context(|| format!("{url} does not answer JSON: that is no node's admin listener"))
}

/// For admin listeners. A proxy of the environment must not come between an operator and a node that is given by address.
pub(crate) fn client() -> reqwest::Result<reqwest::Client> {
    reqwest::Client::builder().no_proxy().timeout(TIMEOUT).redirect(reqwest::redirect::Policy::none()).build()
}

/// Tells a node something that needs a token; what it answers, null where that is no JSON. Anything but success is an
/// error with the node's own words.
pub(crate) async fn post(client: &reqwest::Client, url: &str, token: &str, asked: &Value) -> anyhow::Result<Value> {
    let request = client.post(url).bearer_auth(token).header("content-type", "application/json");
    let response = request.body(asked.to_string()).send().await.context("no node answers")?;
    let (status, body) = read(url, response).await?;
    let told: Option<Value> = serde_json::from_slice(&body).ok();
    if !status.is_success() {
        let message = told.as_ref().and_then(|told| told["message"].as_str()).map(str::to_owned);
        bail!("{status}: {}", message.unwrap_or_else(|| String::from_utf8_lossy(&body).trim().to_owned()));
    }
    Ok(told.unwrap_or_default())
}

/// Status and whole body of an answer.
pub(crate) async fn read(url: &str, mut answer: reqwest::Response) -> anyhow::Result<(reqwest::StatusCode, Vec<u8>)> {
    let mut body = Vec::new();
    while let Some(chunk) = answer.chunk().await.with_context(|| format!("{url} broke off"))? {
        if body.len() + chunk.len() > ANSWER_BYTES_MAX {
            bail!("{url} answers more than {ANSWER_BYTES_MAX} bytes: that is no node's");
        }
        body.extend_from_slice(&chunk);
    }
    Ok((answer.status(), body))
}

/// The leaves of the tree with their paths, in the order of the answer.
fn facts(told: &Value) -> Vec<(String, String)> {
    fn walk(path: &str, value: &Value, facts: &mut Vec<(String, String)>) {
        let below = |name: &str| if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") };
        match value {
            Value::Object(map) if !map.is_empty() => {
                map.iter().for_each(|(name, value)| walk(&below(name), value, facts))
            }
            Value::Array(list) if list.iter().any(|item| item.is_object() || item.is_array()) => {
                list.iter().enumerate().for_each(|(index, value)| walk(&format!("{path}[{index}]"), value, facts));
            }
            Value::Array(list) => facts.push((path.to_owned(), list.iter().map(plain).collect::<Vec<_>>().join(", "))),
            value => facts.push((path.to_owned(), plain(value))),
        }
    }
    let mut list = Vec::new();
    walk("", told, &mut list);
    list
}

fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Object(_) => String::new(),
        value => value.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_leaf_is_a_line_in_the_answers_order() {
        let told = serde_json::json!({
            "tier": "edge", "uptime_s": 3, "ready": true, "reasons": [], "none": null,
            "store": { "bytes": 7, "disks": [{ "name": "a" }, { "name": "b" }] }, "hosts": ["x", "y"],
        });
        let lines: Vec<String> = facts(&told).iter().map(|(name, value)| format!("{name}={value}")).collect();
        assert_eq!(
            lines,
            [
                "tier=edge",
                "uptime_s=3",
                "ready=true",
                "reasons=",
                "none=null",
                "store.bytes=7",
                "store.disks[0].name=a",
                "store.disks[1].name=b",
                "hosts=x, y"
            ]
        );
    }
}
