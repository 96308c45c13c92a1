//! Rules in words, for people who ask why.

use std::{borrow::Cow, fmt::Display};

use perigee_protocol::{
    document::render_duration,
    model::{HeaderRules, KeyParts, RedirectPiece, Rule, RuleMatch, StatusPattern},
};

use super::{Choice, Mismatch, RuleView, mismatch};

/// What became of one rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It is the request's rule.
    Fires,
    /// It is the response's rule, if the status fits.
    AwaitsStatus,
    /// The request does not fit it.
    Not(Mismatch),
    /// It fits, and stands behind the request's rule.
    Behind,
}

impl Outcome {
    /// The word in explanations.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Fires => "fires",
            Self::AwaitsStatus => "awaits-status",
            Self::Not(mismatch) => mismatch.as_str(),
            Self::Behind => "behind",
        }
    }
}

/// What becomes of each rule, in their order; agrees with [`Choice::new`].
pub fn weigh(rules: &[Rule], request: &RuleView<'_>) -> Vec<Outcome> {
    let fires = Choice::new(rules, request).index();
    let outcome = |(index, rule): (usize, &Rule)| match mismatch(&rule.when, request) {
        Some(mismatch) => Outcome::Not(mismatch),
        None if fires.is_some_and(|fires| fires < index) => Outcome::Behind,
        None if rule.needs_status() => Outcome::AwaitsStatus,
        None => Outcome::Fires,
    };
    rules.iter().enumerate().map(outcome).collect()
}

/// `path /img/*, method GET`
pub fn matching(when: &RuleMatch) -> String {
    let mut all = Vec::new();
    say(&mut all, "path", when.path.iter().map(|pattern| pattern.0.as_ref()));
    say(&mut all, "extension", &when.extension);
    say(&mut all, "host", when.host.iter().map(|pattern| pattern.0.as_ref()));
    say(&mut all, "method", &when.method);
    for (name, patterns) in &when.header {
        say(&mut all, &format!("header {name}"), patterns.iter().map(|pattern| pattern.0.as_ref()));
    }
    say(&mut all, "cookie", &when.cookie);
    let statuses = when.status.iter().map(|status| match status {
        StatusPattern::One(status) => status.to_string(),
        StatusPattern::Class(class) => format!("{class}xx"),
    });
    say(&mut all, "status", statuses);
    all.join(", ")
}

/// `ttl 1h, key device cookie theme`; empty where it does nothing.
pub fn doing(rule: &Rule) -> String {
    let (cache, mut all) = (&rule.cache, Vec::new());
    if cache.pass {
        all.push("pass".to_owned());
    }
    let times = [
        ("ttl", cache.ttl),
        ("stale_while_revalidate", cache.stale_while_revalidate),
        ("stale_if_error", cache.stale_if_error),
    ];
    for (name, time) in times {
        say(&mut all, name, time.map(render_duration));
    }
    if cache.ignore_query {
        all.push("ignore_query".to_owned());
    }
    if let Some(query) = &cache.query {
        say(&mut all, "query keep", &query.keep);
        say(&mut all, "query drop", &query.drop);
        say(&mut all, "query", query.sort.then_some("sort"));
    }
    say(&mut all, "key", key(&cache.key));
    for (name, changes) in [("request_headers", &rule.request_headers), ("headers", &rule.headers)] {
        say(&mut all, name, fields(changes));
    }
    if let Some(redirect) = &rule.redirect {
        let target: Vec<Cow<'_, str>> = redirect.to.iter().map(piece).collect();
        all.push(format!("redirect {} {}", redirect.status, target.concat()));
    }
    all.join(", ")
}

fn key(key: &KeyParts) -> Vec<String> {
    let mut parts: Vec<_> = key.headers.iter().map(|name| format!("header {name}")).collect();
    match key.cookies.as_deref() {
        Some([]) => parts.push("no cookie".to_owned()),
        Some(names) => parts.extend(names.iter().map(|name| format!("cookie {name}"))),
        None => {}
    }
    parts.extend(key.device.then(|| "device".to_owned()));
    parts.extend(key.country.then(|| "country".to_owned()));
    parts
}

fn fields(changes: &HeaderRules) -> Vec<String> {
    let removed = changes.remove.iter().map(|name| format!("-{name}"));
    let set = changes.set.iter().map(|(name, _)| format!("={name}"));
    removed.chain(set).chain(changes.add.iter().map(|(name, _)| format!("+{name}"))).collect()
}

fn piece(piece: &RedirectPiece) -> Cow<'_, str> {
    match piece {
        RedirectPiece::Text(text) => text.as_ref().into(),
        RedirectPiece::Host => "{host}".into(),
        RedirectPiece::Path => "{path}".into(),
        RedirectPiece::Query => "{query}".into(),
    }
}

fn say<T: Display>(all: &mut Vec<String>, name: &str, items: impl IntoIterator<Item = T>) {
    let items: Vec<_> = items.into_iter().map(|item| item.to_string()).collect();
    if !items.is_empty() {
        all.push(format!("{name} {}", items.join(" ")));
    }
}
