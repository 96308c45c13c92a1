//! What Debian wants to know of a package: control fields, changelog, copyright, checksums, and what its checker is told.

use std::{fs, path::Path, process::Command};

use anyhow::{Context, Result};

use super::{BINARIES, UNITS, write};
use crate::run::{cargo, output, root};

/// Kept when the package is upgraded or removed.
const CONFFILES: [&str; 5] = [
    "/etc/perigee/edge.env",
    "/etc/perigee/shield.env",
    "/etc/perigee/geodns.env",
    "/etc/perigee/geo.env",
    "/etc/logrotate.d/perigee",
];
const MAINTAINER: &str = "Perigee maintainers <perigee@perigee.invalid>";
/// What is linked in, by name, version and licence.
const CRATES: &str = "usr/share/doc/perigee/crates.txt.gz";

/// Writes everything but the files themselves. `dynamic`: the binaries load this system's libraries.
pub(super) fn describe(stage: &Path, version: &str, architecture: &str, dynamic: bool) -> Result<()> {
    write(stage, "usr/share/doc/perigee/copyright", COPYRIGHT.as_bytes(), 0o644)?;
    zipped(stage, CRATES, crates()?.as_bytes())?;
    zipped(stage, "usr/share/doc/perigee/changelog.Debian.gz", changelog(version)?.as_bytes())?;
    write(stage, "usr/share/lintian/overrides/perigee", overrides(dynamic).as_bytes(), 0o644)?;
    write(stage, "DEBIAN/conffiles", (CONFFILES.join("\n") + "\n").as_bytes(), 0o644)?;
    let (sums, bytes) = sums(stage)?;
    write(stage, "DEBIAN/md5sums", sums.as_bytes(), 0o644)?;
    let text = control(version, architecture, dynamic, bytes.div_ceil(1024));
    write(stage, "DEBIAN/control", text.as_bytes(), 0o644)?;
    Ok(())
}

fn control(version: &str, architecture: &str, dynamic: bool, kib: u64) -> String {
    let libraries = if dynamic { "libc6, libgcc-s1, " } else { "" };
    format!(
        "Package: perigee\nVersion: {version}\nArchitecture: {architecture}\nSection: net\nPriority: optional\n\
         Maintainer: {MAINTAINER}\nInstalled-Size: {kib}\n\
         Depends: {libraries}systemd | systemd-standalone-sysusers\nRecommends: logrotate\n\
         Description: content delivery network that anyone can own\n \
         Caching edges, shields between them and the origins, nameservers that answer\n \
         by distance, and the operator's command. One document describes the fleet.\n"
    )
}

/// One entry: a package is built of a commit, whose log has the rest.
fn changelog(version: &str) -> Result<String> {
    let date = date()?;
    Ok(format!(
        "perigee ({version}) unstable; urgency=medium\n\n  * Built of the project's sources; its history is in its repository.\n\n \
         -- {MAINTAINER}  {date}\n"
    ))
}

/// When the sources were last changed (RFC 5322), so that the same sources make the same package.
fn date() -> Result<String> {
    let seconds = epoch();
    output(Command::new("date").args(["-R", "-u", "-d"]).arg(format!("@{seconds}"))).map(|date| date.trim().to_owned())
}

/// `SOURCE_DATE_EPOCH`, else the last commit's time, else the first second of all.
pub(super) fn epoch() -> String {
    let git = || output(Command::new("git").args(["log", "-1", "--format=%ct"]).current_dir(root())).ok();
    std::env::var("SOURCE_DATE_EPOCH").ok().or_else(git).map_or_else(|| "0".to_owned(), |text| text.trim().to_owned())
}

/// `NAME VERSION LICENCE` of each crate that the programs are linked of, without our own.
fn crates() -> Result<String> {
    let packages = BINARIES.iter().flat_map(|(_, package)| ["--package", package]);
    let tree = output(
        cargo()
            .args(["tree", "--quiet", "--locked", "--edges", "normal", "--prefix", "none", "--format", "{p}\t{l}"])
            .args(packages),
    )?;
    // Those of the workspace have their folder in parentheses; (*) is said of a repetition, (proc-macro) of a macro.
    let mut lines: Vec<String> = tree
        .lines()
        .filter(|line| !line.contains("(/"))
        .map(|line| line.replace(" (*)", "").replace(" (proc-macro)", "").replace('\t', " "))
        .filter(|line| !line.trim().is_empty())
        .collect();
    lines.sort();
    lines.dedup();
    Ok(lines.join("\n") + "\n")
}

/// What `lintian` would say of a package that is right as it is.
fn overrides(dynamic: bool) -> String {
    let mut text =
        "# No part of Debian: there is no bug to close.\nperigee: initial-upload-closes-no-bugs *\n".to_owned();
    text.push_str("# A variable may be a secret.\n");
    for unit in UNITS {
        text.push_str(&format!("perigee: non-standard-file-perm 0640 != 0644 [etc/perigee/{unit}.env]\n"));
    }
    if !dynamic {
        text.push_str("# One build serves images and every release of Debian: it loads no library.\n");
        for (name, _) in BINARIES {
            text.push_str(&format!("perigee: statically-linked-binary [usr/bin/{name}]\n"));
        }
    }
    text
}

/// Writes a file as `gzip -9n` packs it.
fn zipped(stage: &Path, to: &str, bytes: &[u8]) -> Result<()> {
    let plain = to.trim_end_matches(".gz");
    let path = write(stage, plain, bytes, 0o644)?;
    output(Command::new("gzip").args(["-9", "-n", "-f"]).arg(path)).map(drop)
}

/// `DEBIAN/md5sums` of the files that are no conffiles, and the bytes of all files.
fn sums(stage: &Path) -> Result<(String, u64)> {
    let mut files = Vec::new();
    walk(stage, stage, &mut files)?;
    files.sort();
    let mut bytes = 0;
    for file in &files {
        bytes += fs::metadata(stage.join(file)).with_context(|| file.clone())?.len();
    }
    files.retain(|file| !file.starts_with("etc/"));
    Ok((output(Command::new("md5sum").args(&files).current_dir(stage))?, bytes))
}

fn walk(stage: &Path, folder: &Path, files: &mut Vec<String>) -> Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let inside = path.strip_prefix(stage)?.to_string_lossy().into_owned();
        match path.is_dir() {
            true if inside == "DEBIAN" => {}
            true => walk(stage, &path, files)?,
            false => files.push(inside),
        }
    }
    Ok(())
}

const COPYRIGHT: &str = "\
Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/
Upstream-Name: Perigee
Comment:
 The programs are linked of the crates that crates.txt.gz lists, beside this file,
 each with its licence.

Files: *
Copyright: 2026 The Perigee authors
License: Apache-2.0 or Expat

License: Apache-2.0
 On Debian systems the full text of the Apache License, version 2.0, is in
 /usr/share/common-licenses/Apache-2.0.

License: Expat
 Permission is hereby granted, free of charge, to any person obtaining a copy of
 this software and associated documentation files (the \"Software\"), to deal in the
 Software without restriction, including without limitation the rights to use,
 copy, modify, merge, publish, distribute, sublicense, and/or sell copies of the
 Software, and to permit persons to whom the Software is furnished to do so,
 subject to the following conditions:
 .
 The above copyright notice and this permission notice shall be included in all
 copies or substantial portions of the Software.
 .
 THE SOFTWARE IS PROVIDED \"AS IS\", WITHOUT WARRANTY OF ANY KIND, EXPRESS OR
 IMPLIED, INCLUDING BUT NOT LIMITED TO THE WARRANTIES OF MERCHANTABILITY, FITNESS
 FOR A PARTICULAR PURPOSE AND NONINFRINGEMENT. IN NO EVENT SHALL THE AUTHORS OR
 COPYRIGHT HOLDERS BE LIABLE FOR ANY CLAIM, DAMAGES OR OTHER LIABILITY, WHETHER IN
 AN ACTION OF CONTRACT, TORT OR OTHERWISE, ARISING FROM, OUT OF OR IN CONNECTION
 WITH THE SOFTWARE OR THE USE OR OTHER DEALINGS IN THE SOFTWARE.
";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_linked_in_is_named_with_its_licence_and_our_own_is_not() {
        let crates = crates().unwrap();
        assert!(crates.lines().any(|line| line.starts_with("tokio v") && line.ends_with("MIT")), "{crates}");
        for ours in ["perigee", "(/", "(*)", "(proc-macro)"] {
            assert!(!crates.contains(ours), "{ours}: {crates}");
        }
    }

    #[test]
    fn libraries_are_asked_for_by_what_loads_them() {
        assert!(control("1", "amd64", true, 1).contains("\nDepends: libc6, libgcc-s1, systemd |"));
        assert!(control("1", "amd64", false, 1).contains("\nDepends: systemd |"));
    }
}
