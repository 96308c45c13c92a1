//! `perigee init`: a first document, from flags or from answers to questions.
//!
//! Deliberately absent: rules. Each answer is put into a document and judged by the reader, so that what is written passes
//! `perigee check`.

mod ask;
mod text;

use std::{
    fs::OpenOptions,
    io::{self, IsTerminal as _, Write},
    net::IpAddr,
    path::{Path, PathBuf},
    str::FromStr,
};

use anyhow::{Context, bail};
use clap::Args;
use perigee_protocol::document::{
    keys::{SCHEMA_FILE, SCHEMA_ID, schema},
    load,
};

use crate::{
    cities::{CITIES, City},
    geo::replace,
};

#[derive(Clone, Debug, Default, Args)]
pub(crate) struct InitArgs {
    /// The document to write; - writes it to standard output
    #[arg(value_name = "FILE", default_value = "perigee.toml")]
    pub(crate) file: PathBuf,
    /// The DNS zone that the nameservers are to answer for: cdn.example.com
    #[arg(long, value_name = "ZONE")]
    pub(crate) zone: Option<String>,
    /// What the CDN is called in Via and CDN-Loop
    #[arg(long, value_name = "WORD")]
    pub(crate) name: Option<String>,
    /// A nameserver and its addresses; may be given several times
    #[arg(long, value_name = "HOST=ADDRESS,..")]
    pub(crate) nameserver: Vec<Named>,
    /// Where the content is; may be given several times
    #[arg(long, value_name = "URL")]
    pub(crate) origin: Vec<String>,
    /// The site's id
    #[arg(long, value_name = "ID", default_value = "www")]
    pub(crate) site: String,
    /// A host name that the site is served under, beside SITE.ZONE; may be given several times
    #[arg(long, value_name = "HOST")]
    pub(crate) host: Vec<String>,
    /// A place with edges, and where it is: coordinates or one of the demo's cities, whose ids need neither; may be given
    /// several times
    #[arg(long, value_name = "ID=ADDRESS,..[@LATITUDE,LONGITUDE]")]
    pub(crate) pop: Vec<Place>,
    /// A cache between edges and origins; may be given several times
    #[arg(long, value_name = "ID=URL")]
    pub(crate) shield: Vec<Link>,
    /// A geo database of MaxMind's City shape
    #[arg(long, value_name = "MMDB")]
    pub(crate) geo_database: Option<PathBuf>,
    /// Write over what is there
    #[arg(long)]
    pub(crate) force: bool,
    /// Ask nothing, even on a terminal
    #[arg(long)]
    pub(crate) no_input: bool,
}

/// `ns1.cdn.example=198.18.0.53,2001:db8::53`
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Named {
    pub(crate) host: String,
    pub(crate) addresses: Vec<IpAddr>,
}

/// `shield-eu=http://198.18.0.80:8080`
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Link {
    pub(crate) id: String,
    pub(crate) url: String,
}

/// `fra=203.0.113.1@50.1,8.7`
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Place {
    pub(crate) id: String,
    pub(crate) addresses: Vec<IpAddr>,
    pub(crate) latitude: f64,
    pub(crate) longitude: f64,
    /// The city's name and country, where it is one of the demo's.
    pub(crate) city: Option<(&'static str, &'static str)>,
}

fn addresses(text: &str) -> Result<Vec<IpAddr>, String> {
    let address = |text: &str| text.trim().parse().map_err(|_| format!("{text:?} is no IPv4 or IPv6 address"));
    text.split(',').map(address).collect()
}

fn assignment(text: &str, example: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or_else(|| format!("say it like {example}"))?;
    Ok((name.trim().to_owned(), value.trim().to_owned()))
}

impl FromStr for Named {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let (host, value) = assignment(text, "ns1.cdn.example=198.18.0.53")?;
        Ok(Self { host, addresses: addresses(&value)? })
    }
}

impl FromStr for Link {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let (id, url) = assignment(text, "shield-eu=http://198.18.0.80:8080")?;
        Ok(Self { id, url })
    }
}

impl FromStr for Place {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let (id, value) = assignment(text, "fra=203.0.113.1@50.1,8.7")?;
        let (list, place) = value.split_once('@').map_or((value.as_str(), None), |(list, place)| (list, Some(place)));
        let addresses = addresses(list)?;
        let degrees = |text: &str| text.trim().parse::<f64>().ok().filter(|degrees| degrees.is_finite());
        let coordinates = place
            .and_then(|place| place.split_once(','))
            .and_then(|(latitude, longitude)| Some((degrees(latitude)?, degrees(longitude)?)));
        if let Some((latitude, longitude)) = coordinates {
            return Ok(Self { id, addresses, latitude, longitude, city: None });
        }
        let City { name, country, latitude, longitude, .. } = *city(place.unwrap_or(&id)).ok_or_else(|| {
            let cities = CITIES.map(|city| format!("{} ({})", city.name, city.id)).join(", ");
            format!("say where it is, @LATITUDE,LONGITUDE in degrees, or one of {cities}")
        })?;
        Ok(Self { id, addresses, latitude, longitude, city: Some((name, country)) })
    }
}

/// A city by its id or its name, whatever the case and with or without accents.
fn city(text: &str) -> Option<&'static City> {
    let plain = |text: &str| text.trim().to_lowercase().replace('ã', "a");
    CITIES.iter().find(|city| plain(city.name) == plain(text) || city.id == plain(text))
}

/// Writes the document, asking for what the flags leave open where there is somebody to ask.
pub(crate) fn init(args: &InitArgs, out: &mut impl Write) -> anyhow::Result<()> {
    let to_stdout = args.file.as_os_str() == "-";
    if !to_stdout && !args.force && args.file.exists() {
        bail!("{} is there already; --force writes over it", args.file.display());
    }
    let mut args = args.clone();
    let missing = missing(&args);
    if !missing.is_empty() {
        if args.no_input || !io::stdin().is_terminal() {
            let is = if missing.len() == 1 { "is" } else { "are" };
            bail!("{} {is} missing, and there is nobody to ask; see `perigee init --help`", missing.join(" and "));
        }
        ask::complete(&mut args, &mut io::stdin().lock(), &mut io::stderr())?;
    }
    let text = text::document(&args);
    let name = args.file.display().to_string();
    if let Err(mistakes) = load(&name, &text) {
        let list: Vec<_> = mistakes.iter().map(ToString::to_string).collect();
        bail!("these answers make no valid document:\n{}", list.join("\n"));
    }
    if to_stdout {
        out.write_all(text.as_bytes())?;
        return Ok(());
    }
    write_document(&args.file, &text, args.force)?;
    let beside = write_schema(&args.file, args.force)?;
    writeln!(out, "wrote {name}{}", beside.map(|path| format!(" and {}", path.display())).unwrap_or_default())?;
    out.write_all(text::next_steps(&args).as_bytes())?;
    Ok(())
}

/// The flags without which there is no document.
fn missing(args: &InitArgs) -> Vec<&'static str> {
    let flags = [("--zone", args.zone.is_none()), ("--origin", args.origin.is_empty()), ("--pop", args.pop.is_empty())];
    flags.into_iter().filter(|(_, missing)| *missing).map(|(flag, _)| flag).collect()
}

fn write_document(file: &Path, text: &str, force: bool) -> anyhow::Result<()> {
    if force {
        return replace(file, text.as_bytes());
    }
    let made = OpenOptions::new().write(true).create_new(true).open(file);
    made.and_then(|mut file| file.write_all(text.as_bytes()))
        .with_context(|| format!("cannot write {}", file.display()))
}

/// For editors, beside the document; None where another file has its name.
fn write_schema(document: &Path, force: bool) -> anyhow::Result<Option<PathBuf>> {
    let path = document.with_file_name(SCHEMA_FILE);
    let is_ours = |text: String| text.contains(SCHEMA_ID);
    if !force && path.exists() && !std::fs::read_to_string(&path).is_ok_and(is_ours) {
        return Ok(None);
    }
    replace(&path, schema().as_bytes())?;
    Ok(Some(path))
}

#[cfg(test)]
mod tests;
