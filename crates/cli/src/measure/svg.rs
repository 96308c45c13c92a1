//! The plot as SVG: two bars a place, readable in light and dark.

use std::fmt::Write as _;

use super::report::PlaceReport;

const LEFT: f64 = 150.0;
const RIGHT: f64 = 80.0;
const WIDTH: f64 = 800.0;
const ROW: f64 = 44.0;
const TOP: f64 = 48.0;

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
    for (index, (name, (direct, cdn))) in gains.iter().enumerate() {
        let top = TOP + index as f64 * ROW;
        // Writing to a String cannot fail.
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
