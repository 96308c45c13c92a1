//! `perigee-distance`: a relay of `deploy/compose.yaml`, in front of one node. It is in no package.

use std::{
    io::{self, Write as _},
    net::SocketAddr,
    process::ExitCode,
};

use anyhow::Context;
use clap::Parser;
use perigee_node::{limits, signals::Signals};

use super::{
    Relay, World, is_node, place,
    relay::{Road, Stand, Told},
};

/// Hold back what passes for as long as light in fibre takes between the places that addresses of deploy/compose.yaml stand for
#[derive(Debug, Parser)]
#[command(
    name = "perigee-distance",
    after_help = "\
Example:
  perigee-distance --listen 0.0.0.0:80 --to 127.0.0.1:8080 --place tyo --proxy-protocol
  perigee-distance --listen 198.18.49.53:53,198.18.81.53:53 --to 127.0.0.1:5300 --dns"
)]
struct Flags {
    /// Where clients dial; several with commas
    #[arg(long, value_name = "ADDRESS", env = "PERIGEE_LISTEN", value_delimiter = ',', required = true)]
    listen: Vec<SocketAddr>,
    /// Where the node listens
    #[arg(long, value_name = "ADDRESS")]
    to: SocketAddr,
    /// Where the node stands: a PoP, a shield, or origin
    #[arg(long, value_name = "NAME", value_parser = node, required_unless_present = "dns")]
    place: Option<String>,
    /// The node is a nameserver with an address in every region: as near as the city that is nearest to whoever asks. Questions
    /// in datagrams are taken too, and go on from the relay's address in the client's network
    #[arg(long, conflicts_with_all = ["place", "proxy_protocol"])]
    dns: bool,
    /// Tell the node who dials, by a header of the PROXY protocol
    #[arg(long)]
    proxy_protocol: bool,
    /// 0 passes everything on at once
    #[arg(long, value_name = "0|1", env = "PERIGEE_DISTANCE", default_value = "1", value_parser = ["0", "1"])]
    distance: String,
}

fn node(name: &str) -> Result<String, &'static str> {
    is_node(name).then(|| name.to_owned()).ok_or("no node of deploy/compose.yaml has that name")
}

/// Runs `perigee-distance` until a signal. 0: done. 1: it cannot. 2: the command line is wrong.
pub fn run() -> ExitCode {
    match relay(&Flags::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Nobody is left to tell when stderr is gone.
            writeln!(io::stderr(), "perigee-distance: {}", perigee_node::report::line(error.as_ref()))
                .unwrap_or_default();
            ExitCode::FAILURE
        }
    }
}

fn relay(flags: &Flags) -> anyhow::Result<()> {
    limits::raise_open_files();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let signals = Signals::install(runtime.handle()).context("cannot take over signals")?;
        let (name, stand) = match &flags.place {
            Some(name) => (name.as_str(), Stand::At(place(name))),
            None => ("nameserver", Stand::Nearest),
        };
        let (stand, length) = match flags.distance.as_str() {
            "1" => (stand, "as long as light takes"),
            _ => (Stand::Nowhere, "no distance"),
        };
        let told = match (flags.dns, flags.proxy_protocol) {
            (true, _) => Told::ByNetwork,
            (false, true) => Told::ByHeader,
            (false, false) => Told::Nothing,
        };
        let road = Road { to: flags.to, stand, world: World::Compose, told };
        let mut relays = Vec::new();
        for listen in &flags.listen {
            let explain = || format!("cannot listen at {listen} (see --listen)");
            if flags.dns {
                relays.push(Relay::datagrams(*listen, road, runtime.handle()).await.with_context(explain)?);
            }
            relays.push(Relay::connections(*listen, road, runtime.handle()).await.with_context(explain)?);
        }
        let at: Vec<String> = relays.iter().map(|relay| relay.at().to_string()).collect();
        writeln!(io::stdout(), "ready: {} → {} ({name}, {length})", at.join(","), flags.to)?;
        signals.terminated().await;
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        Flags::command().debug_assert();
    }

    #[test]
    fn flags_name_what_is_there() {
        let check = |more: &str, good: bool| {
            let line = format!("perigee-distance --listen 0.0.0.0:80 --to 127.0.0.1:8080 {more}");
            assert_eq!(Flags::try_parse_from(line.split_whitespace()).is_ok(), good, "{line}");
        };
        check("--place tyo --proxy-protocol", true);
        check("--place shield-east --distance 0", true);
        check("--place origin --distance 1", true);
        check("--dns", true);
        check("--dns --distance 0", true);
        check("--dns --place tyo", false);
        check("--dns --proxy-protocol", false);
        check("--place paris", false);
        check("--place tyo --distance 2", false);
        check("", false);
    }
}
