//! The demo's figures as text: a table that is painted over itself on a terminal, lines elsewhere.

use std::io::{self, Write};

use perigee_tier::TierStats;
use terminal_size::{Height, Width, terminal_size_of};

use super::{
    fleet::{EdgeView, View},
    refusal::{Refusal, wrapped},
};

/// Where a terminal does not say how large it is.
const SIZE: Size = Size { columns: 80, rows: 24 };

/// A terminal's, in characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Size {
    pub(crate) columns: usize,
    pub(crate) rows: usize,
}

/// Of the terminal that is stdout.
pub(crate) fn size() -> Size {
    terminal_size_of(io::stdout())
        .map_or(SIZE, |(Width(columns), Height(rows))| Size { columns: columns.into(), rows: rows.into() })
}

/// A column of the table.
struct Column {
    head: &'static str,
    width: usize,
    is_number: bool,
    cell: fn(&EdgeView) -> String,
}

/// In their order; the edge and its state are always there.
const COLUMNS: [Column; 8] = [
    Column { head: "edge", width: 4, is_number: false, cell: |view| view.edge.city.id.to_owned() },
    Column { head: "state", width: 7, is_number: false, cell: |view| view.state.as_str().to_owned() },
    Column { head: "city", width: 12, is_number: false, cell: |view| view.edge.city.name.to_owned() },
    Column { head: "address", width: 17, is_number: false, cell: |view| view.edge.listen.to_string() },
    Column { head: "answers", width: 7, is_number: true, cell: |view| view.answers.to_string() },
    Column { head: "requests", width: 8, is_number: true, cell: |view| view.stats.requests.to_string() },
    Column { head: "hits", width: 6, is_number: true, cell: |view| ratio(&view.stats) },
    Column { head: "sent", width: 10, is_number: true, cell: |view| bytes(view.stats.bytes_sent) },
];
/// What stays where there is no room for all, the dearest first.
const DEAREST: [&str; 8] = ["edge", "state", "requests", "hits", "answers", "city", "sent", "address"];
const ALWAYS: usize = 2;

/// As many columns as there is room for.
fn columns(room: usize) -> Vec<&'static Column> {
    let mut names = Vec::new();
    let mut width = 0;
    for (index, name) in DEAREST.iter().enumerate() {
        let own = COLUMNS.iter().find(|column| column.head == *name).map_or(0, |column| column.width);
        width += own + usize::from(index > 0);
        if index >= ALWAYS && width > room {
            break;
        }
        names.push(*name);
    }
    COLUMNS.iter().filter(|column| names.contains(&column.head)).collect()
}

fn row(columns: &[&Column], cell: impl Fn(&Column) -> String) -> String {
    let cells = columns.iter().map(|column| {
        let (cell, width) = (cell(column), column.width);
        if column.is_number { format!("{cell:>width$}") } else { format!("{cell:<width$}") }
    });
    cells.collect::<Vec<_>>().join(" ").trim_end().to_owned()
}

/// The table's lines, with what is wrong with the document below: as much as there is room for.
pub(crate) fn table(view: &View, size: Size) -> Vec<String> {
    let columns = columns(size.columns);
    let mut lines = vec![row(&columns, |column| column.head.to_owned())];
    lines.extend(view.edges.iter().map(|edge| row(&columns, |column| (column.cell)(edge))));
    let shields =
        view.shields.iter().map(|(id, stats)| format!("{id}: {} requests, {} hits", stats.requests, ratio(stats)));
    let others: Vec<String> = shields.chain([format!("origin: {} requests", view.origin_requests)]).collect();
    let joined = others.join("; ");
    if joined.chars().count() <= size.columns {
        lines.push(joined);
    } else {
        lines.extend(others.iter().flat_map(|other| wrapped(other, size.columns)));
    }
    lines.extend(view.refusals.iter().flat_map(|refusal| refusal.lines(size.columns)));
    // The cursor is below the last line, and cannot be moved above the first one that is seen.
    lines.truncate(size.rows.saturating_sub(1).max(1));
    lines
}

/// A line for each edge whose figures or state changed, and for the document when it is refused or serves again.
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
    let edges = now.edges.iter().enumerate().filter(changed).map(|(_, edge)| line(edge));
    let is_new = now.refusals != before.refusals;
    let refusals = now.refusals.iter().filter(|_| is_new).map(Refusal::line);
    let mended = (is_new && now.refusals.is_empty()).then(|| "document=serves".to_owned());
    edges.chain(refusals).chain(mended).collect()
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
    /// Of the terminal, when it was painted last.
    columns: usize,
}

impl Painter {
    /// Paints `lines` over the last ones. Line wrapping is off meanwhile, so that a narrow terminal cuts and keeps the count.
    pub(crate) fn paint(&mut self, lines: &[String], size: Size, out: &mut impl Write) -> io::Result<()> {
        // Terminals break old lines anew when they become narrower, each in its own way: how high those are now nobody
        // knows, so the table begins again below them. And what was pushed out at the top cannot be painted over.
        let is_known = self.columns == size.columns;
        let height = if is_known { self.height.min(size.rows.saturating_sub(1)) } else { 0 };
        if height > 0 {
            write!(out, "\x1b[{height}A")?;
        }
        write!(out, "\x1b[?7l")?;
        for line in lines {
            writeln!(out, "\r{line}\x1b[K")?;
        }
        write!(out, "\x1b[J\x1b[?7h")?;
        self.height = lines.len();
        self.columns = size.columns;
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
        View {
            edges: edges.collect(),
            shields: vec![("shield-west".into(), stats), ("shield-east".into(), stats)],
            origin_requests: 7,
            refusals: Vec::new(),
        }
    }

    fn sized(columns: usize) -> Size {
        Size { columns, rows: 50 }
    }

    #[test]
    fn every_width_has_its_columns() {
        let view = view(99_999_999, 99_999_999);
        let check = |width: usize, expected: &str| {
            let lines = table(&view, sized(width));
            let head: Vec<&str> = lines[0].split_whitespace().collect();
            assert_eq!(head.join(" "), expected, "{width}");
            assert!(width < 12 || lines.iter().all(|line| line.chars().count() <= width), "{width}: {lines:#?}");
            for line in &lines[1..9] {
                // The state is the second thing said, and stands in the same place in each.
                assert_eq!(line.char_indices().nth(5).map(|(at, _)| &line[at..at + 7]), Some("drained"), "{line}");
            }
        };
        let all = "edge state city address answers requests hits sent";
        check(usize::MAX, all);
        check(200, all);
        check(80, all);
        check(78, all);
        check(77, "edge state city answers requests hits sent");
        check(60, "edge state city answers requests hits sent");
        check(59, "edge state city answers requests hits");
        check(40, "edge state answers requests hits");
        check(30, "edge state requests hits");
        check(12, "edge state");
        // Less is cut by the terminal.
        check(1, "edge state");
        check(0, "edge state");
    }

    #[test]
    fn what_is_not_an_edge_has_a_line_or_lines() {
        let last = |width: usize| table(&view(3, 2), sized(width)).split_off(9);
        assert_eq!(
            last(98),
            ["shield-west: 3 requests, 66.7% hits; shield-east: 3 requests, 66.7% hits; origin: 7 requests"]
        );
        let lines =
            ["shield-west: 3 requests, 66.7% hits", "shield-east: 3 requests, 66.7% hits", "origin: 7 requests"];
        assert_eq!(last(40), lines);
    }

    #[test]
    fn a_refused_document_is_below_for_as_long_as_it_is() {
        let refusal = Refusal { by: None, reason: "perigee.toml:1  version".into() };
        let (good, mut bad) = (view(1, 0), view(1, 0));
        bad.refusals = vec![refusal];
        let below = |view: &View| table(view, sized(100)).split_off(10);
        assert_eq!(below(&good), [""; 0]);
        assert_eq!(below(&bad)[1..], ["perigee.toml:1  version"]);
        assert_eq!(changes(&good, &bad), ["document=refused by=all reason=\"perigee.toml:1  version\""]);
        assert!(changes(&bad, &bad).is_empty());
        assert_eq!(changes(&bad, &good), ["document=serves"]);
    }

    #[test]
    fn a_low_terminal_has_the_table_s_head() {
        let count = |rows: usize| table(&view(1, 0), Size { columns: 80, rows }).len();
        assert_eq!([0, 1, 2, 5, 12, 24].map(count), [1, 1, 1, 4, 11, 12]);
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
        let mut painter = Painter::default();
        let mut check = |lines: &[&str], columns: usize, rows: usize, up: Option<usize>| {
            let (lines, mut out): (Vec<String>, _) =
                (lines.iter().map(|line| (*line).to_owned()).collect(), Vec::new());
            painter.paint(&lines, Size { columns, rows }, &mut out).unwrap();
            let out = String::from_utf8(out).unwrap();
            let moved = out.split_once("A\x1b[?7l").map(|(up, _)| up.trim_start_matches("\x1b[").parse().unwrap());
            assert_eq!(moved, up, "{out:?}");
        };
        check(&["a", "b", "c"], 80, 24, None);
        check(&["a", "b"], 80, 24, Some(3));
        // Lower, and then of another width.
        check(&["a", "b"], 80, 2, Some(1));
        check(&["a", "b"], 40, 24, None);
        check(&["a"], 40, 24, Some(2));
    }
}
