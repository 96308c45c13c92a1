//! The text of a CDN document → the validated [`model::Document`], or **every** mistake in it. No file is opened.

mod mistake;
mod unsupported;

pub use mistake::{MISTAKES_MAX, Mistake, Mistakes};
pub use unsupported::{NodeKind, Unsupported, unsupported};

use crate::model::{CachePolicy, Document};

/// The longest document, in bytes.
pub const DOCUMENT_BYTES_MAX: usize = 8 << 20;

/// Reads and validates a document. `file_name` is only told in mistakes.
///
/// Pure and complete: no file that the document names is opened, and one mistake hides no other.
pub fn load(file_name: &str, text: &str) -> Result<Document, Mistakes> {
    let _ = text;
    Err(not_yet(file_name))
}

/// The cache policy that `--policy KEY=VALUE` pairs make, over the defaults of `[site.cache]`.
///
/// A value is TOML where it parses as TOML (`60`, `{404="5s"}`, `["utm_*"]`), else a bare string (`store`, `60s`).
/// Mistakes are placed at `--policy` with the pair's number as the line.
pub fn policy_from_pairs(pairs: &[(String, String)]) -> Result<CachePolicy, Mistakes> {
    if pairs.is_empty() { Ok(CachePolicy::default()) } else { Err(not_yet("--policy")) }
}

fn not_yet(file: &str) -> Mistakes {
    Mistakes::new(vec![Mistake {
        file: file.into(),
        line: 1,
        column: 1,
        path: String::new(),
        said: None,
        law: "documents cannot be read yet".into(),
        remedy: String::new(),
    }])
}
