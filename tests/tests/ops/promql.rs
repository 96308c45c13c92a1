//! Enough of PromQL to find what an expression speaks of. Whether it is well-formed, promtool says.

use std::collections::BTreeSet;

use crate::{families::Known, labels};

/// What an expression speaks of.
#[derive(Debug, Default, PartialEq, Eq)]
struct Spoken {
    selectors: Vec<Selector>,
    /// Of `by`, `on` and their like.
    grouped: BTreeSet<String>,
}

#[derive(Debug, PartialEq, Eq)]
struct Selector {
    metric: String,
    /// Label, operator, value.
    matchers: Vec<(String, String, String)>,
}

const GROUPING: [&str; 6] = ["by", "without", "on", "ignoring", "group_left", "group_right"];
const WORDS: [&str; 7] = ["and", "or", "unless", "bool", "offset", "Inf", "NaN"];
const AGGREGATIONS: [&str; 8] = ["sum", "min", "max", "avg", "count", "topk", "bottomk", "quantile"];

/// Metrics, labels and values in it that nobody exports.
pub(crate) fn mistakes(expr: &str, known: &Known) -> std::vec::IntoIter<String> {
    let spoken = read(expr);
    let mut mistakes = Vec::new();
    let mut labels_of_all = BTreeSet::new();
    for Selector { metric, matchers } in &spoken.selectors {
        let Some((family, labels)) = known.get(metric) else {
            mistakes.push(format!("nobody exports {metric}"));
            continue;
        };
        labels_of_all.extend(labels.iter().cloned());
        for (label, operator, value) in matchers {
            if !labels.contains(label) {
                mistakes.push(format!("{metric} has no label {label}"));
            } else if let Some(label) = family.as_ref().and_then(|family| labels::of(family, label)) {
                mistakes
                    .extend(bad_values(label, operator, value).map(|bad| format!("{metric}: {}={bad:?}", label.name)));
            }
        }
    }
    if spoken.selectors.is_empty() {
        mistakes.push("speaks of no metric".into());
    } else {
        let strange = spoken.grouped.difference(&labels_of_all);
        mistakes.extend(strange.map(|label| format!("no metric in it has the label {label}")));
    }
    mistakes.into_iter()
}

/// Words of a matcher that a closed label never has. A variable of Grafana can be anything.
fn bad_values<'a>(label: &'a labels::Label, operator: &str, value: &'a str) -> impl Iterator<Item = &'a str> {
    let words = if operator.ends_with('~') { value.split('|').collect() } else { vec![value] };
    words.into_iter().filter(move |word| {
        let labels::Values::Words(allowed) = label.values else { return false };
        match word.strip_suffix(".*") {
            _ if word.starts_with('$') || word.is_empty() => false,
            Some(start) => !allowed.iter().any(|word| word.starts_with(start)),
            None => !allowed.contains(word),
        }
    })
}

fn read(expr: &str) -> Spoken {
    let mut spoken = Spoken::default();
    let mut rest = expr.trim_start();
    while let Some(first) = rest.chars().next() {
        if first.is_ascii_alphabetic() || "_:".contains(first) {
            let (word, after) = take(rest, |c| c.is_ascii_alphanumeric() || "_:".contains(c));
            let after = after.trim_start();
            rest = after;
            if GROUPING.contains(&word) {
                let (labels, after) =
                    after.strip_prefix('(').and_then(|inner| inner.split_once(')')).unwrap_or(("", after));
                let labels = labels.split(',').map(str::trim).filter(|label| !label.is_empty());
                spoken.grouped.extend(labels.map(str::to_owned));
                rest = after;
            } else if !(after.starts_with('(') || WORDS.contains(&word) || AGGREGATIONS.contains(&word)) {
                let inner = after.strip_prefix('{').and_then(|inner| inner.split_once('}'));
                let (matchers, after) = inner.unwrap_or(("", after));
                spoken.selectors.push(Selector { metric: word.to_owned(), matchers: read_matchers(matchers) });
                rest = after;
            }
        } else if first.is_ascii_digit() {
            rest = take(rest, |c| c.is_ascii_alphanumeric() || c == '.').1;
        } else if first == '[' {
            rest = rest.split_once(']').map_or("", |(_, after)| after);
        } else if first == '"' {
            // The strings of label_replace and its like.
            rest = rest.get(1..).and_then(|inner| inner.split_once('"')).map_or("", |(_, after)| after);
        } else {
            rest = rest.get(first.len_utf8()..).unwrap_or_default();
        }
        rest = rest.trim_start();
    }
    spoken
}

/// `label="value",other=~"…"`; no value of ours has a quotation mark or a brace.
fn read_matchers(text: &str) -> Vec<(String, String, String)> {
    let mut matchers = Vec::new();
    let mut rest = text;
    while let Some((left, after)) = rest.split_once('"') {
        let Some((value, after)) = after.split_once('"') else { break };
        let (label, operator) =
            take(left.trim().trim_start_matches(',').trim(), |c| c.is_ascii_alphanumeric() || c == '_');
        matchers.push((label.to_owned(), operator.trim().to_owned(), value.to_owned()));
        rest = after;
    }
    matchers
}

fn take(text: &str, is_part: impl Fn(char) -> bool) -> (&str, &str) {
    text.split_at(text.find(|c| !is_part(c)).unwrap_or(text.len()))
}

#[test]
fn what_is_spoken_of_is_found() {
    let spoken = read(
        "sum by (node, tier) (rate(a_total{x=\"1\", y!~\"b|c.*\"}[5m] offset 1h)) / on (node) group_left () max(b:c) > 2 * 86400 \
         and time() - up unless d{} == 0",
    );
    let matcher = |parts: [&str; 3]| parts.map(str::to_owned).into();
    let selector = |metric: &str, matchers: Vec<(String, String, String)>| Selector { metric: metric.into(), matchers };
    let matchers = vec![matcher(["x", "=", "1"]), matcher(["y", "!~", "b|c.*"])];
    let others = ["b:c", "up", "d"].map(|metric| selector(metric, Vec::new()));
    let selectors: Vec<Selector> = std::iter::once(selector("a_total", matchers)).chain(others).collect();
    assert_eq!(spoken, Spoken { selectors, grouped: ["node", "tier"].map(str::to_owned).into() });
}

#[test]
fn what_nobody_exports_is_told() {
    let labels = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
    let known: Known = [
        ("perigee_requests_total".to_owned(), (Some("perigee_requests".to_owned()), labels(&["cache", "node"]))),
        ("a:b".to_owned(), (None, labels(&["node"]))),
    ]
    .into();
    let check =
        |expr: &str, expected: &[&str]| assert_eq!(mistakes(expr, &known).collect::<Vec<_>>(), expected, "{expr}");
    check("rate(perigee_requests_total{cache=\"hit\"}[5m]) / on (node) a:b", &[]);
    check("perigee_requests_total{cache=~\"hit|st.*|$any\"}", &[]);
    check("perigee_requests", &["nobody exports perigee_requests"]);
    check("sum by (pop) (a:b)", &["no metric in it has the label pop"]);
    check("perigee_requests_total{site=\"www\"}", &["perigee_requests_total has no label site"]);
    check(
        "perigee_requests_total{cache=~\"hit|hits|x.*\"}",
        &["perigee_requests_total: cache=\"hits\"", "perigee_requests_total: cache=\"x.*\""],
    );
    check("1 + 2", &["speaks of no metric"]);
}
