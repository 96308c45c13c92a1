//! The JSON Schema, as a validator that is not ours reads it.

use std::sync::LazyLock;

use jsonschema::Validator;
use proptest::prelude::*;
use toml::Table;

use super::cases::{cases, keys, with};
use crate::document::{keys::schema, load};

static VALIDATOR: LazyLock<Validator> = LazyLock::new(|| {
    let schema: serde_json::Value = serde_json::from_str(&schema()).unwrap();
    assert!(jsonschema::meta::is_valid(&schema));
    jsonschema::draft202012::new(&schema).unwrap()
});

const EXAMPLES: [(&str, &str); 3] = [
    ("example", include_str!("../../../../../../deploy/example.toml")),
    ("cdn", include_str!("../../../../../../deploy/cdn.toml")),
    ("rules", include_str!("../../../../../../deploy/rules.toml")),
];

/// What the schema says against a document.
fn refusals(document: &Table) -> Vec<String> {
    let document = serde_json::to_value(document).unwrap();
    VALIDATOR.iter_errors(&document).map(|error| format!("{}: {error}", error.instance_path())).collect()
}

fn refusals_of(text: &str) -> Vec<String> {
    refusals(&toml::from_str(text).unwrap())
}

#[test]
fn examples_are_valid() {
    for (name, text) in EXAMPLES {
        assert_eq!(refusals_of(text), [""; 0], "{name}");
    }
}

#[test]
fn it_takes_what_the_reader_takes_and_refuses_what_it_can() {
    for (section, key) in keys() {
        for case in cases(&key.kind) {
            let (root, path) = with(&section, key, case.value.clone());
            let shown: String = case.value.to_string().chars().take(200).collect();
            if case.good && load("f", &toml::to_string(&root).unwrap()).is_ok() {
                assert_eq!(refusals(&root), [""; 0], "{path} = {shown}");
            } else if !case.good && case.sayable {
                assert!(!refusals(&root).is_empty(), "{path} = {shown}: the reader refuses it");
            }
        }
    }
}

#[test]
fn keys_that_exclude_or_need_each_other() {
    let small = "[cdn]\nzone = \"a.example\"\n[[site]]\nid = \"www\"\norigins = [{ url = \"http://o\" }]\n";
    let pop = "[[pop]]\nid = \"fra\"\nlatitude = 1\nlongitude = 2\n";
    let check = |text: String, good: bool| {
        assert_eq!((refusals_of(&text).is_empty(), load("f", &text).is_ok()), (good, good), "{text}")
    };
    let addresses = "addresses = [\"10.0.0.1\"]\n";
    let node = "[[pop.node]]\nid = \"a\"\naddresses = [\"10.0.0.2\"]\n";
    check(format!("{small}{pop}{addresses}"), true);
    check(format!("{small}{pop}{node}"), true);
    check(format!("{small}{pop}"), false);
    check(format!("{small}{pop}{addresses}{node}"), false);
    check(small.to_owned(), false);
    let whole = format!("{small}[[site.rule]]\nRULE\n{pop}{addresses}SECTION");
    let rule = |rule: &str, good| check(whole.replace("RULE", rule).replace("SECTION", ""), good);
    rule("match = { path = \"/\" }", true);
    rule("match = {}", false);
    rule("", false);
    rule("match = { path = \"/\" }\nredirect = { to = \"/\" }\nheaders = { remove = [\"A\"] }", true);
    rule("match = { path = \"/\" }\nredirect = { to = \"/\" }\ncache = \"pass\"", false);
    rule("match = { path = \"/\" }\nredirect = { to = \"/\" }\nrequest_headers = { remove = [\"A\"] }", false);
    let section = |section: &str, good| {
        check(whole.replace("RULE", "match = { path = \"/\" }").replace("SECTION", section), good)
    };
    section("[control]\n", true);
    section("[control]\nengine = \"nats\"", false);
    section("[control]\nengine = \"nats\"\nurl = \"nats://a\"", true);
    section("[control]\nurl = \"nats://a\"", false);
    section("[control]\nengine = \"embedded\"\ncredentials = \"a\"", false);
    section("[[geo.override]]\nprefixes = [\"10.0.0.0/8\"]\npop = \"fra\"", true);
    section(
        "[[geo.override]]\nprefixes = [\"10.0.0.0/8\"]\npop = \"fra\"\nlocation = { latitude = 1, longitude = 1 }",
        false,
    );
    section("[[geo.override]]\nprefixes = [\"10.0.0.0/8\"]", false);
    section("[colour]", false);
}

/// An example with lines dropped, moved or doubled.
fn relined() -> impl Strategy<Value = String> {
    let lines: Vec<&str> = EXAMPLES[0].1.lines().collect();
    let count = lines.len();
    proptest::collection::vec((0..count, 0..count, any::<bool>()), 1..4).prop_map(move |changes| {
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

/// Editors' plugins have read schemas as drafts of all ages: this one means the same to those of draft-07.
#[test]
fn older_readers_say_the_same() {
    let mut schema: serde_json::Value = serde_json::from_str(&schema()).unwrap();
    schema["$schema"] = "http://json-schema.org/draft-07/schema#".into();
    assert!(jsonschema::meta::is_valid(&schema));
    let older = jsonschema::draft7::new(&schema).unwrap();
    let check = |document: &Table, what: &str| {
        let document = serde_json::to_value(document).unwrap();
        assert_eq!(older.is_valid(&document), VALIDATOR.is_valid(&document), "{what}");
    };
    for (name, text) in EXAMPLES {
        check(&toml::from_str(text).unwrap(), name);
    }
    for (section, key) in keys() {
        for case in cases(&key.kind) {
            let (root, path) = with(&section, key, case.value.clone());
            check(&root, &path);
        }
    }
}

proptest! {
    #[test]
    fn nothing_that_loads_is_refused(text in relined()) {
        if load("f", &text).is_ok() {
            prop_assert_eq!(refusals_of(&text), [""; 0], "{}", text);
        }
    }
}
