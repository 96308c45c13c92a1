//! The flags of dnstap.

use std::{fmt, net::SocketAddr, num::NonZeroU32, path::PathBuf, str::FromStr};

use clap::Args;

/// The longest name that a nameserver may give itself.
const IDENTITY_BYTES_MAX: usize = 255;

/// The flags of dnstap.
#[derive(Args, Clone, Debug)]
pub(crate) struct TapFlags {
    /// Where queries and answers go as dnstap: unix:SOCKET or tcp:ADDRESS:PORT of a collector, file:PATH (reopened on SIGHUP), or off
    #[arg(long, value_name = "WHERE|off", env = "PERIGEE_DNSTAP", default_value = "off")]
    dnstap: TapTarget,

    /// What this nameserver is called in dnstap [default: what --name says]
    #[arg(long, value_name = "NAME", env = "PERIGEE_DNSTAP_IDENTITY", value_parser = parse_identity)]
    dnstap_identity: Option<String>,

    /// Of how many queries one goes there with its answer, chosen by chance: 100 sends about 1 %
    #[arg(long, value_name = "N", env = "PERIGEE_DNSTAP_ONE_IN", default_value = "1")]
    dnstap_one_in: NonZeroU32,
}

impl TapFlags {
    pub(crate) fn options(&self) -> TapOptions {
        TapOptions { target: self.dnstap.clone(), identity: self.dnstap_identity.clone(), one_in: self.dnstap_one_in }
    }
}

fn parse_identity(text: &str) -> Result<String, String> {
    if text.is_empty() || text.len() > IDENTITY_BYTES_MAX {
        return Err(format!("has 1 to {IDENTITY_BYTES_MAX} bytes"));
    }
    Ok(text.to_owned())
}

/// What of the queries goes where as dnstap. By default nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TapOptions {
    /// Where messages go.
    pub target: TapTarget,
    /// What the nameserver is called in them; None: its name.
    pub identity: Option<String>,
    /// Of how many queries one goes there, with its answer.
    pub one_in: NonZeroU32,
}

impl Default for TapOptions {
    fn default() -> Self {
        Self { target: TapTarget::Off, identity: None, one_in: NonZeroU32::MIN }
    }
}

/// Where messages of dnstap go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TapTarget {
    /// Nowhere.
    Off,
    /// To the collector that listens on this socket.
    Unix(PathBuf),
    /// To the collector that listens there.
    Tcp(SocketAddr),
    /// Appended to this file.
    File(PathBuf),
}

const WANTED: &str =
    "unix:/run/dnstap.sock, tcp:127.0.0.1:6000 (an address: names are not looked up), file:/path, or off";

impl FromStr for TapTarget {
    type Err = &'static str;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.split_once(':') {
            None if text == "off" => Ok(Self::Off),
            Some(("unix", path)) if !path.is_empty() => Ok(Self::Unix(path.into())),
            Some(("file", path)) if !path.is_empty() => Ok(Self::File(path.into())),
            Some(("tcp", address)) => address.parse().map(Self::Tcp).map_err(|_| WANTED),
            _ => Err(WANTED),
        }
    }
}

impl fmt::Display for TapTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Off => f.write_str("off"),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
            Self::Tcp(address) => write!(f, "tcp:{address}"),
            Self::File(path) => write!(f, "file:{}", path.display()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets() {
        let check = |text: &str, expected: Option<TapTarget>| {
            assert_eq!(text.parse().ok(), expected, "{text}");
            if let Some(target) = expected {
                assert_eq!(target.to_string(), text);
            }
        };
        check("off", Some(TapTarget::Off));
        check("unix:/run/a:b", Some(TapTarget::Unix("/run/a:b".into())));
        check("file:a", Some(TapTarget::File("a".into())));
        check("tcp:[::1]:6000", Some(TapTarget::Tcp("[::1]:6000".parse().unwrap())));
        for bad in [
            "",
            "on",
            "/run/dnstap.sock",
            "unix:",
            "file:",
            "tcp:",
            "tcp:localhost:6000",
            "tcp:127.0.0.1",
            "udp:127.0.0.1:1",
        ] {
            check(bad, None);
        }
    }

    #[test]
    fn an_identity_has_a_length() {
        assert!(parse_identity("n").is_ok() && parse_identity("").is_err());
        assert!(parse_identity(&"n".repeat(IDENTITY_BYTES_MAX)).is_ok());
        assert!(parse_identity(&"n".repeat(IDENTITY_BYTES_MAX + 1)).is_err());
    }
}
