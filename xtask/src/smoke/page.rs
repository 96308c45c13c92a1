//! The page of all nodes, as this machine reads it.

use std::{
    process::Command,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use serde_json::Value;

use super::{Findings, POLL, World};
use crate::run::output;

const PAGE: &str = "http://127.0.0.1:9000";
/// A page's server begins to listen to nodes when somebody looks; each try that fails is followed by a pause.
const HEARD_BOUND: Duration = Duration::from_secs(30);
const NAMESERVERS: usize = 2;

/// Every node is heard, and the map has every PoP.
pub(super) fn show(world: &World, findings: &mut Findings) -> Result<()> {
    println!("\npage: {PAGE}/");
    let wanted = world.regions.len() + world.shields.len() + NAMESERVERS;
    let from = Instant::now();
    loop {
        let nodes = told()?;
        let heard: Vec<&str> = nodes.iter().filter(|node| node["away"].is_null()).filter_map(name).collect();
        if heard.len() == wanted || from.elapsed() > HEARD_BOUND {
            let away: Vec<String> =
                nodes.iter().filter(|node| !node["away"].is_null()).map(|node| node["away"].to_string()).collect();
            findings.check(
                heard.len() == wanted && nodes.len() == wanted,
                format_args!("{} of {wanted} nodes are heard: {} {}", heard.len(), heard.join(" "), away.join(" ")),
            );
            let pops = |node: &Value| node["world"]["pops"].as_array().map(Vec::len);
            let on_map = nodes.iter().filter_map(pops).max().unwrap_or_default();
            findings.check(on_map == world.regions.len(), format_args!("{on_map} PoPs are on the map"));
            return Ok(());
        }
        thread::sleep(POLL);
    }
}

fn name(node: &Value) -> Option<&str> {
    node["node"].as_str()
}

/// The first event of the stream.
fn told() -> Result<Vec<Value>> {
    let line = format!("curl -sN --max-time 10 {PAGE}/v1/live | sed -n '/^data:/{{s/^data: *//p;q}}'");
    let text = output(Command::new("sh").args(["-c", &line]))?;
    if text.trim().is_empty() {
        // Its container may be started later than those that are waited for.
        return Ok(Vec::new());
    }
    serde_json::from_str(text.trim()).with_context(|| format!("{PAGE}/v1/live tells {text:?}"))
}
