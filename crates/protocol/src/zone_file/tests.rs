//! Whole files: tables of what is read and what is said, and properties.

use std::collections::HashMap;

use expect_test::{Expect, expect};
use proptest::prelude::*;

use super::*;
use crate::document;

const DOCUMENT: &str = r#"
[cdn]
zone = "cdn.example"
nameservers = [{ host = "ns1.cdn.example", addresses = ["198.18.0.53"] }, { host = "ns2.other.example" }]
[[pop]]
id = "fra"
latitude = 50.11
longitude = 8.68
addresses = ["198.18.49.10"]
[[site]]
id = "www"
origins = [{ url = "http://198.18.0.90:8000" }]
[[zone.record]]
name = "told"
type = "TXT"
ttl = "5m"
values = ["a"]
[[zone.file]]
path = "zones/main.zone"
"#;

fn document(more: &str) -> Document {
    document::load("perigee.toml", &format!("{DOCUMENT}{more}")).unwrap()
}

fn read(document: &Document, files: &[(&str, &[u8])], limits: Limits) -> Result<ZoneFiles, Mistakes> {
    let files: HashMap<&Path, &[u8]> = files.iter().map(|(name, text)| (Path::new(*name), *text)).collect();
    let mut loader =
        |path: &Path| files.get(path).map(|text| text.to_vec()).ok_or_else(|| "there is no such file".to_owned());
    load_within(document, &mut loader, limits)
}

fn report(read: Result<ZoneFiles, Mistakes>) -> String {
    match read {
        Ok(files) => {
            let soa = files
                .soa
                .iter()
                .map(|soa| format!("SOA {} {} {} {}", soa.serial, soa.refresh_s, soa.retry_s, soa.expire_s));
            soa.chain(files.records.iter().map(ToString::to_string)).collect::<Vec<_>>().join("\n")
        }
        Err(mistakes) => mistakes.to_string(),
    }
}

#[track_caller]
fn check_files(files: &[(&str, &str)], expected: Expect) {
    let files: Vec<_> = files.iter().map(|(name, text)| (*name, text.as_bytes())).collect();
    expected.assert_eq(&report(read(&document(""), &files, LIMITS)));
}

#[track_caller]
fn check(text: &str, expected: Expect) {
    check_files(&[("zones/main.zone", text)], expected);
}

#[test]
fn owners_times_classes() {
    check(
        "$TTL 1h\n@ IN TXT a b \"c d\"\n   300 IN MX 10 mail\nmail IN 1h30m A 192.0.2.1\n\tAAAA 2001:db8::1\n\
         Deep.Name 1D TXT x;y\n*.wild CLASS1 TXT x\nfull.cdn.example. TXT \"\"\n",
        expect![[r#"
            cdn.example. 3600 IN TXT "a" "b" "c d"
            cdn.example. 300 IN MX 10 mail.cdn.example.
            mail.cdn.example. 5400 IN A 192.0.2.1
            mail.cdn.example. 3600 IN AAAA 2001:db8::1
            deep.name.cdn.example. 86400 IN TXT "x"
            *.wild.cdn.example. 3600 IN TXT "x"
            full.cdn.example. 3600 IN TXT """#]],
    );
    // Without $TTL the last one stated holds on (RFC 1035 §5.1).
    check(
        "a 60 A 192.0.2.1\nb A 192.0.2.2\n",
        expect![[r#"
            a.cdn.example. 60 IN A 192.0.2.1
            b.cdn.example. 60 IN A 192.0.2.2"#]],
    );
}

/// As `named-compilezone` writes them.
#[test]
fn a_file_of_bind() {
    check(
        "cdn.example.\t\t\t\t      3600 IN SOA\tns1.cdn.example. hostmaster.cdn.example. 2026112301 7200 900 1209600 300\n\
         cdn.example.\t\t\t\t      3600 IN NS\tns1.cdn.example.\n\
         ns1.cdn.example.\t\t\t      3600 IN A\t198.18.0.53\n\
         _sip._tcp.cdn.example.\t\t\t      600 IN SRV\t0 5 5060 sip.example.com.\n\
         cdn.example.\t\t\t\t      3600 IN CAA\t0 issue \"letsencrypt.org\"\n\
         svc.cdn.example.\t\t\t      60 IN HTTPS\t1 . alpn=\"h2,h3\" ipv4hint=192.0.2.1\n\
         x.cdn.example.\t\t\t      60 IN TYPE65280\t\\# 3 ( 0102\n\t03 )\n",
        expect![[r#"
            SOA 2026112301 7200 900 1209600
            cdn.example. 3600 IN NS ns1.cdn.example.
            ns1.cdn.example. 3600 IN A 198.18.0.53
            _sip._tcp.cdn.example. 600 IN SRV 0 5 5060 sip.example.com.
            cdn.example. 3600 IN CAA 0 issue "letsencrypt.org"
            svc.cdn.example. 60 IN HTTPS \# 21 0001000001000602683202683300040004c0000201
            x.cdn.example. 60 IN TYPE65280 \# 3 010203"#]],
    );
}

/// As `knotc zone-read` and people write them.
#[test]
fn a_file_written_by_hand() {
    check(
        "$ORIGIN cdn.example.\n$TTL 2h ; default\n@ SOA ns1 hostmaster (\n  1 ; serial\n  3h 15m 2w 1m )\n\
         $ORIGIN sub\n@ NS ns\nns A 192.0.2.53\n@ DS 60485 13 2 ( D4B7\n 2A01 )\n$ORIGIN cdn.example.\n\
         a\\.b TXT \"q\\\"\\010\\;\"\nm NAPTR 100 10 \"u\" \"E2U+sip\" \"!a!b!\" .\nh HINFO PC \"Linux 6\"\n\
         t TYPE1 \\# 4 C0000201\nu A \\# 4 C0000202\n",
        expect![[r#"
            SOA 1 10800 900 1209600
            sub.cdn.example. 7200 IN NS ns.sub.cdn.example.
            ns.sub.cdn.example. 7200 IN A 192.0.2.53
            sub.cdn.example. 7200 IN DS \# 8 ec450d02d4b72a01
            a\.b.cdn.example. 7200 IN TXT "q\"\010;"
            m.cdn.example. 7200 IN NAPTR \# 21 0064000a0175074532552b73697005216121622100
            h.cdn.example. 7200 IN HINFO \# 11 025043074c696e75782036
            t.cdn.example. 7200 IN A 192.0.2.1
            u.cdn.example. 7200 IN A 192.0.2.2"#]],
    );
}

#[test]
fn includes() {
    check_files(
        &[
            ("zones/main.zone", "$TTL 1m\na A 192.0.2.1\n$INCLUDE more/in.zone sub\n  AAAA ::1\n"),
            ("zones/more/in.zone", "$TTL 2m\nx A 192.0.2.2\n$INCLUDE \"last.zone\"\ny A 192.0.2.3\n"),
            ("zones/more/last.zone", "@ A 192.0.2.4\n"),
        ],
        expect![[r#"
            a.cdn.example. 60 IN A 192.0.2.1
            x.sub.cdn.example. 120 IN A 192.0.2.2
            sub.cdn.example. 120 IN A 192.0.2.4
            y.sub.cdn.example. 120 IN A 192.0.2.3
            a.cdn.example. 60 IN AAAA ::1"#]],
    );
    check_files(
        &[
            ("zones/main.zone", "$INCLUDE in.zone\n$INCLUDE gone\n$INCLUDE\n"),
            ("zones/in.zone", "$INCLUDE in.zone\n$include main.zone\n"),
        ],
        expect![[r#"
            zones/in.zone:1  $INCLUDE in.zone
                makes a file include itself; remove it
            zones/in.zone:2  $include main.zone
                makes a file include itself; remove it
            zones/main.zone:2  $INCLUDE gone
                zones/gone cannot be read: there is no such file; correct the name, or make the file readable
            zones/main.zone:3  $INCLUDE
                takes a file, and may take an origin; for example $INCLUDE hosts.zone sub"#]],
    );
}

#[test]
fn what_is_refused() {
    check(
        "   A 192.0.2.1\n\
         a A 192.0.2.1\n\
         $TTL 1h\n\
         a A 192.0.2.256\n\
         a A\n\
         a\n\
         a 1x A 192.0.2.1\n\
         a CH A 192.0.2.1\n\
         other.example. A 192.0.2.1\n\
         a RRSIG x\n\
         a DNAME\n\
         a NOSUCH b\n\
         a A \\# 5 C000020100\n\
         $GENERATE 1-10 h$\n\
         $WHAT\n\
         \"a\" A 192.0.2.1\n\
         b SOA a b 1 2 3 4 5\n",
        expect![[r#"
            zones/main.zone:1  A 192.0.2.1
                begins with white space, and no name was given before; begin the line with a name, or @
            zones/main.zone:2  a A 192.0.2.1
                has no time to live; put $TTL 1h at the beginning of the file
            zones/main.zone:4  a A 192.0.2.256
                192.0.2.256 must be an IPv4 address; correct it
            zones/main.zone:5  a A
                has no data after A; add it
            zones/main.zone:6  a
                has no type; write NAME [TTL] [IN] TYPE DATA; a line that begins with white space has no name
            zones/main.zone:7  a 1x A 192.0.2.1
                1x is no time: it must be seconds, or numbers with s, m, h, d, w, up to 2147483647; correct it
            zones/main.zone:8  a CH A 192.0.2.1
                is of class CH; only IN is served: remove it
            zones/main.zone:9  other.example. A 192.0.2.1
                other.example. is not in the zone cdn.example.; remove it; or is a final dot missing, or one too many?
            zones/main.zone:10  a RRSIG x
                is of type RRSIG: the nameserver signs the zone by itself; remove it, and see cdn.dnssec; an unsigned copy of the zone is what belongs here
            zones/main.zone:11  a DNAME
                has no data after DNAME; add it
            zones/main.zone:12  a NOSUCH b
                is of type NOSUCH, which is not written by name here; correct it, or write TYPE and its number with \# LENGTH HEX (RFC 3597)
            zones/main.zone:13  a A \# 5 C000020100
                must be \# LENGTH HEX with data of the type A; correct it
            zones/main.zone:14  $GENERATE 1-10 h$
                must be $GENERATE START-STOP[/STEP] NAME [TTL] [IN] TYPE DATA; for example $GENERATE 1-254 host-$ A 192.0.2.$
            zones/main.zone:15  $WHAT
                is no directive; there are $ORIGIN, $TTL, $INCLUDE and $GENERATE
            zones/main.zone:16  "a" A 192.0.2.1
                "a" must be a domain name: labels of 1 to 63 octets, at most 255 in all; @ is the origin, and a full name ends with a dot; correct it
            zones/main.zone:17  b SOA a b 1 2 3 4 5
                is no SOA of cdn.example.: a zone has one, at its apex; remove it"#]],
    );
    check(
        "a 60 TXT \"open\nb 60 TXT (\n",
        expect![[r#"
        zones/main.zone:1  a 60 TXT "open
            has a string that its line does not close; add the closing "
        zones/main.zone:2  b 60 TXT (
            opens a parenthesis that nothing closes; add )"#]],
    );
}

#[test]
fn what_contradicts() {
    check(
        "$TTL 1h\n\
         www A 192.0.2.1\n\
         www TXT fine\n\
         ns1 A 198.18.0.53\n\
         ns1 A 198.18.0.54\n\
         @ NS ns1\n\
         @ NS ns3\n\
         a CNAME b\n\
         a TXT x\n\
         c CNAME d\n\
         c CNAME e\n\
         told CNAME x\n\
         told2 A 192.0.2.1\n\
         told2 A 192.0.2.1\n\
         told2 60 A 192.0.2.2\n\
         told 5m TXT a\n\
         sub NS ns.sub\n\
         del NS ns.del\n\
         ns.del A 192.0.2.53\n\
         x.del TXT y\n\
         *.w NS ns.else.where.\n\
         @ SOA a b 1 2 3 4 5\n\
         @ SOA a b 1 2 3 4 5\n",
        expect![[r#"
            zones/main.zone:2  www.cdn.example. 3600 IN A 192.0.2.1
                stands at the steered name of site www, whose addresses are chosen for each client; remove it, or rename one of them
            zones/main.zone:5  ns1.cdn.example. 3600 IN A 198.18.0.54
                stands at a nameserver, whose addresses are those in cdn.nameservers; remove it, or correct one of them
            zones/main.zone:7  cdn.example. 3600 IN NS ns3.cdn.example.
                names a nameserver of the zone that is not in cdn.nameservers; add it there, or remove this line
            zones/main.zone:8  a.cdn.example. 3600 IN CNAME b.cdn.example.
                has a name that is a CNAME, and a CNAME stands alone; remove it or the others
            zones/main.zone:9  a.cdn.example. 3600 IN TXT "x"
                has a name that is a CNAME, and a CNAME stands alone; remove it or the others
            zones/main.zone:10  c.cdn.example. 3600 IN CNAME d.cdn.example.
                has a name that is a CNAME, and a CNAME stands alone; remove it or the others
            zones/main.zone:11  c.cdn.example. 3600 IN CNAME e.cdn.example.
                has a name that is a CNAME, and a CNAME stands alone; remove it or the others
            zones/main.zone:12  told.cdn.example. 3600 IN CNAME x.cdn.example.
                has a name that is a CNAME, and a CNAME stands alone; remove it or the others
            zones/main.zone:14  told2.cdn.example. 3600 IN A 192.0.2.1
                is there already, at zones/main.zone:13; remove one of them
            zones/main.zone:15  told2.cdn.example. 60 IN A 192.0.2.2
                has another time to live than the 3600 of its set at zones/main.zone:13; give all records of one name and type the same
            zones/main.zone:16  told.cdn.example. 300 IN TXT "a"
                is there already, at the document's zone.record; remove one of them
            zones/main.zone:16  told.cdn.example. 300 IN TXT "a"
                has a name that is a CNAME, and a CNAME stands alone; remove it or the others
            zones/main.zone:17  sub.cdn.example. 3600 IN NS ns.sub.cdn.example.
                leads nowhere: ns.sub.cdn.example. is below the delegation, and nothing says its address; add its A or AAAA record (glue)
            zones/main.zone:20  x.del.cdn.example. 3600 IN TXT "y"
                is below del.cdn.example., which is delegated: only glue (A, AAAA) may lie there; remove it, or the NS records above it
            zones/main.zone:21  *.w.cdn.example. 3600 IN NS ns.else.where.
                delegates a wildcard, which cannot be; name the delegated zone
            zones/main.zone:23  @ SOA a b 1 2 3 4 5
                is a second SOA; the first is at zones/main.zone:22; remove one"#]],
    );
}

#[test]
fn what_a_dname_stands_beside() {
    check(
        "$TTL 1h\n\
         old DNAME new\n\
         old TXT \"beside it\"\n\
         old A 192.0.2.1\n\
         www DNAME elsewhere.example.\n\
         generic TYPE39 \\# 3 016100\n",
        expect![[r#"
            old.cdn.example. 3600 IN DNAME new.cdn.example.
            old.cdn.example. 3600 IN TXT "beside it"
            old.cdn.example. 3600 IN A 192.0.2.1
            www.cdn.example. 3600 IN DNAME elsewhere.example.
            generic.cdn.example. 3600 IN DNAME a."#]],
    );
    check(
        "$TTL 1h\n\
         old DNAME new\n\
         a.old A 192.0.2.1\n\
         x.y.old TXT b\n\
         alias CNAME b\n\
         alias DNAME c\n\
         two DNAME c\n\
         two DNAME d\n\
         *.w DNAME c\n\
         cut NS ns.else.where.\n\
         cut DNAME c\n",
        expect![[r#"
            zones/main.zone:3  a.old.cdn.example. 3600 IN A 192.0.2.1
                is below old.cdn.example., which is a DNAME: names there are looked for elsewhere; remove it, or the DNAME record above it
            zones/main.zone:4  x.y.old.cdn.example. 3600 IN TXT "b"
                is below old.cdn.example., which is a DNAME: names there are looked for elsewhere; remove it, or the DNAME record above it
            zones/main.zone:5  alias.cdn.example. 3600 IN CNAME b.cdn.example.
                has a name that is a CNAME, and a CNAME stands alone; remove it or the others
            zones/main.zone:6  alias.cdn.example. 3600 IN DNAME c.cdn.example.
                has a name that is a CNAME, and a CNAME stands alone; remove it or the others
            zones/main.zone:7  two.cdn.example. 3600 IN DNAME c.cdn.example.
                is one of several DNAMEs of its name, which has one; remove the others
            zones/main.zone:8  two.cdn.example. 3600 IN DNAME d.cdn.example.
                is one of several DNAMEs of its name, which has one; remove the others
            zones/main.zone:9  *.w.cdn.example. 3600 IN DNAME c.cdn.example.
                is a DNAME of a wildcard, which means no one thing; name what is redirected
            zones/main.zone:11  cut.cdn.example. 3600 IN DNAME c.cdn.example.
                stands at a delegation, where a DNAME is the child's to have; remove it, or the NS records"#]],
    );
    // A zone has sites, which are below its apex.
    check(
        "@ 60 DNAME else.where.\na 60 A 192.0.2.1\n",
        expect![[r#"
        zones/main.zone:1  cdn.example. 60 IN DNAME else.where.
            has ns1.cdn.example. below it, and nothing is below a DNAME; give the DNAME a name of its own"#]],
    );
    // What the document has below it: its sites and nameservers were told above, here is a record.
    let more = "[[zone.record]]\nname = \"x.sub\"\ntype = \"TXT\"\nttl = \"5m\"\nvalues = [\"a\"]\n";
    let read = |text: &str| report(read(&document(more), &[("zones/main.zone", text.as_bytes())], LIMITS));
    assert!(read("sub 60 DNAME a\n").contains("has x.sub.cdn.example. below it"));
    assert!(!read("x.sub 60 DNAME a\n").contains("below"));
    let more = more.replace("TXT", "DNAME").replace("x.sub", "sub");
    let read =
        |text: &str| report(super::tests::read(&document(&more), &[("zones/main.zone", text.as_bytes())], LIMITS));
    assert!(read("x.sub 60 A 192.0.2.1\n").contains("is below sub.cdn.example., which is a DNAME"));
    assert!(read("sub 300 DNAME b\n").contains("one of several DNAMEs"));
}

#[test]
fn generated_records() {
    check(
        "$TTL 1h\n\
         host TXT before\n\
         $GENERATE 1-3 h$ A 192.0.2.$\n\
         \tTXT \"of host, as before\"\n\
         $GENERATE 0-4/2 h-${1,2}.${0,3,n}.r 2h IN PTR h-${1,2}\n\
         $GENERATE 10-11 m 60 MX \"${-9,3} mail$\"\n\
         $generate 1-1 t TXT \"\\\"a $ b\\\" \\$\"\n\
         $GENERATE 1-1 t$ TXT \"a $\" b\n\
         $GENERATE 7-7 d$ DNAME d${-1}.other.example.\n",
        expect![[r#"
            host.cdn.example. 3600 IN TXT "before"
            h1.cdn.example. 3600 IN A 192.0.2.1
            h2.cdn.example. 3600 IN A 192.0.2.2
            h3.cdn.example. 3600 IN A 192.0.2.3
            host.cdn.example. 3600 IN TXT "of host, as before"
            h-01.0.0.r.cdn.example. 7200 IN PTR h-01.cdn.example.
            h-03.2.0.r.cdn.example. 7200 IN PTR h-03.cdn.example.
            h-05.4.0.r.cdn.example. 7200 IN PTR h-05.cdn.example.
            m.cdn.example. 60 IN MX 1 mail10.cdn.example.
            m.cdn.example. 60 IN MX 2 mail11.cdn.example.
            t.cdn.example. 3600 IN TXT "a 1 b" "$"
            t1.cdn.example. 3600 IN TXT "a 1" "b"
            d7.cdn.example. 3600 IN DNAME d6.other.example."#]],
    );
    check(
        "$TTL 1h\n\
         $GENERATE\n\
         $GENERATE 1-2 h$ A\n\
         $GENERATE 2-1 h$ A 192.0.2.$\n\
         $GENERATE 1-2 \"h$\" A 192.0.2.$\n\
         $GENERATE 1-2 h${ A 192.0.2.$\n\
         $GENERATE 1-2 h${-2} A 192.0.2.$\n\
         $GENERATE 254-400 h$ A 192.0.2.$\n\
         $GENERATE 1-2 h$ CH A 192.0.2.$\n\
         $GENERATE 1-2 h$ SOA a b $ 1 2 3 4\n\
         $GENERATE 1-2 h$.other.example. A 192.0.2.$\n\
         $GENERATE 1-2 h$ TXT \"\\\"open $\"\n",
        expect![[r#"
            zones/main.zone:2  $GENERATE
                must be $GENERATE START-STOP[/STEP] NAME [TTL] [IN] TYPE DATA; for example $GENERATE 1-254 host-$ A 192.0.2.$
            zones/main.zone:3  $GENERATE 1-2 h$ A
                must be $GENERATE START-STOP[/STEP] NAME [TTL] [IN] TYPE DATA; for example $GENERATE 1-254 host-$ A 192.0.2.$
            zones/main.zone:4  $GENERATE 2-1 h$ A 192.0.2.$
                2-1 is no range START-STOP or START-STOP/STEP of numbers below 2³¹; for example $GENERATE 1-254 host-$ A 192.0.2.$
            zones/main.zone:5  $GENERATE 1-2 "h$" A 192.0.2.$
                must be $GENERATE START-STOP[/STEP] NAME [TTL] [IN] TYPE DATA; for example $GENERATE 1-254 host-$ A 192.0.2.$
            zones/main.zone:6  $GENERATE 1-2 h${ A 192.0.2.$
                must have ${OFFSET}, ${OFFSET,WIDTH} or ${OFFSET,WIDTH,BASE}, with a width up to 128 and a base of d, o, x, X, n, N; for example ${0,3,d}; \$ is a dollar sign
            zones/main.zone:7  $GENERATE 1-2 h${-2} A 192.0.2.$
                makes a number below 0 of 1 and the offset -2; correct the offset
            zones/main.zone:8  h256 A 192.0.2.256
                192.0.2.256 must be an IPv4 address; correct it
            zones/main.zone:9  $GENERATE 1-2 h$ CH A 192.0.2.$
                is of class CH; only IN is served: remove it
            zones/main.zone:10  h1 SOA a b 1 1 2 3 4
                is no SOA of cdn.example.: a zone has one, at its apex; remove it
            zones/main.zone:11  h1.other.example. A 192.0.2.1
                h1.other.example. is not in the zone cdn.example.; remove it; or is a final dot missing, or one too many?
            zones/main.zone:12  h1 TXT "open 1
                has a string that its line does not close; add the closing ""#]],
    );
}

#[test]
fn both_sides_of_what_is_generated() {
    let read =
        |text: &str, limits: Limits| report(read(&document(""), &[("zones/main.zone", text.as_bytes())], limits));
    let made = read("$GENERATE 0-65535 h$ 60 TXT a\n", LIMITS);
    assert!(made.starts_with("h0.cdn.example.") && made.ends_with("h65535.cdn.example. 60 IN TXT \"a\""));
    assert_eq!(made.lines().count(), 65_536);
    assert!(read("$GENERATE 0-65536 h$ 60 TXT a\n", LIMITS).contains("more than 65536 records"));
    assert_eq!(read("$GENERATE 0-131071/2 h$ 60 TXT a\n", LIMITS).lines().count(), 65_536);
    let four = "$GENERATE 0-65535 $ 60 TXT a\n$GENERATE 0-65535 a$ 60 TXT a\n$GENERATE 0-65535 b$ 60 TXT a\n$GENERATE 0-65534 c$ 60 TXT a\n";
    assert_eq!(read(&format!("{four}$GENERATE 7-7 d$ 60 TXT a\n"), LIMITS).lines().count(), 4 * 65_536);
    assert!(read(&format!("{four}$GENERATE 7-8 d$ 60 TXT a\n"), LIMITS).contains("more than 262144 records"));
    // Of all records and bytes: 31 of the directive, and 11 of each line that it makes.
    let text = "$GENERATE 0-9 h$ 60 TXT a ; two";
    let bytes = text.len() + 10 * "h0 60 TXT a".len();
    let enough = Limits { bytes, records: 10, ..LIMITS };
    assert_eq!(read(text, enough).lines().count(), 10);
    assert!(read(text, Limits { records: 9, ..enough }).contains("more than 9 records"));
    assert!(read(text, Limits { bytes: bytes - 1, ..enough }).contains("longer than"));
}

#[test]
fn a_site_that_turns_into_an_alias_stands_alone() {
    let document = document("").clone();
    let text = DOCUMENT.replace("id = \"www\"\n", "id = \"www\"\nall_down = { cname = \"status.other.example.\" }\n");
    let aliased = document::load("perigee.toml", &text).unwrap();
    let files: &[(&str, &[u8])] = &[("zones/main.zone", b"www 60 TXT x\n")];
    assert!(read(&document, files, LIMITS).is_ok());
    assert!(report(read(&aliased, files, LIMITS)).contains("all_down"));
}

#[test]
fn a_missing_file_is_named() {
    check_files(
        &[],
        expect![[r#"
        zones/main.zone:1  zone.file[0]
            zones/main.zone cannot be read: there is no such file; correct the name, or make the file readable"#]],
    );
}

#[test]
fn the_origin_of_the_document() {
    let document = document("origin = \"sub.cdn.example\"\n");
    assert_eq!(
        report(read(&document, &[("zones/main.zone", b"a 60 A 192.0.2.1")], LIMITS)),
        "a.sub.cdn.example. 60 IN A 192.0.2.1"
    );
}

#[test]
fn both_sides_of_the_limits() {
    let text = b"a 60 A 192.0.2.1\nb 60 A 192.0.2.1\n";
    let document = document("[[zone.file]]\npath = \"second\"\n");
    let files: &[(&str, &[u8])] = &[("zones/main.zone", text), ("second", b"$INCLUDE third\n"), ("third", b"")];
    let limits = Limits { bytes: text.len() + 15, records: 2, depth: 1, reads: 3 };
    assert!(read(&document, files, limits).is_ok());
    let check = |limits: Limits, law: &str| {
        let said = report(read(&document, files, limits));
        assert!(said.contains(law) && !said.contains('\u{0}'), "{said}");
    };
    check(Limits { bytes: limits.bytes - 1, ..limits }, "longer than 48 bytes in all");
    check(Limits { records: 1, ..limits }, "more than 1 records");
    check(Limits { depth: 0, ..limits }, "deeper than 0 files");
    check(Limits { reads: 2, ..limits }, "more than 2 files");
}

#[test]
fn a_set_fits_a_message() {
    let line = |count: usize, last: usize| {
        let long = "x".repeat(255);
        // 12 bytes of head and 1 + 255 of text; the last fills up to the limit.
        (0..count)
            .map(|n| format!("a 60 TXT {n:03}{}\n", &long[3..]))
            .chain([format!("a 60 TXT {}\n", &long[..last])])
            .collect::<String>()
    };
    let whole = (60_000 - 223 * 268, 223);
    let last = whole.0 - 13;
    let read_with =
        |last: usize| report(read(&document(""), &[("zones/main.zone", line(whole.1, last).as_bytes())], LIMITS));
    assert!(!read_with(last).contains("longer"));
    assert!(read_with(last + 1).contains("longer than 60000 bytes"));
}

#[test]
fn mistakes_are_counted_beyond_those_told() {
    let text = "a 60 A x\n".repeat(25);
    let said = report(read(&document(""), &[("zones/main.zone", text.as_bytes())], LIMITS));
    assert_eq!(said.matches("must be an IPv4 address").count(), MISTAKES_MAX);
    assert!(said.ends_with("and 5 more"), "{said}");
}

fn label() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![proptest::collection::vec(any::<u8>(), 1..8), "[a-z0-9_-]{1,20}".prop_map(String::into_bytes)]
}

fn name() -> impl Strategy<Value = String> {
    proptest::collection::vec(label(), 0..4).prop_map(|labels| {
        let labels: Vec<Vec<u8>> = labels.iter().map(|label| label.to_ascii_lowercase()).collect();
        name_of(&labels)
    })
}

fn name_of(labels: &[Vec<u8>]) -> String {
    crate::rdata::name_text(labels.iter().map(Vec::as_slice))
}

fn data() -> impl Strategy<Value = RecordData> {
    let string = || proptest::collection::vec(any::<u8>(), 0..40);
    prop_oneof![
        any::<u32>().prop_map(|address| RecordData::A(address.into())),
        any::<u128>().prop_map(|address| RecordData::Aaaa(address.into())),
        name().prop_map(RecordData::Ptr),
        (any::<u16>(), name()).prop_map(|(preference, exchange)| RecordData::Mx { preference, exchange }),
        (any::<u16>(), name()).prop_map(|(port, target)| RecordData::Srv { priority: 1, weight: 2, port, target }),
        proptest::collection::vec(string(), 1..4).prop_map(RecordData::Txt),
        (any::<u8>(), "[a-z0-9]{1,15}", string()).prop_map(|(flags, tag, value)| RecordData::Caa { flags, tag, value }),
        string().prop_map(|data| RecordData::Other { number: 65_280, data }),
        string().prop_map(|data| RecordData::Other { number: 52, data }),
    ]
}

proptest! {
    /// What is printed reads back as it was.
    #[test]
    fn records_read_back(labels in proptest::collection::vec(label(), 1..4), ttl_s in 0..=i32::MAX as u32, data in data()) {
        let labels: Vec<Vec<u8>> = labels.iter().map(|label| label.to_ascii_lowercase()).collect();
        let place = Place { file: "zones/main.zone".into(), line: 1 };
        let record = ZoneRecord { name: format!("x.{}.cdn.example", name_of(&labels)), ttl_s, data, place };
        let text = record.to_string();
        let read = read(&document(""), &[("zones/main.zone", text.as_bytes())], LIMITS);
        prop_assert_eq!(read.map(|files| files.records), Ok(vec![record]), "{}", text);
    }

    /// Nothing that a file says makes the reader panic, and every mistake has a place.
    #[test]
    fn any_bytes(bytes in proptest::collection::vec(prop_oneof![any::<u8>(), proptest::sample::select(&b"\n\n  \\\"();$@.0aTXT"[..])], 0..200)) {
        if let Err(mistakes) = read(&document(""), &[("zones/main.zone", &bytes)], LIMITS) {
            prop_assert!(mistakes.iter().all(|mistake| mistake.line >= 1 && !mistake.law.is_empty()));
        }
    }

    /// Files of words that mean something.
    #[test]
    fn any_words(words in proptest::collection::vec(proptest::sample::select(&[
        "a", "@", "$TTL", "$ORIGIN", "$INCLUDE", "$GENERATE", "1-3", "${0,2,n}", "h$", "192.0.2.$", "DNAME", "1h", "60", "IN", "A", "192.0.2.1", "TXT", "\"x y\"", "(", ")", "\n", "\n", " ", "SOA",
        "NS", "CNAME", "\\#", "4", "c0000201", "TYPE65280", "zones/main.zone", "main.zone", "cdn.example.", ";", "www", "*", "MX", "SVCB", "alpn=h2",
    ][..]), 0..60)) {
        let text = words.join(" ");
        if let Ok(files) = read(&document(""), &[("zones/main.zone", text.as_bytes())], LIMITS) {
            prop_assert!(files.records.iter().all(|record| record.name.ends_with("cdn.example")));
        }
    }
}
