//! Entries → records: directives, owners, times to live, classes, and the data by its type.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use super::{
    Limits, Loader, Place, ZoneFileSoa, ZoneFiles, ZoneRecord,
    generate::{self, Pattern},
    lex::{Entry, Lexer, Token},
    mistake, parse_ttl,
};
use crate::{
    document::Mistake,
    model::ZoneFile,
    rdata::{RecordData, kind_number, kind_text, labels, name_text, name_wire},
};

/// After so many a file is some other kind of file.
pub(super) const MISTAKES_GATHERED_MAX: usize = 1_000;
const NAME: &str =
    "a domain name: labels of 1 to 63 octets, at most 255 in all; @ is the origin, and a full name ends with a dot";

/// What has been read until now.
pub(super) struct Reading<'l, 'f> {
    zone: String,
    loader: &'l mut Loader<'f>,
    limits: Limits,
    out: ZoneFiles,
    mistakes: Vec<Mistake>,
    bytes: usize,
    reads: usize,
    /// Records made by `$GENERATE`.
    generated: usize,
    /// A limit was passed: nothing more is read.
    is_over: bool,
}

/// What holds within one file (RFC 1035 §5.1).
#[derive(Clone)]
struct Scope {
    file: Arc<str>,
    origin: String,
    owner: Option<String>,
    /// `$TTL` (RFC 2308 §4).
    default_ttl_s: Option<u32>,
    /// The last one stated: where there is no `$TTL` it holds on (RFC 1035 §5.1).
    last_ttl_s: Option<u32>,
    /// The files that include each other down to this one, which is the last.
    chain: Vec<PathBuf>,
}

impl<'l, 'f> Reading<'l, 'f> {
    pub(super) fn new(zone: &str, loader: &'l mut Loader<'f>, limits: Limits) -> Self {
        let (out, mistakes) = (ZoneFiles::default(), Vec::new());
        Self { zone: zone.to_owned(), loader, limits, out, mistakes, bytes: 0, reads: 0, generated: 0, is_over: false }
    }

    pub(super) fn finish(self) -> (ZoneFiles, Vec<Mistake>) {
        (self.out, self.mistakes)
    }

    /// Reads a file that the document names, its `index`-th.
    pub(super) fn document_file(&mut self, index: usize, named: &ZoneFile) {
        let scope = Scope {
            file: named.path.to_string_lossy().into(),
            origin: named.origin.clone(),
            owner: None,
            default_ttl_s: None,
            last_ttl_s: None,
            chain: vec![named.path.clone()],
        };
        let place = Place { file: Arc::clone(&scope.file), line: 1 };
        self.file(&named.path, scope, &place, &format!("zone.file[{index}]"));
    }

    fn wrong(&mut self, place: &Place, said: &str, law: impl Into<String>, remedy: impl Into<String>) {
        self.mistakes.push(mistake(place, said, law, remedy));
        self.is_over |= self.mistakes.len() >= MISTAKES_GATHERED_MAX;
    }

    fn over(&mut self, place: &Place, said: &str, law: String) {
        self.wrong(place, said, law, "is it the right file?");
        self.is_over = true;
    }

    /// Reads a file; what names it stands at `place` and reads `said`.
    fn file(&mut self, path: &Path, mut scope: Scope, place: &Place, said: &str) {
        if self.is_over {
            return;
        }
        self.reads += 1;
        if self.reads > self.limits.reads {
            return self.over(place, said, format!("is more than {} files", self.limits.reads));
        }
        let bytes = match (self.loader)(path) {
            Ok(bytes) => bytes,
            Err(error) => {
                let law = format!("{} cannot be read: {error}", path.display());
                return self.wrong(place, said, law, "correct the name, or make the file readable");
            }
        };
        if !self.out.files.iter().any(|known| known == path) {
            self.out.files.push(path.to_owned());
        }
        self.bytes = self.bytes.saturating_add(bytes.len());
        if self.bytes > self.limits.bytes {
            return self.over(place, said, format!("makes zone files longer than {} bytes in all", self.limits.bytes));
        }
        for entry in Lexer::new(&bytes) {
            if self.is_over {
                return;
            }
            match entry {
                Ok(entry) => self.entry(&entry, &mut scope, path),
                Err(fault) => {
                    let place = Place { file: Arc::clone(&scope.file), line: fault.line };
                    self.wrong(&place, &line(&bytes, fault.line), fault.law, fault.remedy);
                }
            }
        }
    }

    fn entry(&mut self, entry: &Entry, scope: &mut Scope, path: &Path) {
        let place = Place { file: Arc::clone(&scope.file), line: entry.line };
        let said = entry.tokens.iter().map(Token::raw).collect::<Vec<_>>().join(" ");
        let directive = entry.tokens.first().filter(|first| !first.is_quoted && first.text.starts_with('$'));
        let read = match directive {
            Some(directive) => self.directive(&directive.text.to_ascii_uppercase(), entry, scope, (path, &place)),
            None => self.record(entry, scope, &place),
        };
        if let Err(Wrong { law, remedy }) = read {
            self.wrong(&place, &said, law, remedy);
        }
    }

    fn directive(
        &mut self,
        name: &str,
        entry: &Entry,
        scope: &mut Scope,
        (path, place): (&Path, &Place),
    ) -> Result<(), Wrong> {
        let arguments = entry.tokens.get(1..).unwrap_or_default();
        match (name, arguments) {
            ("$ORIGIN", [origin]) => scope.origin = absolute(origin, &scope.origin)?,
            ("$TTL", [ttl]) => scope.default_ttl_s = Some(time(&ttl.text)?),
            ("$INCLUDE", [file] | [file, _]) => {
                let origin =
                    arguments.get(1).map_or(Ok(scope.origin.clone()), |origin| absolute(origin, &scope.origin))?;
                let named = path.parent().unwrap_or(Path::new("")).join(plain(&file.text));
                if scope.chain.contains(&named) {
                    return Err(wrong("makes a file include itself", "remove it"));
                }
                if scope.chain.len() > self.limits.depth {
                    let law = format!("goes deeper than {} files into each other", self.limits.depth);
                    return Err(wrong(law, "include it from a file above"));
                }
                // RFC 1035 §5.1: the file's origin and owners are its own; so is its $TTL.
                let inner = Scope {
                    file: named.to_string_lossy().into(),
                    origin,
                    owner: None,
                    chain: [scope.chain.as_slice(), std::slice::from_ref(&named)].concat(),
                    ..scope.clone()
                };
                self.file(&named, inner, place, &format!("$INCLUDE {}", file.raw()));
            }
            ("$ORIGIN", _) => return Err(wrong("takes one name", "for example $ORIGIN cdn.example.")),
            ("$TTL", _) => return Err(wrong("takes one time", "for example $TTL 1h")),
            ("$INCLUDE", _) => {
                return Err(wrong("takes a file, and may take an origin", "for example $INCLUDE hosts.zone sub"));
            }
            ("$GENERATE", _) => self.generate(arguments, scope, place)?,
            _ => return Err(wrong("is no directive", "there are $ORIGIN, $TTL, $INCLUDE and $GENERATE")),
        }
        Ok(())
    }

    /// `$GENERATE RANGE NAME [TTL] [CLASS] TYPE DATA`: a record for each number of the range. The first mistake ends it.
    fn generate(&mut self, arguments: &[Token], scope: &Scope, place: &Place) -> Result<(), Wrong> {
        let pattern = match arguments {
            [range, owner, rest @ ..] if !rest.is_empty() => Pattern::new(range, owner, rest, head(rest)?.2)?,
            _ => return Err(wrong(generate::LAW, generate::REMEDY)),
        };
        // Owners and times to live of what it makes are its own.
        let mut scope = scope.clone();
        for number in pattern.numbers() {
            let line = pattern.line(number)?;
            self.bytes = self.bytes.saturating_add(line.len());
            self.generated += 1;
            if self.generated > generate::ALL_MAX {
                let law = format!("makes more than {} records with what $GENERATE made before", generate::ALL_MAX);
                self.over(place, &line, law);
            }
            if self.bytes > self.limits.bytes {
                let law = format!("makes zone files longer than {} bytes in all", self.limits.bytes);
                self.over(place, &line, law);
            }
            for entry in Lexer::new(line.as_bytes()) {
                if self.is_over {
                    return Ok(());
                }
                let made = entry
                    .map_err(|fault| wrong(fault.law, fault.remedy))
                    .and_then(|entry| self.record(&entry, &mut scope, place));
                if let Err(Wrong { law, remedy }) = made {
                    self.wrong(place, &line, law, remedy);
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    fn record(&mut self, entry: &Entry, scope: &mut Scope, place: &Place) -> Result<(), Wrong> {
        let mut rest = entry.tokens.as_slice();
        if !entry.is_indented
            && let Some((owner, after)) = rest.split_first()
        {
            // Whatever else is wrong with this record, the next ones of a blank owner are not this one's predecessor's.
            scope.owner = None;
            scope.owner = Some(absolute(owner, &scope.origin)?);
            rest = after;
        }
        let (ttl_s, kind, data) = head(rest)?;
        scope.last_ttl_s = ttl_s.or(scope.last_ttl_s);
        let Some(owner) = scope.owner.clone() else {
            return Err(wrong(
                "begins with white space, and no name was given before",
                "begin the line with a name, or @",
            ));
        };
        let Some(ttl_s) = ttl_s.or(scope.default_ttl_s).or(scope.last_ttl_s) else {
            return Err(wrong("has no time to live", "put $TTL 1h at the beginning of the file"));
        };
        if !is_at_or_below(&owner, &self.zone) {
            let law = format!("{owner}. is not in the zone {}.", self.zone);
            return Err(wrong(law, "remove it; or is a final dot missing, or one too many?"));
        }
        if kind == "SOA" {
            return self.soa(&owner, data, scope, place);
        }
        let data = record_data(&kind, data, &scope.origin)?;
        if self.out.records.len() >= self.limits.records {
            self.over(place, &owner, format!("is more than {} records", self.limits.records));
            return Ok(());
        }
        self.out.records.push(ZoneRecord { name: owner, ttl_s, data, place: place.clone() });
        Ok(())
    }

    fn soa(&mut self, owner: &str, data: &[Token], scope: &Scope, place: &Place) -> Result<(), Wrong> {
        const LAW: &str = "must be SOA PRIMARY CONTACT SERIAL REFRESH RETRY EXPIRE MINIMUM";
        if owner != self.zone {
            return Err(wrong(format!("is no SOA of {}.: a zone has one, at its apex", self.zone), "remove it"));
        }
        if let Some(first) = &self.out.soa {
            return Err(wrong(format!("is a second SOA; the first is at {}", first.place), "remove one"));
        }
        let [primary, contact, serial, times @ ..] = data else { return Err(wrong(LAW, "correct it")) };
        for name in [primary, contact] {
            absolute(name, &scope.origin)?;
        }
        let serial = serial.text.parse().map_err(|_| wrong(LAW, "write the serial as a number below 2³²"))?;
        let [refresh, retry, expire, minimum] = times else { return Err(wrong(LAW, "correct it")) };
        let (refresh_s, retry_s, expire_s) = (time(&refresh.text)?, time(&retry.text)?, time(&expire.text)?);
        time(&minimum.text)?;
        self.out.soa = Some(ZoneFileSoa { serial, refresh_s, retry_s, expire_s, place: place.clone() });
        Ok(())
    }
}

pub(super) struct Wrong {
    law: String,
    remedy: String,
}

pub(super) fn wrong(law: impl Into<String>, remedy: impl Into<String>) -> Wrong {
    Wrong { law: law.into(), remedy: remedy.into() }
}

/// Time to live and class in either order, each at most once, then the type, then the data (RFC 1035 §5.1).
fn head(tokens: &[Token]) -> Result<(Option<u32>, String, &[Token]), Wrong> {
    let (mut rest, mut ttl_s, mut has_class) = (tokens, None, false);
    while let Some((first, after)) = rest.split_first() {
        let word = first.text.to_ascii_uppercase();
        if ttl_s.is_none() && word.starts_with(|c: char| c.is_ascii_digit()) {
            ttl_s = Some(time(&first.text)?);
        } else if !has_class && matches!(word.as_str(), "IN" | "CLASS1") {
            has_class = true;
        } else if matches!(word.as_str(), "CH" | "HS" | "CS") || word.starts_with("CLASS") {
            return Err(wrong(format!("is of class {word}"), "only IN is served: remove it"));
        } else if first.is_quoted {
            break;
        } else {
            return Ok((ttl_s, word, after));
        }
        rest = after;
    }
    Err(wrong("has no type", "write NAME [TTL] [IN] TYPE DATA; a line that begins with white space has no name"))
}

fn record_data(kind: &str, tokens: &[Token], origin: &str) -> Result<RecordData, Wrong> {
    let number = kind_number(kind).ok_or_else(|| unreadable(kind))?;
    let kind = kind_text(number);
    if let [first, rest @ ..] = tokens
        && !first.is_quoted
        && first.text == "\\#"
    {
        // RFC 3597 §5: so any type may be written.
        let data = generic(rest).and_then(|data| RecordData::from_wire(number, &data));
        return data.ok_or_else(|| wrong(format!("must be \\# LENGTH HEX with data of the type {kind}"), "correct it"));
    }
    let texts: Vec<String> = match &*kind {
        // RFC 1035 §5.1: a string without spaces needs no quotes.
        "TXT" => tokens.iter().map(|token| format!("\"{}\"", token.text)).collect(),
        _ => tokens.iter().map(Token::raw).collect(),
    };
    if texts.is_empty() {
        return Err(wrong(format!("has no data after {kind}"), "add it"));
    }
    let name = |text: &str| absolute_text(text, origin);
    RecordData::parse_with(&kind, &texts.join(" "), NAME, &name)
        .map_err(|error| wrong(format!("{} {error}", texts.join(" ")), "correct it"))
}

fn generic(tokens: &[Token]) -> Option<Vec<u8>> {
    let (length, digits) = tokens.split_first()?;
    let digits: String = digits.iter().map(|token| token.text.as_str()).collect();
    let data = if digits.is_empty() { Vec::new() } else { crate::rdata::hex(&digits)? };
    (length.text.parse() == Ok(data.len())).then_some(data)
}

/// A type that no record here may have.
fn unreadable(kind: &str) -> Wrong {
    let number = kind.strip_prefix("TYPE").and_then(|digits| digits.parse::<u16>().ok());
    match (kind, number) {
        ("RRSIG" | "NSEC" | "NSEC3" | "NSEC3PARAM" | "DNSKEY" | "CDS" | "CDNSKEY" | "CSYNC", _)
        | (_, Some(46 | 47 | 48 | 50 | 51 | 59 | 60 | 62)) => {
            let law = format!("is of type {kind}: the nameserver signs the zone by itself");
            wrong(law, "remove it, and see cdn.dnssec; an unsigned copy of the zone is what belongs here")
        }
        ("SIG" | "KEY" | "NXT" | "MD" | "MF" | "MB" | "MG" | "MR" | "NULL" | "WKS" | "MINFO" | "A6" | "SPF", _) => {
            wrong(format!("is of type {kind}, which is obsolete"), "remove it")
        }
        _ => wrong(
            format!("is of type {kind}, which is not written by name here"),
            "correct it, or write TYPE and its number with \\# LENGTH HEX (RFC 3597)",
        ),
    }
}

fn time(text: &str) -> Result<u32, Wrong> {
    parse_ttl(text).ok_or_else(|| {
        wrong(
            format!("{text} is no time: it must be seconds, or numbers with s, m, h, d, w, up to 2147483647"),
            "correct it",
        )
    })
}

fn absolute(token: &Token, origin: &str) -> Result<String, Wrong> {
    let name = if token.is_quoted { None } else { absolute_text(&token.text, origin) };
    name.ok_or_else(|| wrong(format!("{} must be {NAME}", token.raw()), "correct it"))
}

/// A name as a zone file has it, relative to `origin` without a final dot.
pub(super) fn absolute_text(text: &str, origin: &str) -> Option<String> {
    let full = match text {
        "@" => return Some(origin.to_owned()),
        "." => return Some(String::new()),
        _ => match text.strip_suffix('.').filter(|full| !ends_escaped(full)) {
            Some(full) if !full.is_empty() => labels(full)?,
            Some(_) => return None,
            None if text.is_empty() => return None,
            None => [labels(text)?, labels(origin)?].concat(),
        },
    };
    let name = name_text(full.iter().map(Vec::as_slice));
    name_wire(&name).map(|_| name)
}

/// Whether what follows is escaped by the last character.
fn ends_escaped(text: &str) -> bool {
    text.bytes().rev().take_while(|byte| *byte == b'\\').count() % 2 == 1
}

/// Whether `name` is `above` or below it, both in the form of names in [`RecordData`].
pub(super) fn is_at_or_below(name: &str, above: &str) -> bool {
    let below = || name.strip_suffix(above)?.strip_suffix('.').filter(|labels| !ends_escaped(labels));
    name == above || above.is_empty() || below().is_some()
}

/// The text of a file's name: escapes undone as far as they stand for ASCII.
fn plain(text: &str) -> String {
    labels(&text.replace('.', "\\."))
        .and_then(|labels| labels.into_iter().next())
        .filter(|_| text.contains('\\'))
        .and_then(|octets| String::from_utf8(octets).ok())
        .unwrap_or_else(|| text.to_owned())
}

fn line(bytes: &[u8], number: usize) -> String {
    let line = bytes.split(|byte| *byte == b'\n').nth(number.saturating_sub(1)).unwrap_or_default();
    let text = String::from_utf8_lossy(line);
    text.trim().chars().filter(|c| !c.is_control()).collect()
}
