//! `perigee explain rule`: which of a document's rules a request would have, without any node.

use std::io::Write;

use ::http::{HeaderMap, HeaderName, HeaderValue, Method, Uri, header};
use anyhow::{Context, anyhow, bail};
use perigee_protocol::model::{Document, Scheme, Site};
use perigee_semantics::{
    key::CacheKey,
    policy::{Policy, Tier},
    rules::{self, Choice, Client, RuleView, describe},
};
use serde_json::{Value, json};

use super::{fields, http::print_rules, text::fact};
use crate::args::ExplainRuleArgs;

pub(super) fn explain(args: &ExplainRuleArgs, out: &mut impl Write) -> anyhow::Result<()> {
    let document = perigee_node::document::read(&args.document)?.document;
    let told = tell(&document, args)?;
    if args.request.json {
        serde_json::to_writer_pretty(&mut *out, &told)?;
        writeln!(out)?;
        return Ok(());
    }
    fact(out, &args.request.method, &args.request.url)?;
    fact(out, "site", told["site"].as_str().unwrap_or_default())?;
    print_rules(&told, out)?;
    match told["redirect"].as_object() {
        Some(redirect) => {
            let location = redirect["location"].as_str().unwrap_or_default();
            fact(out, "redirect", &format!("{} {location}", redirect["status"]))?;
        }
        None => fact(out, "key", told["key"].as_str().unwrap_or_default())?,
    }
    if let Some(status) = args.status {
        let rule = told["response_rule"].as_u64().map_or("none".to_owned(), |rule| rule.to_string());
        fact(out, "response", &format!("of {status} has rule {rule}"))?;
    }
    Ok(())
}

fn tell(document: &Document, args: &ExplainRuleArgs) -> anyhow::Result<Value> {
    let request = &args.request;
    let url: Uri = request.url.parse().with_context(|| format!("{}: is no URL", request.url))?;
    let scheme = match url.scheme_str() {
        Some("http") => Scheme::Http,
        Some("https") => Scheme::Https,
        _ => bail!("{}: a URL begins with http:// or https://", request.url),
    };
    let authority = url.authority().ok_or_else(|| anyhow!("{}: has no host", request.url))?.as_str();
    let host = url.host().unwrap_or_default().to_ascii_lowercase();
    let host = host.strip_suffix('.').unwrap_or(&host);
    let site = site_of(document, host).ok_or_else(|| anyhow!("{host} is the host of no site of this document"))?;
    let method = Method::from_bytes(request.method.as_bytes())
        .with_context(|| format!("--method {}: is no method", request.method))?;
    let mut headers = HeaderMap::new();
    for (name, value) in fields(request)? {
        let name =
            HeaderName::from_bytes(name.as_bytes()).with_context(|| format!("--header {name:?}: is no field"))?;
        if name != header::HOST {
            headers.append(name, HeaderValue::from_str(&value).with_context(|| format!("--header {value:?}"))?);
        }
    }
    let (path, query, list) = (url.path(), url.query(), &site.rules);
    let view = RuleView { path, host, method: &method, headers: &headers };
    let outcomes = describe::weigh(list, &view);
    let choice = Choice::new(list, &view);
    let said = list.iter().zip(outcomes).enumerate().map(|(index, (rule, outcome))| {
        json!({
            "rule": index,
            "match": describe::matching(&rule.when),
            "does": describe::doing(rule),
            "outcome": outcome.as_str(),
        })
    });
    let said: Vec<_> = said.collect();
    let rule = choice.rule(list);
    let redirect = rule.and_then(|rule| rule.redirect.as_ref()).map(|redirect| {
        let location = rules::location(redirect, authority, path, query).unwrap_or(HeaderValue::from_static(""));
        json!({ "status": redirect.status, "location": String::from_utf8_lossy(location.as_bytes()) })
    });
    let country = args.country.as_ref().and_then(|country| country.as_bytes().try_into().ok());
    let parts = rule.map(|rule| rules::prepare(rule, &method, Client::Outside(country), &mut headers));
    let policy = Policy { cache: &site.cache, rule: rule.map(|rule| &rule.cache), tier: Tier::Edge };
    let key_authority = site.host_header.as_deref().unwrap_or(authority);
    let key = CacheKey::new(&site.id, scheme, key_authority, path, query, &policy);
    Ok(json!({
        "url": request.url,
        "method": request.method,
        "site": site.id.as_str(),
        "rule": choice.index(),
        "rules": said,
        "redirect": redirect,
        "key": key.with_parts(&parts.unwrap_or_default()).to_string(),
        "response_rule": args.status.map(|status| choice.index_for(list, status)),
    }))
}

fn site_of<'d>(document: &'d Document, host: &str) -> Option<&'d Site> {
    let has = |site: &&Site| {
        let sent = site.host_header.as_deref().map(|name| name.split(':').next().unwrap_or(name));
        document.site_hosts(site).any(|name| name == host) || sent.is_some_and(|name| name.eq_ignore_ascii_case(host))
    };
    document.sites.iter().find(has)
}
