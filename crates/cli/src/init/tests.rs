//! What is written loads, is canonical, and says what was answered.

use proptest::prelude::*;

use super::*;

fn args() -> InitArgs {
    InitArgs {
        file: "perigee.toml".into(),
        zone: Some("cdn.example".into()),
        site: "www".into(),
        origin: vec!["http://198.18.0.90:8000".into()],
        pop: vec!["fra=198.18.49.10".parse().unwrap()],
        ..InitArgs::default()
    }
}

fn answered(answers: &str) -> (anyhow::Result<InitArgs>, String) {
    let mut args = InitArgs { site: "www".into(), ..InitArgs::default() };
    let mut said = Vec::new();
    let done = ask::complete(&mut args, &mut answers.as_bytes(), &mut said).map(|()| args);
    (done, String::from_utf8(said).unwrap())
}

#[test]
fn the_document_is_valid_and_canonical() {
    let full = InitArgs {
        name: Some("acme".into()),
        nameserver: vec![
            "ns1.cdn.example=198.18.0.53,2001:db8::53".parse().unwrap(),
            "ns.other.example=198.18.0.54".parse().unwrap(),
        ],
        host: vec!["www.example.com".into(), "example.com".into()],
        pop: vec!["fra=198.18.49.10".parse().unwrap(), "ber=198.18.49.11,2001:db8::11@52.5,13.4".parse().unwrap()],
        shield: vec!["eu=http://198.18.0.80:8080".parse().unwrap(), "us=http://198.18.0.81:8080".parse().unwrap()],
        geo_database: Some("city.mmdb".into()),
        ..args()
    };
    for args in [args(), full.clone()] {
        let text = text::document(&args);
        let document = load("perigee.toml", &text).unwrap_or_else(|mistakes| panic!("{mistakes}\n{text}"));
        assert_eq!((document.pops.len(), document.shields.len()), (args.pop.len(), args.shield.len()));
        assert_eq!(crate::fmt::format("f", &text).unwrap(), text);
        // What stands in comments is a document too.
        let uncommented: String = text
            .lines()
            .map(|line| {
                line.strip_prefix("# ").filter(|line| line.contains(" = ") || line.starts_with('[')).unwrap_or(line)
            })
            .fold(String::new(), |all, line| all + line + "\n");
        assert!(uncommented.len() < text.len());
        load(
            "f",
            &uncommented.replace("ns1.cdn.example\", addresses = [\"198.18.0.53\"] }]", "ns9.other.example\" }]"),
        )
        .unwrap_or_else(|mistakes| panic!("{mistakes}\n{uncommented}"));
    }
    let document = load("f", &text::document(&full)).unwrap();
    assert_eq!((document.cdn.name.as_str(), document.cdn.nameservers.len()), ("acme", 2));
    assert_eq!((document.pops[0].city.as_str(), document.pops[1].location.latitude), ("Frankfurt", 52.5));
}

#[test]
fn places() {
    let check = |text: &str, expected: Option<(f64, f64)>| {
        let read = text.parse::<Place>().map(|place| (place.latitude, place.longitude));
        assert_eq!(read.clone().ok(), expected, "{text}: {read:?}");
    };
    check("fra=203.0.113.1@50.1,8.7", Some((50.1, 8.7)));
    check("x=203.0.113.1,2001:db8::1@-33.8,151", Some((-33.8, 151.0)));
    check("x=203.0.113.1@Sao Paulo", Some((-23.55, -46.63)));
    check("x=203.0.113.1@são paulo", Some((-23.55, -46.63)));
    check("x=203.0.113.1@TYO", Some((35.68, 139.69)));
    check("tyo=203.0.113.1", Some((35.68, 139.69)));
    for bad in ["", "fra", "fra=", "fra=x", "ber=203.0.113.1", "ber=203.0.113.1@Atlantis", "ber=203.0.113.1@NaN,1"] {
        check(bad, None);
    }
}

#[test]
fn questions_are_asked_until_the_answer_will_do() {
    let (args, said) = answered(
        "cdn..example\ncdn.example\nftp://x\nhttp://198.18.0.90\n\nber=198.18.49.10\nber=198.18.49.10@52.5,13.4\n\
         lon=198.18.49.10\nlon=198.18.44.10\n\n198.18.0.53,198.18.0.54\n\n",
    );
    let args = args.unwrap();
    assert_eq!(args.zone.as_deref(), Some("cdn.example"));
    assert_eq!(args.pop.iter().map(|pop| pop.id.as_str()).collect::<Vec<_>>(), ["ber", "lon"]);
    assert_eq!(args.nameserver[1], "ns2.cdn.example=198.18.0.54".parse().unwrap());
    for law in ["must be a domain name", "must be http://HOST", "say where it is", "must be unique"] {
        assert!(said.contains(law), "{law} is not in {said}");
    }
    load("f", &text::document(&args)).unwrap();
}

#[test]
fn answers_that_never_come_end_the_questions() {
    assert!(answered("").0.unwrap_err().to_string().contains("the answers end"));
    assert!(answered(&"no zone\n".repeat(10)).0.unwrap_err().to_string().contains("no answer that will do"));
}

#[test]
fn what_is_missing_is_named() {
    assert_eq!(missing(&InitArgs::default()), ["--zone", "--origin", "--pop"]);
    assert_eq!(missing(&args()), [""; 0]);
}

/// Some of what a flag may say, each once, in any order.
fn some<T: FromStr<Err: std::fmt::Debug> + Clone + std::fmt::Debug>(
    all: &'static [&'static str],
) -> impl Strategy<Value = Vec<T>> {
    proptest::sample::subsequence(all, 0..=all.len())
        .prop_shuffle()
        .prop_map(|texts| texts.into_iter().map(|text| text.parse().unwrap()).collect())
}

proptest! {
    /// Whatever is left out or given several times, the document is valid, canonical, and says it.
    #[test]
    fn flags_in_every_combination(
        (name, site) in (proptest::option::of("[a-z][a-z0-9-]{0,10}[a-z]"), "[a-z][a-z0-9]{0,20}"),
        nameserver in some::<Named>(
            &["ns1.cdn.example=198.18.0.53", "ns2.cdn.example=198.18.0.54,2001:db8::54", "ns.other.example=198.18.0.55"],
        ),
        origin in some::<String>(&["http://198.18.0.90:8000", "https://origin.example.com", "http://[2001:db8::90]:81"]),
        host in some::<String>(&["www.example.com", "example.com", "static.example.net"]),
        pop in some::<Place>(
            &["fra=198.18.49.10", "ber=198.18.49.11,2001:db8::11@52.5,13.4", "x=2001:db8::12@-90,180", "far=198.18.61.1@Sydney"],
        ),
        shield in some::<Link>(&["eu=http://198.18.0.80:8080", "us=https://shield.example.com"]),
        geo_database in proptest::option::of(Just(PathBuf::from("a \"b\"/city.mmdb"))),
    ) {
        prop_assume!(!origin.is_empty() && !pop.is_empty());
        let args = InitArgs { name, site, nameserver, origin, host, pop, shield, geo_database, ..args() };
        let text = text::document(&args);
        let document = load("f", &text).map_err(|mistakes| TestCaseError::fail(format!("{mistakes}\n{text}")))?;
        prop_assert_eq!(crate::fmt::format("f", &text).unwrap(), &*text);
        let site = &document.sites[0];
        prop_assert_eq!((document.pops.len(), document.shields.len()), (args.pop.len(), args.shield.len()));
        prop_assert_eq!((site.origins.len(), site.hosts.len()), (args.origin.len(), args.host.len()));
        prop_assert_eq!(document.cdn.nameservers.len(), args.nameserver.len());
        prop_assert!(text::next_steps(&args).lines().count() >= 3 + args.pop.len() + args.shield.len());
    }

    /// No answer can write anything but its own value.
    #[test]
    fn answers_stay_strings(answer in "\\PC{0,20}|[\"\\\\\n#\\[\\]=a-z.]{0,20}") {
        let args = InitArgs {
            zone: Some(answer.clone()),
            name: Some(answer.clone()),
            host: vec![answer.clone()],
            origin: vec![answer.clone()],
            site: answer.clone(),
            geo_database: Some(answer.clone().into()),
            ..args()
        };
        let text = text::document(&args);
        if !answer.contains(['\n', '\r']) {
            let table: toml::Table = toml::from_str(&text).map_err(|error| TestCaseError::fail(format!("{error}\n{text}")))?;
            prop_assert_eq!(table["cdn"]["zone"].as_str(), Some(&*answer));
            prop_assert_eq!(table["site"][0]["hosts"][0].as_str(), Some(&*answer));
            prop_assert_eq!(table["geo"]["database"].as_str(), Some(&*answer));
        }
    }
}

#[test]
fn next_steps_can_be_copied_into_a_shell() {
    let check = |file: &str, expected: &str| {
        let text = text::next_steps(&InitArgs { file: file.into(), ..args() });
        assert!(text.contains(&format!("perigee-edge --document {expected} --pop fra\n")), "{text}");
    };
    check("perigee.toml", "perigee.toml");
    check("/etc/perigee/perigee.toml", "/etc/perigee/perigee.toml");
    check("a b.toml", "'a b.toml'");
    check("it's $HOME.toml", r"'it'\''s $HOME.toml'");
}
