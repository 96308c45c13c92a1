//! `perigee purge`: takes content out of the caches of the nodes that are named, and says which of them acknowledged it.

use std::{fs, io::Write, path::Path};

use anyhow::{Context, bail};
use serde_json::{Map, Value, json};

use crate::{
    args::PurgeArgs,
    status::{client, post},
};

/// Longest token file, in bytes.
const TOKEN_BYTES_MAX: u64 = 4096;

/// Purges at each node in turn, in the order given. False: not all have acknowledged it.
pub(crate) async fn purge(args: &PurgeArgs, out: &mut impl Write) -> anyhow::Result<bool> {
    let asked = asked(args)?;
    let token = token(args.token_file.as_deref(), "a purge")?;
    let client = client()?;
    let mut failed: Vec<String> = Vec::new();
    for node in &args.node {
        let acknowledged = post(&client, &format!("http://{node}/v1/purge"), &token, &asked).await;
        match acknowledged.and_then(|ack| ack["seq"].is_u64().then_some(ack).context("it answers as no node does")) {
            Ok(ack) if args.json => writeln!(out, "{ack}")?,
            Ok(ack) => writeln!(out, "{node} {}", said(&ack))?,
            Err(error) => failed.push(format!("{node}: {}", perigee_node::report::line(error.as_ref()))),
        }
    }
    if failed.is_empty() {
        return Ok(true);
    }
    let acknowledged = args.node.len() - failed.len();
    bail!("{acknowledged} of {} nodes acknowledged the purge; not:\n  {}", args.node.len(), failed.join("\n  "))
}

/// `edge-fra: purged hard, number 7: www.example.com/a of www`
fn said(ack: &Value) -> String {
    let text = |name: &str| ack.get(name).and_then(Value::as_str).unwrap_or("?");
    let purged: Vec<&str> = ack["purged"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    format!("{}: purged {}, number {}: {}", text("node"), text("kind"), ack["seq"], purged.join(", "))
}

/// The body of the request; what cannot be is said before any node is asked.
fn asked(args: &PurgeArgs) -> anyhow::Result<Value> {
    let mut asked = Map::new();
    let mut add = |name: &str, value: Value| drop(asked.insert(name.to_owned(), value));
    if args.everything && !args.yes {
        bail!("--everything empties the cache of every node that is named, and all of it is fetched again: add --yes");
    }
    if args.everything {
        add("everything", json!(true));
    } else if !args.url.is_empty() {
        add("urls", json!(args.url));
    } else {
        // The command line has no other combination.
        add("site", json!(args.site.as_deref().context("name a URL, a --site, or --everything")?));
        if let Some(prefix) = &args.prefix {
            add("prefix", json!(prefix));
        }
        if let Some(host) = &args.host {
            add("host", json!(host));
        }
        if !args.tag.is_empty() {
            add("tags", json!(args.tag));
        }
    }
    if args.soft {
        add("soft", json!(true));
    }
    Ok(Value::Object(asked))
}

/// `what` needs it: `a purge`.
pub(crate) fn token(file: Option<&Path>, what: &str) -> anyhow::Result<String> {
    // Not a flag: others can read command lines.
    let text = match (file, std::env::var("PERIGEE_TOKEN")) {
        (Some(file), _) => {
            let length = fs::metadata(file).with_context(|| format!("the token file {}", file.display()))?.len();
            if length > TOKEN_BYTES_MAX {
                bail!("the token file {} has {length} bytes: that is no token", file.display());
            }
            fs::read_to_string(file).with_context(|| format!("the token file {}", file.display()))?
        }
        (None, Ok(given)) => given,
        (None, Err(_)) => bail!("{what} needs a token: --token-file FILE, or PERIGEE_TOKEN in the environment"),
    };
    let token = text.trim();
    if token.is_empty() {
        bail!("the token is empty");
    }
    Ok(token.to_owned())
}
