//! What operators say of PoPs, kept over restarts: `POST /v1/pops/ID` and `GET /v1/pops` of the admin API.
//!
//! It holds on this nameserver alone, so that `perigee pop` tells each of them. The file of the state folder is replaced
//! in one step before a change is acknowledged. A file that cannot be read is put aside, and the nameserver begins with no
//! operator's word: one that does not answer would do more harm than one that sends clients to a PoP which an operator
//! had drained, and the log, `/v1/status` and a metric say what happened.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{self, Read, Write},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use axum::{
    Router,
    body::Bytes,
    extract::{DefaultBodyLimit, Path as UrlPath, State},
    http::{HeaderMap, StatusCode},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use perigee_geo::health::Operator;
use perigee_node::{
    admin::{json_response, problem},
    authorize::Authorizer,
    clock, regular,
};
use perigee_protocol::{
    document::limits::POPS_MAX,
    id::{InvalidId, PopId},
    model::Scope,
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::world::World;

/// In the state folder.
const FILE: &str = "pops.json";
/// Of the file: what all PoPs of a document may take.
const FILE_BYTES_MAX: u64 = 1 << 20;
/// Of a request.
const BODY_BYTES_MAX: usize = 4 * 1024;
/// Of a reason.
const REASON_BYTES_MAX: usize = 256;
/// What the file is written as.
const VERSION: u32 = 1;

/// What an operator said of one PoP.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Said {
    state: Word,
    /// Why, in the operator's words.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    reason: String,
    /// Whose token it was.
    by: String,
    /// When, in milliseconds since the Unix epoch.
    at_ms: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Word {
    Drain,
    ForceUp,
    /// What the probes find holds. Never kept.
    Auto,
}

impl Word {
    fn operator(self) -> Option<Operator> {
        match self {
            Self::Drain => Some(Operator::Drain),
            Self::ForceUp => Some(Operator::ForceUp),
            Self::Auto => None,
        }
    }

    fn as_str(self) -> &'static str {
        self.operator().map_or("auto", Operator::as_str)
    }
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Saved {
    version: u32,
    pops: BTreeMap<String, Said>,
}

/// Why the file of the state folder cannot be used.
#[derive(Debug, thiserror::Error)]
enum BadFile {
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("it is longer than {FILE_BYTES_MAX} bytes")]
    TooLong,
    #[error("{0}")]
    Json(#[from] serde_json::Error),
    #[error("it is of version {0}, and this nameserver knows version {VERSION}")]
    Version(u32),
    #[error("it has {0} PoPs, and a document at most {POPS_MAX}")]
    TooMany(usize),
    #[error("{id:?} is no PoP's id: {source}")]
    Id { id: String, source: InvalidId },
}

/// All that operators said.
#[derive(Debug)]
pub(crate) struct Operators {
    /// None: it lasts as long as the process.
    folder: Option<PathBuf>,
    said: Mutex<BTreeMap<PopId, Said>>,
    /// Why what was kept is not in force.
    refusal: Option<String>,
}

impl Operators {
    /// Reads what the folder keeps; makes the folder where there is none. Fails when the folder cannot be written to, since
    /// nothing that an operator says could be kept then.
    pub(crate) fn open(folder: Option<&Path>, node: &str) -> io::Result<Self> {
        let Some(folder) = folder else { return Ok(Self { folder: None, said: Mutex::default(), refusal: None }) };
        let failed = |error: io::Error| io::Error::new(error.kind(), format!("--state {}: {error}", folder.display()));
        fs::create_dir_all(folder).map_err(failed)?;
        let probe = folder.join(format!("{FILE}.tmp"));
        File::create(&probe).map_err(failed)?;
        fs::remove_file(&probe).map_err(failed)?;
        let path = folder.join(FILE);
        let (said, refusal) = match read(&path) {
            Ok(said) => (said, None),
            Err(error) => {
                let aside = folder.join(format!("{FILE}.damaged"));
                let kept = match fs::rename(&path, &aside) {
                    Ok(()) => format!("it is kept as {}", aside.display()),
                    Err(error) => format!("it cannot be put aside: {error}"),
                };
                let refusal = format!("{}: {error}; {kept}", path.display());
                tracing::error!(
                    node,
                    refusal,
                    "what operators said of PoPs cannot be read and is not in force; drain anew what is to be drained"
                );
                (BTreeMap::new(), Some(refusal))
            }
        };
        for (pop, said) in &said {
            let (state, reason, by) = (said.state.as_str(), &said.reason, &said.by);
            tracing::info!(node, %pop, state, reason, by, "an operator's word is in force, kept from before");
        }
        Ok(Self { folder: Some(folder.to_owned()), said: Mutex::new(said), refusal })
    }

    /// What is in force.
    pub(crate) fn in_force(&self) -> BTreeMap<PopId, Operator> {
        in_force(&self.lock())
    }

    /// Why what was kept is not in force.
    pub(crate) fn refusal(&self) -> Option<&str> {
        self.refusal.as_deref()
    }

    /// Who said what, when and why.
    fn of(&self, pop: &PopId) -> Option<Said> {
        self.lock().get(pop).cloned()
    }

    /// Takes an operator's word and keeps it, and puts all that holds now in force. `known`: the PoPs of the document;
    /// what was said of others is forgotten. When it cannot be kept nothing changes.
    fn say(
        &self,
        pop: &PopId,
        said: Said,
        known: impl Fn(&PopId) -> bool,
        obey: impl FnOnce(BTreeMap<PopId, Operator>),
    ) -> io::Result<()> {
        let mut current = self.lock();
        let mut next: BTreeMap<PopId, Said> =
            current.iter().filter(|(pop, _)| known(pop)).map(|(pop, said)| (pop.clone(), said.clone())).collect();
        match said.state {
            Word::Auto => drop(next.remove(pop)),
            Word::Drain | Word::ForceUp => drop(next.insert(pop.clone(), said)),
        }
        if let Some(folder) = &self.folder {
            let pops = next.iter().map(|(pop, said)| (pop.to_string(), said.clone())).collect();
            write(folder, &Saved { version: VERSION, pops })?;
        }
        // Under the lock, so that of two words the one that is kept is the one in force.
        obey(in_force(&next));
        *current = next;
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<PopId, Said>> {
        self.said.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn in_force(said: &BTreeMap<PopId, Said>) -> BTreeMap<PopId, Operator> {
    said.iter().filter_map(|(pop, said)| Some((pop.clone(), said.state.operator()?))).collect()
}

fn read(path: &Path) -> Result<BTreeMap<PopId, Said>, BadFile> {
    let mut text = Vec::new();
    match regular::open(path) {
        Ok(file) => file.take(FILE_BYTES_MAX + 1).read_to_end(&mut text)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(BTreeMap::new()),
        Err(error) => return Err(error.into()),
    };
    if text.len() as u64 > FILE_BYTES_MAX {
        return Err(BadFile::TooLong);
    }
    // The version first: what else a later one says is not known.
    let whole: Value = serde_json::from_slice(&text)?;
    match whole.get("version").and_then(Value::as_u64) {
        Some(version) if version != u64::from(VERSION) => {
            return Err(BadFile::Version(u32::try_from(version).unwrap_or(u32::MAX)));
        }
        _ => {}
    }
    let saved: Saved = serde_json::from_value(whole)?;
    if saved.pops.len() > POPS_MAX {
        return Err(BadFile::TooMany(saved.pops.len()));
    }
    let pops = saved.pops.into_iter().map(|(id, said)| match id.parse() {
        Ok(pop) => Ok((pop, said)),
        Err(source) => Err(BadFile::Id { id, source }),
    });
    pops.collect()
}

/// In one step: whoever reads finds the old file or the new one, also after a loss of power.
fn write(folder: &Path, saved: &Saved) -> io::Result<()> {
    let beside = folder.join(format!("{FILE}.tmp"));
    let mut file = File::create(&beside)?;
    file.write_all(serde_json::to_string_pretty(saved)?.as_bytes())?;
    file.write_all(b"\n")?;
    file.sync_all()?;
    fs::rename(&beside, folder.join(FILE))?;
    File::open(folder)?.sync_all()
}

/// What a request says.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Asked {
    state: Word,
    #[serde(default)]
    reason: String,
}

#[derive(Clone)]
struct Shared {
    node: String,
    world: Arc<World>,
    authorizer: Authorizer,
}

/// The routes, for the admin API.
pub(crate) fn routes(node: &str, world: Arc<World>, authorizer: Authorizer) -> Router {
    Router::new()
        .route("/v1/pops", get(list))
        .route("/v1/pops/{id}", post(say))
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .with_state(Shared { node: node.to_owned(), world, authorizer })
}

async fn list(State(shared): State<Shared>) -> Response {
    json_response(StatusCode::OK, &json!({ "node": shared.node, "pops": pops(&shared.world) }))
}

/// What is known of each PoP, with what operators said.
pub(crate) fn pops(world: &World) -> Value {
    let mut pops = world.prober().pops();
    for (id, pop) in pops.as_object_mut().into_iter().flatten() {
        let said = id.parse().ok().and_then(|id| world.operators().of(&id));
        if let (Some(said), Some(pop)) = (said, pop.as_object_mut()) {
            pop.insert("operator".into(), json!({ "reason": said.reason, "by": said.by, "at_ms": said.at_ms }));
        }
    }
    pops
}

async fn say(State(shared): State<Shared>, UrlPath(id): UrlPath<String>, headers: HeaderMap, body: Bytes) -> Response {
    let by = match shared.authorizer.authorize(&headers, Scope::Drain) {
        Ok(token) => token,
        Err(denied) => return denied.into_response(),
    };
    let asked: Asked = match serde_json::from_slice(&body) {
        Ok(asked) => asked,
        Err(error) => {
            let shape = "it takes {\"state\": \"drain\" | \"force_up\" | \"auto\", \"reason\": TEXT}";
            return problem(StatusCode::BAD_REQUEST, "bad-state", &format!("{error}; {shape}"));
        }
    };
    if asked.reason.len() > REASON_BYTES_MAX || asked.reason.contains(char::is_control) {
        let law = format!("reason must be at most {REASON_BYTES_MAX} bytes without control characters");
        return problem(StatusCode::BAD_REQUEST, "bad-state", &law);
    }
    let document = shared.world.document();
    let Some(pop) = document.pop(&id).map(|pop| pop.id.clone()) else {
        let known: Vec<&str> = document.pops.iter().map(|pop| pop.id.as_str()).collect();
        let message = format!("the document has no PoP {id:?}; it has {}", known.join(", "));
        return problem(StatusCode::NOT_FOUND, "unknown-pop", &message);
    };
    // A disk may take its time.
    let said = Said { state: asked.state, reason: asked.reason, by, at_ms: clock::now_ms() };
    match tokio::task::spawn_blocking(move || keep(&shared, &pop, said)).await {
        Ok(response) => response,
        Err(error) => problem(StatusCode::INTERNAL_SERVER_ERROR, "not-kept", &error.to_string()),
    }
}

fn keep(shared: &Shared, pop: &PopId, said: Said) -> Response {
    let (operators, document) = (shared.world.operators(), shared.world.document());
    let (node, state) = (&shared.node, said.state.as_str());
    let known = |pop: &PopId| document.pop(pop.as_str()).is_some();
    let told = said.clone();
    if let Err(error) = operators.say(pop, said, known, |operators| shared.world.prober().obey(operators)) {
        tracing::error!(node, %pop, state, %error, "an operator's word cannot be kept, so it is not in force");
        let message = format!("it cannot be written to the folder of --state, so nothing has changed: {error}");
        return problem(StatusCode::INTERNAL_SERVER_ERROR, "not-kept", &message);
    }
    let durable = operators.folder.is_some();
    tracing::warn!(node, %pop, state, reason = told.reason, by = told.by, durable, "an operator's word is in force");
    json_response(StatusCode::OK, &json!({ "node": node, "pop": pop.as_str(), "state": state, "durable": durable }))
}

#[cfg(test)]
mod tests;
