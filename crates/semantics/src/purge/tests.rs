use perigee_protocol::{
    id::SiteId,
    model::{CachePolicy, Scheme},
};
use proptest::prelude::*;

use super::*;
use crate::{
    key::CacheKey,
    policy::{Policy, Tier},
    tags,
    time::Timestamp,
};

const SEED: u64 = 7;

fn site(name: &str) -> SiteId {
    name.parse().unwrap()
}

fn key_of(scheme: Scheme, site_name: &str, authority: &str, target: &str) -> CacheKey {
    let cache = CachePolicy::default();
    let policy = Policy { cache: &cache, rule: None, tier: Tier::Edge };
    let (path, query) = target.split_once('?').map_or((target, None), |(path, query)| (path, Some(query)));
    CacheKey::new(&site(site_name), scheme, authority, path, query, &policy)
}

/// `everything`, `site www`, `url www a.example/x?y`, `prefix www /img`, `prefix www a.example/img`, `tag www red`.
fn scope(text: &str) -> Scope {
    let mut words = text.splitn(3, ' ');
    let (what, of, rest) = (words.next().unwrap(), words.next().unwrap_or(""), words.next().unwrap_or(""));
    let split = || rest.split_at(rest.find('/').expect("a path"));
    match what {
        "everything" => Scope::Everything,
        "site" => Scope::Site(site(of)),
        "url" => Scope::Url { site: site(of), authority: split().0.into(), target: split().1.into() },
        "prefix" => {
            let (authority, path) = split();
            let authority = (!authority.is_empty()).then(|| authority.into());
            Scope::Prefix { site: site(of), authority, path: path.into() }
        }
        "tag" => Scope::Tag { site: site(of), tag: rest.into() },
        "group" => {
            let (authority, group) = rest.split_once(' ').expect("authority and group");
            Scope::Group { site: site(of), authority: authority.into(), group: group.into() }
        }
        other => panic!("no scope: {other}"),
    }
}

fn boxed(list: &[&str]) -> Vec<Box<str>> {
    list.iter().map(|tag| Box::from(*tag)).collect()
}

fn apply(ledger: &mut Ledger, kind: Kind, scopes: &[&str]) -> Seq {
    let seq = ledger.applied().next();
    let targets: Vec<Target> = scopes.iter().map(|text| scope(text).target(SEED)).collect();
    ledger.apply(seq, kind, &targets);
    seq
}

/// What one hard purge does to a response that came before it, and to one that came after.
fn check(purged: &str, key: &CacheKey, tagged: &[&str], expected: Option<&str>) {
    for (kind, prefix) in [(Kind::Hard, ""), (Kind::Soft, "soft-")] {
        let mut ledger = Ledger::default();
        let before = ledger.applied();
        let after = apply(&mut ledger, kind, &[purged]);
        let tags = boxed(tagged);
        for key in [key.clone(), key.variant(9), key.clone().with_parts(b"device\0mobile")] {
            let subject = Subject::new(&key, &tags, SEED).unwrap();
            let found = ledger.verdict(subject, before).reason().map(str::to_owned);
            assert_eq!(found, expected.map(|word| format!("{prefix}{word}")), "{purged} against {key} {tagged:?}");
            assert_eq!(ledger.verdict(subject, after), Verdict::Clean, "{purged} against a later {key}");
        }
    }
}

#[test]
fn rule_1_reuse_only_if_no_matching_purge_is_above_the_fence() {
    let page = key_of(Scheme::Http, "www", "A.example:80", "/img/x.png?v=1");
    let secure = key_of(Scheme::Https, "www", "a.example", "/img/x.png?v=1");
    for key in [&page, &secure] {
        check("everything", key, &[], Some("purged-all"));
        check("site www", key, &[], Some("purged-by-site"));
        check("site shop", key, &[], None);
        check("url www a.example/img/x.png?v=1", key, &[], Some("purged-by-url"));
        check("url www A.EXAMPLE/img/x.png?v=1", key, &[], Some("purged-by-url"));
        check("url www a.example/img/x.png", key, &[], None);
        check("url www a.example/img/x.png?v=2", key, &[], None);
        check("url www b.example/img/x.png?v=1", key, &[], None);
        check("url shop a.example/img/x.png?v=1", key, &[], None);
        check("prefix www /", key, &[], Some("purged-by-prefix"));
        check("prefix www /im", key, &[], Some("purged-by-prefix"));
        check("prefix www /img/x.png", key, &[], Some("purged-by-prefix"));
        check("prefix www a.example/img/", key, &[], Some("purged-by-prefix"));
        check("prefix www b.example/img/", key, &[], None);
        check("prefix www /img/x.png?", key, &[], None);
        check("prefix www /css/", key, &[], None);
        check("prefix shop /img/", key, &[], None);
        check("tag www red", key, &["blue", "red"], Some("purged-by-tag"));
        check("tag www red", key, &["blue"], None);
        check("tag www red", key, &[], None);
        check("tag shop red", key, &["red"], None);
        // A group (RFC 9875 §3) is one origin's: a tag of its name is another thing.
        check("group www A.example red", key, &["\u{1}red"], Some("purged-by-tag"));
        check("group www b.example red", key, &["\u{1}red"], None);
        check("group www a.example red", key, &["red"], None);
        check("group www a.example red", key, &["\u{1}blue"], None);
        check("tag www red", key, &["\u{1}red"], None);
        // More surrogate keys than are kept: it may have any.
        check("tag www red", key, &["blue", tags::MORE], Some("purged-by-tag"));
        check("tag shop red", key, &["blue", tags::MORE], None);
    }
}

#[test]
fn a_url_is_purged_in_every_form_in_which_rules_may_key_it() {
    let toml = |more: &str| {
        let text = format!(
            "version = 1\n[cdn]\nname = \"t\"\nzone = \"t.example\"\n[[pop]]\nid = \"a\"\nlatitude = 0\nlongitude = 0\naddresses = [\"198.18.0.1\"]\n\
             [[site]]\nid = \"www\"\nhosts = [\"www.example\"]\norigins = [{{ url = \"http://127.0.0.1:1\" }}]\n{more}"
        );
        let loaded =
            perigee_protocol::document::load("perigee.toml", &text).unwrap_or_else(|mistakes| panic!("{mistakes}"));
        loaded.sites.into_iter().next().unwrap()
    };
    let check = |more: &str, url: &str, expected: &[&str]| {
        let (authority, target) = url.split_at(url.find('/').unwrap());
        let (path, query) = target.split_once('?').map_or((target, None), |(path, query)| (path, Some(query)));
        let found: Vec<String> = Scope::of_url(&toml(more), Scheme::Http, authority, path, query)
            .into_iter()
            .map(|scope| match scope {
                Scope::Url { authority, target, .. } => format!("{authority}{target}"),
                other => panic!("{other}"),
            })
            .collect();
        assert_eq!(found, expected, "{more}");
    };
    check("", "WWW.example:80/a?b=1", &["www.example/a?b=1"]);
    check("", "www.example:8080/a", &["www.example:8080/a"]);
    check("host_header = \"origin.example:81\"\n", "www.example/a?", &["origin.example:81/a?"]);
    let sorted = "[site.cache]\nquery = { drop = [\"utm_*\"], sort = true }\n";
    let rule = "[[site.rule]]\nmatch = { path = \"/x/*\" }\ncache = { ignore_query = true }\n";
    check(sorted, "www.example/a?c=1&utm_x=2&b=3", &["www.example/a?b=3&c=1"]);
    check(&format!("{sorted}{rule}"), "www.example/a?c=1&b=3", &["www.example/a?b=3&c=1", "www.example/a"]);
}

#[test]
fn a_fence_above_the_ledger_is_of_another_ledger() {
    let key = key_of(Scheme::Http, "www", "a", "/");
    let subject = Subject::new(&key, &[], SEED).unwrap();
    let ledger = Ledger::default();
    assert_eq!(ledger.verdict(subject, Seq::ZERO), Verdict::Clean);
    assert_eq!(ledger.verdict(subject, Seq::new(1)).reason(), Some("purge-state-unknown"));
    let ledger = Ledger::unknown_until(Seq::new(9));
    assert_eq!(ledger.verdict(subject, Seq::new(8)).reason(), Some("purged-by-floor"));
    assert_eq!(ledger.verdict(subject, ledger.applied()), Verdict::Clean);
}

#[test]
fn hard_counts_before_soft_and_the_latest_is_named() {
    let key = key_of(Scheme::Http, "www", "a", "/x");
    let tags = boxed(&["t"]);
    let subject = Subject::new(&key, &tags, SEED).unwrap();
    let mut ledger = Ledger::default();
    let first = apply(&mut ledger, Kind::Hard, &["tag www t"]);
    let second = apply(&mut ledger, Kind::Soft, &["url www a/x"]);
    assert_eq!(ledger.verdict(subject, Seq::ZERO), Verdict::Hard(By::Tag, first));
    assert_eq!(ledger.verdict(subject, first), Verdict::Soft(By::Url, second));
    let third = apply(&mut ledger, Kind::Hard, &["prefix www /", "site shop"]);
    assert_eq!(ledger.verdict(subject, Seq::ZERO), Verdict::Hard(By::Prefix, third));
    assert_eq!(ledger.verdict(subject, third), Verdict::Clean);
    // A soft purge takes nothing back of a hard one.
    apply(&mut ledger, Kind::Soft, &["prefix www /"]);
    assert_eq!(ledger.verdict(subject, second), Verdict::Hard(By::Prefix, third));
}

#[test]
fn rule_3_a_flight_without_a_head_may_match_any_tag_of_its_site() {
    let key = key_of(Scheme::Http, "www", "a", "/x");
    let check = |purged: &str, expected: bool| {
        let mut ledger = Ledger::default();
        let seq = apply(&mut ledger, Kind::Hard, &[purged]);
        let subject = Subject::new(&key, &[], SEED).unwrap();
        assert_eq!(ledger.may_match(subject, Seq::ZERO), expected, "{purged}");
        assert!(!ledger.may_match(subject, seq), "{purged} came before the flight");
    };
    check("tag www whichever", true);
    check("tag shop whichever", false);
    check("url www a/x", true);
    check("url www a/y", false);
    check("prefix www /x", true);
    check("prefix www /y", false);
    check("site www", true);
    check("site shop", false);
    check("everything", true);
}

#[test]
fn rule_7_old_entries_fold_into_a_floor_of_their_site() {
    let mut ledger = Ledger::with_entries_max(2);
    let pages = ["/a", "/b", "/c"].map(|path| key_of(Scheme::Http, "www", "h", path));
    let other = key_of(Scheme::Http, "shop", "h", "/a");
    let verdict = |ledger: &Ledger, key: &CacheKey, fence: Seq| {
        ledger.verdict(Subject::new(key, &[], SEED).unwrap(), fence).reason()
    };
    let first = apply(&mut ledger, Kind::Hard, &["url www h/a"]);
    let second = apply(&mut ledger, Kind::Hard, &["url www h/b"]);
    assert_eq!((ledger.entries(), ledger.folds()), (2, 0), "exactly as many are kept");
    assert_eq!(verdict(&ledger, &pages[2], Seq::ZERO), None);
    apply(&mut ledger, Kind::Hard, &["url shop h/z"]);
    assert_eq!((ledger.entries(), ledger.folds()), (2, 1), "one more folds the oldest");
    // Below the floor everything of the site is fetched again, above it nothing, and other sites never.
    assert_eq!(verdict(&ledger, &pages[0], Seq::ZERO), Some("purged-by-floor"));
    assert_eq!(verdict(&ledger, &pages[2], Seq::ZERO), Some("purged-by-floor"));
    assert_eq!(verdict(&ledger, &pages[2], first), None);
    assert_eq!(verdict(&ledger, &pages[1], first), Some("purged-by-url"));
    assert_eq!(verdict(&ledger, &other, Seq::ZERO), None);
    // What is purged again is young again.
    apply(&mut ledger, Kind::Soft, &["url www h/b"]);
    apply(&mut ledger, Kind::Hard, &["url www h/d"]);
    assert_eq!(verdict(&ledger, &other, Seq::ZERO), Some("purged-by-floor"));
    assert_eq!(verdict(&ledger, &pages[1], second), Some("soft-purged-by-url"));
}

#[test]
fn rule_10_local_invalidations_are_hard_and_neither_fold_nor_push_others_out() {
    let (page, other) = (key_of(Scheme::Http, "www", "h", "/a"), key_of(Scheme::Http, "www", "h", "/b"));
    let verdict = |ledger: &Ledger, key: &CacheKey, fence: Seq| {
        ledger.verdict(Subject::new(key, &[], SEED).unwrap(), fence).reason()
    };
    let local = |ledger: &mut Ledger, text: &str| {
        let seq = ledger.applied().next();
        ledger.apply_local(seq, &[scope(text).target(SEED)]);
        seq
    };
    let mut ledger = Ledger::with_entries_max(1);
    let purged = apply(&mut ledger, Kind::Hard, &["url www h/b"]);
    let invalidated = local(&mut ledger, "url www h/a");
    assert_eq!(verdict(&ledger, &page, purged), Some("purged-by-url"));
    assert_eq!(verdict(&ledger, &page, invalidated), None);
    for number in 1..LOCAL_MAX {
        local(&mut ledger, &format!("url www h/{number}"));
    }
    assert_eq!(verdict(&ledger, &page, purged), Some("purged-by-url"), "exactly as many are kept");
    let last = local(&mut ledger, "url www h/last");
    assert_eq!(verdict(&ledger, &page, purged), None, "the oldest is forgotten");
    assert_eq!(verdict(&ledger, &other, Seq::ZERO), Some("purged-by-url"), "what was purged is not");
    assert_eq!((ledger.entries(), ledger.folds()), (LOCAL_MAX + 1, 0));
    // What is purged as well is remembered as such.
    let target = scope("url www h/last").target(SEED);
    ledger.apply(last.next(), Kind::Soft, &[target]);
    let mut bytes = Vec::new();
    ledger.encode(&mut bytes);
    let back = Ledger::decode(&bytes, 1).unwrap();
    let key = key_of(Scheme::Http, "www", "h", "/last");
    assert_eq!(verdict(&back, &key, purged), Some("purged-by-url"));
    assert_eq!(verdict(&back, &key, last), Some("soft-purged-by-url"));
    assert_eq!(verdict(&back, &other, Seq::ZERO), Some("purged-by-floor"), "two purges do not fit one entry");
}

#[test]
fn both_sides_of_every_bound() {
    let distinct = |ledger: &Ledger, of: &str| {
        let key = key_of(Scheme::Http, of, "h", "/never/purged");
        ledger.verdict(Subject::new(&key, &[], SEED).unwrap(), Seq::ZERO).reason()
    };
    let mut ledger = Ledger::default();
    for length in 0..PREFIX_LENGTHS_MAX {
        apply(&mut ledger, Kind::Hard, &[&format!("prefix www /{}", "x".repeat(length + 1))]);
    }
    assert_eq!(distinct(&ledger, "www"), None);
    apply(&mut ledger, Kind::Hard, &["prefix www h/x"]);
    assert_eq!(distinct(&ledger, "www"), Some("purged-by-floor"), "the least used length is folded");
    assert_eq!(ledger.entries(), PREFIX_LENGTHS_MAX);

    let mut ledger = Ledger::default();
    for number in 0..SITES_MAX {
        apply(&mut ledger, Kind::Hard, &[&format!("tag s{number} t")]);
    }
    assert_eq!(distinct(&ledger, "www"), None);
    apply(&mut ledger, Kind::Hard, &["tag onemore t"]);
    assert_eq!(distinct(&ledger, "www"), Some("purged-by-floor"), "the site purged longest ago stands for all");
    assert_eq!(ledger.entries(), SITES_MAX);

    let mut ledger = Ledger::default();
    let targets: Vec<Target> = (0..ENTRIES_MAX).map(|n| scope(&format!("tag www {n}")).target(SEED)).collect();
    ledger.apply(Seq::new(1), Kind::Hard, &targets);
    assert_eq!((ledger.entries(), ledger.folds()), (ENTRIES_MAX, 0));
    apply(&mut ledger, Kind::Hard, &["tag www more"]);
    assert_eq!((ledger.entries(), ledger.folds()), (ENTRIES_MAX, 1));
}

#[test]
fn words() {
    let check = |verdict: Verdict, word: Option<&str>| assert_eq!(verdict.reason(), word);
    check(Verdict::Clean, None);
    check(Verdict::Hard(By::Everything, Seq::ZERO), Some("purged-all"));
    check(Verdict::Soft(By::Everything, Seq::ZERO), Some("soft-purged-all"));
    let show = |text: &str, expected: &str| assert_eq!(scope(text).to_string(), expected);
    show("everything", "everything");
    show("site www", "site www");
    show("url www a.example/x?y", "a.example/x?y of www");
    show("prefix www a.example/x", "a.example/x* of www");
    show("prefix www /x", "/x* of www");
    show("tag www red", "tag red of www");
    show("group www a.example red", "group red of a.example of www");
}

#[test]
fn bytes_that_are_no_key_are_no_subject() {
    for bytes in [&b""[..], b"\0", b"\0www", b"\0www\0http", b"\0www\0http\0host", b"\x01\0\0"] {
        assert!(Subject::new(&CacheKey::from_bytes(bytes), &[], SEED).is_none(), "{bytes:?}");
    }
}

/// The form on disk, byte for byte: changing it needs another version.
#[test]
fn the_stored_form() {
    let mut ledger = Ledger::default();
    ledger.apply(Seq::new(3), Kind::Hard, &[Target::Everything, Target::Site(5), Target::Tag(5, 6)]);
    let mut bytes = Vec::new();
    ledger.encode(&mut bytes);
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    let (three, zero) = ("0300000000000000", "0000000000000000");
    let all = format!("01{three}{zero}{three}{zero}{zero}{zero}");
    let one_site = format!("01000000{}{three}{zero}{zero}{zero}{three}{three}{zero}", "0500000000000000");
    let one_tag = format!("0100000004{}{}{zero}{three}{zero}{zero}00000000", "0500000000000000", "0600000000000000");
    assert_eq!(hex, format!("{all}{one_site}{one_tag}"));

    let purge = Purge {
        seq: Seq::new(3),
        kind: Kind::Hard,
        local: false,
        at: Timestamp::from_millis(1),
        targets: vec![Target::Everything],
        text: "x".into(),
    };
    let mut bytes = Vec::new();
    purge.encode(&mut bytes);
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(hex, format!("{three}01{}01000000780100000000", "0100000000000000"));
    assert_eq!(Purge::decode(&bytes), Ok(purge));
}

#[derive(Clone, Debug)]
enum Op {
    Purge(Kind, Vec<String>),
    Restart,
}

fn any_scope() -> impl Strategy<Value = String> {
    prop_oneof![
        1 => Just("everything".to_owned()),
        2 => "site (www|shop)",
        6 => "url (www|shop) (a|b)/[xy]{1,2}(\\?q)?",
        6 => "prefix (www|shop) (a|b)?/[xy]{0,2}",
        6 => "tag (www|shop) [rgb]",
    ]
}

fn any_op() -> impl Strategy<Value = Op> {
    let purge = (any::<bool>(), proptest::collection::vec(any_scope(), 1..4));
    prop_oneof![
        8 => purge.prop_map(|(soft, scopes)| Op::Purge(if soft { Kind::Soft } else { Kind::Hard }, scopes)),
        1 => Just(Op::Restart),
    ]
}

/// What a response is: site, authority, target, tags.
fn any_response() -> impl Strategy<Value = (String, String, String, Vec<String>)> {
    ("www|shop", "a|b", "/[xy]{1,2}(\\?q)?", proptest::collection::vec("[rgb]", 0..3))
}

/// Whether a scope matches, told without hashes.
fn matches(text: &str, (of, authority, target, tags): &(String, String, String, Vec<String>)) -> bool {
    let path = target.split('?').next().unwrap();
    match scope(text) {
        Scope::Everything => true,
        Scope::Site(site) => site.as_str() == of,
        Scope::Url { site, authority: host, target: url } => {
            site.as_str() == of && host == *authority && url == *target
        }
        Scope::Prefix { site, authority: host, path: prefix } => {
            site.as_str() == of && host.is_none_or(|host| host == *authority) && path.starts_with(&prefix)
        }
        Scope::Tag { site, tag } => site.as_str() == of && tags.contains(&tag),
        Scope::Group { .. } => false,
    }
}

proptest! {
    /// A purge at n hides everything filled before n, for ever, across restarts; and folding never unhides.
    #[test]
    fn what_was_purged_stays_purged(
        ops in proptest::collection::vec(any_op(), 0..30),
        response in any_response(),
        entries_max in 1_usize..12,
    ) {
        let mut ledger = Ledger::with_entries_max(entries_max);
        let mut history: Vec<(Seq, Kind, String)> = Vec::new();
        for op in &ops {
            match op {
                Op::Purge(kind, scopes) => {
                    let scopes: Vec<&str> = scopes.iter().map(String::as_str).collect();
                    let seq = apply(&mut ledger, *kind, &scopes);
                    history.extend(scopes.iter().map(|scope| (seq, *kind, (*scope).to_owned())));
                }
                Op::Restart => {
                    let mut bytes = Vec::new();
                    ledger.encode(&mut bytes);
                    let back = Ledger::decode(&bytes, entries_max).expect("its own form");
                    prop_assert_eq!((back.entries(), back.folds()), (ledger.entries(), ledger.folds()));
                    ledger = back;
                }
            }
            prop_assert!(ledger.entries() <= entries_max);
        }
        let tags: Vec<Box<str>> = response.3.iter().map(|tag| tag.as_str().into()).collect();
        let key = key_of(Scheme::Http, &response.0, &response.1, &response.2);
        let subject = Subject::new(&key, &tags, SEED).unwrap();
        for fence in (0..=ledger.applied().as_u64()).map(Seq::new) {
            let above = || history.iter().filter(|(seq, _, scope)| *seq > fence && matches(scope, &response));
            let expected = above().map(|(_, kind, _)| *kind).max();
            let found = match ledger.verdict(subject, fence) {
                Verdict::Clean => None,
                Verdict::Soft(..) => Some(Kind::Soft),
                Verdict::Hard(..) => Some(Kind::Hard),
            };
            prop_assert!(found >= expected, "at {fence}: {found:?}, and it was {expected:?}");
            if ledger.folds() == 0 {
                prop_assert_eq!(found, expected, "at {}: nothing folded, so nothing else is hidden", fence);
            }
            prop_assert!(found.is_none() || ledger.may_match(subject, fence));
        }
    }

    #[test]
    fn junk_is_refused_without_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        drop(Ledger::decode(&bytes, 4));
        drop(Purge::decode(&bytes));
        let _subject = Subject::new(&CacheKey::from_bytes(&bytes), &[], SEED);
    }
}
