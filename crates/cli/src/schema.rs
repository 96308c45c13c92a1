//! `perigee schema`: the document's JSON Schema, and the page of all keys.

use std::io::Write;

use clap::Args;
use perigee_protocol::document::keys;

#[derive(Debug, Args)]
pub(crate) struct SchemaArgs {
    /// Print the page of all keys instead, as docs/configuration.md has it
    #[arg(long)]
    pub(crate) markdown: bool,
}

/// Prints one of the two.
pub(crate) fn schema(args: &SchemaArgs, out: &mut impl Write) -> anyhow::Result<()> {
    let text = if args.markdown { keys::markdown() } else { keys::schema() };
    out.write_all(text.as_bytes())?;
    Ok(())
}
