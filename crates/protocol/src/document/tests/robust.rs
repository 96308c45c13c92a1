//! Nothing that a file may hold makes the reader panic, or refuse without saying why.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::{EXAMPLE, load};
use crate::{
    document::{Mistakes, policy_from_pairs},
    model::{Document, Pop},
    rdata::{KINDS, RecordData},
};

/// What holds of every refusal.
fn examine(text: &str, mistakes: &Mistakes) {
    assert!(mistakes.iter().count() > 0);
    let lines = text.lines().count().max(1);
    for mistake in mistakes {
        assert!(mistake.line >= 1 && mistake.line <= lines && mistake.column >= 1, "{mistake:?} of {lines}");
        assert!(mistake.law != "cannot be read", "refused without a reason:\n{text}");
        assert!(!mistake.to_string().contains(|c: char| c.is_control() && c != '\n'), "{mistake:?}");
    }
}

fn try_load(text: &str) {
    match load("f", text) {
        Ok(document) => hold_to_promises(&document),
        Err(mistakes) => examine(text, &mistakes),
    }
}

/// What engines rely on without asking, whatever text made the model.
fn hold_to_promises(document: &Document) {
    let known =
        |pops: &[crate::id::PopId]| assert!(pops.iter().all(|pop| document.pop(pop.as_str()).is_some()), "{pops:?}");
    assert!(!document.pops.is_empty() && !document.sites.is_empty());
    assert_eq!(document.cdn.zone, document.cdn.zone.to_ascii_lowercase());
    assert!(document.cdn.apex_site.iter().all(|site| document.site(site.as_str()).is_some()));
    let addresses: Vec<_> = document.pops.iter().flat_map(Pop::addresses).collect();
    assert_eq!(addresses.iter().collect::<BTreeSet<_>>().len(), addresses.len());
    for pop in &document.pops {
        assert!(pop.nodes.iter().all(|node| !node.addresses.is_empty()) && !pop.nodes.is_empty());
        assert!(pop.health.timeout < pop.health.interval && pop.health.rise >= 1 && pop.health.fall >= 1);
        assert!(pop.location.latitude.abs() <= 90.0 && pop.location.longitude.abs() <= 180.0);
        assert!(!pop.fallback.contains(&pop.id));
        known(&pop.fallback);
    }
    document.shields.iter().for_each(|shield| known(&shield.pops));
    document.geo.steering.fence.values().for_each(|pops| known(pops));
    let hosts: Vec<_> = document.sites.iter().flat_map(|site| document.site_hosts(site)).collect();
    assert_eq!(hosts.iter().collect::<BTreeSet<_>>().len(), hosts.len(), "{hosts:?}");
    for site in &document.sites {
        assert!(
            site.origins.iter().any(|origin| !origin.backup) && site.origins.iter().all(|origin| origin.weight >= 1)
        );
        site.pops.iter().for_each(|pops| known(pops));
    }
    for record in &document.records {
        assert!(
            record.name == document.cdn.zone || record.name.ends_with(&format!(".{}", document.cdn.zone)),
            "{record:?}"
        );
        let read = |value: &String| RecordData::parse(&record.kind, value, &document.cdn.zone).is_ok();
        assert!(!record.values.is_empty() && record.values.iter().all(read), "{record:?}");
    }
}

/// The example with a few pieces taken out, doubled, or replaced by others of it or by something hostile.
fn mutated() -> impl Strategy<Value = String> {
    const HOSTILE: [&str; 20] = [
        "",
        "\"",
        "'",
        "[",
        "]",
        "[[",
        "{",
        "}",
        "=",
        ".",
        ",",
        "#",
        "\n",
        "\u{0}",
        "é",
        "-1",
        "nan",
        "[]",
        "{}",
        "99999999999999999999",
    ];
    let pieces: Vec<String> = EXAMPLE.split_inclusive(|c: char| !c.is_alphanumeric()).map(str::to_owned).collect();
    let count = pieces.len();
    let change = (0..count, 0..count, 0..4_u8, proptest::sample::select(&HOSTILE[..]));
    proptest::collection::vec(change, 1..6).prop_map(move |changes| {
        let mut pieces = pieces.clone();
        for (at, other, how, hostile) in changes {
            pieces[at] = match how {
                0 => String::new(),
                1 => pieces[at].repeat(2),
                2 => pieces[other].clone(),
                _ => hostile.to_owned(),
            };
        }
        pieces.concat()
    })
}

/// The example with whole lines dropped, moved or doubled: mostly good TOML, so that the rules are what is tried.
fn relined() -> impl Strategy<Value = String> {
    let lines: Vec<&str> = EXAMPLE.lines().collect();
    let count = lines.len();
    proptest::collection::vec((0..count, 0..count, any::<bool>()), 1..8).prop_map(move |changes| {
        let mut lines = lines.clone();
        for (from, to, double) in changes {
            let line = lines[from];
            if !double {
                lines[from] = "";
            }
            lines[to] = line;
        }
        lines.join("\n")
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn any_text(text in "\\PC{0,200}|[\\[\\]{}=.,\"'#a-z0-9 \n]{0,200}") {
        try_load(&text);
    }

    #[test]
    fn mutated_examples(text in mutated()) {
        try_load(&text);
    }

    #[test]
    fn relined_examples(text in relined()) {
        try_load(&text);
    }

    #[test]
    fn any_pairs(pairs in proptest::collection::vec(("[a-z_.\"]{0,12}|vary_limit|query", "\\PC{0,30}|[\\[\\]{}=,\"a-z0-9#\n]{0,30}"), 0..4)) {
        if let Err(mistakes) = policy_from_pairs(&pairs) {
            assert!(mistakes.iter().all(|mistake| mistake.line <= pairs.len() && mistake.law != "cannot be read"), "{mistakes}");
        }
    }

    #[test]
    fn any_record_data(kind in proptest::sample::select(&KINDS[..]), text in "\\PC{0,40}|[0-9 .a-z\"\\\\]{0,40}") {
        if let Ok(data) = RecordData::parse(kind, &text, "cdn.example") {
            prop_assert_eq!(RecordData::parse(kind, &data.to_string(), "cdn.example"), Ok(data));
        }
    }
}
