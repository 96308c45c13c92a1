//! `perigee purge`: takes content out of the caches of the nodes that are named, and says which of them acknowledged it.

use std::{fs, io::Write, path::Path};

use anyhow::{Context, bail};
use serde_json::{Map, Value, json};

use crate::{
    args::PurgeArgs,
    ask::{Word, tell_each},
};

/// Longest token file, in bytes.
const TOKEN_BYTES_MAX: u64 = 4096;

/// Purges at each node in turn, in the order given.
pub(crate) async fn purge(args: &PurgeArgs, out: &mut impl Write) -> anyhow::Result<()> {
    let body = asked(args)?;
    let token = token(args.token_file.as_deref(), "a purge")?;
    let word = Word { path: "/v1/purge".into(), token, body, json: args.json, kind: "node", what: "the purge" };
    tell_each(&args.node, &word, |ack| ack["seq"].is_u64().then(|| said(ack)), out).await
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
