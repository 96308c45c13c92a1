//! `perigee page`: the page of a whole fleet out of what its nodes tell, served from wherever the operator is.

use std::{
    io::{self, Write as _},
    net::SocketAddr,
};

use anyhow::{Context, anyhow, ensure};
use clap::Args;
use perigee_node::{
    admin::{AdminServing, guard::guarded},
    log::{self, LogFormat},
    page::of_nodes,
    signals::Signals,
};
use tokio::runtime::Handle;

/// What the page is told.
#[derive(Clone, Debug, Args)]
#[command(after_help = "\
Listens to GET /v1/live of each node's admin listener while somebody looks, and hands questions and purges on to the node that they \
are for. A node that does not answer is shown with since when and why. Reading needs no token, as with the nodes' own pages: keep \
--listen on loopback, or behind something that asks who is there. A purge needs a token with that scope, as everywhere.

Examples:
  perigee page --node 10.0.0.53:9100,10.0.0.80:9100,10.0.0.101:9100
  ssh -L 9101:127.0.0.1:9100 edge-fra …; perigee page --node 127.0.0.1:9101,127.0.0.1:9102
  perigee page --listen 127.0.0.1:8000 --name cdn.example.com --node 10.0.0.53:9100")]
pub(crate) struct PageArgs {
    /// Admin listeners of the nodes to show; at most 256
    #[arg(long, value_name = "ADDRESS", env = "PERIGEE_PAGE_NODE", value_delimiter = ',', required = true)]
    pub(crate) node: Vec<SocketAddr>,
    /// Where the page is
    #[arg(long, value_name = "ADDRESS", env = "PERIGEE_LISTEN", default_value = "127.0.0.1:9000")]
    pub(crate) listen: SocketAddr,
    /// A name with dots by which browsers may reach the page, say that of a proxy before it; repeat it for several
    #[arg(long, value_name = "NAME", env = "PERIGEE_ADMIN_NAME", value_delimiter = ',')]
    pub(crate) name: Vec<String>,
    /// Which log lines to keep, on stderr
    #[arg(long, value_name = "FILTER", env = "PERIGEE_LOG", default_value = "info")]
    pub(crate) log: String,
}

/// Serves until a signal.
pub(crate) fn run(args: &PageArgs) -> anyhow::Result<()> {
    log::init(&args.log, LogFormat::Text)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(serve(args))
}

async fn serve(args: &PageArgs) -> anyhow::Result<()> {
    let control = Handle::current();
    ensure!(!args.node.contains(&args.listen), "{} is given as --listen and as a --node", args.listen);
    let signals = Signals::install(&control).context("cannot take over signals")?;
    let (feed, routes) = of_nodes(&control, None, &args.node).map_err(|error| anyhow!("{error} (see --node)"))?;
    let serving = AdminServing::start(&control, args.listen, guarded(routes, &args.name), vec![feed])
        .map_err(|error| anyhow!("the page cannot be served: {}; try another --listen", cause(&error)))?;
    let address = serving.local_addr();
    if !address.ip().is_loopback() {
        writeln!(io::stderr(), "note: reading needs no token, so whoever reaches {address} sees what the fleet does")?;
    }
    let nodes = args.node.len();
    writeln!(
        io::stdout(),
        "ready: the page of {nodes} node{} is at http://{address}/",
        if nodes == 1 { "" } else { "s" }
    )?;
    signals.terminated().await;
    serving.end().await;
    Ok(())
}

/// Its own advice is for a server's flags; the cause alone is told.
fn cause(error: &dyn std::error::Error) -> String {
    error.source().map_or_else(|| error.to_string(), ToString::to_string)
}
