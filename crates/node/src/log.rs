//! Logs for people and machines: one subscriber per process, which `main` installs and no library does.

use tracing_subscriber::{
    EnvFilter,
    fmt::{self, MakeWriter},
    layer::SubscriberExt,
    util::SubscriberInitExt,
};

/// How log lines look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// Why logs cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The filter is none.
    #[error(
        "--log {filter:?} is no filter: {reason}; use a level (error, warn, info, debug, trace) or target=level pairs with commas, say info,perigee_cache=debug"
    )]
    Filter {
        /// As given.
        filter: String,
        /// What the parser said.
        reason: String,
    },
    /// Somebody installed a subscriber before.
    #[error("logs are set up already")]
    Twice,
}

/// Libraries that say at `info` what belongs to `debug`, or, as h2, at `warn` what any client can make them say thousands of
/// times a second; a filter that names them wins.
const QUIET: [&str; 5] =
    ["h2=error", "hickory_server=warn", "hickory_resolver=warn", "foyer=warn", "foyer_storage=warn"];

/// Installs the process's subscriber, which writes to stderr.
pub fn init(filter: &str, format: LogFormat) -> Result<(), LogError> {
    install(filter, format, std::io::stderr, is_terminal())
}

/// Installs a subscriber that writes elsewhere, for a process that needs its terminal.
pub fn init_to<W>(filter: &str, format: LogFormat, writer: W) -> Result<(), LogError>
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    install(filter, format, writer, false)
}

fn install<W>(filter: &str, format: LogFormat, writer: W, colours: bool) -> Result<(), LogError>
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let filter = parse(filter)?;
    let registry = tracing_subscriber::registry().with(filter);
    let installed = match format {
        LogFormat::Text => registry.with(fmt::layer().with_writer(writer).with_ansi(colours)).try_init(),
        LogFormat::Json => registry.with(fmt::layer().json().flatten_event(true).with_writer(writer)).try_init(),
    };
    installed.map_err(|_| LogError::Twice)
}

fn is_terminal() -> bool {
    std::io::IsTerminal::is_terminal(&std::io::stderr())
}

fn parse(filter: &str) -> Result<EnvFilter, LogError> {
    let mut whole: Vec<&str> = QUIET.into_iter().filter(|quiet| !names(filter, quiet)).collect();
    whole.extend(filter.split(',').map(str::trim).filter(|directive| !directive.is_empty()));
    EnvFilter::builder()
        .parse(whole.join(","))
        .map_err(|error| LogError::Filter { filter: filter.to_owned(), reason: error.to_string() })
}

fn names(filter: &str, quiet: &str) -> bool {
    let target = quiet.split('=').next().unwrap_or(quiet);
    filter.split(',').any(|directive| directive.trim().split(['=', ':', '[']).next() == Some(target))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters() {
        let check = |filter: &str, expected: Option<&[&str]>| match (parse(filter), expected) {
            (Ok(parsed), Some(expected)) => {
                let said = parsed.to_string();
                let said: Vec<&str> = said.split(',').collect();
                assert!(expected.iter().all(|directive| said.contains(directive)), "{filter}: {said:?}");
            }
            (Err(LogError::Filter { .. }), None) => {}
            (other, _) => panic!("{filter}: {other:?}"),
        };
        check("info", Some(&["info", "hickory_server=warn", "foyer=warn"]));
        check("debug, perigee_cache=trace", Some(&["debug", "perigee_cache=trace"]));
        check("info,hickory_server=debug", Some(&["info", "hickory_server=debug"]));
        check("", Some(&["foyer=warn"]));
        check("info,perigee=loud", None);
    }
}
