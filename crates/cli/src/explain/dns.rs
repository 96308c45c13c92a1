//! `perigee explain dns`: asks a nameserver, or a document, where a client is sent and why.

use std::{io::Write, path::Path};

use anyhow::anyhow;
use perigee_geodns::explain::{Asked, Kind, offline};
use serde_json::Value;

use crate::{
    args::ExplainDnsArgs,
    ask::{Whom, ask, client},
};

pub(super) async fn explain(args: &ExplainDnsArgs, out: &mut impl Write) -> anyhow::Result<()> {
    let told = match &args.document {
        Some(path) => from_files(args, path)?,
        None => from_nameserver(args).await?,
    };
    if args.json {
        serde_json::to_writer_pretty(&mut *out, &told)?;
        writeln!(out)?;
        return Ok(());
    }
    for line in told["text"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        writeln!(out, "{line}")?;
    }
    Ok(())
}

fn from_files(args: &ExplainDnsArgs, path: &Path) -> anyhow::Result<Value> {
    let loaded = perigee_node::document::read(path)?;
    let kind = if args.kind.eq_ignore_ascii_case("AAAA") { Kind::Aaaa } else { Kind::A };
    let asked = Asked { name: args.name.clone(), client: args.client, subnet: args.subnet, kind };
    let folder = loaded.resolve(Path::new(""));
    offline(&loaded.document, &folder, args.database.as_deref(), &asked).map_err(|error| anyhow!(error))
}

async fn from_nameserver(args: &ExplainDnsArgs) -> anyhow::Result<Value> {
    let whom = Whom {
        at: args.node,
        kind: "nameserver",
        flag: "--node",
        other: "an edge, a shield, or a node of another version; ask a nameserver",
    };
    let mut url = reqwest::Url::parse(&format!("{whom}/v1/explain/dns"))?;
    url.query_pairs_mut()
        .append_pair("name", &args.name)
        .append_pair("client", &args.client.to_string())
        .append_pair("type", &args.kind.to_ascii_uppercase());
    if let Some(subnet) = args.subnet {
        url.query_pairs_mut().append_pair("subnet", &subnet.to_string());
    }
    ask(client()?.get(url), whom).await
}
