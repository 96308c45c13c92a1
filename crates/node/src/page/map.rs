//! What a document says that can be drawn.

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

use perigee_protocol::model::Document;
use serde_json::{Map as Object, Value, json};

use crate::{
    clock,
    state::{NodeState, VERSION, tier},
};

/// The document that a page shows; follows reloads.
#[derive(Clone, Default)]
pub struct Map(Arc<Mutex<Option<Arc<Document>>>>);

impl fmt::Debug for Map {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Map").finish_non_exhaustive()
    }
}

impl Map {
    /// Shows `document` from now on.
    pub fn show(&self, document: Arc<Document>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(document);
    }

    /// The document shown, as [`world`] tells it; null for a node without one.
    pub fn told(&self) -> Value {
        let document = self.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        document.map_or(Value::Null, |document| world(&document))
    }
}

/// PoPs and where they are, shields, sites and their origins.
pub fn world(document: &Document) -> Value {
    let pops = document.pops.iter().map(|pop| {
        json!({
            "id": pop.id.as_str(),
            "city": pop.city,
            "country": pop.country,
            "latitude": pop.location.latitude,
            "longitude": pop.location.longitude,
        })
    });
    let shields = document.shields.iter().map(|shield| {
        let pops: Vec<&str> = shield.pops.iter().map(|pop| pop.as_str()).collect();
        json!({ "id": shield.id.as_str(), "url": shield.url.to_string(), "pops": pops })
    });
    let sites = document.sites.iter().map(|site| {
        let origins: Vec<String> = site.origins.iter().map(|origin| origin.url.to_string()).collect();
        json!({ "id": site.id.as_str(), "name": document.site_name(site), "origins": origins })
    });
    json!({
        "cdn": document.cdn.name,
        "zone": document.cdn.zone,
        "pops": pops.collect::<Vec<_>>(),
        "shields": shields.collect::<Vec<_>>(),
        "sites": sites.collect::<Vec<_>>(),
    })
}

/// What every node tells of itself, with `more`.
pub fn of_node(state: &NodeState, generation: u64, more: Value) -> Value {
    let mut told = Object::new();
    let mut add = |name: &str, value: Value| drop(told.insert(name.to_owned(), value));
    add("node", json!(state.id()));
    add("tier", json!(tier(state.kind())));
    add("version", json!(VERSION));
    add("time_ms", json!(clock::now_ms()));
    add("started_ms", json!(state.started_ms()));
    add("generation", json!(generation));
    add("draining", json!(state.is_draining()));
    add("reasons", json!(state.reasons()));
    if let Value::Object(more) = more {
        told.extend(more);
    }
    Value::Object(told)
}
