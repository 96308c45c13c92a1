//! The threads of a process: N current-thread "core" runtimes for the data path, one small `store` runtime for disk
//! work, one `control` runtime for admin, probes and reload. Nodes are handed the handles, so that several share them.

use std::{io, sync::Arc, thread, time::Duration};

use tokio::{
    runtime::{Builder, Handle, Runtime},
    sync::oneshot,
};

use crate::pulse::Pulses;

/// Worker threads of the store runtime.
pub const STORE_WORKERS: usize = 2;
/// Blocking threads of the store runtime: how many disk operations wait at once.
pub const STORE_BLOCKING_THREADS_MAX: usize = 16;
/// Blocking threads of the control runtime: document and database loads.
pub const CONTROL_BLOCKING_THREADS_MAX: usize = 4;
/// The most core runtimes that a process starts.
pub const CORES_MAX: usize = 1024;

/// Handles to the runtimes of a process. Cheap to clone; they outlive nothing: after [`RunningRuntimes::shutdown`]
/// what is spawned on them is dropped.
#[derive(Clone, Debug)]
pub struct Runtimes {
    /// The data path; at least one.
    pub cores: Arc<[Handle]>,
    /// Disk work.
    pub store: Handle,
    /// Everything that is not on the data path.
    pub control: Handle,
    /// Threads beside them that are to be seen at work.
    pub pulses: Pulses,
}

impl Runtimes {
    /// Starts `threads` core runtimes (0 counts as 1) and the two small ones.
    pub fn start(threads: usize) -> io::Result<RunningRuntimes> {
        let threads = threads.clamp(1, CORES_MAX);
        let store = Builder::new_multi_thread()
            .worker_threads(STORE_WORKERS)
            .max_blocking_threads(STORE_BLOCKING_THREADS_MAX)
            .thread_name("store")
            .enable_all()
            .build()?;
        let control = Builder::new_multi_thread()
            .worker_threads(1)
            .max_blocking_threads(CONTROL_BLOCKING_THREADS_MAX)
            .thread_name("control")
            .enable_all()
            .build()?;
        let cores = (0..threads).map(Core::start).collect::<io::Result<Vec<_>>>()?;
        let handles = Self {
            cores: cores.iter().map(|core| core.handle.clone()).collect(),
            store: store.handle().clone(),
            control: control.handle().clone(),
            pulses: Pulses::default(),
        };
        Ok(RunningRuntimes { handles, cores, small: Some((store, control)) })
    }

    /// How many core runtimes there are.
    pub fn threads(&self) -> usize {
        self.cores.len()
    }
}

/// The owner of a process's runtimes. Dropped without [`RunningRuntimes::shutdown`], it stops them without waiting.
#[derive(Debug)]
pub struct RunningRuntimes {
    handles: Runtimes,
    cores: Vec<Core>,
    small: Option<(Runtime, Runtime)>,
}

impl RunningRuntimes {
    /// The handles that nodes take.
    pub fn handles(&self) -> &Runtimes {
        &self.handles
    }

    /// Stops the cores, then the store, then control, dropping whatever tasks are left; waits at most `bound` for
    /// each of store and control. Call it from a plain thread, after the nodes have drained.
    pub fn shutdown(mut self, bound: Duration) {
        for core in &mut self.cores {
            core.stop();
        }
        for core in &mut self.cores {
            core.join();
        }
        if let Some((store, control)) = self.small.take() {
            store.shutdown_timeout(bound);
            control.shutdown_timeout(bound);
        }
    }
}

impl Drop for RunningRuntimes {
    fn drop(&mut self) {
        for core in &mut self.cores {
            core.stop();
        }
        if let Some((store, control)) = self.small.take() {
            store.shutdown_background();
            control.shutdown_background();
        }
    }
}

/// A thread that does nothing but run one current-thread runtime.
#[derive(Debug)]
struct Core {
    handle: Handle,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Core {
    fn start(index: usize) -> io::Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().max_blocking_threads(1).build()?;
        let handle = runtime.handle().clone();
        let (stop, stopped) = oneshot::channel::<()>();
        let thread = thread::Builder::new().name(format!("core-{index}")).spawn(move || {
            // Both a message and a dropped sender mean: stop.
            runtime.block_on(async move { stopped.await.unwrap_or_default() });
            runtime.shutdown_background();
        })?;
        Ok(Self { handle, stop: Some(stop), thread: Some(thread) })
    }

    fn stop(&mut self) {
        drop(self.stop.take());
    }

    fn join(&mut self) {
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("a core's thread panicked");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_runs_where_it_is_sent_and_shutdown_drops_what_is_left() {
        let running = Runtimes::start(2).unwrap();
        let runtimes = running.handles().clone();
        assert_eq!(runtimes.threads(), 2);
        let name = || async { thread::current().name().map(str::to_owned) };
        for (index, core) in runtimes.cores.iter().enumerate() {
            let ran_on = runtimes.control.block_on(core.spawn(name())).unwrap();
            assert_eq!(ran_on, Some(format!("core-{index}")));
        }
        let ran_on = runtimes.control.block_on(runtimes.store.spawn(name())).unwrap();
        assert_eq!(ran_on.as_deref(), Some("store"));

        let alive = Arc::new(());
        for handle in runtimes.cores.iter().chain([&runtimes.store, &runtimes.control]) {
            let held = Arc::clone(&alive);
            handle.spawn(async move {
                std::future::pending::<()>().await;
                drop(held);
            });
        }
        running.shutdown(Duration::from_secs(5));
        assert_eq!(Arc::strong_count(&alive), 1);
    }

    #[test]
    fn zero_threads_count_as_one() {
        assert_eq!(Runtimes::start(0).unwrap().handles().threads(), 1);
    }
}
