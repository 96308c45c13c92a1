use super::*;

fn said(state: Word) -> Said {
    Said { state, reason: "disks".into(), by: "ops".into(), at_ms: 7 }
}

fn pop(id: &str) -> PopId {
    id.parse().unwrap()
}

fn say(operators: &Operators, id: &str, state: Word) -> BTreeMap<PopId, Operator> {
    let mut obeyed = BTreeMap::new();
    let known = |pop: &PopId| pop.as_str() != "gone";
    operators.say(&pop(id), said(state), known, |operators| obeyed = operators).unwrap();
    assert_eq!(obeyed, operators.in_force());
    obeyed
}

#[test]
fn what_was_said_is_there_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let state = folder.path().join("made").join("here");
    let open = || Operators::open(Some(&state), "ns1").unwrap();
    let operators = open();
    assert_eq!(operators.in_force(), BTreeMap::new());
    say(&operators, "fra", Word::Drain);
    say(&operators, "syd", Word::ForceUp);
    let expected = BTreeMap::from([(pop("fra"), Operator::Drain), (pop("syd"), Operator::ForceUp)]);
    assert_eq!(say(&operators, "gru", Word::Auto), expected);
    let again = open();
    assert_eq!((again.in_force(), again.refusal()), (expected, None));
    assert_eq!(again.of(&pop("fra")), Some(said(Word::Drain)));
    say(&again, "fra", Word::Auto);
    assert_eq!(open().in_force(), BTreeMap::from([(pop("syd"), Operator::ForceUp)]));
}

#[test]
fn without_a_folder_it_lasts_as_long_as_the_process() {
    let operators = Operators::open(None, "ns1").unwrap();
    assert_eq!(say(&operators, "fra", Word::Drain).len(), 1);
    assert_eq!(Operators::open(None, "ns1").unwrap().in_force().len(), 0);
}

#[test]
fn what_was_said_of_pops_that_went_is_forgotten_with_the_next_word() {
    let folder = tempfile::tempdir().unwrap();
    let text = r#"{"version":1,"pops":{"gone":{"state":"drain","by":"ops","at_ms":1}}}"#;
    fs::write(folder.path().join(FILE), text).unwrap();
    let operators = Operators::open(Some(folder.path()), "ns1").unwrap();
    assert_eq!(operators.in_force().len(), 1);
    assert_eq!(say(&operators, "fra", Word::Drain), BTreeMap::from([(pop("fra"), Operator::Drain)]));
}

#[test]
fn a_damaged_file_is_put_aside() {
    let check = |text: &[u8], expected: &str| {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(FILE);
        fs::write(&path, text).unwrap();
        let operators = Operators::open(Some(folder.path()), "ns1").unwrap();
        let refusal = operators.refusal().map(str::to_owned).unwrap_or_default();
        assert!(refusal.contains(expected), "{refusal}");
        assert_eq!(operators.in_force(), BTreeMap::new());
        assert_eq!(fs::read(folder.path().join("pops.json.damaged")).unwrap(), text);
        // And the next word is kept.
        say(&operators, "fra", Word::Drain);
        assert_eq!(Operators::open(Some(folder.path()), "ns1").unwrap().refusal(), None);
    };
    check(b"", "EOF");
    check(b"{\"version\":1,\"pops\":{\"fra\":{\"state\":\"dra", "EOF");
    check(b"{\"version\":2,\"all\":1}", "version 2");
    check(b"{\"version\":1,\"pops\":{\"FRA\":{\"state\":\"drain\",\"by\":\"\",\"at_ms\":1}}}", "a-z");
    check(b"{\"version\":1,\"pops\":{\"fra\":{\"state\":\"down\",\"by\":\"\",\"at_ms\":1}}}", "down");
    check(&vec![b' '; FILE_BYTES_MAX as usize + 1], "longer than");
    let pops: Vec<String> =
        (0..=POPS_MAX).map(|n| format!("\"p{n}\":{{\"state\":\"drain\",\"by\":\"\",\"at_ms\":1}}")).collect();
    check(format!("{{\"version\":1,\"pops\":{{{}}}}}", pops.join(",")).as_bytes(), "1001 PoPs");
}

#[test]
fn a_folder_that_cannot_be_written_to_is_no_state() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    fs::write(&file, "").unwrap();
    let error = Operators::open(Some(&file.join("below")), "ns1").unwrap_err();
    assert!(error.to_string().contains("--state"), "{error}");
}

#[test]
fn what_cannot_be_kept_is_not_in_force() {
    let folder = tempfile::tempdir().unwrap();
    let state = folder.path().join("state");
    let operators = Operators::open(Some(&state), "ns1").unwrap();
    fs::remove_dir(&state).unwrap();
    let result = operators.say(&pop("fra"), said(Word::Drain), |_| true, |_| panic!("it is not to be obeyed"));
    assert!(result.is_err());
    assert_eq!(operators.in_force(), BTreeMap::new());
}
