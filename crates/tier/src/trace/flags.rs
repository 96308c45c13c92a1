//! The flags of traces, and OpenTelemetry's own variables as far as they mean the same.

use std::{path::PathBuf, str::FromStr};

use anyhow::{Context, bail};
use clap::Args;
use http::{HeaderName, HeaderValue, uri::PathAndQuery};
use ipnet::IpNet;
use perigee_protocol::model::Url;

use super::TraceOptions;

/// The flags of traces.
#[derive(Args, Clone, Debug)]
pub struct TraceFlags {
    /// Send traces to the collector at this URL over OTLP/HTTP, say http://127.0.0.1:4318, or off [default: what OTEL_EXPORTER_OTLP_ENDPOINT says, else off]
    #[arg(long, value_name = "URL|off", env = "PERIGEE_OTLP")]
    pub otlp: Option<Otlp>,

    /// Certificates (PEM) to trust of an https collector instead of the public authorities [default: what OTEL_EXPORTER_OTLP_CERTIFICATE says]
    #[arg(long, value_name = "FILE", env = "PERIGEE_OTLP_CA")]
    pub otlp_ca: Option<PathBuf>,

    /// Of the requests, the part that is traced, 0 to 1; edges decide, and shields trace what their edges do
    #[arg(long, value_name = "RATE", env = "PERIGEE_TRACE_SAMPLE", default_value = "0.01", value_parser = parse_rate)]
    pub trace_sample: f64,

    /// Clients that are believed the traceparent they send, as 10.0.0.0/8: their trace goes on, if it is sampled; repeat it for several
    #[arg(long, value_name = "NETWORK", env = "PERIGEE_TRACE_TRUST", value_delimiter = ',', value_parser = crate::doors::parse_prefix)]
    pub trace_trust: Vec<IpNet>,
}

/// `--otlp`
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Otlp {
    /// No traces, whatever the environment says.
    Off,
    /// There.
    To(Endpoint),
}

/// Where a collector takes traces.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    pub(crate) url: Url,
    pub(crate) path: PathAndQuery,
}

const WANTED: &str =
    "must be http://HOST:PORT of a collector that speaks OTLP/HTTP (its port is 4318 as a rule), or https";

impl Endpoint {
    /// A URL whose path, if any, is all of it.
    fn exact(text: &str) -> Result<Self, &'static str> {
        let (scheme, rest) = text.split_once("://").ok_or(WANTED)?;
        let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        let url = format!("{scheme}://{authority}").parse().map_err(|_| WANTED)?;
        let path = if path.is_empty() { "/" } else { path };
        Ok(Self { url, path: path.parse().map_err(|_| WANTED)? })
    }
}

impl FromStr for Endpoint {
    type Err = &'static str;
    /// A base, to which the path of traces is added (OTLP Exporter Configuration, Endpoint URLs for OTLP/HTTP).
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let Self { url, path } = Self::exact(text)?;
        if path.query().is_some() {
            return Err(WANTED);
        }
        let base = path.path();
        let path = format!("{}/v1/traces", base.strip_suffix('/').unwrap_or(base));
        Ok(Self { url, path: path.parse().map_err(|_| WANTED)? })
    }
}

impl std::fmt::Display for Endpoint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}{}", self.url, self.path)
    }
}

impl FromStr for Otlp {
    type Err = &'static str;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text == "off" { Ok(Self::Off) } else { text.parse().map(Self::To) }
    }
}

fn parse_rate(text: &str) -> Result<f64, &'static str> {
    let rate = text.parse::<f64>().ok().filter(|rate| (0.0..=1.0).contains(rate));
    rate.ok_or("must be a number from 0 to 1: 0.01 is one request in a hundred")
}

impl TraceFlags {
    /// What they and the `variable`s of the environment say; None: no traces.
    pub(crate) fn options(&self, variable: impl Fn(&str) -> Option<String>) -> anyhow::Result<Option<TraceOptions>> {
        // An empty variable counts as none (OpenTelemetry's environment variable specification).
        let variable = |name: &str| variable(name).filter(|value| !value.is_empty());
        let Some(endpoint) = self.endpoint(&variable)? else { return Ok(None) };
        let certificate = || {
            let of_traces = variable("OTEL_EXPORTER_OTLP_TRACES_CERTIFICATE");
            of_traces.or_else(|| variable("OTEL_EXPORTER_OTLP_CERTIFICATE"))
        };
        let of_traces = variable("OTEL_EXPORTER_OTLP_TRACES_HEADERS");
        let headers = of_traces.or_else(|| variable("OTEL_EXPORTER_OTLP_HEADERS")).unwrap_or_default();
        let headers = pairs(&headers).context("OTEL_EXPORTER_OTLP_HEADERS")?;
        let headers = headers.into_iter().map(|(name, value)| {
            let name = HeaderName::from_str(&name).with_context(|| format!("{name:?} is no name of a header field"));
            let mut value = HeaderValue::from_str(&value).context("a value that no header field can have")?;
            value.set_sensitive(true);
            Ok((name?, value))
        });
        let mut resource: Vec<(String, String)> = Vec::new();
        let said = variable("OTEL_RESOURCE_ATTRIBUTES").unwrap_or_default();
        let said = pairs(&said).context("OTEL_RESOURCE_ATTRIBUTES")?.into_iter();
        let named = variable("OTEL_SERVICE_NAME").map(|name| ("service.name".to_owned(), name));
        for (key, value) in said.chain(named) {
            resource.retain(|(known, _)| *known != key);
            resource.push((key, value));
        }
        Ok(Some(TraceOptions {
            endpoint,
            ca: self.otlp_ca.clone().or_else(|| certificate().map(PathBuf::from)),
            headers: headers.collect::<anyhow::Result<_>>().context("OTEL_EXPORTER_OTLP_HEADERS")?,
            sample: self.trace_sample,
            trust: self.trace_trust.clone(),
            resource,
        }))
    }

    fn endpoint(&self, variable: &impl Fn(&str) -> Option<String>) -> anyhow::Result<Option<Endpoint>> {
        match &self.otlp {
            Some(Otlp::Off) => return Ok(None),
            Some(Otlp::To(endpoint)) => return Ok(Some(endpoint.clone())),
            None => {}
        }
        let is_off = |name: &str, off: &str| variable(name).is_some_and(|value| value.eq_ignore_ascii_case(off));
        if is_off("OTEL_SDK_DISABLED", "true") || is_off("OTEL_TRACES_EXPORTER", "none") {
            return Ok(None);
        }
        let (name, text, parsed) = match variable("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT") {
            Some(text) => ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", text.clone(), Endpoint::exact(&text)),
            None => match variable("OTEL_EXPORTER_OTLP_ENDPOINT") {
                Some(text) => ("OTEL_EXPORTER_OTLP_ENDPOINT", text.clone(), text.parse()),
                None => return Ok(None),
            },
        };
        match parsed {
            Ok(endpoint) => Ok(Some(endpoint)),
            Err(wanted) => bail!("{name}={text}: {wanted}"),
        }
    }
}

/// `key=value,key=value`, percent-encoded, as OpenTelemetry's variables have them (W3C Baggage).
fn pairs(text: &str) -> anyhow::Result<Vec<(String, String)>> {
    let listed = text.split(',').map(str::trim).filter(|pair| !pair.is_empty());
    listed
        .map(|pair| {
            let (key, value) = pair.split_once('=').context("must be KEY=VALUE,KEY=VALUE")?;
            Ok((key.trim().to_owned(), decoded(value.trim()).context("must be percent-encoded UTF-8")?))
        })
        .collect()
}

fn decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((byte, after)) = rest.split_first() {
        rest = after;
        if *byte != b'%' {
            bytes.push(*byte);
            continue;
        }
        let (digits, after) = rest.split_first_chunk::<2>()?;
        bytes.push(u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?);
        rest = after;
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Command {
        #[command(flatten)]
        trace: TraceFlags,
    }

    fn options(line: &str, environment: &[(&str, &str)]) -> anyhow::Result<Option<TraceOptions>> {
        let flags = Command::try_parse_from(["edge"].into_iter().chain(line.split_whitespace()))?.trace;
        let variable =
            |name: &str| environment.iter().find(|(key, _)| *key == name).map(|(_, value)| value.to_string());
        flags.options(variable)
    }

    /// Where traces go; empty: nowhere.
    fn check(line: &str, environment: &[(&str, &str)], expected: &str) {
        let told = options(line, environment).unwrap().map(|options| options.endpoint.to_string()).unwrap_or_default();
        assert_eq!(told, expected, "{line} {environment:?}");
    }

    #[test]
    fn where_traces_go() {
        let base = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://collector:4318/");
        let exact = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "https://collector/own/path");
        check("", &[], "");
        check("--otlp off", &[base], "");
        check("--otlp http://127.0.0.1:4318", &[], "http://127.0.0.1:4318/v1/traces");
        check("--otlp https://a.example/b", &[base, exact], "https://a.example/b/v1/traces");
        check("", &[base], "http://collector:4318/v1/traces");
        check("", &[base, exact], "https://collector/own/path");
        check("", &[("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://collector:1")], "http://collector:1/");
        check("", &[("OTEL_EXPORTER_OTLP_ENDPOINT", "")], "");
        check("", &[base, ("OTEL_SDK_DISABLED", "TRUE")], "");
        check("", &[base, ("OTEL_TRACES_EXPORTER", "none")], "");
    }

    #[test]
    fn what_is_no_collector_is_refused_with_a_way_out() {
        for bad in ["collector:4318", "ftp://a", "http://", "http:///a", "http://u@a", "http://a/b?c", "on"] {
            let said = options(&format!("--otlp {bad}"), &[]).unwrap_err().to_string();
            assert!(said.contains("OTLP/HTTP"), "{bad}: {said}");
        }
        let said = options("", &[("OTEL_EXPORTER_OTLP_ENDPOINT", "collector:4317")]).unwrap_err().to_string();
        assert!(said.starts_with("OTEL_EXPORTER_OTLP_ENDPOINT=collector:4317: must be http://"), "{said}");
    }

    #[test]
    fn rates_and_networks() {
        let check = |line: &str, good: bool| assert_eq!(options(line, &[]).is_ok(), good, "{line}");
        for good in ["0", "1", "0.5", "1.0", "1e-3"] {
            check(&format!("--trace-sample {good}"), true);
        }
        for bad in ["1.001", "-0.1", "NaN", "inf", "1%", "all"] {
            check(&format!("--trace-sample={bad}"), false);
        }
        check("--trace-trust 10.0.0.0/8,::1 --trace-trust 192.0.2.1", true);
        check("--trace-trust 10.0.0.1/8", false);
        let told = options("--otlp http://a", &[]).unwrap().unwrap();
        assert_eq!((told.sample, told.trust.len()), (0.01, 0));
    }

    #[test]
    fn what_the_environment_adds() {
        let all = [
            ("OTEL_EXPORTER_OTLP_HEADERS", "api-key=a%20b, x-other = c=d ,"),
            ("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment.name=caf%C3%A9,service.name=no"),
            ("OTEL_SERVICE_NAME", "cdn"),
            ("OTEL_EXPORTER_OTLP_CERTIFICATE", "ca.pem"),
        ];
        let own = options("--otlp http://a --otlp-ca own.pem", &all).unwrap().unwrap();
        assert_eq!(own.ca, Some("own.pem".into()));
        let told = options("--otlp http://a", &all).unwrap().unwrap();
        assert_eq!(told.ca, Some("ca.pem".into()));
        let headers: Vec<_> =
            told.headers.iter().map(|(name, value)| (name.as_str(), value.to_str().unwrap())).collect();
        assert_eq!(headers, [("api-key", "a b"), ("x-other", "c=d")]);
        assert!(!format!("{told:?}").contains("a b"), "a key is not for logs");
        let pair = |key: &str, value: &str| (key.to_owned(), value.to_owned());
        assert_eq!(told.resource, [pair("deployment.environment.name", "café"), pair("service.name", "cdn")]);
        for bad in ["a", "a=%", "a=%f", "a=%zz", "a=%ff", "a b=c", "a=%0a"] {
            assert!(options("--otlp http://a", &[("OTEL_EXPORTER_OTLP_HEADERS", bad)]).is_err(), "{bad}");
        }
    }
}
