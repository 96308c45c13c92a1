//! `perigee demo`: the whole CDN in one process on loopback.

mod layout;
mod options;

pub(crate) use options::DemoArgs;

pub(crate) fn run(args: &DemoArgs) -> anyhow::Result<()> {
    _ = layout::Layout::new(args);
    anyhow::bail!("not yet")
}
