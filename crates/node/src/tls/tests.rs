use std::{
    fs,
    path::Path,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use perigee_testkit::certificates::{Authority, Issued, der};
use prometheus_client::registry::Registry;

use super::*;

struct Bench {
    folder: tempfile::TempDir,
    authority: Authority,
    registry: Registry,
    metrics: TlsMetrics,
    reloads: ReloadMetrics,
}

impl Bench {
    fn new() -> Self {
        let mut registry = Registry::default();
        let metrics = TlsMetrics::register(&mut registry);
        let folder = tempfile::tempdir().unwrap();
        Self { folder, authority: Authority::default(), registry, metrics, reloads: ReloadMetrics::default() }
    }

    fn at(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn pair(&self, site: &str, names: &[&str]) -> Pair {
        Pair {
            site: site.into(),
            names: names.iter().map(|name| (*name).to_owned()).collect(),
            certificate: self.at(&format!("{site}.pem")),
            key: self.at(&format!("{site}.key")),
        }
    }

    /// A good pair on disk.
    fn issue(&self, site: &str, names: &[&str]) -> (Pair, Issued) {
        let issued = self.authority.issue(names);
        issued.write(self.folder.path(), site);
        (self.pair(site, names), issued)
    }

    fn load(&self, pairs: &[Pair]) -> Result<Arc<Certificates>, String> {
        Certificates::load(pairs, self.metrics.clone(), self.reloads.clone()).map_err(|errors| said(&errors))
    }

    fn counted(&self, result: ReloadResult) -> u64 {
        self.reloads.total(Reloaded::Certificate, result)
    }

    fn is_failing(&self) -> bool {
        self.reloads.is_failing(Reloaded::Certificate)
    }

    fn expiry(&self) -> String {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &self.registry).unwrap();
        text.lines().filter(|line| line.starts_with("perigee_tls_certificate_expiry_seconds{")).collect()
    }
}

fn said(errors: &[PairError]) -> String {
    errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

fn chosen(certificates: &Certificates, name: Option<&str>) -> Option<Vec<u8>> {
    certificates.table.load().choose(name).map(|key| key.cert[0].to_vec())
}

#[test]
fn names_choose() {
    let bench = Bench::new();
    let (www, of_www) = bench.issue("www", &["www.example", "assets.example"]);
    let (shop, of_shop) = bench.issue("shop", &["shop.example", "www.example"]);
    let certificates = bench.load(&[www, shop]).unwrap();
    for (name, expected) in [
        (Some("www.example"), Some(&of_www)),
        (Some("assets.example"), Some(&of_www)),
        (Some("SHOP.example"), Some(&of_shop)),
        (Some("other.example"), None),
        (Some("x.www.example"), None),
        (None, Some(&of_www)),
    ] {
        assert_eq!(chosen(&certificates, name), expected.map(der), "{name:?}");
    }
}

#[test]
fn a_pair_without_names_is_for_all() {
    let bench = Bench::new();
    let (mut any, issued) = bench.issue("any", &["x"]);
    any.names.clear();
    let certificates = bench.load(&[any]).unwrap();
    for name in [None, Some("x"), Some("y.example")] {
        assert_eq!(chosen(&certificates, name), Some(der(&issued)), "{name:?}");
    }
}

#[test]
fn bad_pairs_are_refused_with_file_and_reason() {
    let bench = Bench::new();
    let check = |write: &dyn Fn(&Path), expected: &[&str]| {
        let (pair, _) = bench.issue("www", &["www.example"]);
        write(bench.folder.path());
        let error = bench.load(&[pair]).unwrap_err();
        for part in ["site.www.tls: "].iter().chain(expected) {
            assert!(error.contains(part), "{part:?} is not in {error:?}");
        }
    };
    let put = |name: &'static str, text: String| move |folder: &Path| fs::write(folder.join(name), &text).unwrap();
    check(&|folder| fs::remove_file(folder.join("www.pem")).unwrap(), &["www.pem: cannot be read"]);
    check(&|folder| fs::remove_file(folder.join("www.key")).unwrap(), &["www.key: cannot be read"]);
    check(&put("www.pem", "hello".into()), &["www.pem: holds no certificate"]);
    check(&put("www.key", "hello".into()), &["www.key: holds no private key"]);
    check(&put("www.key", bench.authority.issue(&["www.example"]).key), &["www.key: is not the key of", "www.pem"]);
    let junk = |kind: &str| format!("-----BEGIN {kind}-----\nAAAA\n-----END {kind}-----\n");
    check(&put("www.pem", junk("CERTIFICATE")), &["www.pem: holds a certificate that cannot be read"]);
    check(&put("www.key", junk("PRIVATE KEY")), &["www.key: holds a key that cannot be used"]);
    check(
        &put("www.pem", "-----BEGIN CERTIFICATE-----\n*".into()),
        &["www.pem: is no PEM file: it ends before -----END CERTIFICATE-----"],
    );
    let filled = |bytes: u64| " ".repeat(usize::try_from(bytes).unwrap());
    check(&put("www.pem", filled(PEM_BYTES_MAX)), &["holds no certificate"]);
    check(&put("www.pem", filled(PEM_BYTES_MAX + 1)), &["www.pem: is longer than 1048576 bytes"]);
}

#[test]
fn all_mistakes_are_told() {
    let bench = Bench::new();
    let error = bench.load(&[bench.pair("a", &["a.example"]), bench.pair("b", &["b.example"])]).unwrap_err();
    assert!(error.contains("site.a.tls") && error.contains("site.b.tls"), "{error}");
}

#[test]
fn expired_ones_and_others_names_serve_and_are_told() {
    let bench = Bench::new();
    let end = UNIX_EPOCH + Duration::from_secs(1_700_000_000);
    bench.authority.issue_until(&["*.cdn.example", "other.test"], end).write(bench.folder.path(), "www");
    let pair = bench.pair("www", &["www.cdn.example", "a.b.cdn.example", "nobody.test"]);
    let loaded = pair::load(&pair, &aws_lc_rs::default_provider()).unwrap();
    assert_eq!(loaded.not_after, 1_700_000_000);
    assert_eq!(loaded.uncovered, ["a.b.cdn.example", "nobody.test"]);
    bench.load(&[pair]).unwrap();
    assert_eq!(bench.expiry(), "perigee_tls_certificate_expiry_seconds{site=\"www\"} 1700000000");
}

/// Both looks that a change takes.
fn look(certificates: &Certificates) {
    certificates.look();
    certificates.look();
}

#[test]
fn changed_files_serve_and_bad_ones_do_not() {
    let bench = Bench::new();
    let (www, first) = bench.issue("www", &["www.example"]);
    let (shop, of_shop) = bench.issue("shop", &["shop.example"]);
    let certificates = bench.load(&[www.clone(), shop.clone()]).unwrap();
    let serving = || chosen(&certificates, Some("www.example")).unwrap();
    look(&certificates);
    assert_eq!((bench.counted(ReloadResult::Applied), bench.counted(ReloadResult::Refused)), (0, 0));

    let second = bench.authority.issue(&["www.example"]);
    fs::write(&www.certificate, &second.certificate).unwrap();
    // The key is not written yet: nothing is judged in between.
    certificates.look();
    fs::write(&www.key, &second.key).unwrap();
    certificates.look();
    assert_eq!(serving(), der(&first));
    certificates.look();
    assert_eq!(serving(), der(&second));
    assert_eq!((bench.counted(ReloadResult::Applied), bench.counted(ReloadResult::Refused)), (1, 0));

    fs::write(&www.key, first.key).unwrap();
    look(&certificates);
    look(&certificates);
    assert_eq!(serving(), der(&second));
    assert_eq!((bench.counted(ReloadResult::Applied), bench.counted(ReloadResult::Refused)), (1, 1), "told once");
    // Another pair that is well does not hide it.
    fs::write(&shop.certificate, &of_shop.certificate).unwrap();
    look(&certificates);
    assert!(bench.counted(ReloadResult::Applied) == 2 && bench.is_failing());

    fs::write(&www.key, &second.key).unwrap();
    look(&certificates);
    assert!(bench.counted(ReloadResult::Applied) == 3 && !bench.is_failing());
    fs::remove_file(&www.certificate).unwrap();
    look(&certificates);
    assert_eq!((serving(), bench.counted(ReloadResult::Refused)), (der(&second), 2));
    assert_eq!(chosen(&certificates, Some("shop.example")), Some(der(&of_shop)));
}

#[test]
fn a_new_document_keeps_what_it_can() {
    let bench = Bench::new();
    let (www, first) = bench.issue("www", &["www.example"]);
    let certificates = bench.load(std::slice::from_ref(&www)).unwrap();
    let apply = |pairs: &[Pair]| match certificates.prepare(pairs) {
        Ok(prepared) => certificates.apply(prepared),
        Err(errors) => panic!("{}", said(&errors)),
    };

    // A new site must be good, and nothing changes until it is.
    let missing = bench.pair("shop", &["shop.example"]);
    let errors = certificates.prepare(&[www.clone(), missing]).unwrap_err();
    assert!(said(&errors).contains("shop.pem: cannot be read"), "{}", said(&errors));

    // One that serves goes on, under the new names.
    fs::write(&www.key, "no key").unwrap();
    let renamed = Pair { names: vec!["new.example".into()], ..www.clone() };
    let (shop, of_shop) = bench.issue("shop", &["shop.example"]);
    apply(&[renamed, shop.clone()]);
    assert!(bench.counted(ReloadResult::Refused) == 1 && bench.is_failing());
    assert_eq!(chosen(&certificates, Some("new.example")), Some(der(&first)));
    assert_eq!(chosen(&certificates, Some("www.example")), None);
    assert_eq!(chosen(&certificates, Some("shop.example")), Some(der(&of_shop)));
    look(&certificates);
    assert_eq!(bench.counted(ReloadResult::Refused), 1, "told once");

    // What the document no longer has is gone, metrics included.
    apply(&[shop]);
    assert!(!bench.is_failing());
    assert_eq!(chosen(&certificates, Some("new.example")), None);
    assert_eq!(chosen(&certificates, None), Some(der(&of_shop)));
    assert!(bench.expiry().contains("site=\"shop\"") && !bench.expiry().contains("www"), "{}", bench.expiry());
    let end = bench.expiry().rsplit_once(' ').unwrap().1.parse::<u64>().unwrap();
    assert!(end > SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs());
}
