//! Whom fetches go to.

use anyhow::{Context, bail, ensure};
use reqwest::Url;

/// One side of the comparison.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Target {
    pub(super) is_tls: bool,
    /// A name, or a literal address without brackets.
    pub(super) host: String,
    pub(super) port: u16,
    /// What Host says.
    pub(super) authority: String,
    /// With the query; what is fetched when nothing else is said.
    pub(super) path: String,
}

impl Target {
    /// The origin's.
    pub(super) fn direct(text: &str, host: Option<&str>) -> anyhow::Result<Self> {
        let mut target = Self::parse(text).with_context(|| format!("--direct {text:?}"))?;
        if let Some(host) = host {
            let is_host = host.parse::<http::uri::Authority>().is_ok_and(|host| !host.as_str().contains('@'));
            ensure!(is_host, "--direct-host {host:?} is no host");
            target.authority = host.to_owned();
        }
        Ok(target)
    }

    /// The CDN's: a URL, or a name to be asked for as the origin is.
    pub(super) fn cdn(text: &str, direct: &Self) -> anyhow::Result<Self> {
        let scheme = if direct.is_tls { "https" } else { "http" };
        let url = if text.contains("://") { text.to_owned() } else { format!("{scheme}://{text}/") };
        Self::parse(&url).with_context(|| format!("--cdn {text:?}"))
    }

    fn parse(text: &str) -> anyhow::Result<Self> {
        let url = Url::parse(text).context("it is no URL")?;
        let is_tls = match url.scheme() {
            "http" => false,
            "https" => true,
            other => bail!("{other} is not understood; it takes http or https"),
        };
        ensure!(
            url.username().is_empty() && url.password().is_none(),
            "a URL with a user or a password is not asked for"
        );
        let host = url.host_str().context("there is no host in it")?;
        let port = url.port_or_known_default().context("there is no port in it")?;
        let authority = url.port().map_or(host.to_owned(), |port| format!("{host}:{port}"));
        let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        Ok(Self { is_tls, host, port, authority, path: path_of(&url) })
    }

    /// The name that a certificate is to be for: the authority's without its port, as Host says it.
    pub(super) fn tls_name(&self) -> &str {
        let (host, port) = self.authority.rsplit_once(':').unwrap_or((&self.authority, ""));
        let is_port = port.bytes().all(|byte| byte.is_ascii_digit());
        let host = if is_port { host } else { &*self.authority };
        host.trim_start_matches('[').trim_end_matches(']')
    }

    /// The URL of a path.
    pub(super) fn url(&self, path: &str) -> String {
        format!("{}://{}{path}", if self.is_tls { "https" } else { "http" }, self.authority)
    }
}

/// Path and query of a URL.
pub(super) fn path_of(url: &Url) -> String {
    match url.query() {
        Some(query) => format!("{}?{query}", url.path()),
        None => url.path().to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bare_name_is_asked_for_as_the_origin_is() {
        let check = |direct: &str, cdn: &str, expected: &str| {
            let direct = Target::direct(direct, None).unwrap();
            let cdn = Target::cdn(cdn, &direct).unwrap();
            assert_eq!(format!("{} {} {}", cdn.url("/x"), cdn.host, cdn.port), expected);
        };
        check("http://127.0.0.90:8000/", "www.cdn.example", "http://www.cdn.example/x www.cdn.example 80");
        check("https://o.example", "www.cdn.example", "https://www.cdn.example/x www.cdn.example 443");
        check(
            "http://[::1]:8000/",
            "http://www.cdn.example:8080",
            "http://www.cdn.example:8080/x www.cdn.example 8080",
        );
        check("http://o.example", "https://[2001:db8::1]", "https://[2001:db8::1]/x 2001:db8::1 443");
        check("http://o.example", "www.cdn.example:8080", "http://www.cdn.example:8080/x www.cdn.example 8080");
    }

    #[test]
    fn the_origin_may_have_another_host() {
        let target = Target::direct("http://127.0.0.1:8000/a?b=1", Some("www.example.com")).unwrap();
        assert_eq!((target.url(&target.path).as_str(), target.port), ("http://www.example.com/a?b=1", 8000));
    }

    #[test]
    fn what_is_no_target_is_refused() {
        for wrong in ["", "o.example", "ftp://o.example/", "http://user:x@o.example/"] {
            assert!(Target::direct(wrong, None).is_err(), "{wrong}");
        }
        for wrong in ["", "a\nb", "a/b", "a b", "user@o.example"] {
            assert!(Target::direct("http://o.example/", Some(wrong)).is_err(), "{wrong}");
        }
    }

    #[test]
    fn certificates_are_for_what_host_says() {
        let check = |direct: &str, host: Option<&str>, expected: &str| {
            assert_eq!(Target::direct(direct, host).unwrap().tls_name(), expected, "{direct} {host:?}");
        };
        check("https://o.example/", None, "o.example");
        check("https://o.example:8443/", None, "o.example");
        check("https://[2001:db8::1]/", None, "2001:db8::1");
        check("https://[2001:db8::1]:8443/", None, "2001:db8::1");
        check("https://127.0.0.1:8443/", Some("www.example"), "www.example");
        check("https://127.0.0.1:8443/", Some("www.example:8443"), "www.example");
    }
}
