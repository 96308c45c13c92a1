//! The command lines of edge and shield.

use std::{path::PathBuf, time::Duration};

use clap::{Args, Parser};
use perigee_node::{
    flags::ServerFlags,
    sizes::{DiskSpec, MemorySize},
};
use perigee_protocol::{
    document::parse_duration,
    id::{PopId, ShieldId},
    model::Url,
};

use crate::{budget::parse_memory, doors::DoorFlags, trace::TraceFlags};

/// Caching HTTP edge node: serves clients from memory and disk, fills from a shield or the origin.
///
/// With a CDN document it is one PoP's node. Without one, --origin makes it a caching reverse proxy for every host:
///
///     perigee-edge --listen 127.0.0.1:8002 --origin http://127.0.0.1:8000
#[derive(Clone, Debug, Parser)]
#[command(name = "perigee-edge", version, verbatim_doc_comment)]
pub struct EdgeFlags {
    /// The CDN document
    #[arg(long, value_name = "FILE", env = "PERIGEE_DOCUMENT", requires = "pop", conflicts_with_all = ["origin", "policy"])]
    pub document: Option<PathBuf>,

    /// Which PoP of the document this is
    #[arg(long, value_name = "ID", env = "PERIGEE_POP", requires = "document")]
    pub pop: Option<PopId>,

    /// Origin to proxy when there is no document; repeat it for several
    #[arg(long, value_name = "URL", env = "PERIGEE_ORIGIN", value_delimiter = ',', required_unless_present_any = ["document", "probe"])]
    pub origin: Vec<Url>,

    /// A key of [site.cache] for --origin, as set_cookie=store, default_ttl=60s or query={drop=["utm_*"]}; repeatable
    #[arg(long, value_name = "KEY=VALUE", env = "PERIGEE_POLICY", value_parser = parse_pair, requires = "origin")]
    pub policy: Vec<(String, String)>,

    /// What both tiers take.
    #[command(flatten)]
    pub tier: TierFlags,
}

/// Shared origin shield: the only tier that talks to origins.
///
///     perigee-shield --document cdn.toml --shield shield-eu
#[derive(Clone, Debug, Parser)]
#[command(name = "perigee-shield", version, verbatim_doc_comment)]
pub struct ShieldFlags {
    /// The CDN document
    #[arg(long, value_name = "FILE", env = "PERIGEE_DOCUMENT", requires = "shield", required_unless_present = "probe")]
    pub document: Option<PathBuf>,

    /// Which shield of the document this is
    #[arg(long, value_name = "ID", env = "PERIGEE_SHIELD", requires = "document")]
    pub shield: Option<ShieldId>,

    /// What both tiers take.
    #[command(flatten)]
    pub tier: TierFlags,
}

/// What both tiers take.
#[derive(Args, Clone, Debug)]
pub struct TierFlags {
    /// Name in Cache-Status, Via, logs and metrics [default: the id of the PoP or shield]
    #[arg(long, value_name = "NAME", env = "PERIGEE_NAME", value_parser = parse_name)]
    pub name: Option<String>,

    /// Memory for everything the node keeps and carries: objects, index, buffers, bodies under way, connections; at least 192MiB
    #[arg(long, value_name = "SIZE", env = "PERIGEE_MEMORY", default_value = "256MiB", value_parser = parse_memory)]
    pub memory: MemorySize,

    /// Folder and size of the cache on disk, as /var/cache/perigee:10GiB [default: memory only]
    #[arg(long, value_name = "DIR:SIZE", env = "PERIGEE_DISK")]
    pub disk: Option<DiskSpec>,

    /// When told to end, serve on for so long and say so to nameservers' probes, so that clients go elsewhere first: an interval of the probes and the TTL of answers, say 35s
    #[arg(long, value_name = "DURATION", env = "PERIGEE_DRAIN_NOTICE", default_value = "0s", value_parser = parse_notice)]
    pub drain_notice: Duration,

    /// Where and how clients come in.
    #[command(flatten)]
    pub doors: DoorFlags,

    /// Where traces go.
    #[command(flatten)]
    pub trace: TraceFlags,

    /// What all servers take.
    #[command(flatten)]
    pub server: ServerFlags,
}

fn parse_pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.trim().is_empty() => Ok((key.trim().to_owned(), value.trim().to_owned())),
        _ => Err("must be KEY=VALUE with a key of [site.cache], say set_cookie=store".into()),
    }
}

/// Longest `--drain-notice`.
const DRAIN_NOTICE_MAX: Duration = Duration::from_secs(3_600);

fn parse_notice(text: &str) -> Result<Duration, String> {
    parse_duration(text)
        .filter(|notice| *notice <= DRAIN_NOTICE_MAX)
        .ok_or_else(|| "must be a duration with a unit, 0s to 1h, say 35s".into())
}

/// RFC 9110 §5.6.2: the name goes into Via and Cache-Status as a token.
fn parse_name(text: &str) -> Result<String, String> {
    let token = text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(&byte));
    let leads = text.bytes().next().is_some_and(|byte| byte.is_ascii_alphabetic());
    if token && leads && text.len() <= 63 {
        return Ok(text.to_owned());
    }
    Err("must begin with a letter and hold 1 to 63 letters, digits, -, . or _".into())
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn commands_are_well_formed() {
        EdgeFlags::command().debug_assert();
        ShieldFlags::command().debug_assert();
    }

    #[test]
    fn an_edge_has_a_document_or_origins() {
        let check = |line: &str, good: bool| {
            let parsed = EdgeFlags::try_parse_from(line.split(' '));
            assert_eq!(parsed.is_ok(), good, "{line}: {parsed:?}");
        };
        check("edge --origin http://127.0.0.1:8000", true);
        check(
            "edge --origin http://a --origin http://b --policy set_cookie=store --policy client_cache_control=honour",
            true,
        );
        check("edge --document cdn.toml --pop fra", true);
        check("edge --probe", true);
        check("edge", false);
        check("edge --document cdn.toml", false);
        check("edge --pop fra", false);
        check("edge --document cdn.toml --pop fra --origin http://a", false);
        check("edge --document cdn.toml --pop FRA", false);
        check("edge --origin ftp://a", false);
        check("edge --origin http://a/path", false);
        check("edge --origin http://a --policy x", false);
        check("edge --origin http://a --name a,b", false);
        check("edge --origin http://a --memory 1", false);
        check("edge --origin http://a --memory 191MiB", false);
        check("edge --origin http://a --memory 192MiB", true);
        check("edge --origin http://a --drain-notice 1h", true);
        check("edge --origin http://a --drain-notice 3601s", false);
        check("edge --origin http://a --drain-notice 5", false);
    }
}
