//! What the demo prints first: lines to copy.

use super::layout::{ADMIN_TOKEN, DOCUMENT_FILE, Edge, Layout};

/// The text above the table. `folder` is where the document lies.
pub(crate) fn guide(layout: &Layout, folder: &str) -> String {
    let site = layout.site_name();
    let [from, .., to] = layout.edges.as_slice() else { return String::new() };
    let tokyo = layout.edges.iter().find(|edge| edge.city.id == "tyo").unwrap_or(to);
    let port = from.listen.port();
    let dig = |edge: &Edge| dig(layout, edge, &site);
    let curl = |edge: &Edge, path: &str, flags: &str| {
        // As a client of that country: all of the demo's clients are at this machine, and some are far from the others.
        let client =
            if layout.has_distance { format!("--interface 127.{}.0.1 ", edge.city.code) } else { String::new() };
        format!("curl {flags}{client}--connect-to {site}:{port}:{} http://{site}:{port}{path}", edge.listen)
    };
    format!(
        "Watch all of it in a browser: http://{}/ (its token is {ADMIN_TOKEN:?})\n\
         A client's address tells its country by telephone code: 127.49.x.x is Germany, 127.81.x.x Japan.\n{}\
         Which edge is nearest?\n  {}\n  {}\n\
         Fetch through it, twice: first a miss at edge and shield, then a hit.\n  {}\n\
         A range, a slow page, the whole site:\n  {}\n  {}\n  {}\n\
         What reached the origin, and how an edge is:\n  curl http://{}/.origin/stats\n  perigee status --admin {}\n\
         Why a page is served as it is:\n  perigee explain http http://{site}:{port}/ --node {}\n\
         {}Take Tokyo away and ask again in a few seconds:\n  curl -X POST -H 'Authorization: Bearer {ADMIN_TOKEN}' http://{}/v1/drain\n\
         Change the CDN: edit {folder}/{DOCUMENT_FILE}\n",
        layout.page,
        distance(layout),
        dig(tokyo),
        dig(from),
        curl(tokyo, "/pictures/tyo-640.png", "-sD- -o /dev/null "),
        curl(to, "/files/64MiB.bin", "-sr 1000000-1000099 -D- -o /dev/null "),
        curl(from, "/slow", ""),
        format_args!("wget -q -r --header 'Host: {site}' http://{}/", from.listen),
        layout.origin,
        tokyo.admin,
        tokyo.admin,
        measure(layout, &site, port),
        tokyo.admin,
    )
}

fn distance(layout: &Layout) -> &'static str {
    if layout.has_distance {
        "Everybody else is in Frankfurt, as the origin is; what is far takes as long as light in fibre (not so: --no-distance).\n"
    } else {
        ""
    }
}

/// Nothing where all is on one address: a client there is sent to addresses where nobody listens.
fn measure(layout: &Layout, site: &str, port: u16) -> String {
    let Some(server) = layout.nameservers.first().filter(|_| !layout.one_address) else { return String::new() };
    format!(
        "What does it gain?\n  perigee measure --direct http://{}/ --cdn http://{site}:{port} \
         --nameserver {} --from Tokyo=127.81.0.1,London=127.44.0.1 --crawl\n",
        layout.origin, server.listen
    )
}

/// On one address a client cannot come from elsewhere, so the query says for whom it asks.
fn dig(layout: &Layout, edge: &Edge, site: &str) -> String {
    let (code, city) = (edge.city.code, edge.city.name);
    let Some(server) = layout.nameservers.first().map(|server| server.listen) else { return String::new() };
    let client = if layout.one_address { format!("+subnet=127.{code}.0.0/16") } else { format!("-b 127.{code}.0.1") };
    format!("dig {client} @{} -p {} {site} +short    # {city}: {}", server.ip(), server.port(), edge.advertised)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::demo::layout::tests::layout;

    #[test]
    fn lines_name_the_addresses_in_use() {
        let text = guide(&layout(&["--dns-port", "5353", "--zone", "x.test"]), "/f");
        for line in [
            "Watch all of it in a browser: http://127.0.0.1:9000/",
            "dig -b 127.81.0.1 @127.0.0.53 -p 5353 www.x.test +short    # Tokyo: 127.81.0.80",
            "takes as long as light",
            "curl -sD- -o /dev/null --interface 127.81.0.1 --connect-to www.x.test:8080:127.81.0.80:8080 http://www.x.test:8080/pictures/tyo-640.png",
            "curl http://127.0.0.90:8000/.origin/stats",
            "perigee explain http http://www.x.test:8080/ --node 127.81.0.80:9100",
            "perigee measure --direct http://127.0.0.90:8000/ --cdn http://www.x.test:8080 --nameserver 127.0.0.53:5353 ",
            "edit /f/perigee.toml",
        ] {
            assert!(text.contains(line), "{line} is not in\n{text}");
        }
    }

    #[test]
    fn without_distance_nobody_is_told_of_it() {
        let text = guide(&layout(&["--no-distance"]), "/f");
        assert!(!text.contains("fibre") && !text.contains("--interface"), "{text}");
    }

    #[test]
    fn on_one_address_the_query_names_the_client() {
        let text = guide(&layout(&["--one-address"]), "/f");
        assert!(text.contains("dig +subnet=127.81.0.0/16 @127.0.0.1 -p 5300 www.cdn.example +short"), "{text}");
        assert!(text.contains("--connect-to www.cdn.example:8080:127.0.0.1:8086"), "{text}");
        assert!(!text.contains("-b 127") && !text.contains("measure"));
    }
}
