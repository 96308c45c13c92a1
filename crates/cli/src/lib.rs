//! The operator's command, `perigee`: reads documents, builds and asks geo databases, asks nodes how they are, and runs
//! the whole CDN on loopback.
//!
//! Deliberately absent: rules. What is valid, near, fresh or stored is decided by the crates below; this one parses flags,
//! calls them and prints.

mod args;
mod ask;
mod check;
mod cities;
mod demo;
pub mod distance;
mod dns;
mod explain;
mod fmt;
mod geo;
mod init;
mod manual;
mod measure;
mod origin;
mod out;
mod page;
mod pop;
mod purge;
mod schema;
mod status;
mod tls;

use std::{
    io::{self, Write as _},
    process::ExitCode,
};

use clap::Parser as _;

use crate::{
    args::{Cli, Command},
    ask::Unacknowledged,
    out::Out,
};

/// Runs the command that the process was started with.
///
/// 0: done. 1: it did not work, or the answer is no. 2: the command line is wrong.
pub fn run() -> ExitCode {
    let cli = Cli::parse();
    let mut out = Out::default();
    match perform(cli.command, &mut out) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        // `perigee … | head` is no failure, but a node that was told something and did not take it is one.
        Err(error) if (out.is_gone() || is_broken_pipe(&error)) && !error.is::<Unacknowledged>() => ExitCode::SUCCESS,
        Err(error) => {
            // Nobody is left to tell when stderr is gone.
            writeln!(io::stderr(), "perigee: {}", perigee_node::report::line(error.as_ref())).unwrap_or_default();
            ExitCode::FAILURE
        }
    }
}

fn perform(command: Command, out: &mut Out) -> anyhow::Result<bool> {
    match command {
        Command::Check(args) => check::run(&args, out),
        Command::Init(args) => init::init(&args, out).map(|()| true),
        Command::Fmt(args) => fmt::fmt(&args, out),
        Command::Schema(args) => schema::schema(&args, out).map(|()| true),
        Command::Man(args) => manual::man(&args, out).map(|()| true),
        Command::Completions(args) => manual::completions(&args, out).map(|()| true),
        Command::Geo(command) => geo::geo(&command, out),
        Command::Status(args) => {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(status::status(args.admin, args.json, out)).map(|()| true)
        }
        Command::Explain(command) => explain::explain(&command, out).map(|()| true),
        Command::Dns(command) => dns::dns(&command, out).map(|()| true),
        Command::Purge(args) => {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(purge::purge(&args, out)).map(|()| true)
        }
        Command::Pop(command) => {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(pop::pop(&command, out)).map(|()| true)
        }
        Command::Measure(args) => {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(measure::measure(&args, out))
        }
        Command::Page(args) => page::run(&args).map(|()| true),
        Command::Demo(args) => demo::run(&args).map(|()| true),
        Command::Origin(args) => origin::command::run(&args).map(|()| true),
    }
}

/// Of a command that writes to stdout by itself, as long as it runs.
fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}
