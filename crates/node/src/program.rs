//! A server's process from its flags to its exit status: log, limits, runtimes, signals, drain.

use std::{error::Error, future::Future, process::ExitCode, time::Duration};

use crate::{
    flags::ServerFlags, limits, log, probe, report, runtimes::Runtimes, signals::Signals, supervisor::Supervisor,
};

/// How long what is left on the runtimes may take to end.
const RUNTIMES_BOUND: Duration = Duration::from_secs(5);

/// Any error that a start may end with.
pub type BoxError = Box<dyn Error + Send + Sync>;

/// A node at work, as its process sees it.
pub trait Program {
    /// What SIGHUP asks for.
    fn reload(&self);
    /// Returns when something else than a signal asks the node to end.
    fn drain_requested(&self) -> impl Future<Output = ()>;
    /// Ends it gently.
    fn drain(self) -> impl Future<Output = ()>;
}

/// Runs a server until a signal or its admin API ends it, or asks the one that runs here whether it is alive (`--probe`).
///
/// `start` gets the runtimes and how many files may be open. The exit status is 0 after a drain or a good probe, 1 after an
/// error, which is told in one line on stderr.
pub fn main<P: Program>(
    flags: &ServerFlags,
    start: impl AsyncFnOnce(&Runtimes, u64) -> Result<P, BoxError>,
) -> ExitCode {
    let result = if flags.probe { probe::run(flags.admin.0).map_err(Into::into) } else { run(flags, start) };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {}", report::line(error.as_ref()));
            ExitCode::FAILURE
        }
    }
}

fn run<P: Program>(
    flags: &ServerFlags,
    start: impl AsyncFnOnce(&Runtimes, u64) -> Result<P, BoxError>,
) -> Result<(), BoxError> {
    log::init(&flags.log, flags.log_format)?;
    let open_files = limits::raise_open_files();
    let runtimes = Runtimes::start(flags.threads())?;
    let handles = runtimes.handles().clone();
    let signals = Signals::install(&handles.control)?;
    let supervisor = Supervisor::from_environment();
    let result = handles.control.block_on(async {
        let _alive = supervisor.live(&handles);
        let program = supervisor.patiently(start(&handles, open_files)).await?;
        supervisor.ready();
        until_told(&program, &signals).await;
        tracing::info!("draining");
        supervisor.stopping();
        supervisor.patiently(program.drain()).await;
        tracing::info!("stopped");
        Ok(())
    });
    runtimes.shutdown(RUNTIMES_BOUND);
    result
}

async fn until_told(program: &impl Program, signals: &Signals) {
    let mut reloads = signals.reloads();
    loop {
        tokio::select! {
            () = signals.terminated() => return,
            () = program.drain_requested() => return,
            changed = reloads.changed() => match changed {
                Ok(()) => program.reload(),
                Err(_) => return,
            },
        }
    }
}
