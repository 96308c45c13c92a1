//! The documentation, done: every command that a page shows is run, and every output that it shows is compared with what is
//! printed. What cannot be run says why (docs/STYLE.md tells how), and even its commands and flags must exist.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on says where")]
#![expect(clippy::print_stdout, reason = "what nobody runs is for whoever reads the run")]

mod compare;
mod flags;
mod fragment;
mod parse;
mod shell;

use std::{
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
};

use parse::{Page, Step};
use perigee_tests::{installed, skip};

/// Each page with something to run has a test of its own, so that they run beside each other.
macro_rules! pages {
    ($($name:ident $path:literal)*) => {
        const PAGES: &[&str] = &[$($path),*];
        $(#[test]
        fn $name() {
            run($path);
        })*
    };
}

pages! {
    readme "README.md"
    tutorial "docs/tutorial.md"
    add_a_pop "docs/how-to/add-a-pop.md"
    drain "docs/how-to/drain.md"
    move_a_site_in "docs/how-to/move-a-site-in.md"
    purge_on_deploy "docs/how-to/purge-on-deploy.md"
    read_cache_status "docs/how-to/read-cache-status.md"
    replace_the_geo_database "docs/how-to/replace-the-geo-database.md"
    rotate_certificates "docs/how-to/rotate-certificates.md"
    rotate_the_secret "docs/how-to/rotate-the-secret.md"
    sign_the_zone "docs/how-to/sign-the-zone.md"
    cli "docs/cli.md"
    dns_transports "docs/dns-transports.md"
    dnstap "docs/dnstap.md"
    geo_data "docs/geo-data.md"
    how_caching_decides "docs/how-caching-decides.md"
    how_routing_decides "docs/how-routing-decides.md"
    measure "docs/measure.md"
    metrics "docs/metrics.md"
    page "docs/page.md"
    purge "docs/purge.md"
    runbooks "docs/runbooks.md"
    steering "docs/steering.md"
    tls "docs/tls.md"
    traces "docs/traces.md"
    zones "docs/zones.md"
}

#[test]
fn every_block_is_run_or_says_why_not() {
    let mut helps = flags::Helps::of(programs());
    let (mut mistakes, mut run, mut skipped) = (String::new(), 0, String::new());
    for path in all() {
        let page = read(&path);
        run += page.steps.len();
        let mut wrong = page.mistakes;
        for (line, reason, script) in page.skipped {
            writeln!(skipped, "{path}:{line} {reason}").unwrap();
            wrong.extend(helps.mistakes(&script).into_iter().map(|what| (line, what)));
        }
        wrong.extend(
            page.links
                .iter()
                .filter(|(_, to)| !leads_somewhere(&path, to))
                .map(|(line, to)| (*line, format!("leads nowhere: {to}"))),
        );
        for (line, text) in page.documents {
            wrong.extend(fragment::mistakes(&text).into_iter().map(|(inner, what)| (line + inner, what)));
        }
        for (line, span) in page.inline {
            wrong.extend(helps.mistakes(&span).into_iter().map(|what| (line, what)));
        }
        if !page.steps.is_empty() && !PAGES.contains(&path.as_str()) {
            wrong.push((1, "has commands to run, and no test in tests/tests/docs/main.rs".into()));
        }
        for (line, what) in wrong {
            writeln!(mistakes, "{path}:{line}: {what}").unwrap();
        }
    }
    println!("{run} steps of documentation are run; not run:\n{skipped}");
    skip(&format!("{} blocks of the documentation, each with a reason beside it", skipped.lines().count()));
    assert!(mistakes.is_empty(), "\n{mistakes}");
}

#[test]
fn the_index_leads_to_every_page() {
    let linked: Vec<_> = read("docs/README.md").links.into_iter().map(|(_, target)| format!("docs/{target}")).collect();
    // Decisions are listed by their folder, and the two pages before the index lead to it.
    let pages = all().into_iter().filter(|page| !page.ends_with("README.md") && !page.starts_with("docs/adr/"));
    let missing: Vec<_> = pages.filter(|page| !linked.contains(page)).collect();
    assert_eq!(missing, [""; 0], "not in docs/README.md");
}

/// Does all that a page says.
fn run(path: &str) {
    let page = read(path);
    let usual = ["unshare", "ip", "bash", "curl", "dig"].map(str::to_owned);
    if !usual.iter().chain(&page.needs).all(|program| installed(program)) {
        return;
    }
    if let Err(reason) = shell::allowed() {
        skip(&reason);
        return;
    }
    let mut shell = shell::Shell::start(&programs(), &repository());
    for (path, step) in flat(path, page) {
        let (Step::Run { line, .. }
        | Step::Background { line, .. }
        | Step::File { line, .. }
        | Step::Page { line, .. }) = step;
        let from = std::time::Instant::now();
        if let Err(what) = shell.step(&step) {
            panic!("\n{path}:{line}: {what}\nThe step: {step:?}");
        }
        println!("{path}:{line}: {} ms", from.elapsed().as_millis());
    }
}

/// The steps of a page and of those that it comes after, each with the page that it stands on.
fn flat(path: &str, page: Page) -> Vec<(String, Step)> {
    assert_eq!(page.mistakes, [], "{path}");
    let mut all = Vec::new();
    for (_, step) in page.steps {
        let Step::Page { page: other, heading, .. } = &step else {
            all.push((path.to_owned(), step));
            continue;
        };
        let mut before = read(other);
        let end = before.steps.iter().position(|(under, _)| under == heading);
        before.steps.truncate(end.unwrap_or_else(|| panic!("{path}: {other} has no step under {heading:?}")));
        all.extend(flat(other, before));
    }
    all
}

/// Whether a link of a page is to a file or folder that is there and, if it names one, to a heading of it. Other sites are not asked.
fn leads_somewhere(page: &str, target: &str) -> bool {
    if target.contains("://") {
        return true;
    }
    let (path, anchor) = target.split_once('#').unwrap_or((target, ""));
    let page = repository().join(page);
    let file = if path.is_empty() { page } else { page.parent().unwrap().join(path) };
    file.exists()
        && (anchor.is_empty()
            || parse::page(&fs::read_to_string(&file).unwrap()).anchors.iter().any(|known| known == anchor))
}

fn read(path: &str) -> Page {
    parse::page(&fs::read_to_string(repository().join(path)).unwrap())
}

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// The folder of the binaries: the test is in `target/PROFILE/deps`.
fn programs() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let folder = test.ancestors().nth(2).unwrap();
    let built =
        ["perigee", "perigee-edge", "perigee-shield", "perigee-geodns"].iter().all(|name| folder.join(name).is_file());
    assert!(built, "run: cargo build --workspace --bins");
    folder.to_owned()
}

/// README.md and every page of docs/.
fn all() -> Vec<String> {
    let mut pages = vec!["README.md".to_owned()];
    let mut folders = vec![repository().join("docs")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|kind| kind == "md") {
                pages.push(path.strip_prefix(repository()).unwrap().display().to_string());
            }
        }
    }
    pages.sort();
    pages
}
