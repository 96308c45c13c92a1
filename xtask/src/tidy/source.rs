//! What the text of the sources shows.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};

use super::{
    Failures,
    arrows::{PURE, Package},
};
use crate::run::root;

/// The one file that may hold unsafe code: it maps a database into memory.
const UNSAFE_ALLOWED: &str = "crates/node/src/mmap.rs";

const LINES_MAX: usize = 600;

/// What has no place in a pure crate, and what to take instead.
const IMPURE: [(&str, &str); 12] = [
    ("std::fs", "take the bytes"),
    ("std::thread", "let the caller run it"),
    ("std::env::", "take the value"),
    ("TcpStream", "take the bytes"),
    ("TcpListener", "take the bytes"),
    ("UdpSocket", "take the bytes"),
    ("File::open", "take the bytes"),
    ("SystemTime::now", "take now: Timestamp"),
    ("Instant::now", "take now: Timestamp"),
    ("thread_rng", "take a seed or &mut impl Rng"),
    ("rand::rng()", "take a seed or &mut impl Rng"),
    ("async fn", "be a plain function"),
];

/// One file of Rust.
#[derive(Debug)]
pub(super) struct Source {
    package: String,
    /// From the workspace's top folder, with `/`.
    path: String,
    text: String,
    /// Whether it is compiled for tests only, by its place.
    for_tests: bool,
}

/// Every `.rs` file of every package.
pub(super) fn read(packages: &[Package]) -> Result<Vec<Source>> {
    let root = root();
    let mut sources = Vec::new();
    for package in packages {
        let Some(folder) = package.manifest.parent() else { continue };
        for top in ["src", "tests", "benches", "examples"] {
            let mut files = Vec::new();
            walk(&folder.join(top), &mut files)?;
            for file in files {
                let path = file.strip_prefix(&root).unwrap_or(&file).to_string_lossy().replace('\\', "/");
                let for_tests = top != "src" || path.contains("/tests/") || path.ends_with("/tests.rs");
                let text = fs::read_to_string(&file).with_context(|| path.clone())?;
                sources.push(Source { package: package.name.clone(), path, text, for_tests });
            }
        }
    }
    sources.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(sources)
}

fn walk(folder: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    if !folder.is_dir() {
        return Ok(());
    }
    for entry in fs::read_dir(folder).with_context(|| folder.display().to_string())? {
        let path = entry?.path();
        if path.is_dir() {
            walk(&path, files)?;
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    Ok(())
}

impl Source {
    /// Numbered lines without comments, up to the tests at the file's end.
    fn code(&self) -> impl Iterator<Item = (usize, &str)> {
        let lines =
            self.text.lines().enumerate().map(|(index, line)| (index + 1, line.split("//").next().unwrap_or("")));
        lines.take_while(|(_, line)| !line.trim_start().starts_with("#[cfg(test)]"))
    }
}

pub(super) fn pure(sources: &[Source]) -> Failures {
    let mut failures = Failures::new();
    for source in sources.iter().filter(|source| PURE.contains(&source.package.as_str()) && !source.for_tests) {
        for (number, line) in source.code() {
            let found = IMPURE.iter().filter(|(what, _)| line.contains(what));
            failures.extend(found.map(|(what, instead)| format!("{}:{number} has {what}: {instead}", source.path)));
        }
    }
    failures
}

pub(super) fn headers(sources: &[Source]) -> Failures {
    let roots =
        sources.iter().filter(|source| source.path.ends_with("src/lib.rs") || source.path.ends_with("src/main.rs"));
    let silent = roots.filter(|source| !source.text.starts_with("//! ") || source.text.starts_with("//! stub"));
    silent.map(|source| format!("{} does not begin with //! and what it is for", source.path)).collect()
}

pub(super) fn long_files(sources: &[Source]) -> Failures {
    let lengths = sources.iter().map(|source| (source.text.lines().count(), &source.path));
    let long = lengths.filter(|(lines, _)| *lines > LINES_MAX);
    long.map(|(lines, path)| format!("{path} has {lines} lines, more than {LINES_MAX}: two ideas?")).collect()
}

/// The compiler denies unsafe code; this finds where that is switched off.
pub(super) fn unsafe_code(sources: &[Source]) -> Failures {
    let mut failures = Failures::new();
    for source in sources.iter().filter(|source| source.path != UNSAFE_ALLOWED && source.package != "xtask") {
        // Test code too: the whole text.
        for (index, line) in source.text.lines().enumerate() {
            let code = line.split("//").next().unwrap_or("");
            if code.contains("unsafe_code") && code.contains(['(', '[']) {
                failures.push(format!(
                    "{}:{} allows unsafe code, which has its place in {UNSAFE_ALLOWED}",
                    source.path,
                    index + 1
                ));
            }
        }
    }
    failures
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(package: &str, path: &str, text: &str) -> Source {
        Source { package: package.into(), path: path.into(), text: text.into(), for_tests: false }
    }

    #[test]
    fn purity() {
        let check = |text: &str, failures: usize| {
            assert_eq!(pure(&[source("perigee-geo", "crates/geo/src/a.rs", text)]).len(), failures, "{text}");
            assert!(pure(&[source("perigee-node", "crates/node/src/a.rs", text)]).is_empty());
        };
        check("use std::fs;", 1);
        check("// no std::fs here\nfn a() {}", 0);
        check("fn a() {}\n#[cfg(test)]\nmod tests { use std::fs; }", 0);
        check("let now = SystemTime::now(); std::env::var(\"A\")", 2);
    }

    #[test]
    fn first_lines() {
        let check = |text: &str, failures: usize| {
            assert_eq!(headers(&[source("a", "crates/a/src/lib.rs", text)]).len(), failures, "{text}")
        };
        check("//! What it is for.\n", 0);
        check("//! stub\n", 1);
        check("use a;\n", 1);
    }

    #[test]
    fn unsafety() {
        let check = |path: &str, text: &str, failures: usize| {
            assert_eq!(unsafe_code(&[source("a", path, text)]).len(), failures, "{text}")
        };
        check("crates/a/src/a.rs", "#![allow(unsafe_code)]", 1);
        check("crates/a/src/a.rs", "// allow(unsafe_code)", 0);
        check(UNSAFE_ALLOWED, "#![expect(unsafe_code, reason = \"maps\")]", 0);
    }

    #[test]
    fn lengths() {
        let check = |lines: usize, warnings: usize| {
            assert_eq!(long_files(&[source("a", "a.rs", &"\n".repeat(lines))]).len(), warnings)
        };
        check(LINES_MAX, 0);
        check(LINES_MAX + 1, 1);
    }
}
