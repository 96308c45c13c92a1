//! A built binary, run and watched.

use std::{
    io::{BufRead, BufReader, Read},
    net::SocketAddr,
    path::PathBuf,
    process::{Child, Command, ExitStatus, Stdio},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use tokio::sync::watch;

use crate::{patiently, wait_until};

/// A child process with its output kept. Killed when dropped.
#[derive(Debug)]
pub struct ProcessUnderTest {
    name: String,
    child: Child,
    stdout: Output,
    stderr: Output,
}

impl ProcessUnderTest {
    /// Runs the workspace's binary of that name with `arguments`, from the folder that the running test was built into.
    ///
    /// # Panics
    /// When it is not built, saying how to.
    pub fn start<S: AsRef<std::ffi::OsStr>>(name: &str, arguments: impl IntoIterator<Item = S>) -> Self {
        let mut command = Command::new(binary(name));
        command.args(arguments);
        Self::spawn(name, command)
    }

    /// Runs a command of the test's own making, say with an environment.
    pub fn spawn(name: &str, mut command: Command) -> Self {
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("cannot run {name}: {error}"));
        let stdout = Output::of(child.stdout.take().expect("a pipe was asked for"));
        let stderr = Output::of(child.stderr.take().expect("a pipe was asked for"));
        Self { name: name.into(), child, stdout, stderr }
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it wrote to standard output so far.
    pub fn stdout(&self) -> String {
        self.stdout.text()
    }

    /// What it wrote to standard error so far.
    pub fn stderr(&self) -> String {
        self.stderr.text()
    }

    /// Waits for a line on either output that contains `text`, and returns it. Fails the test if the process ends first.
    pub async fn wait_for_line(&self, text: &str) -> String {
        let what = format!("{} saying {text:?}", self.name);
        let (mut stdout, mut stderr) = (self.stdout.0.subscribe(), self.stderr.0.subscribe());
        patiently(&what, async {
            loop {
                // Asked before the outputs are read, so that what came last is among them.
                let ended = stdout.borrow().ended && stderr.borrow().ended;
                let found = [&mut stderr, &mut stdout]
                    .into_iter()
                    .find_map(|output| line_with(&output.borrow_and_update(), text));
                if let Some(line) = found {
                    return line;
                }
                assert!(!ended, "{what}: it ended first.\nstdout:\n{}\nstderr:\n{}", self.stdout(), self.stderr());
                tokio::select! {
                    _ = stdout.changed() => {}
                    _ = stderr.changed() => {}
                }
            }
        })
        .await
    }

    /// Waits until `GET /readyz` of the admin listener answers 200. Fails the test if the process ends first.
    pub async fn wait_ready(&mut self, admin: SocketAddr) {
        let name = self.name.clone();
        patiently(&format!("{name} being ready"), async {
            loop {
                if let Some(status) = self.try_wait() {
                    panic!("{name} ended with {status} before it was ready:\n{}", self.stderr());
                }
                // One that refuses, or closes in the middle, is not ready yet.
                let answer = async {
                    use tokio::io::{AsyncReadExt, AsyncWriteExt};
                    let mut socket = tokio::net::TcpStream::connect(admin).await?;
                    socket.write_all(b"GET /readyz HTTP/1.1\r\nHost: admin\r\nConnection: close\r\n\r\n").await?;
                    let mut answer = Vec::new();
                    socket.read_to_end(&mut answer).await?;
                    std::io::Result::Ok(answer)
                };
                if answer.await.is_ok_and(|answer| answer.starts_with(b"HTTP/1.1 200")) {
                    return;
                }
                tokio::time::sleep(std::time::Duration::from_millis(10)).await;
            }
        })
        .await;
    }

    /// Whether and how it ended.
    pub fn try_wait(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("a child can be waited for")
    }

    /// Waits for its end, and for all that it wrote.
    pub async fn wait_exit(&mut self) -> ExitStatus {
        let name = self.name.clone();
        let mut status = None;
        wait_until(&format!("{name} ending"), || {
            status = self.try_wait();
            status.is_some() && self.stdout.0.borrow().ended && self.stderr.0.borrow().ended
        })
        .await;
        status.expect("waited for")
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.child.id()).expect("process ids are small");
        kill(Pid::from_raw(pid), signal).unwrap_or_else(|error| panic!("cannot signal {}: {error}", self.name));
    }

    /// SIGTERM, which asks a node to drain and end.
    pub fn terminate(&self) {
        self.signal(Signal::SIGTERM);
    }

    /// SIGKILL, at once.
    pub fn kill(&mut self) {
        self.child.kill().expect("a child can be killed");
        self.child.wait().expect("a child can be waited for");
    }

    /// Resident bytes now. Linux only.
    pub fn rss_bytes(&self) -> u64 {
        self.status_bytes("VmRSS:")
    }

    /// The most resident bytes so far. Linux only.
    pub fn peak_rss_bytes(&self) -> u64 {
        self.status_bytes("VmHWM:")
    }

    /// Resident bytes that no file backs. Linux only.
    pub fn anonymous_rss_bytes(&self) -> u64 {
        self.status_bytes("RssAnon:")
    }

    fn status_bytes(&self, field: &str) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).expect("the process lives");
        let line = status.lines().find_map(|line| line.strip_prefix(field)).expect("the field is known");
        let kib: u64 = line.trim().trim_end_matches("kB").trim().parse().expect("a number of kB");
        kib * 1024
    }
}

impl Drop for ProcessUnderTest {
    fn drop(&mut self) {
        // Both fail only where it ended by itself.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// The workspace's binary of that name: beside the running test's folder, `target/debug/deps/..`.
fn binary(name: &str) -> PathBuf {
    let test = std::env::current_exe().expect("the test knows its own path");
    let found = test.ancestors().skip(1).take(2).map(|folder| folder.join(name)).find(|path| path.is_file());
    found.unwrap_or_else(|| {
        panic!("{name} is not built; run: cargo build --workspace --bins (and with --release for a release test)")
    })
}

#[derive(Debug)]
struct Output(watch::Sender<Written>);

#[derive(Debug, Default)]
struct Written {
    text: String,
    ended: bool,
}

impl Output {
    /// Reads on a thread of its own, so that a full pipe never stops the child, whatever the test's runtime does.
    fn of(pipe: impl Read + Send + 'static) -> Self {
        let written = watch::Sender::new(Written::default());
        let ours = written.clone();
        std::thread::spawn(move || {
            let mut pipe = BufReader::new(pipe);
            let mut line = Vec::new();
            while pipe.read_until(b'\n', &mut line).is_ok_and(|read| read > 0) {
                ours.send_modify(|written| written.text.push_str(&String::from_utf8_lossy(&line)));
                line.clear();
            }
            ours.send_modify(|written| written.ended = true);
        });
        Self(written)
    }

    fn text(&self) -> String {
        self.0.borrow().text.clone()
    }
}

fn line_with(written: &Written, text: &str) -> Option<String> {
    written.text.lines().find(|line| line.contains(text)).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> ProcessUnderTest {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        ProcessUnderTest::spawn("sh", command)
    }

    #[tokio::test]
    async fn output_is_kept_and_waited_for() {
        let mut process = shell("echo one; echo two >&2; exec sleep 1000");
        assert_eq!(process.wait_for_line("wo").await, "two");
        assert_eq!(process.wait_for_line("one").await, "one");
        assert!(process.peak_rss_bytes() > 0);
        process.terminate();
        assert!(!process.wait_exit().await.success());
    }

    #[tokio::test]
    #[should_panic(expected = "it ended first")]
    async fn a_process_that_ends_fails_the_wait() {
        shell("echo other").wait_for_line("one").await;
    }

    #[test]
    #[should_panic(expected = "cargo build")]
    fn a_missing_binary_says_how_to_build_it() {
        drop(ProcessUnderTest::start("no-such-binary", [""; 0]));
    }
}
