//! One bash that runs a page's steps in order, in a temporary folder and a network of its own: loopback alone, with every
//! address and port free, so that pages can run beside each other.

use std::{
    fs,
    io::{BufRead as _, BufReader, Write as _},
    os::unix::{fs::PermissionsExt as _, process::CommandExt as _},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, Command, Stdio},
    sync::mpsc::{Receiver, RecvTimeoutError, channel},
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, killpg},
    unistd::Pid,
};

use crate::{compare::fits, parse::Step};

/// A step that takes longer fails; so does one that was repeated for as long. Far above what any takes on a busy machine.
const STEP: Duration = Duration::from_secs(180);

/// `cargo run --bin PROGRAM -- ARGUMENTS` is the program that was built; nothing else of cargo is there.
const CARGO: &str = r#"#!/bin/sh
while [ $# -gt 0 ]; do
    case $1 in
        run | --release) shift ;;
        --bin) program=$2; shift 2 ;;
        --) shift; break ;;
        *) echo "the test of the docs has no cargo $1" >&2; exit 1 ;;
    esac
done
exec "$program" "$@"
"#;

/// Whether this machine lets us have networks of our own.
pub(crate) fn allowed() -> Result<(), String> {
    let tried = command("true").output().map_err(|error| format!("unshare: {error}"))?;
    if tried.status.success() {
        return Ok(());
    }
    Err(format!("no network of its own for a page: {}", String::from_utf8_lossy(&tried.stderr).trim()))
}

/// Of a step that is no shell of its own, `set -e` ends the page's with the first command that fails.
fn no_status(error: RecvTimeoutError) -> &'static str {
    match error {
        RecvTimeoutError::Disconnected => "the page ends here",
        RecvTimeoutError::Timeout => "it takes too long",
    }
}

/// A command in a network of its own; whoever is not root becomes root of a name space first.
fn command(program: &str) -> Command {
    let mut command = Command::new("unshare");
    command.arg(if nix::unistd::geteuid().is_root() { "-n" } else { "-rn" }).arg(program);
    command
}

pub(crate) struct Shell {
    bash: Child,
    input: ChildStdin,
    said: Receiver<String>,
    /// Scripts and outputs, beside the folder in which the page's commands run.
    ours: PathBuf,
    steps: usize,
    _folder: tempfile::TempDir,
}

impl Shell {
    /// `programs` is the folder of our binaries, `repository` what `$REPO` says.
    pub(crate) fn start(programs: &Path, repository: &Path) -> Self {
        let folder = tempfile::Builder::new().prefix("perigee-docs-").tempdir().unwrap();
        let (ours, work) = (folder.path().join("steps"), folder.path().join("work"));
        for made in [&ours, &work] {
            fs::create_dir(made).unwrap();
        }
        let cargo = ours.join("cargo");
        fs::write(&cargo, CARGO).unwrap();
        fs::set_permissions(&cargo, fs::Permissions::from_mode(0o755)).unwrap();
        let system = std::env::var("PATH").unwrap_or_default();
        let path = format!("{}:{}:{system}:/usr/sbin:/sbin", ours.display(), programs.display());
        let mut bash = command("bash")
            .args(["--noprofile", "--norc"])
            .current_dir(&work)
            .env_clear()
            .envs([("PATH", path.as_str()), ("LC_ALL", "C.UTF-8"), ("TERM", "dumb")])
            .env("HOME", &work)
            .env("REPO", repository)
            // So that its end is the end of all that it started.
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let input = bash.stdin.take().unwrap();
        let output = BufReader::new(bash.stdout.take().unwrap());
        let (tell, said) = channel();
        std::thread::spawn(move || output.lines().map_while(Result::ok).try_for_each(|line| tell.send(line)));
        let mut shell = Self { bash, input, said, ours, steps: 0, _folder: folder };
        shell.write("set -eu; ip link set lo up");
        shell
    }

    /// Does a step.
    ///
    /// # Errors
    /// What failed, and what was printed.
    pub(crate) fn step(&mut self, step: &Step) -> Result<(), String> {
        self.steps += 1;
        match step {
            Step::Run { script, expect, retry, .. } => self.run(script, expect.as_deref(), *retry),
            Step::Background { script, until, .. } => self.background(script, until),
            Step::File { name, text, .. } => self.run(
                &format!("mkdir -p \"$(dirname '{name}')\"\ncat >'{name}' <<'DOCS_END'\n{text}DOCS_END\n"),
                None,
                false,
            ),
            Step::Page { .. } => unreachable!("pages are taken apart before they run"),
        }
    }

    fn run(&mut self, script: &str, expect: Option<&str>, retry: bool) -> Result<(), String> {
        let (script, printed) = self.save(script);
        let (from, mut tries) = (Instant::now(), 0);
        loop {
            tries += 1;
            if retry {
                // A shell of its own, which may fail without being the end of the page's.
                self.write(&format!("set +e; ( set -eu; . {script} ) >{printed} 2>&1 </dev/null; echo $?; set -e"));
            } else {
                self.write(&format!(". {script} >{printed} 2>&1 </dev/null; echo $?"));
            }
            let status = self.said.recv_timeout(STEP).unwrap_or_else(|error| no_status(error).into());
            let text = fs::read(&printed).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default();
            let result = match expect {
                _ if status != "0" => Err(format!("a command failed: {status}")),
                Some(expect) => fits(expect, &text),
                None => Ok(()),
            };
            match result {
                Ok(()) => return Ok(()),
                Err(_) if retry && from.elapsed() < STEP => std::thread::sleep(Duration::from_millis(100)),
                Err(what) => return Err(format!("{what} (tries: {tries}). It printed:\n{text}")),
            }
        }
    }

    fn background(&mut self, script: &str, until: &str) -> Result<(), String> {
        let (script, printed) = self.save(script);
        self.write(&format!("{{ . {script}; }} >{printed} 2>&1 </dev/null & background=$!; echo 0"));
        self.said.recv_timeout(STEP).map_err(|error| format!("no status ({error})"))?;
        let from = Instant::now();
        loop {
            // Asked before its output is read, so that its last words are among it.
            self.write("if kill -0 $background 2>/dev/null; then echo runs; else echo ended; fi");
            let state = self.said.recv_timeout(STEP).unwrap_or_default();
            let text = fs::read_to_string(&printed).unwrap_or_default();
            if text.contains(until) {
                return Ok(());
            }
            if state != "runs" || from.elapsed() > STEP {
                return Err(format!("it {state}, and never printed {until:?}, but:\n{text}"));
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    fn save(&self, script: &str) -> (String, String) {
        let [script_file, printed] = ["sh", "out"].map(|kind| self.ours.join(format!("{}.{kind}", self.steps)));
        fs::write(&script_file, script).unwrap();
        (script_file.display().to_string(), printed.display().to_string())
    }

    /// A bash that has ended is noticed by whoever waits for its word.
    fn write(&mut self, line: &str) {
        drop(writeln!(self.input, "{line}"));
    }
}

impl Drop for Shell {
    fn drop(&mut self) {
        let group = Pid::from_raw(i32::try_from(self.bash.id()).unwrap());
        // It may have ended with all of it.
        killpg(group, Signal::SIGKILL).ok();
        drop(self.bash.wait());
    }
}
