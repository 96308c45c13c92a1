//! `perigee pop`: what an operator says of a PoP, told to each nameserver that is named.

use std::{io::Write, net::SocketAddr, path::PathBuf};

use clap::{Args, Subcommand};
use perigee_protocol::id::PopId;
use serde_json::{Value, json};

use crate::{
    ask::{Word, tell_each},
    purge::token,
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

/// Tells each nameserver in turn, in the order given.
pub(crate) async fn pop(command: &PopCommand, out: &mut impl Write) -> anyhow::Result<()> {
    let (state, args) = match command {
        PopCommand::Drain(args) => ("drain", args),
        PopCommand::Up(args) => ("force_up", args),
        PopCommand::Auto(args) => ("auto", args),
    };
    let token = token(args.token_file.as_deref(), "a word of an operator")?;
    let body = json!({ "state": state, "reason": args.reason.as_deref().unwrap_or_default() });
    let path = format!("/v1/pops/{}", args.pop);
    let word = Word { path, token, body, json: args.json, kind: "nameserver", what: "it" };
    tell_each(&args.node, &word, |told| (told["state"] == state).then(|| said(told)), out).await
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
