//! `cargo xtask images`: every image of `deploy/compose.yaml`, from this workspace and this machine alone.
//!
//! Servers are static binaries on nothing (`FROM scratch`). The client's image is filled with this machine's own `dig`,
//! `curl` and a few more, with the libraries that they load. Nothing is pulled from anywhere.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail, ensure};

use crate::{
    docker,
    run::{cargo, output, root, succeed},
};

/// Packages whose binaries go into images; the binaries of `perigee-cli` are `perigee` and `perigee-distance`.
const PACKAGES: [&str; 4] = ["perigee-edge", "perigee-shield", "perigee-geodns", "perigee-cli"];
/// Each has an image of its name.
const BINARIES: [&str; 5] = ["perigee-edge", "perigee-shield", "perigee-geodns", "perigee", "perigee-distance"];
/// What the clients' image is filled with, and the Debian package of it.
const PROGRAMS: [(&str, &str); 7] = [
    ("dig", "bind9-dnsutils"),
    ("curl", "curl"),
    ("ip", "iproute2"),
    ("sh", "dash"),
    ("sleep", "coreutils"),
    ("cat", "coreutils"),
    ("sha256sum", "coreutils"),
];
/// The user of the servers; it is on no machine, and owns the cache folders in the images.
const USER: &str = "65532:65532";
const WORLD: &str = "world.mmdb";

pub(crate) fn run(arguments: &[String]) -> Result<()> {
    match arguments {
        [] => build("release"),
        [flag, profile] if flag == "--profile" => build(profile),
        _ => bail!("takes --profile NAME (of cargo; default release) or nothing"),
    }
}

/// Builds every image.
pub(crate) fn build(profile: &str) -> Result<()> {
    docker::require()?;
    ensure!(
        cfg!(target_os = "linux"),
        "the images hold this machine's own programs, which must be Linux; elsewhere: docker-compose -f \
         deploy/compose.yaml build"
    );
    let programs: Vec<PathBuf> = PROGRAMS.iter().map(|(name, package)| find(name, package)).collect::<Result<_>>()?;
    let binaries = static_binaries(profile)?;
    let folder = root().join(".images");
    if folder.exists() {
        fs::remove_dir_all(&folder).with_context(|| format!("cannot clear {}", folder.display()))?;
    }
    for binary in BINARIES {
        let cached = ["perigee-edge", "perigee-shield"].contains(&binary);
        let folder = folder.join(binary);
        fs::create_dir_all(folder.join("cache"))?;
        strip(&binaries.join(binary), &folder.join(binary))?;
        let mut lines = vec!["FROM scratch".to_owned()];
        if cached {
            lines.push(format!("COPY --chown={USER} cache /var/cache/perigee"));
        }
        if binary == "perigee-geodns" {
            build_world(&binaries.join("perigee"), &folder.join(WORLD))?;
            lines.push(format!("COPY {WORLD} /usr/share/perigee/{WORLD}"));
        }
        lines.extend([
            format!("COPY {binary} /{binary}"),
            format!("USER {USER}"),
            format!("ENTRYPOINT [\"/{binary}\"]\n"),
        ]);
        finish(binary, &folder, &lines)?;
    }
    let client = folder.join("perigee-client");
    stage_client(&programs, &client.join("root"))?;
    finish(
        "perigee-client",
        &client,
        &["FROM scratch", "COPY root/ /", "USER 65532:65532", "CMD [\"/usr/bin/sleep\", \"infinity\"]\n"]
            .map(str::to_owned),
    )
}

fn finish(name: &str, folder: &Path, lines: &[String]) -> Result<()> {
    fs::write(folder.join("Dockerfile"), lines.join("\n"))?;
    docker::build(&format!("{name}:dev"), folder)?;
    println!("image   {name}:dev");
    Ok(())
}

/// Builds the servers so that they need no file of any system, and gives the folder they are in.
pub(crate) fn static_binaries(profile: &str) -> Result<PathBuf> {
    let host = host()?;
    eprintln!("build   static binaries, profile {profile}, for {host} (the first time takes minutes)");
    let mut command = cargo();
    // With --target the flag does not reach build scripts and macros, which must stay dynamic.
    command.env("RUSTFLAGS", "-C target-feature=+crt-static").env_remove("CARGO_ENCODED_RUSTFLAGS");
    command.args(["build", "--profile", profile, "--target", &host]);
    for package in PACKAGES {
        command.args(["--package", package]);
    }
    succeed(&mut command)?;
    binaries_folder(profile)
}

/// Where [`static_binaries`] leaves them.
pub(crate) fn binaries_folder(profile: &str) -> Result<PathBuf> {
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from);
    Ok(target.join(host()?).join(if profile == "dev" { "debug" } else { profile }))
}

fn host() -> Result<String> {
    let version = output(Command::new("rustc").arg("-vV"))?;
    let host = version.lines().find_map(|line| line.strip_prefix("host: ")).context("rustc -vV names no host")?;
    Ok(host.to_owned())
}

fn strip(from: &Path, to: &Path) -> Result<()> {
    succeed(Command::new("strip").arg("-o").arg(to).arg(from)).context("needs strip (Debian: apt-get install binutils)")
}

/// The geo database in which 198.18.N.0/24 is the country with telephone code N.
fn build_world(perigee: &Path, database: &Path) -> Result<()> {
    output(Command::new(perigee).args(["geo", "build"]).arg(root().join("deploy/world.csv")).arg(database)).map(drop)
}

/// Where a program is; what to install when it is nowhere.
pub(crate) fn find(name: &str, package: &str) -> Result<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain(["/usr/sbin", "/sbin"].map(PathBuf::from));
    let found = folders.map(|folder| folder.join(name)).find(|file| file.is_file());
    found.with_context(|| format!("there is no {name} on this machine; install it (Debian: apt-get install {package})"))
}

/// Programs, the libraries that they load and what name resolution reads.
fn stage_client(programs: &[PathBuf], target: &Path) -> Result<()> {
    for program in programs {
        // One place for all, wherever this system has them, and /bin/sh where everybody expects it.
        let name = program.file_name().context("a program without a name")?;
        copy(program, &target.join("usr/bin").join(name))?;
        let needs = output(Command::new("ldd").arg(program))?;
        for library in needs.split_whitespace().filter(|word| word.starts_with('/')) {
            let inside = library.trim_start_matches('/');
            copy(Path::new(library), &target.join(inside))?;
        }
    }
    copy(Path::new("/bin/sh"), &target.join("bin/sh"))?;
    fs::create_dir_all(target.join("etc"))?;
    // What is mounted there takes over the mode of what was there.
    let temporary = target.join("tmp");
    fs::create_dir_all(&temporary)?;
    fs::set_permissions(&temporary, fs::Permissions::from_mode(0o1777))?;
    fs::write(target.join("etc/nsswitch.conf"), "hosts: files dns\n")?;
    fs::write(target.join("etc/passwd"), "root:x:0:0::/:/bin/sh\nclient:x:65532:65532::/tmp:/bin/sh\n")?;
    Ok(())
}

/// Copies what is behind a link, once.
fn copy(from: &Path, to: &Path) -> Result<()> {
    if to.exists() {
        return Ok(());
    }
    let folder = to.parent().context("a file without a folder")?;
    fs::create_dir_all(folder)?;
    fs::copy(from, to).map(drop).with_context(|| format!("cannot copy {} to {}", from.display(), to.display()))
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use perigee_geo::world::{DemoBase, demo_world};

    use super::*;

    /// The images are built from the table, also where there is only Docker; the world itself is `perigee-geo`'s.
    #[test]
    fn the_table_is_the_simulated_world() {
        assert_eq!(fs::read_to_string(root().join("deploy/world.csv")).unwrap(), demo_world(DemoBase::Compose));
    }

    #[test]
    fn compose_and_dockerfile_name_the_same_images() {
        let compose = fs::read_to_string(root().join("deploy/compose.yaml")).unwrap();
        let dockerfile = fs::read_to_string(root().join("deploy/Dockerfile")).unwrap();
        for image in BINARIES.into_iter().chain(["perigee-client"]) {
            assert!(compose.contains(&format!("image: {image}:dev\n")), "{image}");
            assert!(compose.contains(&format!("target: {image} }}\n")), "{image}");
            assert!(dockerfile.contains(&format!(" AS {image}\n")), "{image}");
        }
    }

    /// Edges, shields and the origin live behind the relay that has their addresses and stands where they do.
    #[test]
    fn every_node_has_its_relay() {
        let compose = fs::read_to_string(root().join("deploy/compose.yaml")).unwrap();
        let text = fs::read_to_string(root().join("deploy/cdn.toml")).unwrap();
        let document = perigee_protocol::document::load("deploy/cdn.toml", &text).unwrap();
        let service = |name: &str| {
            let (_, rest) = compose.split_once(&format!("\n  {name}:\n")).unwrap_or_else(|| panic!("no {name}"));
            rest.split_once("\n\n").map_or(rest, |(service, _)| service)
        };
        let check = |node: &str, place: &str, told: &str| {
            let own = service(node);
            assert!(own.contains(&format!("network_mode: \"service:distance-{place}\"")), "{node}: {own}");
            assert!(!own.contains("networks:") && own.contains("PERIGEE_LISTEN: \"127.0.0.1:8100\""), "{node}: {own}");
            let relay = service(&format!("distance-{place}"));
            let flags = format!("\"--to\", \"127.0.0.1:8100\", \"--place\", \"{place}\"{told}]");
            assert!(relay.contains(&flags) && relay.contains("networks:"), "{node}: {relay}");
        };
        for pop in &document.pops {
            check(&format!("edge-{}", pop.id), pop.id.as_str(), ", \"--proxy-protocol\"");
        }
        for shield in &document.shields {
            check(shield.id.as_str(), shield.id.as_str(), ", \"--proxy-protocol\"");
        }
        check("origin", "origin", "");
        // A nameserver's has an address in every region, and asks from there.
        for (node, own) in [("ns1", 53), ("ns2", 54)] {
            let mode = format!("network_mode: \"service:distance-{node}\"");
            assert!(service(node).contains(&mode), "{}", service(node));
            // Its address is the relay's, so that it cannot know by it who it is.
            assert!(service(node).contains(&format!("PERIGEE_NAME: {node},")), "{}", service(node));
            let relay = service(&format!("distance-{node}"));
            assert!(relay.contains("- --dns\n") && relay.contains("- --to=127.0.0.1:8100\n"), "{relay}");
            let listens: Vec<&str> =
                relay.split_once("--listen=").unwrap().1.lines().next().unwrap().split(',').collect();
            assert_eq!(listens.len(), 1 + document.pops.len(), "{relay}");
            for listen in listens {
                let address = listen.strip_suffix(&format!(".{own}:53")).unwrap();
                assert!(relay.contains(&format!("ipv4_address: {address}.{own} }}")), "{node}: {listen}");
            }
        }
    }

    /// Every address that the document tells is a container's, and every PoP has an edge and a client.
    #[test]
    fn compose_is_the_documents_world() {
        let compose = fs::read_to_string(root().join("deploy/compose.yaml")).unwrap();
        let text = fs::read_to_string(root().join("deploy/cdn.toml")).unwrap();
        let document = perigee_protocol::document::load("deploy/cdn.toml", &text).unwrap();
        let has = |line: String| assert!(compose.contains(&line), "{line}");
        for pop in &document.pops {
            has(format!("\n  edge-{}:\n", pop.id));
            has(format!("\n  client-{}:\n", pop.id));
            pop.addresses().for_each(|address| has(format!("ipv4_address: {address} }}")));
            // What a relay knows an edge by that dials a shield: 198.18.0.(100 + N).
            for address in pop.addresses() {
                let IpAddr::V4(address) = address else { panic!("{address}") };
                has(format!("backbone: {{ ipv4_address: 198.18.0.{} }}", 100 + address.octets()[2]));
            }
        }
        for nameserver in &document.cdn.nameservers {
            nameserver.addresses.iter().for_each(|address| has(format!("ipv4_address: {address} }}")));
        }
        for shield in &document.shields {
            has(format!("\n  {}:\n", shield.id));
            has(format!("ipv4_address: {} }}", shield.url.host));
        }
    }
}
