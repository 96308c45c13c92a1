//! `cargo xtask deb`: the four binaries as one Debian package, with units, manual pages and completions. The package starts
//! nothing: which tier a machine is, its operator says by `systemctl enable --now perigee-edge`. With `--check` it lives its
//! life on a machine of its own ([`check`]).

mod check;
mod machine;
mod meta;

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail, ensure};

use crate::{
    images,
    run::{output, root},
};

/// Each binary of the package, and the crate that has it.
const BINARIES: [(&str, &str); 4] = [
    ("perigee", "perigee-cli"),
    ("perigee-edge", "perigee-edge"),
    ("perigee-shield", "perigee-shield"),
    ("perigee-geodns", "perigee-geodns"),
];
const TIERS: [&str; 3] = ["edge", "shield", "geodns"];
/// Each has a unit `perigee-…` and variables: the tiers, and what keeps a geo database fresh.
const UNITS: [&str; 4] = ["edge", "shield", "geodns", "geo"];
/// Each shell, and where Debian has the completion of a program for it: `{}` is the program.
const SHELLS: [(&str, &str); 3] = [
    ("bash", "usr/share/bash-completion/completions/{}"),
    ("zsh", "usr/share/zsh/vendor-completions/_{}"),
    ("fish", "usr/share/fish/vendor_completions.d/{}.fish"),
];
/// Of Debian's own part of the version.
const REVISION: u32 = 1;

/// Builds the binaries, or takes those of `--binaries FOLDER`, and packs them into target/deb; with `--check` they are
/// packed for one quick use, installed and started.
pub(crate) fn run(arguments: &[String]) -> Result<()> {
    let mut binaries = None;
    let mut check = false;
    let mut words = arguments.iter();
    while let Some(word) = words.next() {
        match word.as_str() {
            "--binaries" => binaries = Some(PathBuf::from(words.next().context("--binaries wants a folder")?)),
            "--check" => check = true,
            _ => bail!("takes --binaries FOLDER and --check"),
        }
    }
    if check && !check::possible()? {
        return Ok(());
    }
    let binaries = match binaries {
        Some(folder) => folder,
        None => images::static_binaries("release")?,
    };
    let folder = root().join("target/deb");
    if !check {
        let package = pack(&binaries, &folder, REVISION, "xz")?;
        println!("{}", package.display());
        return Ok(());
    }
    let folder = folder.join(format!("check-{}", std::process::id()));
    let older = pack(&binaries, &folder, REVISION, "none")?;
    let newer = pack(&binaries, &folder, REVISION + 1, "none")?;
    let done = check::run(&folder, &file_name(&older), &file_name(&newer));
    fs::remove_dir_all(&folder)?;
    done
}

fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// Makes the package of the binaries in one folder, in another; returns its path. `pack` is how dpkg-deb is to pack it.
fn pack(binaries: &Path, folder: &Path, revision: u32, pack: &str) -> Result<PathBuf> {
    let architecture = output(Command::new("dpkg").arg("--print-architecture"))?;
    let architecture = architecture.trim();
    let stage = folder.join("stage");
    if stage.exists() {
        fs::remove_dir_all(&stage)?;
    }
    let mut dynamic = false;
    for (name, _) in BINARIES {
        let to = install(&stage, &format!("usr/bin/{name}"), &binaries.join(name), 0o755)?;
        // A script of a test is nothing to strip.
        if !cfg!(test) {
            // What the debugger needs is most of the file.
            output(Command::new("strip").args(["--strip-unneeded", "--remove-section=.comment"]).arg(&to))?;
            dynamic |= output(Command::new("readelf").arg("--program-headers").arg(&to))?.contains("INTERP");
        }
    }
    units(&stage)?;
    manual(&stage)?;
    let version = format!("{}-{revision}", env!("CARGO_PKG_VERSION"));
    meta::describe(&stage, &version, architecture, dynamic)?;
    let package = folder.join(format!("perigee_{version}_{architecture}.deb"));
    let mut build = Command::new("dpkg-deb");
    build.env("SOURCE_DATE_EPOCH", meta::epoch());
    output(build.args(["--root-owner-group", &format!("-Z{pack}"), "--build"]).arg(&stage).arg(&package))?;
    fs::remove_dir_all(&stage)?;
    Ok(package)
}

fn install(stage: &Path, to: &str, from: &Path, mode: u32) -> Result<PathBuf> {
    let bytes = fs::read(from).with_context(|| from.display().to_string())?;
    write(stage, to, &bytes, mode)
}

fn write(stage: &Path, to: &str, bytes: &[u8], mode: u32) -> Result<PathBuf> {
    let to = stage.join(to);
    if let Some(parent) = to.parent() {
        fs::create_dir_all(parent)?;
    }
    fs::write(&to, bytes).with_context(|| to.display().to_string())?;
    fs::set_permissions(&to, fs::Permissions::from_mode(mode))?;
    Ok(to)
}

/// Of deploy: for the machine that watches the fleet.
const WATCHED_BY: [&str; 3] = ["prometheus/rules.yml", "prometheus/prometheus.yml", "grafana/perigee.json"];

/// What deploy/package holds, and what goes with it.
fn units(stage: &Path) -> Result<()> {
    let from = root().join("deploy/package");
    for name in UNITS {
        let unit = format!("perigee-{name}.service");
        install(stage, &format!("usr/lib/systemd/system/{unit}"), &from.join(&unit), 0o644)?;
        install(stage, &format!("etc/perigee/{name}.env"), &from.join(format!("{name}.env")), 0o640)?;
    }
    install(stage, "usr/lib/sysusers.d/perigee.conf", &from.join("sysusers.conf"), 0o644)?;
    install(stage, "etc/logrotate.d/perigee", &from.join("logrotate"), 0o644)?;
    for script in ["postinst", "prerm", "postrm"] {
        install(stage, &format!("DEBIAN/{script}"), &from.join(script), 0o755)?;
    }
    let example = root().join("deploy/example.toml");
    install(stage, "usr/share/doc/perigee/example.toml", &example, 0o644)?;
    install(stage, "usr/share/doc/perigee/perigee.schema.json", &root().join("docs/perigee.schema.json"), 0o644)?;
    for file in WATCHED_BY {
        install(stage, &format!("usr/share/doc/perigee/{file}"), &root().join("deploy").join(file), 0o644)?;
    }
    Ok(())
}

/// Manual pages and completions, as the staged binary writes them.
fn manual(stage: &Path) -> Result<()> {
    let perigee = stage.join("usr/bin/perigee");
    let pages = stage.join("usr/share/man");
    fs::create_dir_all(&pages)?;
    output(Command::new(&perigee).args(["man", "--sections"]).arg(&pages))?;
    let mut count = 0;
    for section in fs::read_dir(&pages)? {
        for page in fs::read_dir(section?.path())? {
            let page = page?.path();
            fs::set_permissions(&page, fs::Permissions::from_mode(0o644))?;
            output(Command::new("gzip").args(["-9", "-n"]).arg(page))?;
            count += 1;
        }
    }
    ensure!(count > 0, "{} man wrote nothing", perigee.display());
    for (program, _) in BINARIES {
        for (shell, to) in SHELLS {
            let script = output(Command::new(&perigee).args(["completions", shell, program]))?;
            write(stage, &to.replace("{}", program), script.as_bytes(), 0o644)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether a program is there; CI has them all.
    fn has(program: &str) -> bool {
        Command::new(program).arg("--version").output().is_ok_and(|output| output.status.success())
    }

    #[test]
    fn the_package_holds_what_a_machine_needs() {
        if !has("dpkg-deb") && std::env::var_os("CI").is_none() {
            return;
        }
        let folder = root().join(format!("target/deb-test-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        for (name, _) in BINARIES {
            let script = "#!/bin/sh\ncase $1 in man) mkdir \"$3/man8\"; echo .TH >\"$3/man8/perigee-edge.8\";; completions) echo \"$2\";; esac\n";
            write(&folder, name, script.as_bytes(), 0o755).unwrap();
        }
        let package = pack(&folder, &folder, 1, "none").unwrap();
        let list = output(Command::new("dpkg-deb").arg("--contents").arg(&package)).unwrap();
        let control = output(Command::new("dpkg-deb").arg("--info").arg(&package)).unwrap();
        fs::remove_dir_all(&folder).unwrap();
        let line =
            |path: &str| list.lines().find(|line| line.ends_with(path)).unwrap_or_else(|| panic!("{path}: {list}"));
        for (path, mode) in [
            ("./usr/bin/perigee-geodns", "-rwxr-xr-x root/root"),
            ("./usr/lib/systemd/system/perigee-edge.service", "-rw-r--r-- root/root"),
            ("./etc/perigee/shield.env", "-rw-r----- root/root"),
            ("./usr/share/doc/perigee/prometheus/rules.yml", "-rw-r--r-- root/root"),
            ("./usr/lib/systemd/system/perigee-geo.service", "-rw-r--r-- root/root"),
            ("./etc/perigee/geo.env", "-rw-r----- root/root"),
            ("./usr/share/man/man8/perigee-edge.8.gz", "-rw-r--r-- root/root"),
            ("./usr/share/zsh/vendor-completions/_perigee-geodns", "-rw-r--r-- root/root"),
            ("./usr/share/doc/perigee/copyright", "-rw-r--r-- root/root"),
            ("./usr/share/doc/perigee/changelog.Debian.gz", "-rw-r--r-- root/root"),
        ] {
            assert!(line(path).starts_with(mode), "{}", line(path));
        }
        for said in ["Package: perigee", "postinst", "conffiles", "md5sums", "Depends: systemd |"] {
            assert!(control.contains(said), "{said}: {control}");
        }
    }

    /// Below 2, of which 10 is a process that may do everything.
    #[test]
    fn units_may_do_little() {
        if !has("systemd-analyze") && std::env::var_os("CI").is_none() {
            return;
        }
        for name in UNITS {
            let unit = root().join(format!("deploy/package/perigee-{name}.service"));
            output(Command::new("systemd-analyze").args(["security", "--offline=true", "--threshold=20"]).arg(&unit))
                .unwrap();
        }
    }

    /// What a unit starts is a binary of the package, and what its variables are called its flags.
    #[test]
    fn units_start_what_is_there() {
        let read = |name: String| fs::read_to_string(root().join("deploy/package").join(name)).unwrap();
        for tier in TIERS {
            let unit = read(format!("perigee-{tier}.service"));
            assert!(unit.contains(&format!("ExecStart=/usr/bin/perigee-{tier}\n")));
            assert!(unit.contains(&format!("EnvironmentFile=/etc/perigee/{tier}.env\n")));
            assert!(unit.contains("Type=notify\n") && unit.contains("WatchdogSec="));
            let variables = read(format!("{tier}.env"));
            assert!(variables.contains("PERIGEE_DOCUMENT=/etc/perigee/perigee.toml\n"));
        }
        let unit = read("perigee-geo.service".into());
        assert!(unit.contains("ExecStart=/usr/bin/perigee geo fetch\n"));
        assert!(unit.contains("EnvironmentFile=/etc/perigee/geo.env\n"));
        let code = ["args.rs", "fetch/source.rs"]
            .map(|file| fs::read_to_string(root().join("crates/cli/src/geo").join(file)).unwrap());
        let variables = read("geo.env".into());
        let named = variables.lines().filter_map(|line| line.trim_start_matches('#').split_once('='));
        let names: Vec<_> = named.map(|(name, _)| name).filter(|name| name.starts_with("PERIGEE_")).collect();
        assert!(names.len() > 5, "{names:?}");
        for name in names {
            assert!(code.iter().any(|code| code.contains(&format!("\"{name}\""))), "nothing reads {name}");
        }
    }

    /// A unit that one of them does not know would run on, or stay behind.
    #[test]
    fn the_scripts_know_every_unit() {
        for script in ["postinst", "prerm", "postrm"] {
            let text = fs::read_to_string(root().join("deploy/package").join(script)).unwrap();
            for unit in UNITS {
                assert!(text.contains(&format!("perigee-{unit}.service")), "{script} does not know {unit}");
            }
        }
    }
}
