//! What the tables of several rooms share.

use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use perigee_protocol::model::{CachePolicy, ClientCacheControl, RuleCache};

use crate::{
    head::StoredHead,
    policy::{Policy, Tier},
    request::RequestView,
    storable::{Admission, DoNotReason, Times, admit},
    time::Timestamp,
};

/// Sunday, 06 Nov 1994 08:49:37 GMT, the date of the RFC's examples.
pub(crate) const NOW: Timestamp = Timestamp::from_millis(784_111_777_000);
/// [`NOW`] as a field says it.
pub(crate) const NOW_DATE: &str = "Sun, 06 Nov 1994 08:49:37 GMT";

/// Lines of `name: value`.
pub(crate) fn headers(lines: &[&str]) -> HeaderMap {
    let pair = |line: &&str| {
        let (name, value) = line.split_once(':').unwrap();
        let value = HeaderValue::from_bytes(value.trim_start_matches(' ').as_bytes()).unwrap();
        (HeaderName::from_bytes(name.as_bytes()).unwrap(), value)
    };
    lines.iter().map(pair).collect()
}

/// A date some seconds from [`NOW`].
pub(crate) fn date(seconds: i64) -> String {
    let ms = i64::try_from(NOW.as_millis()).unwrap() + seconds * 1000;
    Timestamp::from_millis(u64::try_from(ms).unwrap()).http_date()
}

/// [`NOW`] and some seconds.
pub(crate) fn later(seconds: u64) -> Timestamp {
    NOW.plus_ms(seconds * 1000)
}

/// A fetch without delay at [`NOW`].
pub(crate) const AT_ONCE: Times = Times { request_time: NOW, response_time: NOW };

/// What a policy is made of; tests change what they are about.
#[derive(Clone, Debug)]
pub(crate) struct World {
    pub(crate) cache: CachePolicy,
    pub(crate) rule: Option<RuleCache>,
    pub(crate) tier: Tier,
    pub(crate) method: Method,
}

impl Default for World {
    fn default() -> Self {
        Self { cache: CachePolicy::default(), rule: None, tier: Tier::Edge, method: Method::GET }
    }
}

impl World {
    pub(crate) fn honouring() -> Self {
        let cache = CachePolicy { client_cache_control: ClientCacheControl::Honour, ..CachePolicy::default() };
        Self { cache, ..Self::default() }
    }

    pub(crate) fn policy(&self) -> Policy<'_> {
        Policy { cache: &self.cache, rule: self.rule.as_ref(), tier: self.tier }
    }

    pub(crate) fn view<'a>(&'a self, headers: &'a HeaderMap) -> RequestView<'a> {
        RequestView { method: &self.method, headers }
    }

    pub(crate) fn admit(
        &self,
        request: &[&str],
        status: u16,
        response: &[&str],
    ) -> Result<Box<StoredHead>, DoNotReason> {
        let request = headers(request);
        let status = StatusCode::from_u16(status).unwrap();
        match admit(self.view(&request), status, &headers(response), &self.policy(), AT_ONCE, None) {
            Admission::Store(head) => Ok(head),
            Admission::DoNot(reason) => Err(reason),
        }
    }

    /// A stored 200 with these fields.
    pub(crate) fn stored(&self, response: &[&str]) -> Box<StoredHead> {
        self.admit(&[], 200, response).unwrap()
    }
}
