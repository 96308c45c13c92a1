//! The engine behind the listeners.

use std::sync::Arc;

use http::{Request, Response};
use hyper::body::Incoming;
use perigee_cache::{Body, Engine, Record, Recorder};
use perigee_node::{
    access_log::AccessLog,
    http::{Connection, HttpService},
};

/// Hands requests to the engine.
#[derive(Debug)]
pub(crate) struct EngineService(pub(crate) Arc<Engine>);

impl HttpService for EngineService {
    type Body = Body;

    async fn call(&self, request: Request<Incoming>, connection: &Arc<Connection>) -> Response<Body> {
        self.0.handle(request, connection.peer()).await
    }
}

/// Hands records to the access log.
#[derive(Debug)]
pub(crate) struct Logged(pub(crate) AccessLog);

impl Recorder for Logged {
    fn record(&self, record: &Record) {
        self.0.write(record);
    }
}
