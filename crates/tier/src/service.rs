//! The engine behind the listeners.

use std::sync::Arc;

use http::{Request, Response};
use perigee_cache::{Body, Engine, Record, Recorder};
use perigee_node::{
    access_log::AccessLog,
    http::{Connection, Content, HttpService},
    page::Samples,
};
use perigee_protocol::model::Scheme;
use perigee_upstream::Interim;

use crate::page::Sample;

/// Hands requests to the engine.
#[derive(Debug)]
pub(crate) struct EngineService(pub(crate) Arc<Engine>);

impl HttpService for EngineService {
    type Body = Body;

    async fn call(&self, request: Request<Content>, connection: &Arc<Connection>) -> Response<Body> {
        let (number, on) = (connection.requests(), Arc::clone(connection));
        let interim = Interim::new(move |status, headers| on.interim(number, status, headers));
        let scheme = if connection.is_secure() { Scheme::Https } else { Scheme::Http };
        self.0.handle_with_interim(request, connection.peer(), scheme, Some(interim)).await
    }
}

/// Hands records to the access log, and some of them to the page.
#[derive(Debug)]
pub(crate) struct Logged {
    pub(crate) log: AccessLog,
    pub(crate) samples: Arc<Samples<Sample>>,
}

impl Recorder for Logged {
    fn record(&self, record: &Record) {
        if self.log.takes_next() {
            self.log.write_line(|line| record.write_json(line));
        }
        self.samples.offer(|| Sample::of(record));
    }
}
