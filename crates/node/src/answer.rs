//! One request on its way to the service and back: what is the connection's affair and not the service's.

use std::{
    convert::Infallible,
    future::poll_fn,
    pin::Pin,
    sync::{Arc, atomic::Ordering},
};

use ::http::{HeaderMap, HeaderValue, Request, Response, Version, header};
use bytes::BytesMut;
use http_body::Body;

use crate::{
    content::Content,
    cut::FlushBeforeCut,
    http::{Connection, HttpService},
};

/// What every request of a connection needs; one count of references per connection, so that cores share none.
pub(crate) struct PerConnection<S> {
    pub(crate) service: Arc<S>,
    pub(crate) connection: Arc<Connection>,
}

/// Counts its request as finished when dropped: with the last of the body, or with the request itself.
#[derive(Debug)]
pub(crate) struct Finish(Arc<Connection>);

impl Drop for Finish {
    fn drop(&mut self) {
        self.0.activity.finished.fetch_add(1, Ordering::Relaxed);
    }
}

/// A request that is being answered. It can be polled wherever its connection is served next.
pub(crate) type Answering<B> = Pin<Box<dyn Future<Output = Answered<B>> + Send>>;

/// Nothing fails: what a service cannot answer it answers with a status.
pub(crate) type Answered<B> = Result<Response<FlushBeforeCut<B>>, Infallible>;

/// Answers one request of a connection.
pub(crate) fn answer<S: HttpService>(each: Arc<PerConnection<S>>, request: Request<Content>) -> Answering<S::Body> {
    Box::pin(answering(each, request))
}

async fn answering<S: HttpService>(each: Arc<PerConnection<S>>, mut request: Request<Content>) -> Answered<S::Body> {
    let number = each.connection.count_request();
    let finish = Finish(Arc::clone(&each.connection));
    let version = request.version();
    // RFC 9110 §15.2: HTTP/1.0 knows no interim responses; over HTTP/2 hyper has no way to send them.
    if version == Version::HTTP_11 {
        poll_fn(|cx| each.connection.interims().poll_open(number, cx)).await;
    }
    each.connection.activity.bodiless.store(request.body().is_end_stream(), Ordering::Relaxed);
    if version == Version::HTTP_2 {
        join_cookies(request.headers_mut());
    }
    // Boxed for each request: hyper keeps room for this future for as long as the connection lives, and a service's is
    // large. An idle connection so takes 8 to 16 KiB less, and the box of the last request is warm for the next.
    let mut response = Box::pin(each.service.call(request, &each.connection)).await;
    if version == Version::HTTP_11 {
        poll_fn(|cx| each.connection.interims().poll_close(cx)).await;
    }
    // RFC 9113 §8.2.2: HTTP/2 has no such field; its connections are ended by GOAWAY.
    if version != Version::HTTP_2 && each.connection.is_draining() {
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    Ok(response.map(|body| FlushBeforeCut::new(body, finish)))
}

/// RFC 9113 §8.2.3: cookies that came in several fields MUST be one before they are passed on over HTTP/1.1.
fn join_cookies(headers: &mut HeaderMap) {
    let mut crumbs = headers.get_all(header::COOKIE).iter();
    let (Some(first), Some(second)) = (crumbs.next(), crumbs.next()) else { return };
    let mut joined = BytesMut::from(first.as_bytes());
    for crumb in [second].into_iter().chain(crumbs) {
        joined.extend_from_slice(b"; ");
        joined.extend_from_slice(crumb.as_bytes());
    }
    if let Ok(value) = HeaderValue::from_maybe_shared(joined.freeze()) {
        headers.insert(header::COOKIE, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn crumbs_become_one_cookie() {
        let check = |crumbs: &[&'static str], expected: &[&str]| {
            let mut headers = HeaderMap::new();
            for crumb in crumbs {
                headers.append(header::COOKIE, HeaderValue::from_static(crumb));
            }
            join_cookies(&mut headers);
            assert_eq!(headers.get_all(header::COOKIE).iter().collect::<Vec<_>>(), expected);
        };
        check(&[], &[]);
        check(&["a=1; b=2"], &["a=1; b=2"]);
        check(&["a=1", "b=2", "c=3"], &["a=1; b=2; c=3"]);
    }
}
