//! Scenarios as dialogues, one line a step:
//!
//! ```text
//! reply /a 200 ; cache-control: max-age=1 | v1        what the origin answers for a path from now on
//! down                                                it cannot be reached; `up` takes that back
//! down first-byte-timeout                             it fails so, in the word of the log
//! time +2s
//! GET /a ; range: bytes=0-0 => 200 v1 ; cache-status: *hit*    a client, and what it gets (`*` in values is a wildcard, `-` an absent field)
//! purge soft tag red                                  or hard; url TARGET, prefix PATH, tag NAME, site, everything
//! fetches 1                                           how often the origin was asked so far, once all is quiet
//! ```

use std::sync::{Arc, Mutex};

use perigee_protocol::model::PathPattern;
use perigee_upstream::{FetchError, FetchErrorKind};

use crate::world::{Replies, Reply, World};

pub(crate) async fn play(world: &World, script: &str) {
    let origin = Arc::new(Mutex::new((Replies::default(), None::<FetchErrorKind>)));
    let answering = Arc::clone(&origin);
    world.origin.set(Box::new(move |request| {
        let (replies, down) = &*answering.lock().unwrap();
        let result = match (replies.0.get(request.target.as_str()), down) {
            (_, Some(kind)) => Err(FetchError::new(*kind)),
            (Some(reply), None) => Ok(reply.response(&request)),
            (None, None) => Err(FetchError::new(FetchErrorKind::Connect)),
        };
        Box::pin(std::future::ready(result))
    }));
    for line in script.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let (verb, rest) = line.split_once(' ').unwrap_or((line, ""));
        match verb {
            "reply" => {
                let (path, reply) = reply(rest);
                origin.lock().unwrap().0.0.insert(path, reply);
            }
            "down" => {
                let word = if rest.is_empty() { "connect" } else { rest };
                origin.lock().unwrap().1 = FetchErrorKind::ALL.into_iter().find(|kind| kind.as_str() == word);
                assert!(origin.lock().unwrap().1.is_some(), "{line}");
            }
            "up" => origin.lock().unwrap().1 = None,
            "time" => world.pass(rest.trim_start_matches('+').trim_end_matches('s').parse::<u64>().unwrap() * 1000),
            "fetches" => {
                world.settle().await;
                assert_eq!(world.origin.fetches().to_string(), rest, "{line}");
            }
            "purge" => crate::purge::purge(world, rest).await,
            method => client(world, method, rest, line).await,
        }
    }
}

fn fields(list: &str) -> Vec<(String, String)> {
    list.split(" ; ")
        .filter(|field| !field.trim().is_empty())
        .map(|field| {
            let (name, value) = field.split_once(':').unwrap_or_else(|| panic!("no field: {field:?}"));
            (name.trim().to_owned(), value.trim().to_owned())
        })
        .collect()
}

fn reply(text: &str) -> (String, Reply) {
    let (head, body) = text.split_once('|').unwrap_or((text, ""));
    let (line, list) = head.split_once(" ; ").unwrap_or((head, ""));
    let (path, status) = line.trim().split_once(' ').unwrap();
    let reply =
        Reply { status: status.trim().parse().unwrap(), headers: fields(list), body: body.trim().to_owned().into() };
    (path.to_owned(), reply)
}

async fn client(world: &World, method: &str, rest: &str, line: &str) {
    let (asked, expected) = rest.split_once("=>").unwrap_or_else(|| panic!("no expectation: {line}"));
    let (path, list) = asked.trim().split_once(" ; ").unwrap_or((asked.trim(), ""));
    let sent = fields(list);
    let sent: Vec<(&str, &str)> = sent.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    let (response, body) = world.ask(method, path.trim(), &sent).await;

    let (first, list) = expected.trim().split_once(" ; ").unwrap_or((expected.trim(), ""));
    let (status, wanted) = first.trim().split_once(' ').unwrap_or((first.trim(), ""));
    assert_eq!(response.status().as_str(), status, "{line}\n{:?}", response.headers());
    let body = body.unwrap_or_else(|| panic!("{line}: the body was cut"));
    if !wanted.is_empty() {
        assert_eq!(String::from_utf8_lossy(&body), wanted.trim_matches('"'), "{line}");
    }
    for (name, pattern) in fields(list) {
        let all: Vec<&str> = response.headers().get_all(&name).iter().map(|value| value.to_str().unwrap()).collect();
        let value = all.join(", ");
        if pattern == "-" {
            assert!(all.is_empty(), "{line}: {name} is {value:?}");
        } else {
            assert!(PathPattern(pattern.as_str().into()).matches(&value), "{line}: {name} is {value:?}");
        }
    }
}
