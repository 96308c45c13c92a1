//! The demo's figures as text: a table that is painted over itself on a terminal, lines elsewhere.

use std::io::{self, Write};

use perigee_tier::TierStats;

use super::fleet::{EdgeView, View};

/// The table's lines, at most 79 columns wide.
pub(crate) fn table(view: &View) -> Vec<String> {
    let mut lines = vec![format!(
        "{:<4} {:<12} {:<16} {:>7} {:>8} {:>6} {:>10} {}",
        "edge", "city", "address", "answers", "requests", "hits", "sent", "state"
    )];
    for EdgeView { edge, answers, stats, state } in &view.edges {
        lines.push(format!(
            "{:<4} {:<12} {:<16} {:>7} {:>8} {:>6} {:>10} {}",
            edge.city.id,
            edge.city.name,
            edge.listen.to_string(),
            answers,
            stats.requests,
            ratio(stats),
            bytes(stats.bytes_sent),
            state.as_str()
        ));
    }
    let shields =
        view.shields.iter().map(|(id, stats)| format!("{id}: {} requests, {} hits", stats.requests, ratio(stats)));
    lines.push(shields.chain([format!("origin: {} requests", view.origin_requests)]).collect::<Vec<_>>().join("; "));
    lines
}

/// A line for each edge whose figures or state changed.
pub(crate) fn changes(before: &View, now: &View) -> Vec<String> {
    // Connections and requests under way come and go; a line is for what happened.
    let happened = |view: &EdgeView| (view.answers, view.stats.requests, view.state);
    let changed = |(index, edge): &(usize, &EdgeView)| before.edges.get(*index).map(happened) != Some(happened(edge));
    let line = |EdgeView { edge, answers, stats, state }: &EdgeView| {
        format!(
            "edge={} state={} answers={answers} requests={} hits={} bytes_sent={}",
            edge.city.id,
            state.as_str(),
            stats.requests,
            stats.hits,
            stats.bytes_sent
        )
    };
    now.edges.iter().enumerate().filter(changed).map(|(_, edge)| line(edge)).collect()
}

/// Hits of a hundred requests, or a dash before the first.
fn ratio(stats: &TierStats) -> String {
    if stats.requests == 0 {
        return "-".into();
    }
    format!("{:.1}%", stats.hits as f64 * 100.0 / stats.requests as f64)
}

fn bytes(count: u64) -> String {
    const UNITS: [&str; 4] = ["KiB", "MiB", "GiB", "TiB"];
    let mut value = count as f64;
    let mut unit = "B";
    for next in UNITS {
        if value < 1024.0 {
            break;
        }
        value /= 1024.0;
        unit = next;
    }
    if unit == "B" { format!("{count} B") } else { format!("{value:.1} {unit}") }
}

/// Paints tables over each other.
#[derive(Debug, Default)]
pub(crate) struct Painter {
    height: usize,
}

impl Painter {
    /// Paints `lines` over the last ones. Line wrapping is off meanwhile, so that a narrow terminal cuts and keeps the count.
    pub(crate) fn paint(&mut self, lines: &[String], out: &mut impl Write) -> io::Result<()> {
        if self.height > 0 {
            write!(out, "\x1b[{}A", self.height)?;
        }
        write!(out, "\x1b[?7l")?;
        for line in lines {
            writeln!(out, "\r{line}\x1b[K")?;
        }
        write!(out, "\x1b[J\x1b[?7h")?;
        self.height = lines.len();
        out.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::demo::{fleet::State, layout::tests::layout};

    fn view(requests: u64, hits: u64) -> View {
        let stats = TierStats { requests, hits, bytes_sent: requests * 1500, ..TierStats::default() };
        let edges = layout(&[]).edges.into_iter().map(|edge| EdgeView {
            edge,
            answers: 1_234_567,
            stats,
            state: State::Drained,
        });
        View { edges: edges.collect(), shields: vec![("shield-west".into(), stats)], origin_requests: 7 }
    }

    #[test]
    fn rows_fit_eighty_columns_and_stand_under_each_other() {
        let lines = table(&view(99_999_999, 99_999_999));
        assert_eq!(lines.len(), 1 + 8 + 1);
        for line in &lines[..9] {
            assert!(line.chars().count() < 80, "{line}");
            // The last column begins at the same place in each.
            let state = line.rsplit(' ').next().unwrap();
            assert_eq!(line.chars().count() - state.chars().count(), 70, "{line}");
        }
        assert!(lines[9].contains("origin: 7 requests"));
    }

    #[test]
    fn ratios_and_sizes() {
        let check = |requests, hits, expected: &str| {
            assert_eq!(ratio(&TierStats { requests, hits, ..TierStats::default() }), expected)
        };
        check(0, 0, "-");
        check(3, 2, "66.7%");
        check(1, 1, "100.0%");
        assert_eq!([0, 1023, 1024, 1536, 1 << 30].map(bytes), ["0 B", "1023 B", "1.0 KiB", "1.5 KiB", "1.0 GiB"]);
    }

    #[test]
    fn only_what_happened_is_a_line() {
        let (before, mut now) = (view(1, 0), view(1, 0));
        assert!(changes(&before, &now).is_empty());
        now.edges[2].stats.connections = 9;
        assert!(changes(&before, &now).is_empty());
        now.edges[6].stats.requests = 2;
        assert_eq!(
            changes(&before, &now),
            ["edge=tyo state=drained answers=1234567 requests=2 hits=0 bytes_sent=1500"]
        );
    }

    #[test]
    fn a_second_table_goes_over_the_first() {
        let (mut painter, mut out) = (Painter::default(), Vec::new());
        painter.paint(&["a".into(), "b".into()], &mut out).unwrap();
        assert!(!String::from_utf8_lossy(&out).contains('A'));
        out.clear();
        painter.paint(&["c".into()], &mut out).unwrap();
        assert!(String::from_utf8(out).unwrap().starts_with("\x1b[2A"));
    }
}
