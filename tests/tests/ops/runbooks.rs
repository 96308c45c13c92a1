//! `docs/runbooks.md`: a section for each alert, each with the same five answers.

use std::collections::BTreeSet;

use crate::{read, rules};

const ANSWERS: [&str; 5] = ["**Means.**", "**Clients notice.**", "**Look.**", "**Do.**", "**Ends**"];

#[test]
fn every_alert_has_its_section_and_every_section_its_alert() {
    let text = read("docs/runbooks.md");
    let sections: Vec<(&str, &str)> = text
        .split("\n## ")
        .skip(1)
        .map(|section| section.split_once('\n').unwrap())
        .filter(|(name, _)| name.starts_with("Perigee"))
        .collect();
    let alerts: BTreeSet<String> = rules::read_alerts().into_iter().map(|rule| rule.name).collect();
    let described: BTreeSet<String> = sections.iter().map(|(name, _)| (*name).to_owned()).collect();
    assert_eq!(described, alerts);
    assert_eq!(described.len(), sections.len(), "a section twice");
    for (name, section) in sections {
        let places: Vec<Option<usize>> = ANSWERS.iter().map(|answer| section.find(answer)).collect();
        assert!(places.is_sorted() && places.iter().all(Option::is_some), "{name} answers {ANSWERS:?} in this order");
    }
}
