//! What Prometheus' own tool says of our text and files.

use std::{
    io::Write,
    process::{Command, Stdio},
};

use perigee_tests::installed;

use crate::{at, dashboard};

fn run(arguments: &[&str], input: &str) {
    let mut child = Command::new("promtool")
        .args(arguments)
        .current_dir(at("deploy/prometheus"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let ended = child.wait_with_output().unwrap();
    let said = format!("{}{}", String::from_utf8_lossy(&ended.stdout), String::from_utf8_lossy(&ended.stderr));
    assert!(ended.status.success(), "promtool {arguments:?}:\n{said}");
}

/// Names, units and help as Prometheus wants them.
pub(crate) fn check_metrics(tier: &str, plain: &str) {
    assert!(plain.contains(&format!("tier=\"{tier}\"")), "{plain}");
    run(&["check", "metrics"], plain);
}

#[test]
fn configuration_and_rules_are_good() {
    if installed("promtool") {
        run(&["check", "config", "prometheus.yml"], "");
        run(&["check", "rules", "rules.yml"], "");
    }
}

#[test]
fn every_alert_fires_when_it_should_and_only_then() {
    if installed("promtool") {
        run(&["test", "rules", "rules.test.yml"], "");
    }
}

/// Grafana's queries as rules, with something in place of its variables: promtool reads PromQL, the reader of these tests does not.
#[test]
fn the_dashboards_queries_are_promql() {
    if !installed("promtool") {
        return;
    }
    let mut rules = String::from("groups:\n  - name: dashboard\n    rules:\n");
    for (number, (_, expr)) in dashboard::queries().iter().enumerate() {
        let expr = expr.replace("$__rate_interval", "5m").replace("$__range", "1h").replace('\'', "''");
        rules.push_str(&format!("      - record: panel:{number}\n        expr: '{expr}'\n"));
    }
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), rules).unwrap();
    run(&["check", "rules", file.path().to_str().unwrap()], "");
}
