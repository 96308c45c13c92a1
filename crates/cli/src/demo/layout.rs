//! Where everything of the demo is, and the CDN document that says so. Pure: nothing is opened here.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    net::{IpAddr, Ipv4Addr, SocketAddr},
};

use perigee_protocol::document::keys::SCHEMA_FILE;

use super::options::DemoArgs;
use crate::{
    cities::{CITIES, City, SHIELDS},
    distance::behind,
};

/// The file of the document, in the demo's folder.
pub(crate) const DOCUMENT_FILE: &str = "perigee.toml";
/// The file of the geo database.
pub(crate) const DATABASE_FILE: &str = "world.mmdb";
/// The file of the fleet's secret.
pub(crate) const SECRET_FILE: &str = "fleet.secret";
/// The demo's admin token; what it may change is on loopback only.
pub(crate) const ADMIN_TOKEN: &str = "demo";
const ADMIN_TOKEN_SHA256: &str = "2a97516c354b68848cdbd8f54a226a0a55b21ed138e207ad6c5cbb9c00aa5aea";

const LOCALHOST: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
/// The last number of an edge's address, 127.CODE.0.80.
const EDGE_HOST: u8 = 80;

/// One edge.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Edge {
    pub(crate) city: &'static City,
    /// What DNS answers. With `--one-address` it is a name for the edge, and nobody listens there.
    pub(crate) advertised: IpAddr,
    pub(crate) listen: SocketAddr,
    pub(crate) admin: SocketAddr,
}

/// A shield or a nameserver.
#[derive(Clone, Debug)]
pub(crate) struct Server {
    /// `shield-west`, `ns1`.
    pub(crate) id: String,
    /// What the document says of a nameserver. With `--one-address` nobody listens there.
    pub(crate) advertised: IpAddr,
    pub(crate) listen: SocketAddr,
    pub(crate) admin: SocketAddr,
}

/// Every address of the demo.
#[derive(Clone, Debug)]
pub(crate) struct Layout {
    pub(crate) zone: String,
    pub(crate) one_address: bool,
    /// Whether relays have the addresses of nodes, which then listen [`crate::distance::behind`] them.
    pub(crate) has_distance: bool,
    /// Where the page is, for a browser on this machine.
    pub(crate) page: SocketAddr,
    pub(crate) origin: SocketAddr,
    pub(crate) shields: Vec<Server>,
    pub(crate) edges: Vec<Edge>,
    pub(crate) nameservers: Vec<Server>,
}

impl Layout {
    /// Gives each node its addresses. Ports are at most 65,000 by the flags' own rule, so counting up from them fits.
    pub(crate) fn new(args: &DemoArgs) -> Self {
        let one = args.one_address;
        let place = |own: IpAddr, port: u16, index: usize| {
            if one { SocketAddr::new(LOCALHOST, port + index as u16) } else { SocketAddr::new(own, port) }
        };
        let (edges_before, shields_before) = (CITIES.len(), CITIES.len() + SHIELDS.len());
        let edge = |(index, city): (usize, &'static City)| {
            let advertised = IpAddr::from([127, city.code, 0, EDGE_HOST]);
            let listen = place(advertised, args.edge_port, index);
            Edge { city, advertised, listen, admin: place(advertised, args.admin_port, index) }
        };
        let shield = |(index, id): (usize, &&str)| {
            let own = IpAddr::from([127, 0, 0, EDGE_HOST + 1 + index as u8]);
            let listen = place(own, args.shield_port, index);
            Server {
                id: (*id).to_owned(),
                advertised: own,
                listen,
                admin: place(own, args.admin_port, edges_before + index),
            }
        };
        let addresses = match args.nameserver.as_slice() {
            [] => vec![IpAddr::from([127, 0, 0, 53]), IpAddr::from([127, 0, 0, 54])],
            given => given.to_vec(),
        };
        let nameserver = |(index, own): (usize, IpAddr)| {
            let listen = place(own, args.dns_port, index);
            Server {
                id: format!("ns{}", index + 1),
                advertised: own,
                listen,
                admin: place(own, args.admin_port, shields_before + index),
            }
        };
        Self {
            zone: args.zone.trim_end_matches('.').to_ascii_lowercase(),
            one_address: one,
            has_distance: args.has_distance(),
            page: SocketAddr::new(LOCALHOST, args.page_port),
            origin: place(IpAddr::from([127, 0, 0, 90]), args.origin_port, 0),
            shields: SHIELDS.iter().enumerate().map(shield).collect(),
            edges: CITIES.iter().enumerate().map(edge).collect(),
            nameservers: addresses.into_iter().enumerate().map(nameserver).collect(),
        }
    }

    /// The site's name.
    pub(crate) fn site_name(&self) -> String {
        format!("www.{}", self.zone)
    }

    /// Where a node listens whose address is that: behind the relay, where it has one.
    pub(crate) fn own(&self, address: SocketAddr) -> SocketAddr {
        behind(address).filter(|_| self.has_distance).unwrap_or(address)
    }

    /// Where the nameservers find edges whose advertised addresses are names only, or a relay's: probes have time-outs of
    /// machines that stand side by side.
    pub(crate) fn probe_at(&self) -> BTreeMap<IpAddr, SocketAddr> {
        let elsewhere = self.edges.iter().filter(|_| self.one_address || self.has_distance);
        elsewhere.map(|edge| (edge.advertised, self.own(edge.listen))).collect()
    }

    /// The CDN document of this world.
    pub(crate) fn document(&self) -> String {
        let mut text = self.preamble();
        for edge in &self.edges {
            // Writing to a String cannot fail.
            text.write_str(&self.pop(edge)).unwrap_or_default();
        }
        for shield in &self.shields {
            let pops: Vec<&str> = CITIES.iter().filter(|city| city.shield == shield.id).map(|city| city.id).collect();
            write!(text, "\n[[shield]]\nid = {:?}\nurl = \"http://{}\"\npops = {pops:?}\n", shield.id, shield.listen)
                .unwrap_or_default();
        }
        write!(
            text,
            "\n[[site]]\nid = \"www\"\norigins = [{{ url = \"http://{}\" }}]\n\
             # One copy, whether a client's Host says the port or not.\nhost_header = \"{}\"\n\n\
             [site.cache]\nnegative_ttl = {{ 404 = \"5s\" }}\nquery = {{ keep = [\"*\"], drop = [\"utm_*\"], sort = true }}\n",
            self.origin,
            self.site_name(),
        )
        .unwrap_or_default();
        text
    }

    fn preamble(&self) -> String {
        let zone = &self.zone;
        let mut nameservers = String::new();
        for server in &self.nameservers {
            writeln!(nameservers, "  {{ host = \"{}.{zone}\", addresses = [\"{}\"] }},", server.id, server.advertised)
                .unwrap_or_default();
        }
        let home = &CITIES[0];
        format!(
            "#:schema ./{SCHEMA_FILE}\n\
             # The document of `perigee demo`. Edit and save it: every node follows within a second, or says why not.\n\
             version = 1\n\n\
             [cdn]\nname = \"demo\"\nzone = \"{zone}\"\nnameservers = [\n{nameservers}]\ncontact = \"hostmaster@{zone}\"\n\
             ttl = \"10s\"\nnegative_ttl = \"10s\"\napex_site = \"www\"\nsecret_file = \"{SECRET_FILE}\"\n\n\
             [geo]\ndatabase = \"{DATABASE_FILE}\"\ndefault_location = {{ latitude = {}, longitude = {} }}\n\n\
             [geo.steering]\nanswers = 1\n\n\
             [admin]\n# The token is {ADMIN_TOKEN:?}.\n\
             tokens = [{{ name = \"demo\", sha256 = \"{ADMIN_TOKEN_SHA256}\", scopes = [\"purge\", \"drain\", \"read\"] }}]\n",
            home.latitude, home.longitude
        )
    }

    fn pop(&self, edge: &Edge) -> String {
        let City { id, name, country, latitude, longitude, fallback, .. } = edge.city;
        format!(
            "\n[[pop]]\nid = \"{id}\"\ncity = \"{name}\"\ncountry = \"{country}\"\nlatitude = {latitude}\nlongitude = {longitude}\n\
             addresses = [\"{}\"]\nhealth = {{ port = {}, interval = \"1s\", timeout = \"500ms\", rise = 2, fall = 2 }}\nfallback = [\"{fallback}\"]\n",
            edge.advertised,
            edge.listen.port(),
        )
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::collections::BTreeSet;

    use clap::Parser;
    use perigee_protocol::document::load;
    use sha2::{Digest, Sha256};

    use super::*;

    #[derive(Parser)]
    struct Flags {
        #[command(flatten)]
        demo: DemoArgs,
    }

    pub(in crate::demo) fn layout(flags: &[&str]) -> Layout {
        Layout::new(&Flags::try_parse_from(["demo"].iter().chain(flags)).unwrap().demo)
    }

    #[test]
    fn no_two_listeners_meet() {
        for flags in [&[][..], &["--one-address"]] {
            let layout = layout(flags);
            let servers = layout.shields.iter().chain(&layout.nameservers);
            let mut all: Vec<SocketAddr> = servers.flat_map(|server| [server.listen, server.admin]).collect();
            all.extend(layout.edges.iter().flat_map(|edge| [edge.listen, edge.admin]));
            all.extend([layout.origin, layout.page]);
            assert_eq!(all.iter().collect::<BTreeSet<_>>().len(), all.len(), "{flags:?}");
            assert!(all.iter().all(|address| address.ip().is_loopback()));
            assert!(!flags.contains(&"--one-address") || all.iter().all(|address| address.ip() == LOCALHOST));
        }
    }

    #[test]
    fn probes_ask_the_edges_and_not_their_relays() {
        let check = |flags: &[&str], expected: Option<&str>| {
            let at = layout(flags).probe_at();
            let tokyo = at.get(&IpAddr::from([127, 81, 0, 80])).map(ToString::to_string);
            assert_eq!(tokyo.as_deref(), expected, "{flags:?}");
        };
        check(&[], Some("127.81.1.80:8080"));
        check(&["--distance"], Some("127.81.1.80:8080"));
        check(&["--no-distance"], None);
        check(&["--one-address"], Some("127.0.0.1:8086"));
    }

    #[test]
    fn the_highest_ports_still_fit() {
        let last = layout(&["--one-address", "--admin-port", "65000"]).nameservers.pop().unwrap();
        assert_eq!(last.admin.port(), 65_011);
    }

    #[test]
    fn the_document_is_valid_and_says_what_the_layout_says() {
        for flags in [&[][..], &["--one-address"], &["--zone", "Sub.Example.ORG.", "--nameserver", "127.3.3.3"]] {
            let layout = layout(flags);
            let document = load(DOCUMENT_FILE, &layout.document()).unwrap_or_else(|mistakes| panic!("{mistakes}"));
            assert_eq!(document.cdn.zone, layout.zone);
            assert_eq!((document.pops.len(), document.shields.len(), document.sites.len()), (8, 2, 1));
            assert_eq!(document.site_name(&document.sites[0]), layout.site_name());
            for (pop, edge) in document.pops.iter().zip(&layout.edges) {
                assert_eq!(pop.addresses().collect::<Vec<_>>(), [edge.advertised]);
                assert_eq!(pop.health.port, edge.listen.port());
            }
        }
    }

    #[test]
    fn the_token_is_the_one_that_is_told() {
        let hex: String = Sha256::digest(ADMIN_TOKEN).iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex, ADMIN_TOKEN_SHA256);
    }
}
