//! The CDN document on disk: read at the start, watched after; a change is validated and swapped in within a second,
//! a bad one is refused and the old generation goes on.

use std::{
    io::{self, Read},
    iter,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use perigee_protocol::{
    document::{self, Mistakes, limits::DOCUMENT_BYTES_MAX},
    model::Document,
};
use tokio::runtime::Handle;

use crate::{
    metrics::{ReloadMetrics, ReloadResult, Reloaded},
    regular,
    watch::{Cause, FileWatcher},
};

/// The generation of the document that a node starts with; each one that is applied counts one more.
pub const FIRST_GENERATION: u64 = 1;

/// Why there is no document.
#[derive(Debug, thiserror::Error)]
pub enum DocumentError {
    /// The file cannot be read.
    #[error("{}: cannot be read: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file is not text.
    #[error("{}: is not UTF-8 text: is it the right file?", path.display())]
    NotText {
        /// The file.
        path: PathBuf,
    },
    /// The file is too long.
    #[error("{}: is longer than {DOCUMENT_BYTES_MAX} bytes: is it the right file?", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
    },
    /// Every mistake in it, one below the other.
    #[error("{}", list(.0))]
    Mistakes(Mistakes),
}

fn list(mistakes: &Mistakes) -> String {
    mistakes.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

/// A document and the text that it was read from.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// What the text says.
    pub document: Arc<Document>,
    path: PathBuf,
    text: String,
}

impl Loaded {
    /// A path that the document names, relative to the document's folder.
    pub fn resolve(&self, named: &Path) -> PathBuf {
        resolve(&self.path, named)
    }
}

/// A path that the document at `document` names, relative to the document's folder.
pub fn resolve(document: &Path, named: &Path) -> PathBuf {
    document.parent().unwrap_or(Path::new("")).join(named)
}

/// Reads and validates the document.
pub fn read(path: &Path) -> Result<Loaded, DocumentError> {
    let text = read_text(path)?;
    let document = parse(path, &text)?;
    Ok(Loaded { document: Arc::new(document), path: path.to_owned(), text })
}

fn parse(path: &Path, text: &str) -> Result<Document, DocumentError> {
    document::load(&path.to_string_lossy(), text).map_err(DocumentError::Mistakes)
}

fn read_text(path: &Path) -> Result<String, DocumentError> {
    let unreadable = |source| DocumentError::Read { path: path.to_owned(), source };
    let mut bytes = Vec::new();
    let file = regular::open(path).map_err(unreadable)?;
    file.take(DOCUMENT_BYTES_MAX as u64 + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    if bytes.len() > DOCUMENT_BYTES_MAX {
        return Err(DocumentError::TooLarge { path: path.to_owned() });
    }
    String::from_utf8(bytes).map_err(|_| DocumentError::NotText { path: path.to_owned() })
}

/// The watch on a document; ends when dropped.
#[derive(Debug)]
pub struct DocumentWatcher {
    file: FileWatcher,
    generation: Arc<AtomicU64>,
    metrics: ReloadMetrics,
}

impl DocumentWatcher {
    /// Watches the file that `serving` was read from. `apply` gets each new document and the generation that it would
    /// be; when it fails, or the document is bad, the old generation goes on: the reason is logged and counted.
    /// `apply` runs on a blocking thread, one call at a time.
    pub fn start(
        control: &Handle,
        serving: &Loaded,
        metrics: ReloadMetrics,
        mut apply: impl FnMut(Arc<Document>, u64) -> Result<(), String> + Send + 'static,
    ) -> Self {
        let path = serving.path.clone();
        start(control, &serving.path, serving.text.clone(), metrics, move |text, generation| {
            let document = parse(&path, text).map_err(|error| error.to_string())?;
            apply(Arc::new(document), generation)
        })
    }

    /// Reads the file again though nothing may have changed, say on SIGHUP; an unchanged document becomes a new
    /// generation, so that what it names is read again too.
    pub fn reload(&self) {
        self.file.trigger();
    }

    /// Why the file as it is now does not serve; None when it does.
    pub fn refusal(&self) -> Option<String> {
        self.metrics.document_refusal()
    }

    /// Which generation serves.
    pub fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }
}

/// The watch itself, for any kind of document: `apply` parses and applies.
fn start(
    control: &Handle,
    path: &Path,
    text: String,
    metrics: ReloadMetrics,
    apply: impl FnMut(&str, u64) -> Result<(), String> + Send + 'static,
) -> DocumentWatcher {
    let generation = Arc::new(AtomicU64::new(FIRST_GENERATION));
    metrics.set_generation(FIRST_GENERATION);
    let mut reload = Reload {
        path: path.to_owned(),
        seen: Some(text.clone()),
        serving: text,
        metrics: metrics.clone(),
        generation: Arc::clone(&generation),
        apply,
    };
    let file = FileWatcher::start(control, path, move |cause| reload.run(cause));
    // It may have changed between the first read and the watch.
    file.check();
    DocumentWatcher { file, generation, metrics }
}

struct Reload<A> {
    path: PathBuf,
    /// The text that serves.
    serving: String,
    /// The text that was last tried; None when the file could not be read.
    seen: Option<String>,
    metrics: ReloadMetrics,
    generation: Arc<AtomicU64>,
    apply: A,
}

impl<A: FnMut(&str, u64) -> Result<(), String>> Reload<A> {
    fn run(&mut self, cause: Cause) {
        let text = match read_text(&self.path) {
            Ok(text) => text,
            Err(error) => {
                // Told once, not at every look.
                if self.seen.take().is_some() || cause == Cause::Asked {
                    self.refuse(&error.to_string());
                }
                return;
            }
        };
        if cause == Cause::Changed && self.seen.as_ref() == Some(&text) {
            return;
        }
        self.seen = Some(text.clone());
        if cause == Cause::Changed && self.serving == text {
            tracing::info!(path = %self.path.display(), "the document is what serves again");
            self.metrics.set_failing(Reloaded::Document, false);
            self.metrics.set_document_refusal(None);
            return;
        }
        let generation = self.generation.load(Ordering::Acquire) + 1;
        match (self.apply)(&text, generation) {
            Ok(()) => {
                self.serving = text;
                self.generation.store(generation, Ordering::Release);
                self.metrics.set_generation(generation);
                self.metrics.count(Reloaded::Document, ReloadResult::Applied);
                self.metrics.set_document_refusal(None);
                tracing::info!(path = %self.path.display(), generation, "the document serves");
            }
            Err(reason) => self.refuse(&reason),
        }
    }

    fn refuse(&self, reason: &str) {
        self.metrics.count(Reloaded::Document, ReloadResult::Refused);
        let generation = self.generation.load(Ordering::Acquire);
        tracing::error!(path = %self.path.display(), generation, "the document is refused, the old one goes on:\n{reason}");
        self.metrics.set_document_refusal(Some(&without_values(reason)));
    }
}

/// What may be told to those without a token: each mistake's place, law and remedy, and not what the document says there,
/// which may be a secret. The log has all of it.
fn without_values(reason: &str) -> String {
    let is_path = |text: &str| text.chars().all(|c| c.is_alphanumeric() || "_-.[]".contains(c));
    // Where the text is no TOML there is no path, but a piece of the text.
    let laws = reason.lines().skip(1).chain(iter::once(""));
    let lines = reason.lines().zip(laws).map(|(line, law)| match line.split_once("  ") {
        // A law and its remedy, or the place of something that is no mistake of the document's text.
        Some(("", _)) | None => line.to_owned(),
        Some((place, said)) => match said.split_once(" = ").map_or(said, |(path, _)| path) {
            path if is_path(path) && !law.contains("is no TOML") => format!("{place}  {path}"),
            _ => place.to_owned(),
        },
    });
    lines.collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use std::fs;

    use nix::{sys::stat::Mode, unistd::mkfifo};
    use tokio::sync::mpsc;

    use super::*;

    struct Bench {
        folder: tempfile::TempDir,
        applied: mpsc::UnboundedReceiver<(String, u64)>,
        metrics: ReloadMetrics,
        watcher: DocumentWatcher,
    }

    impl Bench {
        /// A document is good when it begins with `good`.
        fn new() -> Self {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("perigee.toml");
            fs::write(&path, "good 1").unwrap();
            let (tell, applied) = mpsc::unbounded_channel();
            let metrics = ReloadMetrics::default();
            let apply = move |text: &str, generation| {
                if !text.starts_with("good") {
                    return Err(format!("mistake in {text:?}"));
                }
                tell.send((text.to_owned(), generation)).map_err(|error| error.to_string())
            };
            let watcher = start(&Handle::current(), &path, "good 1".to_owned(), metrics.clone(), apply);
            Self { folder, applied, metrics, watcher }
        }

        fn replace(&self, content: &str) {
            let next = self.folder.path().join(".next");
            fs::write(&next, content).unwrap();
            fs::rename(&next, self.folder.path().join("perigee.toml")).unwrap();
        }

        async fn until_refused(&self, times: u64) {
            while self.metrics.total(Reloaded::Document, ReloadResult::Refused) < times {
                tokio::time::sleep(std::time::Duration::from_millis(5)).await;
            }
        }
    }

    #[tokio::test]
    async fn good_ones_are_applied_and_bad_ones_refused() {
        let mut bench = Bench::new();
        bench.replace("good 2");
        assert_eq!(bench.applied.recv().await, Some(("good 2".to_owned(), 2)));
        bench.replace("bad");
        bench.until_refused(1).await;
        assert_eq!(bench.watcher.generation(), 2);
        fs::write(bench.folder.path().join("perigee.toml"), "good 3").unwrap();
        assert_eq!(bench.applied.recv().await, Some(("good 3".to_owned(), 3)));
        fs::remove_file(bench.folder.path().join("perigee.toml")).unwrap();
        bench.until_refused(2).await;
        // Nobody writes to it, and nobody waits for that.
        mkfifo(&bench.folder.path().join("perigee.toml"), Mode::S_IRUSR | Mode::S_IWUSR).unwrap();
        bench.watcher.reload();
        bench.until_refused(3).await;
        bench.replace("good 4");
        assert_eq!(bench.applied.recv().await, Some(("good 4".to_owned(), 4)));
    }

    #[tokio::test]
    async fn asked_for_an_unchanged_document_it_becomes_a_new_generation() {
        let mut bench = Bench::new();
        bench.watcher.reload();
        assert_eq!(bench.applied.recv().await, Some(("good 1".to_owned(), 2)));
    }

    #[test]
    fn a_text_is_tried_once_and_the_serving_one_needs_no_trial() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("perigee.toml");
        let tried = std::cell::RefCell::new(Vec::new());
        let metrics = ReloadMetrics::default();
        let mut reload = Reload {
            path: path.clone(),
            serving: "good".to_owned(),
            seen: Some("good".to_owned()),
            metrics: metrics.clone(),
            generation: Arc::new(AtomicU64::new(FIRST_GENERATION)),
            apply: |text: &str, generation: u64| {
                tried.borrow_mut().push((text.to_owned(), generation));
                if text.starts_with("good") { Ok(()) } else { Err("no".to_owned()) }
            },
        };
        let mut write_and_run = |text: &str, cause| {
            fs::write(&path, text).unwrap();
            reload.run(cause);
            let refusal = metrics.document_refusal();
            assert_eq!(metrics.is_failing(Reloaded::Document), refusal.is_some());
            refusal
        };
        assert_eq!(write_and_run("good", Cause::Changed), None);
        assert_eq!(write_and_run("bad", Cause::Changed).as_deref(), Some("no"));
        assert_eq!(write_and_run("bad", Cause::Changed).as_deref(), Some("no"));
        assert_eq!(write_and_run("good", Cause::Changed), None);
        assert_eq!(write_and_run("good b", Cause::Changed), None);
        assert_eq!(write_and_run("good b", Cause::Asked), None);
        let expected =
            [("bad", 2), ("good b", 2), ("good b", 3)].map(|(text, generation)| (text.to_owned(), generation));
        assert_eq!(*tried.borrow(), expected);
    }

    #[tokio::test]
    async fn a_real_document_is_read_and_reloaded() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("perigee.toml");
        let text = |city: &str| {
            format!(
                "version = 1\n[cdn]\nname = \"x\"\nzone = \"cdn.example\"\n\
                 [[pop]]\nid = \"fra\"\ncity = \"{city}\"\nlatitude = 50.1\nlongitude = 8.7\naddresses = [\"198.18.49.10\"]\n\
                 [[site]]\nid = \"www\"\norigins = [{{ url = \"http://198.18.0.90:8000\" }}]\n"
            )
        };
        fs::write(&path, text("One")).unwrap();
        let loaded = read(&path).unwrap();
        assert_eq!(loaded.document.pops[0].city, "One");
        let (tell, mut applied) = mpsc::unbounded_channel();
        let metrics = ReloadMetrics::default();
        let watcher =
            DocumentWatcher::start(&Handle::current(), &loaded, metrics.clone(), move |document, generation| {
                tell.send((document.pops[0].city.clone(), generation)).map_err(|error| error.to_string())
            });
        fs::write(&path, text("Two")).unwrap();
        assert_eq!(applied.recv().await, Some(("Two".to_owned(), 2)));
        fs::write(&path, text("Three").replace("zone", "zoen")).unwrap();
        let refusal = loop {
            match metrics.document_refusal() {
                Some(refusal) => break refusal,
                None => tokio::time::sleep(std::time::Duration::from_millis(5)).await,
            }
        };
        assert!(refusal.contains("perigee.toml:4") && refusal.contains("zoen"), "{refusal}");
        assert!(refusal.contains("perigee.toml:2"), "the missing zone is not told beside it: {refusal}");
        assert_eq!(watcher.generation(), 2);
    }

    #[test]
    fn a_refusal_told_to_everybody_has_no_values() {
        let check = |text: &str, expected: &str| {
            let told = document::load("d.toml", text).unwrap_err().to_string();
            let public = without_values(&told);
            assert!(!public.contains("hush") && public.contains(expected), "{public}");
        };
        check("version = 1\n[cdn]\nttl = \"hush = a\"\n", "d.toml:3  cdn.ttl\n    ");
        check("version = 1\n[cdn]\nname = hush\n", "d.toml:3\n    ");
        check("version = 1\nhush\n", "d.toml:2\n    ");
        assert_eq!(without_values("d.toml: cannot be read: gone"), "d.toml: cannot be read: gone");
    }

    #[test]
    fn what_is_no_document_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let check = |content: &[u8], expected: &str| {
            let path = folder.path().join("d.toml");
            fs::write(&path, content).unwrap();
            let said = read(&path).unwrap_err().to_string();
            assert!(said.contains("d.toml") && said.contains(expected), "{said}");
        };
        check(b"\xff\xfe", "is not UTF-8");
        check(&vec![b'#'; DOCUMENT_BYTES_MAX + 1], "is longer than");
        check(b"", "d.toml:1");
        let said = read(&folder.path().join("absent.toml")).unwrap_err().to_string();
        assert!(said.contains("absent.toml: cannot be read"), "{said}");
        assert_eq!(resolve(Path::new("/etc/p.toml"), Path::new("a/b")), Path::new("/etc/a/b"));
        assert_eq!(resolve(Path::new("p.toml"), Path::new("/a")), Path::new("/a"));
    }
}
