//! `perigee status`: asks a node how it is.

use std::{io::Write, net::SocketAddr};

use serde_json::Value;

use crate::ask::{Whom, ask, client};

/// Writes what the node at `admin` says of itself.
pub(crate) async fn status(admin: SocketAddr, json: bool, out: &mut impl Write) -> anyhow::Result<()> {
    let whom = Whom { at: admin, kind: "node", flag: "--admin", other: "that is no node's admin listener" };
    let told = ask(client()?.get(format!("{whom}/v1/status")), whom).await?;
    if json {
        serde_json::to_writer_pretty(&mut *out, &told)?;
        writeln!(out)?;
    } else {
        for (name, value) in facts(&told) {
            writeln!(out, "{name}: {value}")?;
        }
    }
    Ok(())
}

/// The leaves of the tree with their paths, in the order of the answer.
fn facts(told: &Value) -> Vec<(String, String)> {
    fn walk(path: &str, value: &Value, facts: &mut Vec<(String, String)>) {
        let below = |name: &str| if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") };
        match value {
            Value::Object(map) if !map.is_empty() => {
                map.iter().for_each(|(name, value)| walk(&below(name), value, facts))
            }
            Value::Array(list) if list.iter().any(|item| item.is_object() || item.is_array()) => {
                list.iter().enumerate().for_each(|(index, value)| walk(&format!("{path}[{index}]"), value, facts));
            }
            Value::Array(list) => facts.push((path.to_owned(), list.iter().map(plain).collect::<Vec<_>>().join(", "))),
            value => facts.push((path.to_owned(), plain(value))),
        }
    }
    let mut list = Vec::new();
    walk("", told, &mut list);
    list
}

fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Object(_) => String::new(),
        value => value.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_leaf_is_a_line_in_the_answers_order() {
        let told = serde_json::json!({
            "tier": "edge", "uptime_s": 3, "ready": true, "reasons": [], "none": null,
            "store": { "bytes": 7, "disks": [{ "name": "a" }, { "name": "b" }] }, "hosts": ["x", "y"],
        });
        let lines: Vec<String> = facts(&told).iter().map(|(name, value)| format!("{name}={value}")).collect();
        assert_eq!(
            lines,
            [
                "tier=edge",
                "uptime_s=3",
                "ready=true",
                "reasons=",
                "none=null",
                "store.bytes=7",
                "store.disks[0].name=a",
                "store.disks[1].name=b",
                "hosts=x, y"
            ]
        );
    }
}
