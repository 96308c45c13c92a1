//! Every chore of the workspace: `cargo xtask help`. One file a chore; what a chore needs from outside is said in its
//! help. No chore is needed to use Perigee, and none writes outside the workspace and its temporary folders.

#![expect(clippy::print_stdout, reason = "chores talk to people")]

mod bench;
mod deb;
mod docker;
mod fuzz;
mod geo;
mod images;
mod reference;
mod run;
mod smoke;
mod test;
mod tidy;
mod up;

use std::process::ExitCode;

const HELP: &str = "\
cargo xtask CHORE [ARGUMENTS]

  test [ARGUMENTS]   the quick half of tidy, then all tests; ARGUMENTS go to cargo nextest (or cargo test)
                     with CI=true or --full first: the whole of tidy
  tidy [--quick]     arrows, purity, headers, documents, unsafe code, file lengths; then cargo fmt and clippy
                     (not with --quick)
  reference          writes docs/configuration.md and docs/perigee.schema.json from the table of the document's keys, and
                     docs/metrics.md from what the programs export, which it builds and starts
  geo                fetches the real GeoLite2-City of 2018 into .geo/ (57 MB, from PyPI, needs python3 with pip)
  images             builds every image of deploy/compose.yaml here, without pulling any (needs Docker)
  up                 images, then the world of deploy/compose.yaml: eight regions to dig and curl in, as far from each other as
                     light takes (--no-distance: all side by side)
  down [--volumes]   ends that world, and its caches
  smoke              brings that world up, shows from every region that it works, and takes it down again
                     (--keep or KEEP=1: leaves it; --no-images: those that are there; --no-distance: as for up;
                     --skip-if-absent: without Docker, and outside of CI, says so and succeeds)
  deb                packs the four binaries, units, manual pages and completions into target/deb (--binaries FOLDER: those
                     that are there instead of building them; needs dpkg-deb); with --check instead: installs, starts, upgrades
                     and removes the package on a machine made by debootstrap and systemd-nspawn (as root)
  bench http         our edge and HAProxy, nginx, Varnish and Traffic Server on the same work, in turns: CPU a request and
                     its ratio (--scenario NAME, --quick, --json and more; needs wrk and two cores; peers that are not
                     there are installed by apt as root, else skipped)
  bench soak         edge and shield under every kind of request while the origin changes and fails; every byte checked
  bench figures      misses, fills to disk, restart, memory of an object
  bench instructions what a hit takes, by callgrind, against the committed count (--accept writes it down)
  fuzz TARGET        bytes of all kinds through a door of strangers' bytes (answer, geo, zone-file, document) under libFuzzer, until a law
                     breaks or --seconds N are over (60); --keep packs what it found into fuzz/corpus (needs a C++ compiler)
  help               this
";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (chore, rest) = arguments.split_first().map_or(("help", &[][..]), |(chore, rest)| (chore.as_str(), rest));
    let done = match chore {
        "test" => test::run(rest),
        "tidy" => tidy::run(rest),
        "fuzz" => fuzz::run(rest),
        "reference" => reference::run(rest),
        "deb" => deb::run(rest),
        "geo" => geo::run(rest),
        "images" => images::run(rest),
        "up" => up::run(rest),
        "smoke" => smoke::run(rest),
        "bench" => bench::run(rest),
        "down" => up::down(rest),
        "help" | "-h" | "--help" => {
            print!("{HELP}");
            Ok(())
        }
        other => Err(anyhow::anyhow!("there is no chore {other:?}\n\n{HELP}")),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask {chore}: {error:#}");
            ExitCode::FAILURE
        }
    }
}
