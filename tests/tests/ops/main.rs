//! What operators watch: the metrics that the real binaries export, the page that describes them, and the rules and the dashboard
//! of `deploy/`, which must not speak of metrics and labels that nobody exports.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on says where")]

mod dashboard;
mod families;
mod labels;
mod promql;
mod promtool;
mod reference;
mod rules;
mod runbooks;
mod tiers;

use std::{fs, path::PathBuf};

use families::Exported;
use perigee_tests::installed;

/// A file of the repository.
fn at(path: &str) -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/..")).join(path)
}

fn read(path: &str) -> String {
    fs::read_to_string(at(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// One fleet for all that compares with what is exported: it takes seconds to start.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_exported_is_described_and_what_is_watched_is_exported() {
    let texts = tiers::texts().await;
    if installed("promtool") {
        texts.iter().for_each(|(tier, text)| promtool::check_metrics(tier, &text.plain));
    }
    let exported = Exported::of(&texts);
    let mut mistakes = exported.mistakes();
    mistakes.extend(reference::not_exported(&exported));
    mistakes.extend(reference::named_in_pages(&exported));

    let rules = rules::read_rules();
    let known = exported.with_recorded(&rules);
    for rule in &rules {
        mistakes.extend(promql::mistakes(&rule.expr, &known).map(|what| format!("rules.yml: {}: {what}", rule.name)));
    }
    for (panel, expr) in dashboard::queries() {
        mistakes.extend(promql::mistakes(&expr, &known).map(|what| format!("perigee.json: {panel}: {what}")));
    }
    mistakes.extend(reference::write_or_compare(&exported));
    assert!(mistakes.is_empty(), "\n{}", mistakes.join("\n"));
}
