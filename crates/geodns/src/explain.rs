//! Why a name is answered as it is: `GET /v1/explain/dns` of the admin API, and the same from files.

use std::{net::IpAddr, path::Path, sync::Arc};

use axum::{
    Router,
    extract::{Query, State, rejection::QueryRejection},
    response::Response,
    routing::get,
};
use ipnet::IpNet;
use perigee_dns::{CookieSecret, Explained, Snapshot};
use perigee_geo::{
    health::{HealthView, Operator},
    steer::{ClientPrefix, ExplainedPop, Family},
};
use perigee_node::{admin, mmap::MappedFile};
use perigee_protocol::model::Document;
use reqwest::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::{
    answerer::Shared,
    databases::{self, Which},
    world,
    zones::{Place, ZoneData},
};

/// A question whose answer is to be explained.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Asked {
    /// A steered name of the zone, or one whose CNAMEs lead there.
    pub name: String,
    /// Who asks: the client itself, or its resolver where `subnet` is given.
    pub client: IpAddr,
    /// What the query tells of the client (RFC 7871); of length 0: nothing.
    pub subnet: Option<IpNet>,
    /// What is asked for.
    #[serde(default, rename = "type")]
    pub kind: Kind,
}

/// A type that is steered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
pub enum Kind {
    /// IPv4
    #[default]
    A,
    /// IPv6
    #[serde(rename = "AAAA")]
    Aaaa,
}

impl Asked {
    fn prefix(&self) -> ClientPrefix {
        match self.subnet {
            // RFC 7871 §7.1.2
            Some(subnet) if subnet.prefix_len() > 0 => ClientPrefix::new(subnet.addr(), subnet.prefix_len()),
            _ => ClientPrefix::host(self.client.to_canonical()),
        }
    }

    fn family(&self) -> Family {
        match self.kind {
            Kind::A => Family::V4,
            Kind::Aaaa => Family::V6,
        }
    }
}

/// Explains what a nameserver with this document would answer while everything is up.
///
/// `database`: instead of the document's, whose files are relative to `folder`. Fails with what is wrong with the files or
/// the name.
pub fn offline(document: &Document, folder: &Path, database: Option<&Path>, asked: &Asked) -> Result<Value, String> {
    let databases = match database {
        Some(path) => {
            let mut without = document.clone();
            without.geo.database = None;
            databases::open(&without, folder)?.databases.with(Which::Places, path)?
        }
        None => databases::open(document, folder)?.databases,
    };
    let service = world::service(document, "explain", CookieSecret::new([0; 16]));
    let place = Place { folder: folder.to_owned(), document: None };
    let zone = ZoneData::read(document, &place, None)?;
    let snapshot = world::snapshot(document, &zone, databases, service, None)?;
    tell(&snapshot, &HealthView::default(), asked)
}

/// The routes, for the admin API.
pub(crate) fn routes(shared: Arc<Shared>) -> Router {
    Router::new().route("/v1/explain/dns", get(explain)).with_state(shared)
}

async fn explain(State(shared): State<Arc<Shared>>, asked: Result<Query<Asked>, QueryRejection>) -> Response {
    let bad = |message: &str| admin::problem(StatusCode::BAD_REQUEST, "bad-question", message);
    let asked = match asked {
        Ok(Query(asked)) => asked,
        Err(rejection) => {
            return bad(&format!("{rejection}; it takes ?name=NAME&client=ADDRESS, subnet=PREFIX and type=A|AAAA"));
        }
    };
    match tell(&shared.snapshot.load(), &shared.health.load(), &asked) {
        Ok(told) => admin::json_response(StatusCode::OK, &told),
        Err(message) => bad(&message),
    }
}

fn tell(snapshot: &Snapshot<MappedFile>, health: &HealthView, asked: &Asked) -> Result<Value, String> {
    let explained = snapshot.explain(&asked.name, &asked.prefix(), health, asked.family());
    let explained = explained.map_err(|error| error.to_string())?;
    // RFC 7871 §7.1.2: who tells nothing of its client is told nothing.
    let hides = asked.subnet.is_some_and(|subnet| subnet.prefix_len() == 0);
    Ok(json_of(&explained, snapshot.database().map(|database| database.info().kind.as_str()), hides))
}

fn json_of(explained: &Explained<'_>, database: Option<&str>, hides: bool) -> Value {
    let told = &explained.steering;
    let steered = &told.steered;
    let by = told.scope.iter().map(|(by, bits)| json!({ "what": by.as_str(), "bits": bits }));
    json!({
        "name": explained.name.to_string(),
        "type": explained.kind(),
        "ttl_s": explained.ttl_s,
        "answer": {
            "addresses": *steered.addresses,
            "pop": steered.pop.map(|pop| pop.as_str()),
            "reason": steered.reason.as_str(),
            "cname": explained.alias.as_ref().map(ToString::to_string),
        },
        "client": {
            "address": told.address,
            "source": steered.source.as_str(),
            "latitude": told.location.map(|at| at.latitude),
            "longitude": told.location.map(|at| at.longitude),
            "country": steered.country.map(|country| country.to_string()),
            "asn": explained.system.as_ref().map(|system| system.asn),
            "organization": explained.system.as_ref().and_then(|system| system.organization.as_deref()),
        },
        "database": database,
        "scope": {
            "prefix": if hides { 0 } else { steered.scope_prefix },
            "merged": explained.is_merged,
            "by": by.collect::<Vec<_>>(),
        },
        "pops": told.pops.iter().map(pop).collect::<Vec<_>>(),
        "text": explained.lines(),
    })
}

fn pop(pop: &ExplainedPop<'_>) -> Value {
    let addresses = pop.addresses.iter().map(|(address, is_up)| json!({ "address": address, "up": is_up }));
    json!({
        "pop": pop.pop.as_str(),
        "km": pop.km,
        "bias": pop.bias,
        "effective_km": pop.effective_km,
        "weight": pop.weight,
        "addresses": addresses.collect::<Vec<_>>(),
        "operator": pop.health.operator.map(Operator::as_str),
        "kept": f64::from(pop.health.kept.thousandths()) / 1_000.0,
        "fallback": pop.fallback.iter().map(|pop| pop.as_str()).collect::<Vec<_>>(),
        "first_by_override": pop.is_forced,
        "shares_its_place": pop.by_share,
        "dropped_by": pop.dropped.map(|dropped| dropped.as_str()),
    })
}
