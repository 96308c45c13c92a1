//! The document that `perigee init` writes: what was answered, and in comments what comes next.

use std::{fmt::Write as _, net::IpAddr, path::Path};

use perigee_protocol::document::keys::SCHEMA_FILE;

use super::{InitArgs, Place};

/// A string of TOML. JSON's escapes are a subset of TOML's.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

fn list<T: ToString>(items: impl IntoIterator<Item = T>) -> String {
    let items: Vec<_> = items.into_iter().map(|item| quoted(&item.to_string())).collect();
    format!("[{}]", items.join(", "))
}

fn file(path: &Path) -> String {
    quoted(&path.to_string_lossy())
}

/// The whole text, in canonical form. What is not answered yet is left out.
pub(super) fn document(args: &InitArgs) -> String {
    let mut text = format!(
        "#:schema ./{SCHEMA_FILE}\n\
         # The CDN document: one file describes the fleet, and every node reads the same one. `perigee check` says every mistake,\n\
         # `perigee check --explain KEY` what a key is for; nodes follow a change within a second.\n\n\
         version = 1\n"
    );
    for part in [cdn(args), geo(args), pops(args), shields(args), site(args)] {
        text.push_str(&part);
    }
    text
}

fn cdn(args: &InitArgs) -> String {
    let zone = args.zone.as_deref().unwrap_or_default();
    let mut text = "\n[cdn]\n".to_owned();
    // Writing to a String cannot fail.
    let mut line = |key: &str, value: String| writeln!(text, "{key} = {value}").unwrap_or_default();
    if let Some(name) = &args.name {
        line("name", quoted(name));
    }
    line("zone", quoted(zone));
    if args.nameserver.is_empty() {
        text.push_str(
            "# The zone's nameservers; the parent delegates to them.\n\
             # nameservers = [{ host = \"ns1.cdn.example\", addresses = [\"198.18.0.53\"] }]\n",
        );
    } else {
        text.push_str("# The parent delegates the zone to these.\nnameservers = [\n");
        for server in &args.nameserver {
            let entry = format!("  {{ host = {}, addresses = {} }},\n", quoted(&server.host), list(&server.addresses));
            text.push_str(&entry);
        }
        text.push_str("]\n");
    }
    text.push_str(
        "# What one node proves itself to another with, on every node the same: head -c 32 /dev/urandom | base64 > fleet.secret\n\
         # secret_file = \"fleet.secret\"\n",
    );
    text
}

fn geo(args: &InitArgs) -> String {
    match &args.geo_database {
        Some(database) => format!("\n# Where clients are.\n[geo]\ndatabase = {}\n", file(database)),
        None => "\n# Without a database of places, every client is taken to be at the first PoP.\n\
                 # [geo]\n# database = \"GeoLite2-City.mmdb\"\n"
            .to_owned(),
    }
}

fn pops(args: &InitArgs) -> String {
    let mut text = "\n# Places with edges. DNS sends each client to the nearest that is up.\n".to_owned();
    for (index, Place { id, addresses, latitude, longitude, city }) in args.pop.iter().enumerate() {
        if index > 0 {
            text.push('\n');
        }
        text.push_str(&format!("[[pop]]\nid = {}\n", quoted(id)));
        if let Some((name, country)) = city {
            text.push_str(&format!("city = {}\ncountry = {}\n", quoted(name), quoted(country)));
        }
        text.push_str(&format!("latitude = {latitude}\nlongitude = {longitude}\naddresses = {}\n", list(addresses)));
    }
    text
}

fn shields(args: &InitArgs) -> String {
    if args.shield.is_empty() {
        return "\n# A cache between edges and origins, so that a miss of many edges is one fetch.\n\
                # [[shield]]\n# id = \"shield-1\"\n# url = \"http://198.18.0.80:8080\"\n"
            .to_owned();
    }
    let mut text = "\n# Caches between edges and origins: a miss of many edges is one fetch.\n".to_owned();
    for (index, shield) in args.shield.iter().enumerate() {
        let gap = if index > 0 { "\n" } else { "" };
        text.push_str(&format!("{gap}[[shield]]\nid = {}\nurl = {}\n", quoted(&shield.id), quoted(&shield.url)));
    }
    text
}

fn site(args: &InitArgs) -> String {
    let (site, zone) = (&args.site, args.zone.as_deref().unwrap_or_default());
    let mut text =
        format!("\n# Served as {site}.{zone}, to which other names are CNAMEs.\n[[site]]\nid = {}\n", quoted(site));
    if args.host.is_empty() {
        text.push_str("# hosts = [\"www.example.com\"]\n");
    } else {
        text.push_str(&format!("hosts = {}\n", list(&args.host)));
    }
    let origins: Vec<_> = args.origin.iter().map(|url| format!("{{ url = {} }}", quoted(url))).collect();
    text.push_str(&format!("origins = [{}]\n", origins.join(", ")));
    text.push_str(
        "# tls = { certificate = \"www.pem\", key = \"www.key\" }\n\n\
         [site.cache]\n# Where the origin says nothing of its own. `perigee check --explain site.cache` lists all keys.\n\
         stale_while_revalidate = \"30s\"\nstale_if_error = \"1d\"\nnegative_ttl = { 404 = \"5s\" }\n",
    );
    text
}

/// As one word of a shell.
fn word(text: &str) -> String {
    let is_plain = |c: char| c.is_alphanumeric() || "_-./,:=@%+".contains(c);
    if !text.is_empty() && text.chars().all(is_plain) {
        text.to_owned()
    } else {
        format!("'{}'", text.replace('\'', r"'\''"))
    }
}

/// What to do with the document.
pub(super) fn next_steps(args: &InitArgs) -> String {
    let name = &*word(&args.file.to_string_lossy());
    let zone = args.zone.as_deref().unwrap_or_default();
    let mut text = format!("\nnext: put it on every machine, and\n  perigee-geodns --document {name}\n");
    for shield in &args.shield {
        text.push_str(&format!("  perigee-shield --document {name} --shield {}\n", shield.id));
    }
    for pop in &args.pop {
        text.push_str(&format!("  perigee-edge --document {name} --pop {}\n", pop.id));
    }
    text.push_str(&match args.nameserver.as_slice() {
        [] => format!("then add cdn.nameservers, and have the parent of {zone} delegate to them\n"),
        servers => {
            let glue = |address: &IpAddr| address.to_string();
            let all: Vec<_> = servers
                .iter()
                .map(|server| {
                    format!("{} ({})", server.host, server.addresses.iter().map(glue).collect::<Vec<_>>().join(", "))
                })
                .collect();
            format!("then have the parent of {zone} delegate to {}\n", all.join(" and "))
        }
    });
    text
}
