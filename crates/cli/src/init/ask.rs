//! The questions. Each answer is judged at once, by the reader's own law; what is wrong is asked again.

use std::io::{BufRead, Write};

use anyhow::{Context, bail};
use perigee_protocol::document::load;

use super::{InitArgs, Place, text::document};
use crate::cities::CITIES;

/// How often a question is asked before it is given up.
const ATTEMPTS_MAX: usize = 10;

/// Asks for what is missing, and on the way for what a first document has besides.
pub(super) fn complete(args: &mut InitArgs, input: &mut impl BufRead, out: &mut impl Write) -> anyhow::Result<()> {
    writeln!(out, "A few questions; an empty answer takes what is in brackets.\n")?;
    if args.zone.is_none() {
        ask(args, input, out, "DNS zone of the CDN, such as cdn.example.com", "cdn.zone", |args, answer| {
            args.zone = Some(answer.to_owned());
            Ok(())
        })?;
    }
    if args.origin.is_empty() {
        ask(
            args,
            input,
            out,
            "Origin, where the content is, such as http://203.0.113.80:8000",
            "site.",
            |args, answer| {
                args.origin = vec![answer.to_owned()];
                Ok(())
            },
        )?;
    }
    if args.host.is_empty() {
        let zone = args.zone.as_deref().unwrap_or_default();
        let question = format!("Host names that clients use, with commas [only {}.{zone}]", args.site);
        ask(args, input, out, &question, "site.", |args, answer| {
            args.host = list(answer);
            Ok(())
        })?;
    }
    pops(args, input, out)?;
    if args.nameserver.is_empty() {
        ask(
            args,
            input,
            out,
            "Addresses of the nameservers, with commas [none yet]",
            "cdn.nameservers",
            |args, answer| {
                let zone = args.zone.clone().unwrap_or_default();
                let servers = list(answer)
                    .into_iter()
                    .enumerate()
                    .map(|(index, address)| format!("ns{}.{zone}={address}", index + 1).parse());
                args.nameserver = servers.collect::<Result<_, _>>()?;
                Ok(())
            },
        )?;
    }
    if args.geo_database.is_none() {
        ask(args, input, out, "Geo database of MaxMind's City shape [none yet]", "geo.", |args, answer| {
            args.geo_database = (!answer.is_empty()).then(|| answer.into());
            Ok(())
        })?;
    }
    Ok(())
}

fn list(answer: &str) -> Vec<String> {
    answer.split([',', ' ']).map(str::trim).filter(|part| !part.is_empty()).map(str::to_owned).collect()
}

/// PoPs until an empty answer.
fn pops(args: &mut InitArgs, input: &mut impl BufRead, out: &mut impl Write) -> anyhow::Result<()> {
    if !args.pop.is_empty() {
        return Ok(());
    }
    let cities = CITIES.map(|city| city.id).join(", ");
    writeln!(out, "Places with edges, one by one: ID=ADDRESS@LATITUDE,LONGITUDE, or ID=ADDRESS with one of {cities}.")?;
    loop {
        let first = args.pop.is_empty();
        let question = if first { "First place" } else { "Next place [that is all]" };
        let before = args.pop.len();
        ask(args, input, out, question, "pop", |args, answer| {
            if answer.is_empty() && !first {
                return Ok(());
            }
            args.pop.push(answer.parse::<Place>()?);
            Ok(())
        })?;
        if args.pop.len() == before {
            return Ok(());
        }
    }
}

/// Asks until `set` and the reader take the answer; `path` is where the reader would find it wrong.
fn ask(
    args: &mut InitArgs,
    input: &mut impl BufRead,
    out: &mut impl Write,
    question: &str,
    path: &str,
    set: impl Fn(&mut InitArgs, &str) -> Result<(), String>,
) -> anyhow::Result<()> {
    for _ in 0..ATTEMPTS_MAX {
        write!(out, "{question}: ")?;
        out.flush()?;
        let mut line = String::new();
        if input.read_line(&mut line).context("cannot read the answer")? == 0 {
            bail!("the answers end before the questions do; see `perigee init --help` for flags");
        }
        let mut tried = args.clone();
        let refused = set(&mut tried, line.trim()).err().or_else(|| law(&tried, path));
        match refused {
            None => {
                *args = tried;
                return Ok(());
            }
            Some(law) => writeln!(out, "  {law}")?,
        }
    }
    bail!("no answer that will do to {question:?}")
}

/// The first thing that the reader says against the answers below a path.
fn law(args: &InitArgs, path: &str) -> Option<String> {
    let mistakes = load("answers", &document(args)).err()?;
    let said = mistakes.iter().find(|mistake| mistake.path.starts_with(path))?;
    Some(said.law.clone())
}
