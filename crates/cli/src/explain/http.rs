//! `perigee explain http`: asks a node what would become of a request, and why.

use std::io::Write;

use serde_json::{Value, json};

use super::{
    fields,
    text::{fact, size, time},
};
use crate::{
    args::ExplainHttpArgs,
    ask::{Whom, ask, client},
};

pub(super) async fn explain(args: &ExplainHttpArgs, out: &mut impl Write) -> anyhow::Result<()> {
    let question = json!({
        "url": args.request.url,
        "method": args.request.method,
        "headers": fields(&args.request)?,
        "client": args.client,
    });
    let whom = Whom {
        at: args.node,
        kind: "node",
        flag: "--node",
        other: "a nameserver, or a node of another version; ask an edge or a shield",
    };
    let request = client()?.post(format!("{whom}/v1/explain/http")).header("content-type", "application/json");
    let told = ask(request.body(question.to_string()), whom).await?;
    if args.request.json {
        serde_json::to_writer_pretty(&mut *out, &told)?;
        writeln!(out)?;
        return Ok(());
    }
    print(&told, out)
}

fn print(told: &Value, out: &mut impl Write) -> anyhow::Result<()> {
    fact(out, text(&told["method"]), text(&told["url"]))?;
    if let Some(refused) = told["refused"].as_object() {
        let (status, reason) = (&refused["status"], text(&refused["reason"]));
        fact(out, "refused", &format!("{status}: {reason}"))?;
        return Ok(());
    }
    fact(out, "site", &format!("{} (generation {})", text(&told["site"]), told["generation"]))?;
    print_rules(told, out)?;
    if let Some(redirect) = told["redirect"].as_object() {
        fact(out, "redirect", &format!("{} {}", redirect["status"], text(&redirect["location"])))?;
        return Ok(());
    }
    fact(out, "key", text(&told["key"]))?;
    for part in list(&told["key_parts"]) {
        fact(out, "", &format!("{}: {}", text(&part["name"]), part["value"].as_str().unwrap_or("(none)")))?;
    }
    fact(out, "hash", text(&told["key_hash"]))?;
    let verdict = &told["verdict"];
    let also = [("fetching", "; a fetch is under way"), ("known_private", "; lately not for everybody")];
    let also: String = also.iter().filter(|(key, _)| told[key] == true).map(|(_, said)| *said).collect();
    fact(out, "verdict", &format!("{}: {}{also}", text(&verdict["action"]), text(&verdict["reason"])))?;
    fact(out, "", text(&verdict["clause"]))?;
    let stored = list(&told["stored"]);
    if stored.is_empty() {
        fact(out, "stored", "nothing")?;
    }
    for (index, one) in stored.iter().enumerate() {
        let selected = if one["selected"] == true { ", this one" } else { "" };
        fact(out, "stored", &format!("{} of {}{selected}", index + 1, stored.len()))?;
        print_stored(one, out)?;
    }
    let upstreams: Vec<_> = list(&told["upstreams"]).iter().map(text).collect();
    fact(out, "upstream", if upstreams.is_empty() { "nobody" } else { "" }).and_then(|()| {
        upstreams.iter().enumerate().try_for_each(|(index, name)| fact(out, &format!("  {}.", index + 1), name))
    })?;
    Ok(())
}

/// The request's rule, and every rule's outcome.
pub(super) fn print_rules(told: &Value, out: &mut impl Write) -> anyhow::Result<()> {
    let rules = list(&told["rules"]);
    let fires = told["rule"].as_u64().and_then(|index| rules.get(usize::try_from(index).ok()?));
    match fires {
        Some(rule) => {
            fact(out, "rule", &format!("{}: {}", rule["rule"], text(&rule["match"])))?;
            fact(out, "", if text(&rule["does"]).is_empty() { "does nothing" } else { text(&rule["does"]) })?;
        }
        None => fact(out, "rule", "none: the site's own policy")?,
    }
    for rule in rules {
        let outcome = match text(&rule["outcome"]) {
            "fires" => continue,
            "behind" => "fits, behind the rule that fires".to_owned(),
            "awaits-status" => format!("if upstream answers so: {}; {}", text(&rule["match"]), text(&rule["does"])),
            key => format!("{key} does not fit: {}", text(&rule["match"])),
        };
        fact(out, &format!("  rule {}", rule["rule"]), &outcome)?;
    }
    Ok(())
}

fn print_stored(one: &Value, out: &mut impl Write) -> anyhow::Result<()> {
    let number = |value: &Value| value.as_i64().unwrap_or_default();
    fact(
        out,
        "  response",
        &format!(
            "{}, {}, head from {}",
            one["status"],
            size(one["bytes"].as_u64().unwrap_or_default()),
            text(&one["head"])
        ),
    )?;
    let (segments, freshness) = (&one["segments"], &one["freshness"]);
    let count = |name: &str| number(&segments[name]);
    if count("memory") + count("disk") + count("missing") > 0 {
        let said = format!("{} in memory, {} on disk, {} missing", count("memory"), count("disk"), count("missing"));
        fact(out, "  segments", &said)?;
    }
    for select in list(&one["selects"]) {
        fact(
            out,
            "  selected",
            &format!("{}: {}", text(&select["name"]), select["value"].as_str().unwrap_or("(none)")),
        )?;
    }
    let by_rule = one["rule"].as_u64().map(|rule| format!(", rule {rule}")).unwrap_or_default();
    let (lifetime, clause) = (number(&freshness["lifetime_ms"]), text(&freshness["clause"]));
    fact(out, "  lifetime", &format!("{} by {clause}{by_rule}", time(lifetime)))?;
    let (initial, age) = (number(&freshness["initial_age_ms"]), number(&freshness["age_ms"]));
    let since = age.saturating_sub(initial);
    fact(out, "  age", &format!("{} = {} on arrival + {} since", time(age), time(initial), time(since)))?;
    let ttl = number(&freshness["ttl_ms"]);
    let words = [("no_cache", "no-cache"), ("must_revalidate", "must-revalidate"), ("immutable", "immutable")];
    let words: String =
        words.iter().filter(|(key, _)| freshness[key] == true).map(|(_, word)| format!(", {word}")).collect();
    match ttl {
        1.. => fact(out, "  fresh", &format!("for {}{words}", time(ttl)))?,
        _ => fact(out, "  stale", &format!("for {}{words}", time(ttl.saturating_neg())))?,
    }
    let (swr, sie) = (number(&freshness["stale_while_revalidate_ms"]), number(&freshness["stale_if_error_ms"]));
    fact(out, "  may be", &format!("stale for {} while revalidated, {} on errors", time(swr), time(sie)))?;
    let tags: Vec<_> = list(&one["tags"]).iter().map(text).collect();
    if !tags.is_empty() {
        fact(out, "  tags", &tags.join(" "))?;
    }
    let fence = &one["fence"];
    match one["purged"].as_object() {
        Some(purge) => {
            let what = purge["what"].as_str().map(|what| format!(" of {what}")).unwrap_or_default();
            let said = format!("{} by purge {}{what}; fence {fence}", text(&purge["reason"]), purge["seq"]);
            fact(out, "  purged", &said)?;
        }
        None => fact(out, "  purged", &format!("no; fence {fence}"))?,
    }
    Ok(())
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}
