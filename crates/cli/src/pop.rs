//! `perigee pop`: what an operator says of a PoP, told to each nameserver that is named.

use std::{io::Write, net::SocketAddr, path::PathBuf};

use anyhow::{Context, bail};
use clap::{Args, Subcommand};
use perigee_protocol::id::PopId;
use serde_json::{Value, json};

use crate::{
    purge::token,
    status::{client, post},
};

#[derive(Debug, Subcommand)]
pub(crate) enum PopCommand {
    /// Send new clients elsewhere
    #[command(after_help = "\
Clients follow within the TTL of steered answers. A drained PoP is still answered when no other of a site's PoPs is up.

Example:
  perigee pop drain fra --reason \"new disks\" --node 10.0.0.53:9100,10.0.0.54:9100 --token-file ops.token")]
    Drain(PopArgs),
    /// Count it as up, whatever the probes find
    #[command(after_help = "\
For probes that err. A PoP that is really dead is answered then, too.

Example:
  perigee pop up fra --reason \"probes are filtered\" --node 10.0.0.53:9100,10.0.0.54:9100 --token-file ops.token")]
    Up(PopArgs),
    /// Take a word back: what the probes find holds
    #[command(after_help = "\
Example:
  perigee pop auto fra --node 10.0.0.53:9100,10.0.0.54:9100 --token-file ops.token")]
    Auto(PopArgs),
}

#[derive(Debug, Args)]
pub(crate) struct PopArgs {
    /// The PoP's id in the document
    pub(crate) pop: PopId,
    /// The nameservers' admin listeners
    #[arg(long, value_name = "ADDRESS", env = "PERIGEE_ADMIN", value_delimiter = ',', required = true)]
    pub(crate) node: Vec<SocketAddr>,
    /// Why, for the log and the status of the nameservers; at most 256 bytes
    #[arg(long, value_name = "TEXT")]
    pub(crate) reason: Option<String>,
    /// File of a token with the scope "drain" [default: the token in PERIGEE_TOKEN]
    #[arg(long, value_name = "FILE", env = "PERIGEE_TOKEN_FILE")]
    pub(crate) token_file: Option<PathBuf>,
    /// Print each nameserver's JSON as it came
    #[arg(long)]
    pub(crate) json: bool,
}

/// Tells each nameserver in turn, in the order given. False: not all have acknowledged it.
pub(crate) async fn pop(command: &PopCommand, out: &mut impl Write) -> anyhow::Result<bool> {
    let (state, args) = match command {
        PopCommand::Drain(args) => ("drain", args),
        PopCommand::Up(args) => ("force_up", args),
        PopCommand::Auto(args) => ("auto", args),
    };
    let token = token(args.token_file.as_deref(), "a word of an operator")?;
    let client = client()?;
    let asked = json!({ "state": state, "reason": args.reason.as_deref().unwrap_or_default() });
    let mut failed: Vec<String> = Vec::new();
    for node in &args.node {
        let told = post(&client, &format!("http://{node}/v1/pops/{}", args.pop), &token, &asked).await;
        match told.and_then(|told| (told["state"] == state).then_some(told).context("it answers as no nameserver does"))
        {
            Ok(told) if args.json => writeln!(out, "{told}")?,
            Ok(told) => writeln!(out, "{node} {}", said(&told))?,
            Err(error) => failed.push(format!("{node}: {}", perigee_node::report::line(error.as_ref()))),
        }
    }
    if failed.is_empty() {
        return Ok(true);
    }
    let acknowledged = args.node.len() - failed.len();
    bail!("{acknowledged} of {} nameservers acknowledged it; not:\n  {}", args.node.len(), failed.join("\n  "))
}

/// `ns1: fra is drained`
fn said(told: &Value) -> String {
    let text = |name: &str| told[name].as_str().unwrap_or("?");
    let what = match text("state") {
        "drain" => "is drained",
        "force_up" => "is up whatever the probes find",
        _ => "is as the probes find it",
    };
    let lasts = match told["durable"].as_bool() {
        Some(false) => ", until the nameserver ends: it has no --state",
        _ => "",
    };
    format!("{}: {} {what}{lasts}", text("node"), text("pop"))
}
