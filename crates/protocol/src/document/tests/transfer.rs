//! `[[zone.file]]`, `[[zone.key]]`, `[zone.transfer]`, `zone.serial`.

use expect_test::expect;

use super::{SMALL, check, check_and, load};
use crate::{
    document::limits::{NOTIFY_MAX, TRANSFER_PREFIXES_MAX, ZONE_FILES_MAX, ZONE_KEYS_MAX},
    model::TsigAlgorithm,
};

const KEY: &str = "[[zone.key]]\nname = \"transfer.key\"\nsecret_file = \"transfer.key\"\n";

#[test]
fn all_of_it() {
    let text = format!(
        "{SMALL}[zone]\nserial = 4294967295\n[[zone.file]]\npath = \"a.zone\"\n[[zone.file]]\npath = \"b.zone\"\norigin = \"Sub.cdn.example.\"\n\
         [[zone.key]]\nname = \"Transfer.Key.\"\nalgorithm = \"hmac-sha512\"\nsecret_file = \"transfer.key\"\n\
         [zone.transfer]\nallow = [\"198.18.0.0/24\", \"2001:db8::/32\"]\nkey = \"transfer.key\"\n\
         notify = [\"198.18.0.99\", \"198.18.0.98:5300\", \"[2001:db8::99]:5300\", \"2001:db8::98\"]\n"
    );
    let zone = load("perigee.toml", &text).unwrap().zone;
    assert_eq!(zone.serial, Some(u32::MAX));
    assert_eq!(
        zone.files.iter().map(|file| file.origin.as_str()).collect::<Vec<_>>(),
        ["cdn.example", "sub.cdn.example"]
    );
    assert_eq!((zone.keys[0].name.as_str(), zone.keys[0].algorithm), ("transfer.key", TsigAlgorithm::HmacSha512));
    let transfer = zone.transfer.unwrap();
    assert_eq!((transfer.key.as_str(), transfer.allow.len()), ("transfer.key", 2));
    let notify: Vec<String> = transfer.notify.iter().map(ToString::to_string).collect();
    assert_eq!(notify, ["198.18.0.99:53", "198.18.0.98:5300", "[2001:db8::99]:5300", "[2001:db8::98]:53"]);
    let nothing = load("perigee.toml", SMALL).unwrap().zone;
    assert_eq!(nothing, Default::default());
}

#[test]
fn what_is_refused() {
    check_and(
        "[zone]\nserial = 0\n[[zone.file]]\npath = \"a\"\norigin = \"other.example\"\n[[zone.file]]\npath = \"a\"\n[[zone.file]]\n\
         [[zone.key]]\nname = \"a b\"\nalgorithm = \"hmac-md5\"\nsecret_file = \"\"\n\
         [[zone.key]]\nname = \"k\"\nsecret_file = \"x\"\n[[zone.key]]\nname = \"K.\"\nsecret_file = \"x\"\n\
         [zone.transfer]\nallow = [\"198.18.0.1/24\"]\nkey = \"kk\"\nnotify = [\"ns.example\", \"0.0.0.0\", \"198.18.0.1:0\"]\n",
        expect![[r#"
            perigee.toml:20  zone.serial = 0
                must be 1..=4294967295; correct it or remove it
            perigee.toml:23  zone.file[0].origin = "other.example"
                must be the zone or a name below it; remove it for the default (the zone)
            perigee.toml:25  zone.file[1].path = "a"
                must be unique, and zone.file[0].path says it too (line 22); change or remove one of them
            perigee.toml:26  zone.file[2].path
                is missing; add path = "cdn.example.zone"
            perigee.toml:28  zone.key[0].name = "a b"
                must be a domain name, the same as at the secondaries; for example name = "transfer.cdn.example"
            perigee.toml:29  zone.key[0].algorithm = "hmac-md5"
                must be "hmac-sha256" or "hmac-sha384" or "hmac-sha512"; remove it for the default ("hmac-sha256")
            perigee.toml:30  zone.key[0].secret_file = ""
                must be the name of a file; for example secret_file = "transfer.key"
            perigee.toml:35  zone.key[2].name = "K."
                must be unique, and zone.key[1].name says it too (line 32); change or remove one of them
            perigee.toml:38  zone.transfer.allow[0] = "198.18.0.1/24"
                must have no bits set after its length; write "198.18.0.0/24"
            perigee.toml:39  zone.transfer.key = "kk"
                must be the name of a [[zone.key]] of this document; did you mean "k"?
            perigee.toml:40  zone.transfer.notify[0] = "ns.example"
                must be an address, or an address and a port; remove it for the default (none)
            perigee.toml:40  zone.transfer.notify[1] = "0.0.0.0"
                must be an address, or an address and a port; remove it for the default (none)
            perigee.toml:40  zone.transfer.notify[2] = "198.18.0.1:0"
                must be an address, or an address and a port; remove it for the default (none)"#]],
    );
    check_and(
        "[zone.transfer]\n",
        expect![[r#"
        perigee.toml:19  zone.transfer.allow
            is missing; add allow = ["198.18.0.99/32"]
        perigee.toml:19  zone.transfer.key
            is missing; add key = "transfer.cdn.example""#]],
    );
    check_and(
        &format!("{KEY}[zone.transfer]\nallow = []\nkey = \"transfer.key\"\n"),
        expect![[r#"
        perigee.toml:23  zone.transfer.allow = []
            must not be empty; for example allow = ["198.18.0.99/32"]"#]],
    );
}

#[test]
fn a_signed_zone_is_not_transferred() {
    let text = SMALL.replace("zone = \"cdn.example\"\n", "zone = \"cdn.example\"\ndnssec = { keys = \"keys\" }\n");
    check(
        &format!("{text}{KEY}[zone.transfer]\nallow = [\"198.18.0.1/32\"]\nkey = \"transfer.key\"\n"),
        expect![[r#"
        perigee.toml:23  zone.transfer
            a zone that is signed as it is asked (cdn.dnssec) cannot be transferred; remove one of them, or list other nameservers of this kind in cdn.nameservers"#]],
    );
}

#[test]
fn both_sides_of_the_limits() {
    let is_good = |more: &str| load("perigee.toml", &format!("{SMALL}{more}")).is_ok();
    let files = |count: usize| (0..count).map(|n| format!("[[zone.file]]\npath = \"{n}\"\n")).collect::<String>();
    assert!(is_good(&files(ZONE_FILES_MAX)) && !is_good(&files(ZONE_FILES_MAX + 1)));
    let keys = |count: usize| {
        (0..count).map(|n| format!("[[zone.key]]\nname = \"k{n}\"\nsecret_file = \"x\"\n")).collect::<String>()
    };
    assert!(is_good(&keys(ZONE_KEYS_MAX)) && !is_good(&keys(ZONE_KEYS_MAX + 1)));
    let transfer = |allow: usize, notify: usize| {
        let allow: Vec<String> = (0..allow).map(|n| format!("\"10.{}.{}.0/24\"", n / 256, n % 256)).collect();
        let notify: Vec<String> = (0..notify).map(|n| format!("\"198.18.0.{n}\"")).collect();
        let (allow, notify) = (allow.join(", "), notify.join(", "));
        is_good(&format!("{KEY}[zone.transfer]\nallow = [{allow}]\nkey = \"transfer.key\"\nnotify = [{notify}]\n"))
    };
    assert!(transfer(TRANSFER_PREFIXES_MAX, NOTIFY_MAX));
    assert!(!transfer(TRANSFER_PREFIXES_MAX + 1, 0) && !transfer(1, NOTIFY_MAX + 1) && transfer(1, 0));
}
