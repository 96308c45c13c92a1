//! The command line of `perigee`.

use std::{net::SocketAddr, path::PathBuf};

use clap::{Args, Parser, Subcommand};

use crate::{
    check::CheckArgs,
    demo::DemoArgs,
    fmt::FmtArgs,
    geo::args::GeoCommand,
    init::InitArgs,
    manual::{CompletionsArgs, ManArgs},
    measure::MeasureArgs,
    page::PageArgs,
    pop::PopCommand,
    schema::SchemaArgs,
};

/// Perigee: a CDN that you own. This is the operator's command.
#[derive(Debug, Parser)]
#[command(
    name = "perigee",
    version,
    max_term_width = 110,
    after_help = "\
Exit status: 0 done; 1 it did not work or the answer is no (the reason is on stderr, mistakes in a document are on stdout); \
2 the command line itself is wrong; 130 interrupted twice.

Begin with `perigee demo`."
)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Write a first CDN document, from flags or from answers to questions
    #[command(after_help = "\
What --zone, --origin and --pop leave open is asked for on a terminal; elsewhere it is an error. The document passes \
`perigee check`, tells in comments what comes next, and has perigee.schema.json beside it, for editors.

Examples:
  perigee init
  perigee init --zone cdn.example.com --origin http://203.0.113.80:8000 --pop fra=203.0.113.1 --pop ber=203.0.113.2@52.5,13.4
  perigee init --zone cdn.example.com --nameserver ns1.cdn.example.com=203.0.113.53 --origin http://203.0.113.80 \
--host www.example.com --pop sin=203.0.113.1,2001:db8::1 --shield ap=http://203.0.113.90:8080 cdn.toml")]
    Init(InitArgs),
    /// Say every mistake in a CDN document, or `ok`
    #[command(after_help = "\
Prints `ok` and exits 0, or prints every mistake with its line, what must hold and what to do, and exits 1. Of the files that \
the document names those with records or prefixes are read; starting a node reads all. With --json the object has `ok`, `count`, \
and `mistakes`, each with `file`, `line`, `column`, `path`, `said`, `law` and `remedy`.

Examples:
  perigee check perigee.toml
  perigee check --explain cdn.ttl
  perigee check --explain site.cache")]
    Check(CheckArgs),
    /// Give CDN documents their canonical form; comments stay
    #[command(after_help = "\
Spaces, indentation and blank lines become the same everywhere; lists that are too long for a line are broken. What the \
document says and its comments stay as they are, else nothing is written.

Examples:
  perigee fmt perigee.toml
  perigee fmt --check perigee.toml
  perigee fmt - <perigee.toml")]
    Fmt(FmtArgs),
    /// Print the JSON Schema of CDN documents, for editors
    #[command(after_help = "\
Editors find it by the line `#:schema ./perigee.schema.json` at the head of a document.

Examples:
  perigee schema >perigee.schema.json
  perigee schema --markdown")]
    Schema(SchemaArgs),
    /// Write the manual pages of all programs and of the document
    #[command(after_help = "\
Examples:
  perigee man pages
  perigee man --sections /usr/local/share/man")]
    Man(ManArgs),
    /// Print what a shell needs to complete the flags of this command, or of a server
    #[command(after_help = "\
Examples:
  perigee completions bash >/etc/bash_completion.d/perigee
  perigee completions bash perigee-edge >/etc/bash_completion.d/perigee-edge
  perigee completions zsh >\"${fpath[1]}/_perigee\"")]
    Completions(CompletionsArgs),
    /// Build, fetch and compare geo databases, and look addresses up in them
    #[command(subcommand)]
    Geo(GeoCommand),
    /// Ask a node how it is
    #[command(after_help = "\
Asks GET /v1/status of the node's admin listener and prints what it says, a line for each fact. Exits 1 when nobody \
answers or the answer is a refusal.

Examples:
  perigee status --admin 127.0.0.1:9100
  perigee status --admin 127.81.0.80:9100 --json")]
    Status(StatusArgs),
    /// Say why a request is served as it is
    #[command(subcommand)]
    Explain(ExplainCommand),
    /// Make and list the DNSSEC keys of a document's zone
    #[command(subcommand)]
    Dns(DnsCommand),
    /// Take URLs, a part of a site, or everything out of nodes' caches
    #[command(after_help = "\
Asks POST /v1/purge of each node in the order given, and says what each acknowledged. From then on the node serves nothing that \
was fetched before: with --soft only after asking upstream whether it still holds. Name the shields before the edges that ask \
them, else an edge may fetch the old content again from a shield. The token needs the scope \"purge\" in [admin] tokens.

Exits 1 and names the nodes that did not acknowledge.

Examples:
  perigee purge http://www.example.com/a?b=1 --node 127.0.0.1:9100 --token-file ops.token
  perigee purge --site www --tag article-17 --soft --node 10.0.0.80:9100,10.0.0.81:9100 --token-file ops.token
  perigee purge --site www --prefix /img/ --node 127.0.0.1:9100 --token-file ops.token
  perigee purge --everything --yes --node 127.0.0.1:9100 --token-file ops.token")]
    Purge(PurgeArgs),
    /// Drain a PoP, count it as up, or leave it to the probes again
    #[command(
        subcommand,
        after_help = "\
Tells each nameserver in the order given by POST /v1/pops/POP, and says which acknowledged. Its word goes before what the probes \
find, at once, and over restarts where the nameserver has --state. Name every nameserver: each knows only what it was told. \
The token needs the scope \"drain\" in [admin] tokens; `perigee status` of a nameserver shows what is in force.

Exits 1 and names the nameservers that did not acknowledge."
    )]
    Pop(PopCommand),
    /// Measure what a CDN gains over its origin, from several places, and say what is in its way
    #[command(after_help = "\
Fetches the same assets straight from the origin and through the CDN, over new and kept connections, and prints the phases of \
both, who answered, what the origin was spared, and what is wrong with the URL and the remedy. Any site and any CDN will do; HTTP/1.1 \
is spoken. A place is a client's address: fetches leave from it where this machine has it, else the nameserver alone is told of it.

Exits 1 when a fetch failed.

Examples:
  perigee measure --direct http://203.0.113.80/ --direct-host www.example.com --cdn www.example.com --crawl
  perigee measure --direct http://127.0.0.90:8000/ --cdn http://www.cdn.example:8080 --nameserver 127.0.0.53:5300 \
--from Tokyo=127.81.0.1,London=127.44.0.1 --crawl --svg gain.svg")]
    Measure(Box<MeasureArgs>),
    /// Serve the page of a whole fleet out of what its nodes tell
    Page(PageArgs),
    /// Run a whole CDN of eight regions on this machine
    Demo(DemoArgs),
    /// Run the demo's origin alone
    #[command(after_help = "\
A small site with pages, pictures and a 64 MiB file, and addresses that are slow, uncacheable, soon stale or of any size: \
see /lab.html. GET /.origin/stats tells as JSON what reached it, GET /healthz that it lives.

Examples:
  perigee origin --listen 127.0.0.1:8000
  perigee origin --listen 0.0.0.0:8000 --probe")]
    Origin(OriginArgs),
}

#[derive(Debug, Subcommand)]
pub(crate) enum DnsCommand {
    /// Make a key and print the DS records that the parent is to publish
    #[command(after_help = "\
Writes one file into the folder that [cdn.dnssec] keys names. Every nameserver of the fleet needs the same files; they are read \
at the start and looked at every 30 seconds. --roll makes the next key: a ZSK is published two hours before it signs, and the \
old one goes by itself; a CSK or KSK signs at once beside the old one, until the parent has the new DS and `perigee dns retire` \
ends the old one.

Examples:
  perigee dns keygen --document perigee.toml
  perigee dns keygen --document perigee.toml --role zsk --roll")]
    Keygen(KeygenArgs),
    /// List the keys and what they do now
    Keys(KeysArgs),
    /// Print the DS records that the parent is to publish
    Ds(KeysArgs),
    /// End a key that another one of its kind has replaced
    Retire(RetireArgs),
}

#[derive(Debug, Args)]
pub(crate) struct KeysArgs {
    /// The document, usually perigee.toml
    #[arg(long, value_name = "FILE", default_value = "perigee.toml")]
    pub(crate) document: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct KeygenArgs {
    /// The document, usually perigee.toml
    #[arg(long, value_name = "FILE", default_value = "perigee.toml")]
    pub(crate) document: PathBuf,
    /// What the key signs: csk all, ksk the keys, zsk all but the keys
    #[arg(long, value_enum, default_value = "csk")]
    pub(crate) role: KeyRole,
    /// Make the next key beside the one in use
    #[arg(long)]
    pub(crate) roll: bool,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
pub(crate) enum KeyRole {
    Csk,
    Ksk,
    Zsk,
}

#[derive(Debug, Args)]
pub(crate) struct RetireArgs {
    /// The document, usually perigee.toml
    #[arg(long, value_name = "FILE", default_value = "perigee.toml")]
    pub(crate) document: PathBuf,
    /// The key's tag, as `perigee dns keys` prints it
    #[arg(value_name = "TAG")]
    pub(crate) tag: u16,
}

#[derive(Debug, Args)]
pub(crate) struct StatusArgs {
    /// The node's admin listener; of several with commas the first is asked
    #[arg(long, value_name = "ADDRESS", env = "PERIGEE_ADMIN", default_value = "127.0.0.1:9100", value_parser = first_listener)]
    pub(crate) admin: SocketAddr,
    /// Print the node's JSON as it came
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum ExplainCommand {
    /// Ask a node what would become of a request, and why
    #[command(after_help = "\
Asks POST /v1/explain/http of the node's admin listener, which decides as it would about the request itself: site, rule, key, \
what is stored (each variant, its age and lifetime, where its parts lie, what purged it), the verdict with the clause of the RFC \
that it obeys, and whom a fetch would ask. Nothing is fetched and nothing changes.

Examples:
  perigee explain http http://www.example.com/a --node 127.0.0.1:9100
  perigee explain http http://www.example.com/a --node 127.0.0.1:9100 -H 'Accept-Encoding: br' --json")]
    Http(ExplainHttpArgs),
    /// Say where a client of a site is sent, and why
    #[command(after_help = "\
Asks GET /v1/explain/dns of a nameserver's admin listener, which decides as it would about the query itself: where the client \
is and who says so, every PoP with its distance, bias, weight and health and which filter dropped it, the answer with its TTL, \
and the ECS scope with what decided it. With --document it needs no nameserver, and everything counts as up.

Examples:
  perigee explain dns www.cdn.example --client 203.0.113.7 --node 127.0.0.1:9100
  perigee explain dns www.cdn.example --client 192.0.2.53 --subnet 203.0.113.0/24 --type AAAA --json
  perigee explain dns www.cdn.example --client 203.0.113.7 --document perigee.toml --database GeoLite2-City.mmdb")]
    Dns(ExplainDnsArgs),
    /// Say which rule of a document a request would have, without any node
    #[command(after_help = "\
Prints the rule that fires, why the others do not, and the key. A country is known only from --country.

Examples:
  perigee explain rule --document perigee.toml http://www.example.com/img/a.jpg
  perigee explain rule --document perigee.toml https://www.example.com/cart -H 'Cookie: session=1' --status 404")]
    Rule(ExplainRuleArgs),
}

#[derive(Debug, Args)]
#[command(group(clap::ArgGroup::new("what").required(true).multiple(true).args(["url", "site", "everything"])))]
pub(crate) struct PurgeArgs {
    /// As clients ask: http://www.example.com/a?b. With all its variants, over http and https
    #[arg(value_name = "URL", conflicts_with_all = ["site", "everything"])]
    pub(crate) url: Vec<String>,
    /// A site of the document: all of it, or what --prefix or --tag says
    #[arg(long, value_name = "ID", conflicts_with = "everything")]
    pub(crate) site: Option<String>,
    /// All of the site whose path begins so
    #[arg(long, value_name = "PATH", requires = "site", conflicts_with = "tag")]
    pub(crate) prefix: Option<String>,
    /// Of that host alone
    #[arg(long, value_name = "HOST", requires = "prefix")]
    pub(crate) host: Option<String>,
    /// All of the site that carries this surrogate key; may be given several times
    #[arg(long, value_name = "KEY", requires = "site")]
    pub(crate) tag: Vec<String>,
    /// All of all sites; wants --yes
    #[arg(long)]
    pub(crate) everything: bool,
    /// Do not ask back
    #[arg(long)]
    pub(crate) yes: bool,
    /// Validate before the next use, instead of forgetting; a response may still be served when upstream fails
    #[arg(long)]
    pub(crate) soft: bool,
    /// The nodes' admin listeners; shields first
    #[arg(long, value_name = "ADDRESS", env = "PERIGEE_ADMIN", value_delimiter = ',', required = true)]
    pub(crate) node: Vec<SocketAddr>,
    /// A file with the bearer token; without one, the variable PERIGEE_TOKEN holds the token itself
    #[arg(long, value_name = "FILE", env = "PERIGEE_TOKEN_FILE")]
    pub(crate) token_file: Option<PathBuf>,
    /// Print each node's JSON as it came
    #[arg(long)]
    pub(crate) json: bool,
}

/// The request that is asked about.
#[derive(Debug, Args)]
pub(crate) struct ExplainRequest {
    /// As the client would ask: http://www.example.com/a?b
    #[arg(value_name = "URL")]
    pub(crate) url: String,
    /// A field of the request; may be given several times
    #[arg(long, short = 'H', value_name = "NAME: VALUE")]
    pub(crate) header: Vec<String>,
    /// Its method
    #[arg(long, value_name = "METHOD", default_value = "GET")]
    pub(crate) method: String,
    /// Print one JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct ExplainHttpArgs {
    #[command(flatten)]
    pub(crate) request: ExplainRequest,
    /// The node's admin listener; of several with commas the first is asked
    #[arg(long, value_name = "ADDRESS", env = "PERIGEE_ADMIN", default_value = "127.0.0.1:9100", value_parser = first_listener)]
    pub(crate) node: SocketAddr,
    /// The client's address, for rules that key by country
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) client: Option<std::net::IpAddr>,
}

#[derive(Debug, Args)]
pub(crate) struct ExplainDnsArgs {
    /// A name of the zone: www.cdn.example
    #[arg(value_name = "NAME")]
    pub(crate) name: String,
    /// Who asks: the client, or its resolver with --subnet
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) client: std::net::IpAddr,
    /// What the query tells of the client (EDNS Client Subnet)
    #[arg(long, value_name = "PREFIX")]
    pub(crate) subnet: Option<ipnet::IpNet>,
    /// What is asked for
    #[arg(long = "type", value_name = "TYPE", default_value = "A", value_parser = ["A", "AAAA"], ignore_case = true)]
    pub(crate) kind: String,
    /// The nameserver's admin listener; of several with commas the first is asked
    #[arg(long, value_name = "ADDRESS", env = "PERIGEE_ADMIN", default_value = "127.0.0.1:9100", value_parser = first_listener)]
    pub(crate) node: SocketAddr,
    /// Decide by this document instead, without any nameserver
    #[arg(long, value_name = "FILE")]
    pub(crate) document: Option<PathBuf>,
    /// Instead of the document's geo.database
    #[arg(long, value_name = "MMDB", requires = "document")]
    pub(crate) database: Option<PathBuf>,
    /// Print one JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct ExplainRuleArgs {
    #[command(flatten)]
    pub(crate) request: ExplainRequest,
    /// The document, usually perigee.toml
    #[arg(long, value_name = "FILE")]
    pub(crate) document: PathBuf,
    /// The client's country, two letters, for rules that key by it
    #[arg(long, value_name = "XX")]
    pub(crate) country: Option<String>,
    /// Say which rule a response with this status has, too
    #[arg(long, value_name = "STATUS")]
    pub(crate) status: Option<u16>,
}

#[derive(Debug, Args)]
pub(crate) struct OriginArgs {
    /// Where to listen; may be given several times
    #[arg(
        long,
        value_name = "ADDRESS",
        env = "PERIGEE_LISTEN",
        value_delimiter = ',',
        default_value = "127.0.0.1:8000"
    )]
    pub(crate) listen: Vec<SocketAddr>,
    /// Threads that serve
    #[arg(long, value_name = "N", env = "PERIGEE_THREADS", default_value_t = 1)]
    pub(crate) threads: usize,
    /// Do not serve: ask the origin that listens there whether it lives, and exit 0 or 1
    #[arg(long)]
    pub(crate) probe: bool,
}

/// For commands that ask one node: PERIGEE_ADMIN may name all that `perigee purge` and `perigee pop` tell.
fn first_listener(text: &str) -> Result<SocketAddr, std::net::AddrParseError> {
    text.split(',').next().unwrap_or_default().trim().parse()
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }

    /// All commands that do something, by their whole names: `geo fetch`.
    fn leaves(command: &clap::Command, name: &str, into: &mut Vec<(String, clap::Command)>) {
        if !command.has_subcommands() {
            into.push((name.trim().to_owned(), command.clone()));
        }
        command.get_subcommands().for_each(|sub| leaves(sub, &format!("{name} {}", sub.get_name()), into));
    }

    /// docs/cli.md tells of every variable, of every command that has JSON, and of every command.
    #[test]
    fn what_all_commands_have_in_common_is_documented() {
        let page = include_str!("../../../docs/cli.md");
        let words: std::collections::BTreeSet<&str> = page.split('`').skip(1).step_by(2).collect();
        let mut commands = Vec::new();
        leaves(&Cli::command(), "", &mut commands);
        let json = page.split("| `--json` of | prints |").nth(1).unwrap().split("\n\n").next().unwrap();
        for (name, command) in &commands {
            let family = name.split(' ').next().unwrap();
            let is_named = |text: &str| [name.as_str(), family].iter().any(|it| text.contains(&format!("`{it}`")));
            assert!(is_named(page), "{name} is not in docs/cli.md");
            let has_json = command.get_arguments().any(|argument| argument.get_id() == "json");
            assert_eq!(has_json, is_named(json), "{name} and --json in docs/cli.md");
            for variable in command.get_arguments().filter_map(|argument| argument.get_env()) {
                let variable = variable.to_str().unwrap();
                assert!(words.contains(variable), "{variable} of {name} is not in docs/cli.md");
            }
        }
    }

    #[test]
    fn of_several_listeners_the_first_is_asked() {
        let cases = [
            ("127.0.0.1:9100", Some("127.0.0.1:9100")),
            ("127.0.0.1:9100,127.0.0.2:9100", Some("127.0.0.1:9100")),
            ("[::1]:9100, 127.0.0.2:9100", Some("[::1]:9100")),
            (",127.0.0.2:9100", None),
            ("ns1.example:9100", None),
        ];
        for (text, expected) in cases {
            assert_eq!(first_listener(text).ok(), expected.map(|address| address.parse().unwrap()), "{text}");
            let commands = [
                &["status", "--admin"][..],
                &["explain", "http", "http://a/", "--node"],
                &["explain", "dns", "a", "--client", "::1", "--node"],
            ];
            for command in commands {
                let words = ["perigee"].iter().chain(command).chain(std::iter::once(&text));
                assert_eq!(Cli::try_parse_from(words).is_ok(), expected.is_some(), "{command:?} {text}");
            }
        }
    }
}
