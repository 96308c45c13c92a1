//! One connection's HTTP: hyper's connection future, told of drains and of time-outs, with the service behind it. Over
//! HTTP/1 it is only asked for what `direct` leaves to it.

use std::{
    cell::Cell,
    error::Error,
    future::poll_fn,
    pin::{Pin, pin},
    sync::{Arc, atomic::Ordering},
    task::{Context, Poll},
    time::Duration,
};

use ::http::Request;
use hyper::{
    body::Incoming,
    server::conn::{http1, http2},
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt},
    time::{Instant, Sleep, sleep_until, timeout},
};

use crate::{
    answer::{Answering, PerConnection, answer},
    connections::Phase,
    content::Content,
    direct::{Direct, Left, Over},
    door_metrics::{DoorMetrics, Ended},
    http::{
        BUFFER_BYTES_MAX, Connection, H2_CONNECTION_WINDOW_BYTES, H2_PING_INTERVAL, H2_PING_TIMEOUT,
        H2_RESETS_LOCAL_MAX, H2_RESETS_PENDING_MAX, H2_SEND_BYTES_MAX, H2_STREAM_WINDOW_BYTES, HEADERS_MAX,
        HttpService, Limits,
    },
    interim::WithInterims,
    linger::linger,
    paced::{Paced, Streams},
    stalled::Stalling,
    stream::{ClientStream, Watched},
    timing::{Seen, State, Timing},
};

/// RFC 9110 §15.5.9
const TOO_LATE: &[u8] = b"HTTP/1.1 408 Request Timeout\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";
/// A client that does not take a last word within this is closed without it.
const LAST_WORD_BOUND: Duration = Duration::from_secs(1);
/// A connection whose requests are hyper's again and again remains with it for so many, so that its state is not made anew
/// for each.
const STAY_REQUESTS_MAX: u64 = 64;

/// How HTTP is spoken to clients.
#[derive(Clone)]
pub(crate) struct Protocols {
    http1: http1::Builder,
    http2: http2::Builder<Streams>,
    streams: Streams,
    direct: Direct,
    /// What tests hold `direct` against.
    #[cfg(test)]
    hyper_only: bool,
    write_timeout: Duration,
}

impl Protocols {
    pub(crate) fn new(limits: &Limits, metrics: DoorMetrics) -> Self {
        let mut http1 = http1::Builder::new();
        // Time-outs are `timing`'s.
        http1
            .header_read_timeout(None)
            .max_header_size(limits.header_bytes_max)
            .max_buf_size(limits.header_bytes_max + BUFFER_BYTES_MAX)
            .half_close(false);
        if limits.headers_max != HEADERS_MAX {
            // Said only where it differs: any explicit number costs hyper's fast path.
            http1.max_headers(limits.headers_max);
        }
        let streams = Streams::new(limits.write_timeout, metrics.clone());
        let mut http2 = http2::Builder::new(streams.clone());
        http2
            .timer(TokioTimer::new())
            .max_concurrent_streams(limits.h2_streams_max)
            .max_header_list_size(u32::try_from(limits.header_bytes_max).unwrap_or(u32::MAX))
            .max_pending_accept_reset_streams(H2_RESETS_PENDING_MAX)
            .max_local_error_reset_streams(H2_RESETS_LOCAL_MAX)
            .initial_stream_window_size(H2_STREAM_WINDOW_BYTES)
            .initial_connection_window_size(H2_CONNECTION_WINDOW_BYTES)
            .max_send_buf_size(H2_SEND_BYTES_MAX)
            .keep_alive_interval(H2_PING_INTERVAL)
            .keep_alive_timeout(H2_PING_TIMEOUT);
        let Limits { header_timeout, idle_timeout, write_timeout, .. } = *limits;
        let direct = Direct { rules: limits.into(), header_timeout, idle_timeout, metrics };
        Self {
            http1,
            http2,
            streams,
            direct,
            #[cfg(test)]
            hyper_only: false,
            write_timeout,
        }
    }

    #[cfg(test)]
    pub(crate) fn hyper_only(self) -> Self {
        Self { hyper_only: true, ..self }
    }

    /// Returns why the connection ended, where it was for a limit.
    ///
    /// hyper's state of a connection (buffers, and room for a request's future) is three quarters of what it takes, and it
    /// is there only while there is something for hyper to do.
    pub(crate) async fn http1<S: HttpService, T: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
        &self,
        service: Arc<S>,
        stream: T,
        connection: &Arc<Connection>,
    ) -> Option<Ended> {
        let each = Arc::new(PerConnection { service, connection: Arc::clone(connection) });
        let stream = Stalling::new(stream, self.write_timeout, Arc::clone(connection));
        let mut stream = Watched::new(WithInterims::new(stream, Arc::clone(connection)), Arc::clone(connection));
        let mut since = Instant::now();
        #[cfg(test)]
        if self.hyper_only {
            return self.only_hyper(&each, stream, connection, since).await;
        }
        let mut stay = 1;
        loop {
            let Over { started, before, served } = match self.direct.serve(&each, &mut stream, since).await {
                Left::Over(over) => over,
                Left::Closed => {
                    say(stream, b"").await;
                    return None;
                }
                Left::Late(reason) => {
                    say(stream, b"").await;
                    return Some(reason);
                }
                Left::Cut(reason) => return reason,
            };
            stay = if served > 0 { 1 } else { (stay * 2).min(STAY_REQUESTS_MAX) };
            let timing = self.timing(connection, before, since).leaving_at(before + stay);
            match Box::pin(self.serve_http1(&each, stream, connection, timing, started)).await {
                Http1::Ended(ended) => return ended,
                Http1::Parked(parked, idle_since) => (stream, since) = (parked, idle_since),
            }
        }
    }

    /// Of a connection that had brought so many requests, and now brings something else.
    fn timing(&self, connection: &Connection, before: u64, since: Instant) -> Timing {
        let Direct { header_timeout, idle_timeout, .. } = self.direct;
        if before == 0 {
            return Timing::new(since, header_timeout, idle_timeout, true);
        }
        let seen = Seen { requests: before, ..Seen::of(connection) };
        Timing::awake(Instant::now(), seen, header_timeout, idle_timeout)
    }

    #[cfg(test)]
    async fn only_hyper<S: HttpService, T: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
        &self,
        each: &Arc<PerConnection<S>>,
        stream: Watched<T>,
        connection: &Connection,
        since: Instant,
    ) -> Option<Ended> {
        let mut timing = self.timing(connection, 0, since);
        timing.never_park();
        match self.serve_http1(each, stream, connection, timing, None).await {
            Http1::Ended(ended) => ended,
            Http1::Parked(..) => unreachable!("it never parks"),
        }
    }

    /// `started` answers the first request that is read.
    async fn serve_http1<S: HttpService, T: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
        &self,
        each: &Arc<PerConnection<S>>,
        stream: Watched<T>,
        connection: &Connection,
        timing: Timing,
        started: Option<Answering<S::Body>>,
    ) -> Http1<Watched<T>> {
        let each = Arc::clone(each);
        let has_begun = started.is_some();
        let started = Cell::new(started);
        let answer = service_fn(move |request: Request<Incoming>| {
            started.take().unwrap_or_else(|| answer(Arc::clone(&each), request.map(Content::from)))
        });
        let mut serving = self.http1.serve_connection(TokioIo::new(stream), answer);
        let outcome = run(connection, timing, has_begun, |step| match step {
            Step::Poll(cx) => Pin::new(&mut serving).poll(cx),
            Step::Shutdown => {
                Pin::new(&mut serving).graceful_shutdown();
                Poll::Pending
            }
        })
        .await;
        let ended = outcome.tell(connection);
        match outcome {
            Outcome::Park(since) => {
                let parts = serving.into_parts();
                let mut stream = parts.io.into_inner();
                // The beginning of a next request, perhaps.
                stream.give_back(&parts.read_buf);
                return Http1::Parked(stream, since);
            }
            Outcome::Late(State::Head) => say(serving.into_parts().io.into_inner(), TOO_LATE).await,
            // hyper answers a head that it cannot read, and the rest of it may still be coming.
            Outcome::Failed(error) if error.is_parse() => {
                linger(serving.into_parts().io.into_inner(), connection).await
            }
            Outcome::Ended if !connection.activity.bodiless.load(Ordering::Relaxed) => {
                linger(serving.into_parts().io.into_inner(), connection).await;
            }
            _ => {}
        }
        Http1::Ended(ended)
    }

    /// Returns why the connection ended, where it was for a limit.
    pub(crate) async fn http2<S: HttpService>(
        &self,
        service: Arc<S>,
        stream: ClientStream,
        connection: &Arc<Connection>,
    ) -> Option<Ended> {
        let each = Arc::new(PerConnection { service, connection: Arc::clone(connection) });
        let answer = service_fn(move |request: Request<Incoming>| {
            let answering = answer(Arc::clone(&each), request.map(Content::from));
            async { answering.await.map(|response| response.map(Paced::new)) }
        });
        let stream = Stalling::new(stream, self.write_timeout, Arc::clone(connection));
        let stream = Watched::new(stream, Arc::clone(connection));
        let mut serving = pin!(self.http2.serve_connection(TokioIo::new(stream), answer));
        let Direct { header_timeout, idle_timeout, .. } = self.direct;
        let timing = Timing::new(Instant::now(), header_timeout, idle_timeout, false);
        let running = run(connection, timing, false, |step| match step {
            Step::Poll(cx) => serving.as_mut().poll(cx),
            Step::Shutdown => {
                serving.as_mut().graceful_shutdown();
                Poll::Pending
            }
        });
        self.streams.of(connection, running).await.tell(connection)
    }
}

/// How HTTP/1 on a connection ended, or stopped.
enum Http1<T> {
    Ended(Option<Ended>),
    /// Nothing was under way since then.
    Parked(T, Instant),
}

/// Says a last word, and ends the connection well.
async fn say(mut stream: impl AsyncWrite + Unpin, last: &[u8]) {
    let say = async {
        stream.write_all(last).await?;
        stream.shutdown().await
    };
    // Who does not take it has been told enough by the connection's end.
    let _told = timeout(LAST_WORD_BOUND, say).await;
}

/// What is done with hyper's connection.
enum Step<'a, 'b> {
    Poll(&'a mut Context<'b>),
    /// Ends it after what is under way.
    Shutdown,
}

/// How a connection ended.
enum Outcome {
    Ended,
    /// It was told to end within its time, and did.
    Closed(Ended),
    Failed(hyper::Error),
    Aborted,
    /// It has been idle since then and can be kept without hyper.
    Park(Instant),
    /// It had to be dropped in that state.
    Late(State),
}

impl Outcome {
    fn tell(&self, connection: &Connection) -> Option<Ended> {
        match self {
            Self::Ended | Self::Aborted | Self::Park(_) => None,
            Self::Closed(reason) => Some(*reason),
            Self::Failed(error) => {
                tracing::debug!(peer = %connection.peer(), error = %describe(error), "a connection ended early");
                None
            }
            Self::Late(state) => Some(reason(*state)),
        }
    }
}

fn reason(state: State) -> Ended {
    match state {
        State::Idle => Ended::IdleTimeout,
        State::Fresh | State::Head | State::Busy => Ended::HeaderTimeout,
    }
}

/// Polls a connection to its end, by itself, by a drain or by time. `has_begun`: hyper is to be given a request that the
/// service has already.
async fn run(
    connection: &Connection,
    mut timing: Timing,
    mut has_begun: bool,
    mut step: impl FnMut(Step<'_, '_>) -> Poll<hyper::Result<()>>,
) -> Outcome {
    let mut told = None;
    let mut ending = false;
    let mut closed_for = None;
    let mut alarm = pin!(sleep_until(Instant::now()));
    let mut armed = None;
    poll_fn(|cx| {
        let mut phase = connection.control().phase();
        // Each change of phase uses the waker up, so it is left again after each. In between it stays good: this
        // future remains in the task it was spawned in.
        while told != Some(phase) {
            connection.control().register(cx.waker());
            told = Some(phase);
            phase = connection.control().phase();
        }
        if phase == Phase::Aborted {
            return Poll::Ready(Outcome::Aborted);
        }
        let fresh = connection.requests() == 0;
        loop {
            // Told to end before it has seen the request that has begun, it would never ask for it.
            if !ending && !has_begun && (phase == Phase::Closing || (phase == Phase::Draining && !fresh)) {
                ending = true;
                timing.never_park();
                let _pending = step(Step::Shutdown);
            }
            if let Poll::Ready(ended) = step(Step::Poll(cx)) {
                return Poll::Ready(match (ended, closed_for) {
                    (_, Some(reason)) => Outcome::Closed(reason),
                    (Ok(()), None) => Outcome::Ended,
                    (Err(_), None) if connection.activity.stalled.load(Ordering::Relaxed) => {
                        Outcome::Closed(Ended::WriteTimeout)
                    }
                    (Err(error), None) => Outcome::Failed(error),
                });
            }
            timing.observe(Seen::of(connection), Instant::now);
            if std::mem::take(&mut has_begun) && phase >= Phase::Draining {
                continue;
            }
            // All is sent then: hyper writes out what it has before it waits, and where the socket took less, it is busy.
            if let Some(since) = timing.parks_at_once() {
                return Poll::Ready(Outcome::Park(since));
            }
            let on_time = |deadline| !is_late(deadline, alarm.as_mut(), &mut armed, cx);
            if timing.deadline().is_none_or(on_time) {
                return Poll::Pending;
            }
            if let Some(since) = timing.parks(Instant::now()) {
                return Poll::Ready(Outcome::Park(since));
            }
            let state = timing.state();
            if closed_for.is_some() || state == State::Head {
                return Poll::Ready(Outcome::Late(state));
            }
            // A GOAWAY, a close_notify: it is ended as after a last request, and dropped if that takes as long again.
            closed_for = Some(reason(state));
            ending = true;
            timing.never_park();
            timing.begin_again(Instant::now());
            let _pending = step(Step::Shutdown);
        }
    })
    .await
}

/// Whether the connection's time is up. Sets the alarm no more often than it must: it may ring early, never late.
pub(crate) fn is_late(
    deadline: Instant,
    mut alarm: Pin<&mut Sleep>,
    armed: &mut Option<Instant>,
    cx: &mut Context<'_>,
) -> bool {
    let rings_in_time = armed.is_some_and(|at| at <= deadline) && !alarm.is_elapsed();
    if rings_in_time {
        return false;
    }
    if *armed != Some(deadline) {
        alarm.as_mut().reset(deadline);
        *armed = Some(deadline);
    }
    alarm.poll(cx).is_ready()
}

fn describe(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}
