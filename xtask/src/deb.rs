//! `cargo xtask deb`: the four binaries as one Debian package, with units, manual pages and completions. The package starts
//! nothing: which tier a machine is, its operator says by `systemctl enable --now perigee-edge`.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail, ensure};

use crate::run::{cargo, output, root, succeed};

/// Each binary of the package, and the crate that has it.
const BINARIES: [(&str, &str); 4] = [
    ("perigee", "perigee-cli"),
    ("perigee-edge", "perigee-edge"),
    ("perigee-shield", "perigee-shield"),
    ("perigee-geodns", "perigee-geodns"),
];
const TIERS: [&str; 3] = ["edge", "shield", "geodns"];
const SHELLS: [(&str, &str); 3] = [
    ("bash", "usr/share/bash-completion/completions/perigee"),
    ("zsh", "usr/share/zsh/vendor-completions/_perigee"),
    ("fish", "usr/share/fish/vendor_completions.d/perigee.fish"),
];
/// Kept when the package is upgraded or removed.
const CONFFILES: [&str; 4] =
    ["/etc/perigee/edge.env", "/etc/perigee/shield.env", "/etc/perigee/geodns.env", "/etc/logrotate.d/perigee"];

/// Builds the binaries, or takes those of `--binaries FOLDER`, and packs them into target/deb.
pub(crate) fn run(arguments: &[String]) -> Result<()> {
    let binaries = match arguments {
        [] => {
            let flags = BINARIES.iter().flat_map(|(_, package)| ["--package", package]);
            succeed(cargo().args(["build", "--release", "--bins"]).args(flags))?;
            root().join("target/release")
        }
        [flag, folder] if flag == "--binaries" => PathBuf::from(folder),
        _ => bail!("takes --binaries FOLDER or nothing"),
    };
    let folder = root().join("target/deb");
    fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;
    let package = pack(&binaries, &folder)?;
    println!("{}", package.display());
    Ok(())
}

/// Makes the package of the binaries in one folder, in another; returns its path.
fn pack(binaries: &Path, folder: &Path) -> Result<PathBuf> {
    let architecture = output(Command::new("dpkg").arg("--print-architecture"))?;
    let architecture = architecture.trim();
    let stage = folder.join("stage");
    if stage.exists() {
        fs::remove_dir_all(&stage)?;
    }
    for (name, _) in BINARIES {
        let to = install(&stage, &format!("usr/bin/{name}"), &binaries.join(name), 0o755)?;
        // What the debugger needs is most of the file.
        output(Command::new("strip").arg("--strip-debug").arg(to)).or_else(|error| {
            // A script of a test is nothing to strip.
            if cfg!(test) { Ok(String::new()) } else { Err(error) }
        })?;
    }
    units(&stage)?;
    manual(&stage)?;
    let version = env!("CARGO_PKG_VERSION");
    control(&stage, version, architecture)?;
    let package = folder.join(format!("perigee_{version}_{architecture}.deb"));
    output(Command::new("dpkg-deb").args(["--root-owner-group", "-Zxz", "--build"]).arg(&stage).arg(&package))?;
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

/// What deploy/package holds.
fn units(stage: &Path) -> Result<()> {
    let from = root().join("deploy/package");
    for tier in TIERS {
        let unit = format!("perigee-{tier}.service");
        install(stage, &format!("usr/lib/systemd/system/{unit}"), &from.join(&unit), 0o644)?;
        install(stage, &format!("etc/perigee/{tier}.env"), &from.join(format!("{tier}.env")), 0o640)?;
    }
    install(stage, "usr/lib/sysusers.d/perigee.conf", &from.join("sysusers.conf"), 0o644)?;
    install(stage, "etc/logrotate.d/perigee", &from.join("logrotate"), 0o644)?;
    for script in ["postinst", "prerm", "postrm"] {
        install(stage, &format!("DEBIAN/{script}"), &from.join(script), 0o755)?;
    }
    let example = root().join("deploy/example.toml");
    install(stage, "usr/share/doc/perigee/example.toml", &example, 0o644)?;
    install(stage, "usr/share/doc/perigee/perigee.schema.json", &root().join("docs/perigee.schema.json"), 0o644)?;
    Ok(())
}

/// Manual pages and completions, as the staged binary writes them.
fn manual(stage: &Path) -> Result<()> {
    let perigee = stage.join("usr/bin/perigee");
    let pages = stage.join("usr/share/man/man1");
    fs::create_dir_all(&pages)?;
    output(Command::new(&perigee).arg("man").arg(&pages))?;
    let mut count = 0;
    for page in fs::read_dir(&pages)? {
        output(Command::new("gzip").args(["-9", "-n"]).arg(page?.path()))?;
        count += 1;
    }
    ensure!(count > 0, "{} man wrote nothing", perigee.display());
    for (shell, to) in SHELLS {
        let script = output(Command::new(&perigee).args(["completions", shell]))?;
        write(stage, to, script.as_bytes(), 0o644)?;
    }
    Ok(())
}

fn control(stage: &Path, version: &str, architecture: &str) -> Result<()> {
    let text = format!(
        "Package: perigee\nVersion: {version}\nArchitecture: {architecture}\nSection: net\nPriority: optional\n\
         Maintainer: Perigee maintainers <perigee@localhost>\n\
         Depends: libc6, libgcc-s1, systemd | systemd-standalone-sysusers\nRecommends: logrotate\n\
         Description: content delivery network that anyone can own\n \
         Caching edges, shields between them and the origins, nameservers that answer\n \
         by distance, and the operator's command. One document describes the fleet.\n"
    );
    write(stage, "DEBIAN/control", text.as_bytes(), 0o644)?;
    write(stage, "DEBIAN/conffiles", (CONFFILES.join("\n") + "\n").as_bytes(), 0o644)?;
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
            let script = "#!/bin/sh\ncase $1 in man) echo .TH >\"$2/perigee.1\";; completions) echo \"$2\";; esac\n";
            write(&folder, name, script.as_bytes(), 0o755).unwrap();
        }
        let package = pack(&folder, &folder).unwrap();
        let list = output(Command::new("dpkg-deb").arg("--contents").arg(&package)).unwrap();
        let control = output(Command::new("dpkg-deb").arg("--info").arg(&package)).unwrap();
        fs::remove_dir_all(&folder).unwrap();
        let line =
            |path: &str| list.lines().find(|line| line.ends_with(path)).unwrap_or_else(|| panic!("{path}: {list}"));
        for (path, mode) in [
            ("./usr/bin/perigee-geodns", "-rwxr-xr-x root/root"),
            ("./usr/lib/systemd/system/perigee-edge.service", "-rw-r--r-- root/root"),
            ("./etc/perigee/shield.env", "-rw-r----- root/root"),
            ("./usr/share/man/man1/perigee.1.gz", "-rw-r--r-- root/root"),
            ("./usr/share/zsh/vendor-completions/_perigee", "-rw-r--r-- root/root"),
        ] {
            assert!(line(path).starts_with(mode), "{}", line(path));
        }
        for said in ["Package: perigee", "postinst", "conffiles"] {
            assert!(control.contains(said), "{said}: {control}");
        }
    }

    /// Below 3, of which 10 is a process that may do everything.
    #[test]
    fn units_may_do_little() {
        if !has("systemd-analyze") && std::env::var_os("CI").is_none() {
            return;
        }
        for tier in TIERS {
            let unit = root().join(format!("deploy/package/perigee-{tier}.service"));
            output(Command::new("systemd-analyze").args(["security", "--offline=true", "--threshold=30"]).arg(&unit))
                .unwrap();
        }
    }

    /// What a unit starts is a binary of the package, and what its variables are called its flags.
    #[test]
    fn units_start_what_is_there() {
        for tier in TIERS {
            let read = |name: String| fs::read_to_string(root().join("deploy/package").join(name)).unwrap();
            let unit = read(format!("perigee-{tier}.service"));
            assert!(unit.contains(&format!("ExecStart=/usr/bin/perigee-{tier}\n")));
            assert!(unit.contains(&format!("EnvironmentFile=/etc/perigee/{tier}.env\n")));
            let variables = read(format!("{tier}.env"));
            assert!(variables.contains("PERIGEE_DOCUMENT=/etc/perigee/perigee.toml\n"));
        }
    }
}
