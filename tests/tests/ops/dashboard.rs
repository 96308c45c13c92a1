//! `deploy/grafana/perigee.json`: what it asks, and that it is put together well.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::read;

fn dashboard() -> Value {
    serde_json::from_str(&read("deploy/grafana/perigee.json")).unwrap()
}

fn panels(dashboard: &Value) -> impl Iterator<Item = &Value> {
    dashboard["panels"].as_array().unwrap().iter()
}

/// Every query with its panel's title; those of variables as PromQL that asks for the same label.
pub(crate) fn queries() -> Vec<(String, String)> {
    let dashboard = dashboard();
    let mut queries = Vec::new();
    for panel in panels(&dashboard) {
        for target in panel["targets"].as_array().into_iter().flatten() {
            queries.push((panel["title"].as_str().unwrap().to_owned(), target["expr"].as_str().unwrap().to_owned()));
        }
    }
    for variable in dashboard["templating"]["list"].as_array().unwrap() {
        if variable["type"] == "query" {
            let query = variable["query"]["query"].as_str().unwrap();
            let inner = query.strip_prefix("label_values(").and_then(|inner| inner.strip_suffix(')')).unwrap();
            let (metric, label) = inner.rsplit_once(", ").unwrap();
            queries.push((format!("variable {}", variable["name"]), format!("count by ({label}) ({metric})")));
        }
    }
    queries
}

#[test]
fn the_dashboard_can_be_brought_into_any_grafana() {
    let dashboard = dashboard();
    assert!(dashboard["schemaVersion"].as_u64().unwrap() >= 36);
    assert_eq!((&dashboard["uid"], &dashboard["id"]), (&"perigee".into(), &Value::Null));
    let variables = dashboard["templating"]["list"].as_array().unwrap();
    let named: Vec<&str> = variables.iter().map(|variable| variable["name"].as_str().unwrap()).collect();
    assert_eq!(named, ["datasource", "job", "tier", "node", "site", "pop"]);
    let rows: Vec<&str> =
        panels(&dashboard).filter(|panel| panel["type"] == "row").map(|row| row["title"].as_str().unwrap()).collect();
    assert_eq!(rows, ["Overview", "Sites", "Cache", "Origins and shields", "DNS", "Nodes"]);
    let mut ids = BTreeSet::new();
    let mut taken = BTreeSet::new();
    for panel in panels(&dashboard) {
        let title = panel["title"].as_str().unwrap();
        assert!(ids.insert(panel["id"].as_u64().unwrap()), "{title}: its id twice");
        let [x, y, w, h] = ["x", "y", "w", "h"].map(|side| panel["gridPos"][side].as_u64().unwrap());
        assert!(x + w <= 24, "{title} is too wide");
        for place in (x..x + w).flat_map(|x| (y..y + h).map(move |y| (x, y))) {
            assert!(taken.insert(place), "{title} lies on another at {place:?}");
        }
        if panel["type"] != "row" {
            assert!(panel["description"].as_str().unwrap().ends_with('.'), "{title} is not explained");
            assert!(!panel["targets"].as_array().unwrap().is_empty(), "{title} asks nothing");
            for place in std::iter::once(panel).chain(panel["targets"].as_array().unwrap()) {
                assert_eq!(place["datasource"]["uid"], "${datasource}", "{title}");
            }
        }
    }
    assert!(queries().len() > 20);
}

#[test]
fn the_provisioning_names_the_folder_that_the_dashboard_is_in() {
    let text = read("deploy/grafana/provisioning.yaml");
    assert!(text.contains("apiVersion: 1") && text.contains("type: file") && text.contains("path: "), "{text}");
}
