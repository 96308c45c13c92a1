//! Knot's kdig over every transport, where it is installed.

use std::process::{Command, Output};

use crate::{bench::*, private::*};

/// None, said why: there is no kdig here.
async fn kdig(arguments: Vec<String>) -> Option<String> {
    let run = move || Command::new("kdig").args(&arguments).output();
    let Output { stdout, stderr, .. } = match tokio::task::spawn_blocking(run).await.unwrap() {
        Ok(output) => output,
        Err(error) => {
            eprintln!("skipped: kdig (Debian: knot-dnsutils) does not run: {error}");
            return None;
        }
    };
    Some([stdout, stderr].map(|text| String::from_utf8_lossy(&text).into_owned()).concat())
}

#[tokio::test(flavor = "multi_thread")]
async fn kdig_is_answered_over_every_transport() {
    let private = Private::start().await;
    let root = private.bench.path("root.pem");
    std::fs::write(&root, private.authority.root_pem()).unwrap();
    let (plain, tls, https, quic) = (private.bench.address(), private.tls(), private.https(), private.quic());
    for (flags, to, told) in [
        ("+notcp", plain, "(UDP)"),
        ("+tcp +keepopen", plain, "(TCP)"),
        ("+tls +padding", tls, "(TCP)"),
        ("+https", https, "(HTTP/2-POST)"),
        ("+https-get", https, "(HTTP/2-GET)"),
        ("+quic", quic, "QUIC session"),
    ] {
        let mut arguments =
            vec![format!("@{}", to.ip()), "-p".into(), to.port().to_string(), "-b".into(), AUSTRALIA.into()];
        if flags.contains("tls") || flags.contains("https") || flags.contains("quic") {
            arguments.extend([format!("+tls-ca={}", root.display()), format!("+tls-hostname={HOST}")]);
        }
        // Behind those, which by themselves mean TLS.
        arguments.extend(flags.split(' ').map(str::to_owned));
        arguments.extend(["www.cdn.example".into(), "A".into()]);
        let Some(said) = kdig(arguments).await else { return };
        if said.contains("not supported") || said.contains("invalid option") {
            eprintln!("skipped: this kdig has no {flags}: {said}");
            continue;
        }
        assert!(said.contains("status: NOERROR") && said.contains(SYD), "{flags}: {said}");
        assert!(said.contains(told), "{flags}: {said}");
        assert!(!flags.contains("padding") || said.contains("PADDING"), "{flags}: {said}");
    }
}
