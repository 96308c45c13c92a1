//! OpenMetrics' text, read: which families there are, in which tiers, with which labels.

use std::collections::{BTreeMap, BTreeSet};

use crate::{labels, rules::Rule, tiers::Text};

/// One family, joined over the tiers that export it.
#[derive(Debug, Default)]
pub(crate) struct Family {
    pub(crate) kind: String,
    pub(crate) help: String,
    pub(crate) tiers: BTreeSet<&'static str>,
    /// By their names, endings included.
    pub(crate) samples: BTreeSet<String>,
    /// With the values that were seen.
    pub(crate) labels: BTreeMap<String, BTreeSet<String>>,
}

/// All that the tiers export, by the families' names without endings.
#[derive(Debug, Default)]
pub(crate) struct Exported(pub(crate) BTreeMap<String, Family>);

/// What an expression may speak of: labels by sample. `None`: recorded, with those labels and any values.
pub(crate) type Known = BTreeMap<String, (Option<String>, BTreeSet<String>)>;

/// Labels that Prometheus adds itself.
pub(crate) const TARGET_LABELS: [&str; 2] = ["job", "instance"];

impl Exported {
    pub(crate) fn of(texts: &[(&'static str, Text)]) -> Self {
        let mut exported = Self::default();
        for (tier, text) in texts {
            exported.read(tier, &text.open);
        }
        exported
    }

    fn read(&mut self, tier: &'static str, text: &str) {
        let mut name = String::new();
        for line in text.lines() {
            if let Some(comment) = line.strip_prefix("# HELP ") {
                let (of, help) = comment.split_once(' ').unwrap();
                let family = self.0.entry(of.to_owned()).or_default();
                assert!(family.help.is_empty() || family.help == help, "{of}: {help} and {}", family.help);
                family.help = help.to_owned();
            } else if let Some(comment) = line.strip_prefix("# TYPE ") {
                let (of, kind) = comment.split_once(' ').unwrap();
                name = of.to_owned();
                let family = self.0.entry(name.clone()).or_default();
                assert!(family.kind.is_empty() || family.kind == kind, "{of}: {kind} and {}", family.kind);
                family.kind = kind.to_owned();
            } else if !line.starts_with('#') {
                let family = self.0.get_mut(&name).unwrap_or_else(|| panic!("no TYPE before {line}"));
                family.tiers.insert(tier);
                family.add(line);
            }
        }
        // Of a family without a sample nothing is known but its name.
        self.0.retain(|_, family| !family.samples.is_empty());
    }

    /// What is not as it should be, whoever reads it.
    pub(crate) fn mistakes(&self) -> Vec<String> {
        let mut mistakes = Vec::new();
        for (name, family) in &self.0 {
            let mut wrong = |what: &str| mistakes.push(format!("{name}: {what}"));
            if !(family.help.ends_with('.') && family.help.split(' ').count() >= 3) {
                wrong(&format!("its help is no sentence: {:?}", family.help));
            }
            for (label, seen) in &family.labels {
                match labels::of(name, label) {
                    None => wrong(&format!("nothing describes its label {label} (tests/tests/ops/labels.rs)")),
                    Some(described) => {
                        for value in seen.iter().filter(|value| !described.values.allow(value)) {
                            wrong(&format!("{label}={value:?} is none of the described values"));
                        }
                    }
                }
            }
        }
        mistakes
    }

    /// With what the rules record.
    pub(crate) fn with_recorded(&self, rules: &[Rule]) -> Known {
        let mut known = Known::new();
        let target = TARGET_LABELS.map(str::to_owned);
        known.insert("up".into(), (None, target.iter().cloned().collect()));
        for (name, family) in &self.0 {
            let labels: BTreeSet<String> = family.labels.keys().chain(&target).cloned().collect();
            for sample in &family.samples {
                known.insert(sample.clone(), (Some(name.clone()), labels.clone()));
            }
        }
        for rule in rules.iter().filter(|rule| rule.is_recorded) {
            // All that is recorded here is a sum by labels.
            let by = rule.expr.split_once("by (").unwrap().1.split_once(')').unwrap().0;
            known.insert(rule.name.clone(), (None, by.split(',').map(|label| label.trim().to_owned()).collect()));
        }
        known
    }
}

impl Family {
    fn add(&mut self, line: &str) {
        let (name, rest) = line.split_once('{').unwrap_or_else(|| panic!("no label: {line}"));
        self.samples.insert(name.to_owned());
        let mut rest = rest;
        while let Some((label, after)) = rest.split_once("=\"") {
            // No value of ours has a quotation mark or a backslash.
            let (value, after) = after.split_once('"').unwrap();
            self.labels.entry(label.to_owned()).or_default().insert(value.to_owned());
            rest = after.strip_prefix(',').unwrap_or("");
        }
    }
}
