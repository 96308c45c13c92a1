//! Document and database replaced under load: what is lost, and how long nobody is answered.

use std::{
    fs, thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use perigee_tests::client::Client;

use super::{
    super::{report::Table, server::Server},
    load,
    peers::Setup,
};

const RATE: u32 = 10_000;
/// Reloads of each kind.
const RELOADS: u32 = 4;
const BOUND: Duration = Duration::from_secs(20);

pub(super) fn measure(setup: &Setup, time: Duration, table: &mut Table) -> Result<()> {
    // Its own copy, to be replaced as operators do: by a rename.
    let copy = setup.folder.join("replaced.mmdb");
    fs::copy(&setup.database, &copy).context("the database cannot be copied")?;
    let document = setup.document(false);
    let text = |ttl: u32| {
        let with_copy = setup.text(false).replace(&setup.database.display().to_string(), &copy.display().to_string());
        with_copy.replace("ttl = \"30s\"", &format!("ttl = \"{ttl}s\""))
    };
    let replace = |text: &str| -> Result<()> {
        let beside = setup.folder.join("next.toml");
        fs::write(&beside, text)?;
        fs::rename(&beside, &document).context("the document cannot be replaced")
    };
    replace(&text(30))?;
    let server = setup.ours(false)?;
    let before = generation(&server)?;
    let from = Instant::now();
    let ran = load::paced(server.address, RATE, time.max(Duration::from_secs(4)), || {
        for round in 1..=RELOADS {
            let beside = setup.folder.join("next.mmdb");
            fs::copy(&setup.database, &beside)?;
            fs::rename(&beside, &copy)?;
            replace(&text(30 + round))?;
            while generation(&server)? < before + u64::from(round) {
                ensure!(from.elapsed() < BOUND, "reload {round} is not taken up");
                thread::sleep(Duration::from_millis(10));
            }
        }
        Ok(())
    })?;
    table.values.push((server.name, "queries lost", ran.lost as f64));
    table.values.push((server.name, "longest gap, ms", ran.gap.as_secs_f64() * 1e3));
    table.values.push((server.name, "p99, µs", ran.p99_us));
    fs::write(&document, setup.text(false)).context("the document cannot be restored")
}

/// How many documents the nameserver has taken up.
fn generation(server: &Server) -> Result<u64> {
    let admin = server.admin.context("no admin API")?;
    let asked = Client::new(admin, "bench").ask("GET", "/v1/status", "", "");
    let answer = asked.map_err(|failure| anyhow::anyhow!("the status cannot be read: {failure:?}"))?;
    let status: serde_json::Value = serde_json::from_slice(&answer.body)?;
    status["document_generation"].as_u64().context("the status tells no generation")
}
