//! `[zone]` without its records: `[[zone.file]]`, `[[zone.key]]`, `[zone.transfer]`, `serial`.

use std::net::{IpAddr, SocketAddr};

use super::{
    fleet::path,
    geo::prefix,
    limits::{NOTIFY_MAX, TRANSFER_PREFIXES_MAX, ZONE_FILES_MAX, ZONE_KEYS_MAX},
    names,
    read::Table,
    value::{Seen, Value},
    words::nearest,
    zone::Taken,
};
use crate::model::{Transfer, TsigAlgorithm, ZoneFile, ZoneSettings, ZoneTransferKey};

/// RFC 1035 §4.2
const DNS_PORT: u16 = 53;
const ALGORITHMS: [(&str, TsigAlgorithm); 3] = [
    ("hmac-sha256", TsigAlgorithm::HmacSha256),
    ("hmac-sha384", TsigAlgorithm::HmacSha384),
    ("hmac-sha512", TsigAlgorithm::HmacSha512),
];

pub(super) fn settings(table: &mut Table<'_>, taken: Option<&Taken<'_>>, is_signed: bool) -> Option<ZoneSettings> {
    let serial = table.maybe("serial", |value| value.integer(1..=u32::MAX.into()));
    let mut seen = Seen::default();
    let files: Vec<_> =
        table.tables("file", 0..=ZONE_FILES_MAX).iter().map(|value| file(value, taken, &mut seen)).collect();
    let mut seen = Seen::default();
    let key_values = table.tables("key", 0..=ZONE_KEYS_MAX);
    let names: Vec<String> = key_values.iter().filter_map(|value| key_name(value.peek("name")?.text()?)).collect();
    let keys: Vec<_> = key_values.iter().map(|value| key(value, &mut seen)).collect();
    let transfer = table.maybe("transfer", |value| {
        if is_signed {
            // A secondary has no keys, and would serve the zone unsigned below a DS record, which validators refuse.
            let law = "a zone that is signed as it is asked (cdn.dnssec) cannot be transferred";
            value.wrong(law, "remove one of them, or list other nameservers of this kind in cdn.nameservers");
        }
        transfer(value, &names).filter(|_| !is_signed)
    });
    Some(ZoneSettings {
        serial: serial?.and_then(|serial| u32::try_from(serial).ok()),
        files: files.into_iter().collect::<Option<_>>()?,
        keys: keys.into_iter().collect::<Option<_>>()?,
        transfer: transfer?,
    })
}

fn file(value: &Value<'_>, taken: Option<&Taken<'_>>, seen: &mut Seen<std::path::PathBuf>) -> Option<ZoneFile> {
    let mut table = value.table()?;
    let path = table.must("path", "\"cdn.example.zone\"", |value| {
        let path = path(value)?;
        seen.is_new(path.clone(), value).then_some(path)
    });
    let zone = taken.map(|taken| taken.zone.clone());
    let origin = table.or("origin", zone.clone(), "the zone", |value| {
        value
            .parse("must be the zone or a name below it", |text| {
                let name = names::owner_name(text.strip_suffix('.').unwrap_or(text))?;
                zone.as_ref().is_none_or(|zone| names::is_in_zone(&name, zone)).then_some(name)
            })
            .map(Some)
    });
    Some(ZoneFile { path: path?, origin: origin?? })
}

fn key_name(text: &str) -> Option<String> {
    names::owner_name(text.strip_suffix('.').unwrap_or(text))
}

fn key(value: &Value<'_>, seen: &mut Seen<String>) -> Option<ZoneTransferKey> {
    let mut table = value.table()?;
    let name = table.must("name", "\"transfer.cdn.example\"", |value| {
        let name = value.parse("must be a domain name, the same as at the secondaries", key_name)?;
        seen.is_new(name.clone(), value).then_some(name)
    });
    let algorithm =
        table.or("algorithm", TsigAlgorithm::HmacSha256, "\"hmac-sha256\"", |value| value.choice(&ALGORITHMS));
    let secret_file = table.must("secret_file", "\"transfer.key\"", path);
    Some(ZoneTransferKey { name: name?, algorithm: algorithm?, secret_file: secret_file? })
}

fn transfer(value: &Value<'_>, keys: &[String]) -> Option<Transfer> {
    let mut table = value.table()?;
    let allow = table.must("allow", "[\"198.18.0.99/32\"]", |value| value.set(1..=TRANSFER_PREFIXES_MAX, prefix));
    let key = table.must("key", "\"transfer.cdn.example\"", |value| {
        let name = value.parse("must be the name of a key", key_name)?;
        if keys.contains(&name) {
            return Some(name);
        }
        let remedy = match nearest(&name, keys.iter().map(String::as_str)) {
            Some(near) => format!("did you mean \"{near}\"?"),
            None => "add a [[zone.key]] of that name".to_owned(),
        };
        value.wrong_beside_others("must be the name of a [[zone.key]] of this document", remedy);
        None
    });
    let notify = table.or("notify", Vec::new(), "none", |value| value.set(0..=NOTIFY_MAX, secondary));
    Some(Transfer { allow: allow?, key: key?, notify: notify? })
}

/// `ADDRESS` or `ADDRESS:PORT`, IPv6 in brackets before a port.
fn secondary(value: &Value<'_>) -> Option<SocketAddr> {
    value.parse("must be an address, or an address and a port", |text| {
        let bare = text.parse::<IpAddr>().ok().map(|address| SocketAddr::new(address, DNS_PORT));
        let address = bare.or_else(|| text.parse::<SocketAddr>().ok())?;
        (address.port() != 0 && !address.ip().is_unspecified() && !address.ip().is_multicast()).then_some(address)
    })
}
