//! Signals of the process: SIGTERM and SIGINT end it gently, a second SIGINT at once, SIGHUP reloads.

use std::io;

use tokio::{
    runtime::Handle,
    signal::unix::{Signal, SignalKind, signal},
    sync::watch,
};

/// The exit status of a process that a second SIGINT ended: 128 + SIGINT, as a shell would say.
pub const EXIT_INTERRUPTED: i32 = 130;

/// The process's signals; `main` makes one and hands out subscriptions. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Signals {
    terminate: watch::Receiver<bool>,
    reload: watch::Receiver<u64>,
}

impl Signals {
    /// Takes over SIGTERM, SIGINT and SIGHUP for the process. Call it once, early.
    pub fn install(control: &Handle) -> io::Result<Self> {
        let _inside = control.enter();
        let terminate_signal = signal(SignalKind::terminate())?;
        let interrupt_signal = signal(SignalKind::interrupt())?;
        let hangup_signal = signal(SignalKind::hangup())?;
        let (terminate_sender, terminate) = watch::channel(false);
        let (reload_sender, reload) = watch::channel(0);
        control.spawn(end_on(terminate_signal, interrupt_signal, terminate_sender));
        control.spawn(reload_on(hangup_signal, reload_sender));
        Ok(Self { terminate, reload })
    }

    /// Returns when the process has been asked to end.
    pub async fn terminated(&self) {
        let mut terminate = self.terminate.clone();
        if terminate.wait_for(|terminate| *terminate).await.is_err() {
            // The runtime is going away: nobody will ask any more.
            std::future::pending::<()>().await;
        }
    }

    /// A receiver that changes at each SIGHUP.
    pub fn reloads(&self) -> watch::Receiver<u64> {
        let mut reload = self.reload.clone();
        reload.mark_unchanged();
        reload
    }

    /// Runs `action` on the control runtime at each SIGHUP, until the runtime ends.
    pub fn on_reload(&self, control: &Handle, mut action: impl FnMut() + Send + 'static) {
        let mut reloads = self.reloads();
        control.spawn(async move {
            while reloads.changed().await.is_ok() {
                action();
            }
        });
    }
}

async fn end_on(mut terminate: Signal, mut interrupt: Signal, asked: watch::Sender<bool>) {
    let mut interrupts = 0;
    loop {
        let name = tokio::select! {
            received = terminate.recv() => match received { Some(()) => "SIGTERM", None => return },
            received = interrupt.recv() => match received {
                Some(()) => { interrupts += 1; "SIGINT" }
                None => return,
            },
        };
        if interrupts > 1 {
            tracing::warn!("interrupted twice: ending at once");
            std::process::exit(EXIT_INTERRUPTED);
        }
        tracing::info!(signal = name, "draining");
        asked.send_replace(true);
    }
}

async fn reload_on(mut hangup: Signal, reload: watch::Sender<u64>) {
    while hangup.recv().await.is_some() {
        tracing::info!("SIGHUP: reopening logs and reloading");
        reload.send_modify(|count| *count += 1);
    }
}

#[cfg(test)]
mod tests {
    use nix::sys::signal::{Signal as Unix, raise};

    use super::*;

    #[tokio::test(flavor = "multi_thread")]
    async fn hangup_reloads_and_term_ends() {
        let signals = Signals::install(&Handle::current()).unwrap();
        let mut reloads = signals.reloads();
        raise(Unix::SIGHUP).unwrap();
        reloads.changed().await.unwrap();
        assert!(!*signals.terminate.borrow());
        raise(Unix::SIGTERM).unwrap();
        signals.terminated().await;
    }
}
