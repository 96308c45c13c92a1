//! Which crate may depend on which, and what the pure ones may reach.

use std::{collections::BTreeMap, fs, path::PathBuf};

use anyhow::{Context, Result};
use serde_json::Value;

use super::Failures;
use crate::run::{cargo, output};

/// The rooms and their levels: an arrow goes to a lower level only. A new crate is given its level here.
const LEVELS: [(&str, u8); 18] = [
    ("perigee-protocol", 0),
    ("perigee-semantics", 1),
    ("perigee-geo", 1),
    ("perigee-testkit", 1),
    ("perigee-dns", 2),
    ("perigee-store", 2),
    ("perigee-upstream", 2),
    ("perigee-control", 2),
    ("perigee-cache", 3),
    ("perigee-node", 4),
    ("perigee-tier", 5),
    ("perigee-geodns", 5),
    ("perigee-edge", 6),
    ("perigee-shield", 6),
    ("perigee-cli", 7),
    ("perigee-fuzz", 8),
    ("perigee-tests", 8),
    ("xtask", 9),
];

/// Only tests depend on it, so any crate's may.
const TESTKIT: &str = "perigee-testkit";

/// Crates that are functions of their arguments, and nothing else.
pub(super) const PURE: [&str; 4] = ["perigee-protocol", "perigee-semantics", "perigee-geo", "perigee-dns"];

/// What makes a crate impure, wherever it hangs in the tree.
const RUNTIMES: [&str; 7] = ["tokio", "hyper", "foyer", "mio", "socket2", "reqwest", "rand"];

/// A package of the workspace.
#[derive(Debug)]
pub(super) struct Package {
    pub(super) name: String,
    pub(super) manifest: PathBuf,
    dependencies: Vec<Dependency>,
}

#[derive(Debug)]
struct Dependency {
    name: String,
    for_tests: bool,
}

/// The workspace's packages, by what `cargo metadata` says.
pub(super) fn packages(metadata: &Value) -> Result<Vec<Package>> {
    let text = |value: &Value, key: &str| value.get(key).and_then(Value::as_str).map(str::to_owned);
    let list = |value: &Value, key: &str| value.get(key).and_then(Value::as_array).cloned().unwrap_or_default();
    list(metadata, "packages")
        .iter()
        .map(|package| {
            let dependencies = list(package, "dependencies").into_iter().filter_map(|dependency| {
                Some(Dependency {
                    name: text(&dependency, "name")?,
                    for_tests: text(&dependency, "kind").as_deref() == Some("dev"),
                })
            });
            Some(Package {
                name: text(package, "name")?,
                manifest: text(package, "manifest_path")?.into(),
                dependencies: dependencies.collect(),
            })
        })
        .collect::<Option<_>>()
        .context("cargo metadata says nothing that can be used")
}

pub(super) fn downwards(packages: &[Package]) -> Failures {
    let levels: BTreeMap<_, _> = LEVELS.into_iter().collect();
    let mut failures = Failures::new();
    for package in packages {
        let Some(level) = levels.get(package.name.as_str()) else {
            failures.push(format!("{} has no level: give it one in xtask/src/tidy/arrows.rs", package.name));
            continue;
        };
        for dependency in &package.dependencies {
            if dependency.name == TESTKIT && !dependency.for_tests && package.name != "perigee-tests" {
                failures.push(format!("{} depends on {TESTKIT} outside of its tests", package.name));
            }
            let Some(below) = levels.get(dependency.name.as_str()) else { continue };
            if below >= level && !(dependency.for_tests && dependency.name == TESTKIT) {
                failures
                    .push(format!("{} (level {level}) depends on {} (level {below})", package.name, dependency.name));
            }
        }
    }
    failures
}

/// By `cargo tree`, which sees what features bring in.
pub(super) fn pure(packages: &[Package]) -> Result<Failures> {
    let mut failures = Failures::new();
    for package in packages.iter().filter(|package| PURE.contains(&package.name.as_str())) {
        let tree = output(cargo().args([
            "tree",
            "--edges",
            "normal",
            "--prefix",
            "none",
            "--format",
            "{p}",
            "--package",
            &package.name,
        ]))?;
        let mut reached: Vec<_> =
            tree.lines().filter_map(|line| line.split(' ').next()).filter(|name| RUNTIMES.contains(name)).collect();
        reached.sort_unstable();
        reached.dedup();
        failures.extend(reached.iter().map(|name| {
            format!(
                "{} reaches {name}: see `cargo tree --package {} --edges normal --invert {name}`",
                package.name, package.name
            )
        }));
    }
    Ok(failures)
}

/// `unsafe_code = "deny"` and the rest hold only where a crate asks for them.
pub(super) fn lints(packages: &[Package]) -> Result<Failures> {
    let mut failures = Failures::new();
    for package in packages {
        let manifest = fs::read_to_string(&package.manifest).with_context(|| package.manifest.display().to_string())?;
        let takes =
            manifest.split("[lints]").nth(1).is_some_and(|after| after.trim_start().starts_with("workspace = true"));
        if !takes {
            failures.push(format!("{} lacks [lints] workspace = true", package.manifest.display()));
        }
    }
    Ok(failures)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn package(name: &str, dependencies: &[(&str, bool)]) -> Package {
        let dependencies =
            dependencies.iter().map(|(name, for_tests)| Dependency { name: (*name).into(), for_tests: *for_tests });
        Package { name: name.into(), manifest: PathBuf::new(), dependencies: dependencies.collect() }
    }

    #[test]
    fn arrows() {
        let check = |name: &str, dependencies: &[(&str, bool)], failures: usize| {
            assert_eq!(downwards(&[package(name, dependencies)]).len(), failures, "{name} {dependencies:?}");
        };
        check("perigee-cache", &[("perigee-store", false), ("serde", false)], 0);
        check("perigee-store", &[("perigee-cache", false)], 1);
        check("perigee-store", &[("perigee-cache", true)], 1);
        check("perigee-store", &[("perigee-upstream", false)], 1);
        check("perigee-protocol", &[("perigee-testkit", true)], 0);
        check("perigee-cache", &[("perigee-testkit", false)], 1);
        check("perigee-new", &[], 1);
    }
}
