//! Text → model: whatever operators write, they get a document or all mistakes, and a document makes a zone or says why not.

use perigee_dns::Snapshot;
use perigee_protocol::document;

/// Laws of `document::load` and of what is made from its documents.
pub fn check(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    match document::load("fuzz.toml", text) {
        Err(mistakes) => {
            assert!(mistakes.count() > 0, "refused without a reason");
            assert!(!mistakes.to_string().is_empty());
        }
        Ok(document) => {
            let snapshot = Snapshot::<Vec<u8>>::new(&document, 1, None, crate::answer::service(0).into(), None);
            if let Err(error) = snapshot {
                assert!(!error.to_string().is_empty());
            }
        }
    }
}

/// The examples that people copy, whole and by their tables.
pub fn seeds() -> Vec<Vec<u8>> {
    let whole = [
        include_str!("../../deploy/example.toml"),
        include_str!("../../deploy/cdn.toml"),
        include_str!("../../deploy/rules.toml"),
        crate::answer::DOCUMENT,
    ];
    let tables = whole.iter().flat_map(|text| text.split("\n[").map(|table| format!("version = 1\n[{table}")));
    whole.iter().map(|text| (*text).to_owned()).chain(tables).map(String::into_bytes).collect()
}
