//! `[[pop]]` and `[[shield]]`.

use std::{net::IpAddr, time::Duration};

use super::{
    fleet::{KnownPops, address},
    geo::location,
    limits::{NODE_ADDRESSES_MAX, POP_NODES_MAX, POPS_MAX, WEIGHT_MAX},
    names,
    read::Table,
    site::upstream_tls,
    value::{Seen, Value},
};
use crate::{
    id::{InvalidId, NodeId, PopId, ShieldId},
    model::{Health, Pop, PopLoad, PopNode, Shield, ShieldProtocol, UpstreamTls},
};

/// An identifier; see [`crate::id`].
pub(crate) fn id<T: std::str::FromStr<Err = InvalidId>>(value: &Value<'_>) -> Option<T> {
    value.parse(&InvalidId.to_string(), |text| text.parse().ok())
}

/// What no two PoPs may share.
#[derive(Debug, Default)]
pub(crate) struct PopsSeen {
    pops: Seen<String>,
    nodes: Seen<NodeId>,
    addresses: Seen<IpAddr>,
}

pub(crate) fn pop(value: &Value<'_>, known: &KnownPops<'_>, seen: &mut PopsSeen) -> Option<Pop> {
    let mut table = value.table()?;
    let id = table.must("id", "\"fra\"", |value| {
        let id = id::<PopId>(value)?;
        seen.pops.is_new(id.to_string(), value).then_some(id)
    });
    let city = table.or("city", String::new(), "none", |value| value.string().map(str::to_owned));
    let country = table.or("country", String::new(), "none", |value| {
        value.parse("must be a country code of two capital letters (ISO 3166)", names::country)
    });
    let location = location(&mut table);
    let nodes = nodes(&mut table, id.as_ref(), seen, value);
    let health = table.or("health", health_default(), "a GET of /.perigee/healthz every 2s", health);
    let weight = table.integer_or("weight", 100, 0..=WEIGHT_MAX);
    let fallback = table.or("fallback", Vec::new(), "the nearest", |list| {
        list.set(0..=POPS_MAX, |element| {
            if element.string().is_some() && element.string() == value.raw_id() {
                element.wrong("must be another PoP: this one is what is down", "remove it");
                return None;
            }
            known.id(element)
        })
    });
    let load = table.maybe("load", load);
    Some(Pop {
        id: id?,
        city: city?,
        country: country?,
        location: location?,
        nodes: nodes?,
        health: health?,
        weight: u32::try_from(weight?).ok()?,
        fallback: fallback?,
        load: load?,
    })
}

fn load(value: &Value<'_>) -> Option<PopLoad> {
    let default = PopLoad::default();
    let mut table = value.table()?;
    let mut part = |key, default: f64, law: &'static str, range: std::ops::RangeInclusive<f64>| {
        table.or(key, default, &default.to_string(), |value| value.number(law, |part| range.contains(&part)))
    };
    let target = part("target", default.target, "0.05 to 1", 0.05..=1.0);
    let max = part("max", default.max.max(target.unwrap_or(0.0)), "0.05 to 1", 0.05..=1.0);
    let hysteresis = part("hysteresis", default.hysteresis, "0.01 to 0.5", 0.01..=0.5);
    let step = part("step", default.step, "0.01 to 0.5", 0.01..=0.5);
    let load = PopLoad { target: target?, max: max?, hysteresis: hysteresis?, step: step? };
    if load.max < load.target {
        table.refuse("must have a max that is not below its target", "raise max or lower target");
        return None;
    }
    if load.hysteresis >= load.target {
        table.refuse("must have a hysteresis below its target: nothing is below no load", "lower hysteresis");
        return None;
    }
    Some(load)
}

/// `addresses` of the PoP itself, or `[[pop.node]]`s with theirs.
fn nodes(table: &mut Table<'_>, id: Option<&PopId>, seen: &mut PopsSeen, pop: &Value<'_>) -> Option<Vec<PopNode>> {
    let own = table.maybe("addresses", |value| addresses(value, &mut seen.addresses));
    let elements = table.tables("node", 0..=POP_NODES_MAX);
    let nodes: Vec<_> = elements.iter().map(|value| node(value, seen)).collect();
    match (own?, nodes.is_empty()) {
        (None, true) => {
            table.refuse("must have addresses, or nodes with addresses", "add addresses = [\"198.18.49.10\"]");
            None
        }
        (Some(_), false) => {
            table.refuse("must have its addresses either itself or in its nodes", "move addresses into a [[pop.node]]");
            None
        }
        (None, false) => nodes.into_iter().collect(),
        (Some(addresses), true) => {
            let id: NodeId = id?.as_str().parse().ok()?;
            seen.nodes.is_new(id.clone(), pop).then(|| vec![PopNode { id, addresses }])
        }
    }
}

fn node(value: &Value<'_>, seen: &mut PopsSeen) -> Option<PopNode> {
    let mut table = value.table()?;
    let id = table.must("id", "\"fra-a\"", |value| {
        let id = id::<NodeId>(value)?;
        seen.nodes.is_new(id.clone(), value).then_some(id)
    });
    let addresses = table.must("addresses", "[\"198.18.49.10\"]", |value| addresses(value, &mut seen.addresses));
    Some(PopNode { id: id?, addresses: addresses? })
}

fn addresses(value: &Value<'_>, seen: &mut Seen<IpAddr>) -> Option<Vec<IpAddr>> {
    let list: Vec<_> = value
        .list(1..=NODE_ADDRESSES_MAX)?
        .iter()
        .map(|value| address(value).filter(|address| seen.is_new(*address, value)))
        .collect();
    list.into_iter().collect()
}

fn health_default() -> Health {
    Health {
        path: "/.perigee/healthz".into(),
        port: 80,
        interval: Duration::from_secs(2),
        timeout: Duration::from_secs(1),
        rise: 2,
        fall: 3,
    }
}

fn health(value: &Value<'_>) -> Option<Health> {
    const INTERVAL_MIN: Duration = Duration::from_millis(100);
    const INTERVAL_MAX: Duration = Duration::from_secs(3_600);
    const COUNT_MAX: u64 = 100;
    let default = health_default();
    let mut table = value.table()?;
    let path = table.or("path", default.path, "\"/.perigee/healthz\"", |value| {
        value.parse("must be a path that begins with /, of visible ASCII", |text| {
            (text.starts_with('/') && text.bytes().all(|b| b.is_ascii_graphic() && b != b'#')).then(|| text.to_owned())
        })
    });
    let port = table.integer_or("port", u64::from(default.port), 1..=65_535);
    let interval = table.duration_or("interval", default.interval, INTERVAL_MIN..=INTERVAL_MAX);
    let timeout = table.duration_or("timeout", default.timeout, Duration::from_millis(1)..=INTERVAL_MAX);
    let rise = table.integer_or("rise", u64::from(default.rise), 1..=COUNT_MAX);
    let fall = table.integer_or("fall", u64::from(default.fall), 1..=COUNT_MAX);
    let (interval, timeout) = (interval?, timeout?);
    if timeout >= interval {
        table.refuse(
            format!(
                "must have a timeout (\"{}\") shorter than its interval (\"{}\")",
                super::units::render_duration(timeout),
                super::units::render_duration(interval)
            ),
            "shorten the timeout or lengthen the interval",
        );
        return None;
    }
    Some(Health {
        path: path?,
        port: u16::try_from(port?).ok()?,
        interval,
        timeout,
        rise: u32::try_from(rise?).ok()?,
        fall: u32::try_from(fall?).ok()?,
    })
}

/// What no two shields may share.
#[derive(Debug, Default)]
pub(crate) struct ShieldsSeen {
    ids: Seen<String>,
    urls: Seen<String>,
}

pub(crate) fn shield(value: &Value<'_>, known: &KnownPops<'_>, seen: &mut ShieldsSeen) -> Option<Shield> {
    let mut table = value.table()?;
    let id = table.must("id", "\"shield-eu\"", |value| {
        let id = id::<ShieldId>(value)?;
        seen.ids.is_new(id.to_string(), value).then_some(id)
    });
    let url = table.must("url", "\"http://198.18.0.80:8080\"", |value| {
        let url = value.parse(URL_LAW, names::url)?;
        seen.urls.is_new(url.to_string(), value).then_some(url)
    });
    let pops = table.or("pops", Vec::new(), "none", |value| value.set(0..=POPS_MAX, |value| known.id(value)));
    let protocols = [("http/1.1", ShieldProtocol::Http1), ("h2", ShieldProtocol::Http2)];
    let protocol = table.or("protocol", ShieldProtocol::default(), "\"http/1.1\"", |value| value.choice(&protocols));
    let tls = table.or("tls", UpstreamTls::default(), "the public authorities and the URL's host", upstream_tls);
    Some(Shield { id: id?, url: url?, pops: pops?, protocol: protocol?, tls: tls? })
}

pub(crate) const URL_LAW: &str = "must be http://HOST, http://HOST:PORT or the same with https, and nothing after it";
