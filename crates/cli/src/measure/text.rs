//! A report as text, at most 100 columns wide.

use std::io::{self, Write};

use super::{
    figures::{Connection, Row, Spared, Spread, Way},
    report::{PlaceReport, Report},
    run::GIVE_UP,
};

/// The longest bar of the plot.
const BAR: usize = 48;
/// Paths that a finding names.
const NAMED: usize = 3;

pub(super) fn print(report: &Report, out: &mut impl Write) -> io::Result<()> {
    let bytes: u64 = report.assets.iter().map(|asset| asset.bytes).sum();
    let assets = count(report.assets.len(), "asset", "assets");
    writeln!(out, "{} beside {}: {assets}, {}", report.cdn, report.direct, size(bytes))?;
    for line in &report.left_out {
        writeln!(out, "left out: {line}")?;
    }
    writeln!(
        out,
        "\nMilliseconds, half of all fetches / 19 of 20. Total: from the question for the name to the last byte."
    )?;
    for place in &report.places {
        writeln!(out)?;
        table(place, out)?;
    }
    writeln!(out)?;
    plot(&report.places, out)?;
    writeln!(out, "\nFetches through the CDN: {}", tiers(&report.spared))?;
    if report.spared.requests_known > 0 {
        let Spared { requests, requests_known, bytes, bytes_known, .. } = report.spared;
        let share = percent(bytes as f64, bytes_known as f64);
        writeln!(
            out,
            "The origin was spared {requests} of {requests_known} requests ({}) and {} of {} ({share}).",
            percent(requests as f64, requests_known as f64),
            size(bytes),
            size(bytes_known)
        )?;
    }
    findings(report, out)
}

fn table(place: &PlaceReport, out: &mut impl Write) -> io::Result<()> {
    let address = match place.address {
        Some(address) if address.to_string() != place.name => format!(" ({address})"),
        _ => String::new(),
    };
    let edges: Vec<String> = place.edges.iter().map(ToString::to_string).collect();
    let edges = if edges.is_empty() { "no edge".to_owned() } else { edges.join(", ") };
    writeln!(out, "{}{address} → {edges}; {}", place.name, tiers(&place.spared))?;
    if !place.fetched_from_there {
        writeln!(out, "  this machine has no such address: the nameserver was told of it, the times are from here")?;
    }
    // Where nobody speaks TLS there is nothing to tell of it.
    let has_tls = place.rows.iter().any(|row| row.tls_ms.is_some());
    let tls = |text: &str| if has_tls { format!(" {text:>13}") } else { String::new() };
    let head = tls("TLS");
    writeln!(
        out,
        "  {:<23} {:>14} {:>13}{head} {:>15} {:>15} {:>9}",
        "", "DNS", "connect", "first byte", "total", "MB/s"
    )?;
    for row in &place.rows {
        let spread =
            |spread: Option<Spread>| spread.map_or("-".to_owned(), |it| format!("{} / {}", time(it.p50), time(it.p95)));
        let is_address = row.connection == Connection::Fresh && row.dns_ms.is_none();
        writeln!(
            out,
            "  {:<23} {:>14} {:>13}{} {:>15} {:>15} {:>9}",
            label(row),
            if is_address { "none (address)".to_owned() } else { spread(row.dns_ms) },
            spread(row.connect_ms),
            tls(&spread(row.tls_ms)),
            spread(row.first_byte_ms),
            spread(row.total_ms),
            row.bytes_per_second.map_or("-".to_owned(), |speed| format!("{:.2}", speed / 1e6)),
        )?;
    }
    for (row, early) in place.rows.iter().filter_map(|row| Some((row, row.early_ms?))) {
        let of = if row.tls_ms.is_some() { "TLS and the first byte are" } else { "the first byte are" };
        writeln!(
            out,
            "  {}: taken by something nearer than the server; {} ms of {of} the handshake's",
            label(row),
            time(early)
        )?;
    }
    for error in &place.errors {
        writeln!(out, "  failed: {error}")?;
    }
    if place.untried > 0 {
        writeln!(out, "  not tried: {} more, after {GIVE_UP} failures in a row", place.untried)?;
    }
    Ok(())
}

fn label(row: &Row) -> &'static str {
    match (row.way, row.connection) {
        (Way::Direct, Connection::Fresh) => "origin, new connection",
        (Way::Direct, Connection::Kept) => "origin, kept connection",
        (Way::CdnFirst, _) => "CDN, new, first time",
        (Way::CdnAgain, Connection::Fresh) => "CDN, new, again",
        (Way::CdnAgain, Connection::Kept) => "CDN, kept, again",
    }
}

/// What the bars are of, where it is not the total.
const WITHOUT_DNS: &str = "New connections, again, without DNS: one side is an address, and waits for none.";

/// Bars of the totals over new connections.
fn plot(places: &[PlaceReport], out: &mut impl Write) -> io::Result<()> {
    let longest = places.iter().filter_map(|place| place.gain()).map(|(direct, cdn)| direct.p50.max(cdn.p50));
    let longest = longest.fold(0.0, f64::max);
    if longest <= 0.0 {
        return Ok(());
    }
    let width = places.iter().map(|place| place.name.chars().count()).max().unwrap_or_default();
    if !places.iter().all(PlaceReport::has_fair_dns) {
        writeln!(out, "{WITHOUT_DNS}")?;
    }
    for place in places {
        let Some((direct, cdn)) = place.gain() else { continue };
        let bar = |value: f64| "█".repeat(((value / longest * BAR as f64).round() as usize).clamp(1, BAR));
        writeln!(out, "{:<width$}  origin {} {}", place.name, bar(direct.p50), time(direct.p50))?;
        let times = if cdn.p50 > 0.0 { format!("  ×{:.1}", direct.p50 / cdn.p50) } else { String::new() };
        writeln!(out, "{:<width$}  CDN    {} {}{times}", "", bar(cdn.p50), time(cdn.p50))?;
    }
    Ok(())
}

/// Who answered how many.
fn tiers(spared: &Spared) -> String {
    let all = spared.requests_known + spared.requests_unknown;
    let named = spared.by_tier.iter().enumerate().map(|(tier, count)| match tier {
        0 => ("edge".to_owned(), *count),
        1 => ("shield".to_owned(), *count),
        tier => (format!("tier {}", tier + 1), *count),
    });
    let named = named.chain([("origin".to_owned(), spared.by_origin), ("unknown".to_owned(), spared.requests_unknown)]);
    let parts: Vec<String> = named
        .filter(|(_, count)| *count > 0)
        .map(|(name, count)| format!("{name} {}", percent(count as f64, all as f64)))
        .collect();
    if parts.is_empty() { "none came through".to_owned() } else { format!("answered by {}", parts.join(", ")) }
}

fn findings(report: &Report, out: &mut impl Write) -> io::Result<()> {
    if report.interrupted {
        writeln!(out, "Interrupted: this is what there was until then.")?;
    }
    if report.failed > 0 {
        writeln!(out, "{} failed; see above.", count(report.failed, "fetch", "fetches"))?;
    }
    if report.findings.is_empty() {
        // Of what did not come nothing is known.
        let is_whole = report.failed == 0 && !report.interrupted;
        return if is_whole { writeln!(out, "\nNothing to find fault with.") } else { Ok(()) };
    }
    writeln!(out)?;
    for finding in &report.findings {
        let count = finding.of.len();
        let more = if count > NAMED { format!(" and {} more", count - NAMED) } else { String::new() };
        writeln!(out, "{}: {}", finding.kind.title(), finding.seen)?;
        writeln!(out, "  {}{more}", finding.of.iter().take(NAMED).cloned().collect::<Vec<_>>().join(", "))?;
        writeln!(out, "  → {}", finding.remedy)?;
    }
    Ok(())
}

fn count(number: usize, one: &str, several: &str) -> String {
    format!("{number} {}", if number == 1 { one } else { several })
}

fn time(ms: f64) -> String {
    if ms >= 9.95 { format!("{ms:.0}") } else { format!("{ms:.1}") }
}

fn percent(part: f64, whole: f64) -> String {
    if whole > 0.0 { format!("{:.0} %", part / whole * 100.0) } else { "-".to_owned() }
}

fn size(bytes: u64) -> String {
    match bytes {
        0..1_000 => format!("{bytes} bytes"),
        1_000..1_000_000 => format!("{:.1} kB", bytes as f64 / 1e3),
        _ => format!("{:.1} MB", bytes as f64 / 1e6),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_short() {
        assert_eq!([0.04, 9.94, 9.95, 267.4].map(time), ["0.0", "9.9", "10", "267"]);
        assert_eq!(
            [0, 999, 1_000, 999_949, 1_000_000].map(size),
            ["0 bytes", "999 bytes", "1.0 kB", "999.9 kB", "1.0 MB"]
        );
        assert_eq!([percent(0.0, 0.0), percent(2.0, 3.0)], ["-", "67 %"]);
    }

    #[test]
    fn a_run_that_failed_is_not_praised() {
        let check = |failed: usize, interrupted: bool, expected: &[&str], not: &str| {
            let report = Report {
                version: 1,
                direct: "http://o.example/".into(),
                cdn: "http://c.example/".into(),
                assets: Vec::new(),
                left_out: Vec::new(),
                places: Vec::new(),
                spared: Spared::default(),
                findings: Vec::new(),
                failed,
                interrupted,
                samples: Vec::new(),
            };
            let mut out = Vec::new();
            print(&report, &mut out).unwrap();
            let text = String::from_utf8(out).unwrap();
            assert!(expected.iter().all(|one| text.contains(one)) && !text.contains(not), "{text}");
        };
        check(0, false, &["0 assets", "Nothing to find fault with."], "failed");
        check(1, false, &["1 fetch failed; see above."], "Nothing");
        check(2, false, &["2 fetches failed; see above."], "Nothing");
        check(0, true, &["Interrupted"], "Nothing");
    }

    #[test]
    fn tiers_are_named_from_the_client_on() {
        let spared = Spared { requests_known: 4, by_tier: vec![2, 1], by_origin: 1, ..Spared::default() };
        assert_eq!(tiers(&spared), "answered by edge 50 %, shield 25 %, origin 25 %");
        assert_eq!(tiers(&Spared::default()), "none came through");
    }

    #[test]
    fn the_longest_bar_is_the_slowest() {
        let spread = |p50| Some(Spread { p50, p95: p50 });
        let none = crate::measure::figures::row(&[], 0, Way::Direct, Connection::Fresh);
        let row =
            |way, total| Row { way, total_ms: spread(total), without_dns_ms: spread(total / 2.0), ..none.clone() };
        let check = |rows: Vec<Row>, expected: String| {
            let mut out = Vec::new();
            plot(&[PlaceReport::of("Tokyo", rows)], &mut out).unwrap();
            assert_eq!(String::from_utf8(out).unwrap(), expected);
        };
        let bar = "█".repeat(48);
        let both = vec![row(Way::Direct, 480.0), row(Way::CdnAgain, 10.0)];
        check(both.clone(), format!("Tokyo  origin {bar} 480\n       CDN    █ 10  ×48.0\n"));
        let named: Vec<Row> = both.iter().map(|row| Row { dns_ms: spread(1.0), ..row.clone() }).collect();
        check(named.clone(), format!("Tokyo  origin {bar} 480\n       CDN    █ 10  ×48.0\n"));
        // An origin that is an address is not compared by what it never waits for.
        let one = vec![both[0].clone(), named[1].clone()];
        check(one, format!("{WITHOUT_DNS}\nTokyo  origin {bar} 240\n       CDN    █ 5.0  ×48.0\n"));
    }

    #[test]
    fn phases_stand_apart() {
        let one = |ms: f64| Some(Spread { p50: ms, p95: 2.0 * ms });
        let row = |way, connection, dns: Option<f64>, tls: Option<f64>, early: Option<f64>| Row {
            way,
            connection,
            fetches: 1,
            dns_ms: dns.and_then(one),
            connect_ms: one(2.0).filter(|_| connection == Connection::Fresh),
            tls_ms: tls.and_then(one),
            first_byte_ms: one(300.0),
            early_ms: early,
            total_ms: one(400.0),
            without_dns_ms: one(399.0),
            bytes_per_second: None,
        };
        let told = |rows: Vec<Row>| {
            let place = PlaceReport::of("Tokyo", rows);
            let mut out = Vec::new();
            table(&place, &mut out).unwrap();
            String::from_utf8(out).unwrap()
        };
        let words = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
        let plain = told(vec![
            row(Way::Direct, Connection::Fresh, None, None, Some(250.0)),
            row(Way::CdnAgain, Connection::Fresh, Some(1.0), None, None),
            row(Way::CdnAgain, Connection::Kept, None, None, None),
        ]);
        let lines: Vec<String> = plain.lines().map(words).collect();
        assert_eq!(
            lines[1..],
            [
                "DNS connect first byte total MB/s",
                "origin, new connection none (address) 2.0 / 4.0 300 / 600 400 / 800 -",
                "CDN, new, again 1.0 / 2.0 2.0 / 4.0 300 / 600 400 / 800 -",
                "CDN, kept, again - - 300 / 600 400 / 800 -",
                "origin, new connection: taken by something nearer than the server; 250 ms of the first byte are the handshake's",
            ]
        );
        let secure = told(vec![
            row(Way::Direct, Connection::Fresh, Some(1.0), None, None),
            row(Way::CdnAgain, Connection::Fresh, Some(1.0), Some(5.0), Some(8.0)),
        ]);
        let lines: Vec<String> = secure.lines().map(words).collect();
        assert_eq!(
            lines[1..],
            [
                "DNS connect TLS first byte total MB/s",
                "origin, new connection 1.0 / 2.0 2.0 / 4.0 - 300 / 600 400 / 800 -",
                "CDN, new, again 1.0 / 2.0 2.0 / 4.0 5.0 / 10 300 / 600 400 / 800 -",
                "CDN, new, again: taken by something nearer than the server; 8.0 ms of TLS and the first byte are the handshake's",
            ]
        );
        // Columns are of one width in every row.
        let widths: Vec<usize> = secure.lines().skip(1).take(3).map(|line| line.chars().count()).collect();
        assert!(widths.iter().all(|width| *width == widths[0]), "{secure}");
    }
}
