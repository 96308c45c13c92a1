//! The page of a command: what clap knows of it, and for servers what the command line does not say.

use clap::Command;
use clap_mangen::Man;
use perigee_node::state::VERSION;

use super::roff;

/// A page of section 1 or 8.
pub(super) fn page(name: &str, section: u8, command: Command) -> anyhow::Result<String> {
    let about = command.get_long_about().or(command.get_about()).map(ToString::to_string).unwrap_or_default();
    let notes = command.get_after_long_help().or(command.get_after_help()).map(ToString::to_string);
    let inner: Vec<String> = command
        .get_subcommands()
        .filter(|inner| inner.get_name() != "help" && !inner.is_hide_set())
        .map(|inner| format!("{name}-{}", inner.get_name()))
        .collect();
    let has_options = command.get_arguments().any(|argument| !argument.is_hide_set());
    let man = Man::new(command)
        .title(name.to_uppercase())
        .section(section.to_string())
        .source(format!("Perigee {VERSION}"))
        .manual("Perigee Manual");
    let mut page = Vec::new();
    man.render_title(&mut page)?;
    man.render_name_section(&mut page)?;
    man.render_synopsis_section(&mut page)?;
    page.extend(format!(".SH DESCRIPTION\n{}", roff::text(&about)).bytes());
    if has_options {
        man.render_options_section(&mut page)?;
    }
    if !inner.is_empty() {
        man.render_subcommands_section(&mut page)?;
    }
    let mut page = String::from_utf8(page)?;
    if let Some(notes) = notes {
        page.push_str(&format!(".SH NOTES\n{}", roff::text(&notes)));
    }
    if section == 8 {
        page.push_str(&server(name));
    }
    page.push_str(&also(name, section, &inner));
    Ok(page)
}

/// What holds of each server.
fn server(name: &str) -> String {
    let tier = name.trim_start_matches("perigee-");
    let mut page = ".SH SIGNALS\n".to_owned();
    page.push_str(&roff::term(
        "SIGTERM, SIGINT",
        &["Ends gently: what is under way may end by itself. A second SIGINT ends it at once, with exit status 130."],
    ));
    page.push_str(&roff::term(
        "SIGHUP",
        &["Opens the access log anew and reads the document again; a document with mistakes is refused and the old one goes on. \
           A changed document is followed without it."],
    ));
    page.push_str(".SH EXIT STATUS\n");
    page.push_str(&roff::term("0", &["Ended gently, or a good --probe."]));
    page.push_str(&roff::term("1", &["An error, which is told in one line on stderr."]));
    page.push_str(&roff::term("2", &["The command line is wrong."]));
    page.push_str(".SH ENVIRONMENT\n");
    page.push_str(&roff::text(
        "Every option is a variable too, named in brackets beside it. An option goes before its variable.",
    ));
    page.push_str(&roff::term(
        "NOTIFY_SOCKET, WATCHDOG_USEC",
        &["Set by systemd for units of Type=notify: it is told when clients are served, when the node drains, and, with \
           WatchdogSec=, that every thread works."],
    ));
    page.push_str(".SH FILES\nIn Debian's package:\n");
    page.push_str(&roff::term(&format!("/etc/perigee/{tier}.env"), &["The variables that the unit starts it with."]));
    page.push_str(&roff::term("/etc/perigee/perigee.toml", &["The CDN document, beside certificates and secrets."]));
    page.push_str(&match tier {
        "geodns" => roff::term("/var/lib/perigee/geodns", &["What operators said of PoPs."]),
        tier => roff::term(&format!("/var/cache/perigee/{tier}"), &["The cache on disk."]),
    });
    page.push_str(&roff::term(
        &format!("/var/log/perigee/{tier}.log"),
        &["The access log, where PERIGEE_ACCESS_LOG names it; everything else goes to the journal."],
    ));
    page
}

fn also(name: &str, section: u8, inner: &[String]) -> String {
    let mut pages: Vec<(&str, u8)> = inner.iter().map(|name| (name.as_str(), 1)).collect();
    if name != "perigee" {
        pages.push(("perigee", 1));
    }
    pages.push(("perigee.toml", 5));
    if name == "perigee" || section == 8 {
        let servers = ["perigee-edge", "perigee-shield", "perigee-geodns"];
        pages.extend(servers.into_iter().filter(|server| *server != name).map(|server| (server, 8)));
    }
    pages.sort_by(|a, b| (a.1, a.0).cmp(&(b.1, b.0)));
    roff::see_also(pages)
}
