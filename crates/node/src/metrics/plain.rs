//! OpenMetrics' text as the older text of Prometheus, which says names with their endings, knows no information and no
//! units, and has no end: for `promtool check metrics` and for scrapers that never heard of OpenMetrics.

/// The same samples, with the older text's comments.
pub(super) fn of_open_metrics(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + text.len() / 16);
    // HELP comes before TYPE, and the type tells the ending.
    let mut help: Option<(&str, &str)> = None;
    for line in text.lines() {
        if let Some(comment) = line.strip_prefix("# HELP ") {
            help = comment.split_once(' ');
        } else if let Some((name, kind)) = line.strip_prefix("# TYPE ").and_then(|comment| comment.split_once(' ')) {
            let (ending, kind) = match kind {
                "counter" => ("_total", kind),
                "info" => ("_info", "gauge"),
                "unknown" => ("", "untyped"),
                _ => ("", kind),
            };
            if let Some((_, help)) = help.take().filter(|(of, _)| *of == name) {
                out.extend(["# HELP ", name, ending, " ", help, "\n"]);
            }
            out.extend(["# TYPE ", name, ending, " ", kind, "\n"]);
        } else if !line.starts_with("# ") {
            out.extend([line, "\n"]);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(open: &str, plain: &str) {
        assert_eq!(of_open_metrics(open), plain);
    }

    #[test]
    fn names_have_the_endings_of_their_samples() {
        check(
            "# HELP a Of a.\n# TYPE a counter\na_total{x=\"1\"} 1\n# EOF\n",
            "# HELP a_total Of a.\n# TYPE a_total counter\na_total{x=\"1\"} 1\n",
        );
        check(
            "# HELP b What.\n# TYPE b info\nb_info{v=\"1\"} 1\n",
            "# HELP b_info What.\n# TYPE b_info gauge\nb_info{v=\"1\"} 1\n",
        );
        check("# HELP c Now.\n# TYPE c gauge\nc 1\n", "# HELP c Now.\n# TYPE c gauge\nc 1\n");
        check(
            "# HELP d_seconds Of d.\n# TYPE d_seconds histogram\n# UNIT d_seconds seconds\nd_seconds_count 1\n",
            "# HELP d_seconds Of d.\n# TYPE d_seconds histogram\nd_seconds_count 1\n",
        );
        check("# TYPE e unknown\ne 1\n", "# TYPE e untyped\ne 1\n");
        // A help of something else is nobody's.
        check("# HELP f Of f.\n# TYPE g gauge\ng 1\n", "# TYPE g gauge\ng 1\n");
        check("# EOF\n", "");
    }
}
