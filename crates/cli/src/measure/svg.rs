//! The plot as SVG: two bars a place, readable in light and dark, and without a pointer.

use std::fmt::Write as _;

use super::report::PlaceReport;

/// For names of 24 wide letters.
const LEFT: f64 = 220.0;
const RIGHT: f64 = 80.0;
const WIDTH: f64 = 800.0;
const ROW: f64 = 44.0;
const TOP: f64 = 64.0;

/// A whole document.
pub(super) fn svg(title: &str, places: &[PlaceReport]) -> String {
    let gains: Vec<_> = places.iter().filter_map(|place| Some((&place.name, place.gain()?))).collect();
    let longest = gains.iter().map(|(_, (direct, cdn))| direct.p50.max(cdn.p50)).fold(f64::MIN_POSITIVE, f64::max);
    let height = TOP + gains.len() as f64 * ROW + 12.0;
    let title = escaped(title);
    let mut text = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" role=\"img\" font-family=\"system-ui, sans-serif\" \
         font-size=\"13\">\n<title>{title}</title>\n<style>svg{{background:#fff;color:#1c2733}}text{{fill:currentColor}}\
         .o{{fill:#b4572f}}.c{{fill:#1f7a6d}}@media(prefers-color-scheme:dark){{svg{{background:#14191f;color:#e6ebf0}}\
         .o{{fill:#e08a5f}}.c{{fill:#4fbfae}}}}</style>\n<text x=\"12\" y=\"24\">{title}</text>\n"
    );
    // Which colour is whose. Writing to a String cannot fail.
    for (class, side, x) in [("o", "origin", LEFT), ("c", "CDN", LEFT + 90.0)] {
        writeln!(text, "<rect class=\"{class}\" x=\"{x}\" y=\"38\" width=\"12\" height=\"12\"/><text x=\"{}\" y=\"49\">{side}</text>", x + 18.0)
            .unwrap_or_default();
    }
    for (index, (name, (direct, cdn))) in gains.iter().enumerate() {
        let top = TOP + index as f64 * ROW;
        writeln!(text, "<text x=\"12\" y=\"{}\">{}</text>", top + 20.0, escaped(name)).unwrap_or_default();
        for (class, side, value, y) in [("o", "origin", direct, top), ("c", "CDN", cdn, top + 17.0)] {
            let length = (value.p50 / longest * (WIDTH - LEFT - RIGHT)).max(1.0);
            writeln!(
                text,
                "<rect class=\"{class}\" x=\"{LEFT}\" y=\"{y}\" width=\"{length:.1}\" height=\"15\"><title>{side}: half within {:.1} ms, \
                 19 of 20 within {:.1} ms</title></rect>\n<text x=\"{:.1}\" y=\"{}\">{:.0} ms</text>",
                value.p50,
                value.p95,
                LEFT + length + 6.0,
                y + 12.0,
                value.p50
            )
            .unwrap_or_default();
        }
    }
    text.push_str("</svg>\n");
    text
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::{
        super::figures::{Connection, Row, Spread, Way, row},
        *,
    };

    fn place(name: &str, origin: f64, cdn: f64) -> PlaceReport {
        let one = |total| Some(Spread { p50: total, p95: total });
        let none = row(&[], 0, Way::Direct, Connection::Fresh);
        let row = |way, total| Row { way, total_ms: one(total), without_dns_ms: one(total), ..none.clone() };
        PlaceReport::of(name, vec![row(Way::Direct, origin), row(Way::CdnAgain, cdn)])
    }

    /// The tags are closed in the order in which they were opened, and what stands between them is no markup.
    fn check_xml(text: &str) {
        let mut open = Vec::new();
        for piece in text.split('<').skip(1) {
            let (tag, between) = piece.split_once('>').expect(piece);
            assert!(!between.contains('>'), "{piece}");
            for reference in between.split('&').skip(1) {
                assert!(["amp;", "lt;", "gt;"].iter().any(|known| reference.starts_with(known)), "{piece}");
            }
            assert!(tag.matches('"').count().is_multiple_of(2), "{tag}");
            let name = tag.split([' ', '/']).find(|part| !part.is_empty()).expect(tag);
            if tag.starts_with('/') {
                assert_eq!(open.pop(), Some(name), "{text}");
            } else if !tag.ends_with('/') {
                open.push(name);
            }
        }
        assert_eq!(open, [""; 0]);
    }

    #[test]
    fn whatever_a_place_is_called_it_is_xml() {
        let text = svg("a < b & c > d", &[place("<script>&amp;\"'", 480.0, 10.0), place("東京", 0.0, 0.0)]);
        check_xml(&text);
        assert!(text.contains("&lt;script&gt;&amp;amp;") && text.contains("東京"), "{text}");
        check_xml(&svg("", &[]));
    }

    #[test]
    fn bars_are_as_long_as_what_they_stand_for() {
        let text = svg("t", &[place("Tokyo", 400.0, 100.0)]);
        let widths: Vec<f64> = text
            .lines()
            .filter(|line| line.contains("height=\"15\""))
            .map(|line| line.split_once("width=\"").unwrap().1.split('"').next().unwrap().parse().unwrap())
            .collect();
        assert_eq!(widths, [WIDTH - LEFT - RIGHT, (WIDTH - LEFT - RIGHT) / 4.0]);
    }
}
