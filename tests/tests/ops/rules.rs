//! `deploy/prometheus/rules.yml`, read line by line: the file keeps to one form, and `promtool` knows the others.

use std::collections::BTreeMap;

use crate::read;

/// A rule that records, or an alert.
#[derive(Debug, Default)]
pub(crate) struct Rule {
    pub(crate) name: String,
    pub(crate) is_recorded: bool,
    pub(crate) expr: String,
    /// Whatever else stands there in one line, by key.
    pub(crate) says: BTreeMap<String, String>,
}

pub(crate) fn read_alerts() -> Vec<Rule> {
    read_rules().into_iter().filter(|rule| !rule.is_recorded).collect()
}

pub(crate) fn read_rules() -> Vec<Rule> {
    of(&read("deploy/prometheus/rules.yml"))
}

fn of(text: &str) -> Vec<Rule> {
    let mut rules: Vec<Rule> = Vec::new();
    // How far the key of the folded text is in.
    let mut folded: Option<usize> = None;
    for line in text.lines() {
        let content = line.trim_start();
        let indent = line.len() - content.len();
        if let (Some(key), Some(rule)) = (folded, rules.last_mut())
            && indent > key
        {
            rule.expr.push_str(content);
            rule.expr.push(' ');
            continue;
        }
        folded = None;
        let Some((key, value)) = content.split_once(": ").filter(|_| !content.starts_with('#')) else { continue };
        match (key, rules.last_mut()) {
            ("- record" | "- alert", _) => {
                rules.push(Rule { name: value.to_owned(), is_recorded: key == "- record", ..Rule::default() })
            }
            ("expr", Some(_)) if value == ">-" => folded = Some(indent),
            ("expr", Some(rule)) => rule.expr = value.to_owned(),
            (_, Some(rule)) => drop(rule.says.insert(key.to_owned(), value.to_owned())),
            (_, None) => {}
        }
    }
    rules
}

#[test]
fn one_form_is_read_whole() {
    let text = "\
groups:
  - name: a
    rules:
      # One.
      - record: a:b
        expr: sum by (x) (b)
      - alert: C
        expr: >-
          b
          > 1
        for: 2m
        labels: { severity: critical }
        annotations:
          summary: It says: so
";
    let rules = of(text);
    assert_eq!(rules.len(), 2);
    assert_eq!((rules[0].name.as_str(), rules[0].is_recorded, rules[0].expr.as_str()), ("a:b", true, "sum by (x) (b)"));
    assert_eq!((rules[1].name.as_str(), rules[1].is_recorded, rules[1].expr.as_str()), ("C", false, "b > 1 "));
    assert_eq!(rules[1].says["summary"], "It says: so");
}

#[test]
fn every_alert_says_what_there_is_to_know_and_is_tested_both_ways() {
    let tests = read("deploy/prometheus/rules.test.yml");
    let alerts = read_alerts();
    assert!(alerts.len() >= 25, "{}", alerts.len());
    for Rule { name, says, .. } in &alerts {
        let said = |key: &str| says.get(key).unwrap_or_else(|| panic!("{name} has no {key}"));
        assert!(["{ severity: critical }", "{ severity: warning }"].contains(&said("labels").as_str()), "{name}");
        assert!(!said("summary").ends_with('.') && said("summary").len() > 10, "{name}: a title of a few words");
        assert!(said("description").contains("{{ $labels.") && said("description").ends_with('.'), "{name}");
        assert_eq!(*said("runbook_url"), format!("docs/runbooks.md#{}", name.to_lowercase()));
        assert!(
            tests.contains(&format!("alertname: {name}, exp_alerts: [] }}")),
            "{name} is never silent in the tests"
        );
        assert!(
            tests.contains(&format!("alertname: {name}\n        exp_alerts:\n          - exp_labels:")),
            "{name} never fires in the tests"
        );
    }
}
