//! `site.all_down` and `pop.load`.

use expect_test::expect;

use super::{SMALL, check, check_and, check_with, load};
use crate::model::{AllDown, PopLoad};

const LON: &str = "addresses = [\"198.18.44.10\"]";

#[test]
fn all_down_words() {
    let read = |line: &str| load("f", &format!("{SMALL}{line}")).unwrap().sites.swap_remove(0).all_down;
    assert_eq!(read(""), AllDown::Nearest);
    assert_eq!(read("all_down = \"nearest\""), AllDown::Nearest);
    assert_eq!(read("all_down = \"last_known\""), AllDown::LastKnown);
    assert_eq!(read("all_down = \"nodata\""), AllDown::NoData);
    let cname = AllDown::Cname("status.example.net".into());
    assert_eq!(read("all_down = { cname = \"Status.Example.NET.\" }"), cname);
    check_and(
        "all_down = \"cname\"",
        expect![[r#"
        perigee.toml:19  site.www.all_down = "cname"
            must be "nearest", "last_known", "nodata" or { cname = "NAME" }; remove it for the default ("nearest")"#]],
    );
    check_and(
        "all_down = 1",
        expect![[r#"
        perigee.toml:19  site.www.all_down = 1
            must be "nearest", "last_known", "nodata" or { cname = "NAME" }, as a string, not an integer; remove it for the default ("nearest")"#]],
    );
    check_and(
        "all_down = {}",
        expect![[r#"
        perigee.toml:19  site.www.all_down.cname
            is missing; add cname = "status.example.net""#]],
    );
    check_and(
        "all_down = { cname = \"10.0.0.1\", ttl = 1 }",
        expect![[r#"
            perigee.toml:19  site.www.all_down.cname = "10.0.0.1"
                must be a host name: labels of 1 to 63 letters, digits and hyphens, at most 253 in all; for example cname = "status.example.net"
            perigee.toml:19  site.www.all_down.ttl
                is no key of this document; the keys here are cname; ttl is a key of cdn, site.rule.cache, zone.record"#]],
    );
}

#[test]
fn an_all_down_name_leads_elsewhere() {
    check_and(
        "all_down = { cname = \"www.cdn.example\" }",
        expect![[r#"
        perigee.toml:19  site.www.all_down.cname = "www.cdn.example"
            must be another name: this one is the site's own, and leads back here; name another host"#]],
    );
    check_and(
        "hosts = [\"www.example.com\"]\nall_down = { cname = \"WWW.example.com\" }",
        expect![[r#"
        perigee.toml:20  site.www.all_down.cname = "WWW.example.com"
            must be another name: this one is the site's own, and leads back here; name another host"#]],
    );
    check_and("all_down = { cname = \"status.cdn.example\" }", expect!["ok"]);
}

#[test]
fn a_cname_stands_alone() {
    let cname = "all_down = { cname = \"s.example\" }";
    let apex = SMALL.replace("zone = ", "apex_site = \"www\"\nzone = ");
    check(
        &format!("{apex}{cname}"),
        expect![[r#"
        perigee.toml:20  site.www.all_down = { cname = "s.example" }
            cannot be a CNAME: this site answers at the zone's apex, where SOA and NS are; use "nodata", or give apex_site in [cdn] to another site"#]],
    );
    let record = "[[zone.record]]\nname = \"www\"\ntype = \"TXT\"\nttl = \"1h\"\nvalues = [\"a\"]\n";
    check_and(
        &format!("{cname}\n{record}"),
        expect![[r#"
        perigee.toml:20  zone.record[0]
            www.cdn.example is a CNAME while all PoPs of site www are down (all_down), and a CNAME stands alone; remove it, or give the site another all_down"#]],
    );
    check_and(&format!("all_down = \"nodata\"\n{record}"), expect!["ok"]);
}

#[test]
fn loads() {
    let read = |lines: &str| load("f", &SMALL.replace(LON, &format!("{LON}\n{lines}"))).unwrap().pops[1].load;
    assert_eq!(read(""), None);
    assert_eq!(read("load = {}"), Some(PopLoad::default()));
    let least = PopLoad { target: 0.05, max: 0.05, hysteresis: 0.01, step: 0.01 };
    assert_eq!(read("load = { target = 0.05, max = 0.05, hysteresis = 0.01, step = 0.01 }"), Some(least));
    let most = PopLoad { target: 1.0, max: 1.0, hysteresis: 0.5, step: 0.5 };
    assert_eq!(read("load = { target = 1, max = 1.0, hysteresis = 0.5, step = 0.5 }"), Some(most));
    assert_eq!(read("load = { target = 0.97 }").unwrap().max, 0.97);
    let wrong = |load: &str, expected| check_with(LON, &format!("{LON}\nload = {load}"), expected);
    wrong(
        "{ target = 0.049, max = 1.1, hysteresis = 0.009, step = 0.51 }",
        expect![[r#"
        perigee.toml:15  pop.lon.load.target = 0.049
            must be 0.05 to 1; remove it for the default (0.8)
        perigee.toml:15  pop.lon.load.max = 1.1
            must be 0.05 to 1; remove it for the default (0.95)
        perigee.toml:15  pop.lon.load.hysteresis = 0.009
            must be 0.01 to 0.5; remove it for the default (0.1)
        perigee.toml:15  pop.lon.load.step = 0.51
            must be 0.01 to 0.5; remove it for the default (0.1)"#]],
    );
    wrong(
        "{ target = 1.1, hysteresis = 0.51, step = 0 }",
        expect![[r#"
        perigee.toml:15  pop.lon.load.target = 1.1
            must be 0.05 to 1; remove it for the default (0.8)
        perigee.toml:15  pop.lon.load.hysteresis = 0.51
            must be 0.01 to 0.5; remove it for the default (0.1)
        perigee.toml:15  pop.lon.load.step = 0
            must be 0.01 to 0.5; remove it for the default (0.1)"#]],
    );
    wrong(
        "{ target = 0.5, max = 0.4 }",
        expect![[r#"
        perigee.toml:15  pop.lon.load
            must have a max that is not below its target; raise max or lower target"#]],
    );
    wrong(
        "{ target = 0.1, hysteresis = 0.1 }",
        expect![[r#"
        perigee.toml:15  pop.lon.load
            must have a hysteresis below its target: nothing is below no load; lower hysteresis"#]],
    );
    wrong(
        "0.8",
        expect![[r#"
        perigee.toml:15  pop.lon.load = 0.8
            must be a table, not a float; correct it or remove it"#]],
    );
}
