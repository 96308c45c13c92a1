//! `perigee explain`: why a request is served as it is. `http` asks a node, `dns` a nameserver or a document, `rule` a
//! document.

mod dns;
mod http;
mod rule;
mod text;

use anyhow::Context as _;

use crate::args::{ExplainCommand, ExplainRequest};

/// Explains, and tells whether there was something to explain.
pub(crate) fn explain(command: &ExplainCommand, out: &mut impl std::io::Write) -> anyhow::Result<()> {
    match command {
        ExplainCommand::Http(args) => {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(self::http::explain(args, out))
        }
        ExplainCommand::Dns(args) => {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(self::dns::explain(args, out))
        }
        ExplainCommand::Rule(args) => rule::explain(args, out),
    }
}

/// The `Name: value` of each `--header`.
fn fields(request: &ExplainRequest) -> anyhow::Result<Vec<(String, String)>> {
    request
        .header
        .iter()
        .map(|line| {
            let (name, value) =
                line.split_once(':').with_context(|| format!("--header {line:?}: a field is \"Name: value\""))?;
            Ok((name.trim().to_owned(), value.trim().to_owned()))
        })
        .collect()
}
