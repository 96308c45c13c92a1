//! `perigee man` and `perigee completions`: what the command lines of all four programs say of themselves, for `man` and for
//! shells.

mod document;
mod page;
mod roff;

use std::{fs, io::Write, path::PathBuf};

use anyhow::Context;
use clap::{Args, CommandFactory as _, ValueEnum};
use clap_complete::Shell;
use perigee_tier::{EdgeFlags, ShieldFlags};

use crate::{args::Cli, geo::replace};

#[derive(Debug, Args)]
pub(crate) struct ManArgs {
    /// The folder to write the pages into, or with --sections the folder of man1, man5 and man8
    #[arg(value_name = "FOLDER")]
    pub(crate) folder: PathBuf,
    /// Write each page into the folder of its section, made if it is not there
    #[arg(long)]
    pub(crate) sections: bool,
}

#[derive(Debug, Args)]
pub(crate) struct CompletionsArgs {
    /// The shell
    #[arg(value_name = "SHELL")]
    pub(crate) shell: Shell,
    /// Whose flags
    #[arg(value_name = "PROGRAM", default_value = "perigee")]
    pub(crate) program: Program,
}

/// A program of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Program {
    Perigee,
    PerigeeEdge,
    PerigeeShield,
    PerigeeGeodns,
}

impl Program {
    fn name(self) -> &'static str {
        match self {
            Self::Perigee => "perigee",
            Self::PerigeeEdge => "perigee-edge",
            Self::PerigeeShield => "perigee-shield",
            Self::PerigeeGeodns => "perigee-geodns",
        }
    }

    fn command(self) -> clap::Command {
        match self {
            Self::Perigee => Cli::command(),
            Self::PerigeeEdge => EdgeFlags::command(),
            Self::PerigeeShield => ShieldFlags::command(),
            Self::PerigeeGeodns => perigee_geodns::command(),
        }
    }
}

/// A page: `perigee-geo-build`, its section, and its text.
struct Page {
    name: String,
    section: u8,
    text: String,
}

/// Writes `perigee.1`, `perigee-geo.1`, `perigee-geo-build.1` and so on, `perigee-edge.8` and so on, and `perigee.toml.5`.
pub(crate) fn man(args: &ManArgs, out: &mut impl Write) -> anyhow::Result<()> {
    let pages = pages()?;
    for Page { name, section, text } in &pages {
        let folder = if args.sections { args.folder.join(format!("man{section}")) } else { args.folder.clone() };
        fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
        replace(&folder.join(format!("{name}.{section}")), text.as_bytes())?;
    }
    writeln!(out, "wrote {} pages into {}", pages.len(), args.folder.display())?;
    Ok(())
}

/// Every page.
fn pages() -> anyhow::Result<Vec<Page>> {
    let mut pages = vec![Page { name: "perigee.toml".into(), section: 5, text: document::page() }];
    for &program in Program::value_variants() {
        let mut command = program.command().disable_help_subcommand(true);
        command.build();
        let mut waiting = vec![command];
        while let Some(command) = waiting.pop() {
            let inner = command.get_subcommands().filter(|inner| inner.get_name() != "help" && !inner.is_hide_set());
            waiting.extend(inner.cloned());
            let name = command.get_display_name().unwrap_or(command.get_name()).replace(' ', "-");
            // Daemons are administrators' (Debian Policy §12.1, hier(7)).
            let section = if program == Program::Perigee { 1 } else { 8 };
            let text = page::page(&name, section, command)?;
            pages.push(Page { name, section, text });
        }
    }
    Ok(pages)
}

/// Prints the script of a shell.
pub(crate) fn completions(args: &CompletionsArgs, out: &mut impl Write) -> anyhow::Result<()> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut args.program.command(), args.program.name(), &mut script);
    out.write_all(&script)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_has_a_page_that_says_its_flags() {
        let pages = pages().unwrap();
        let page = |name: &str, section: u8| {
            let found = pages.iter().find(|page| (page.name.as_str(), page.section) == (name, section));
            found.map(|page| page.text.as_str()).unwrap_or_else(|| {
                panic!("{name} is not among {:?}", pages.iter().map(|page| &page.name).collect::<Vec<_>>())
            })
        };
        for (name, section, said) in [
            ("perigee", 1, "demo"),
            ("perigee", 1, ".BR perigee\\-edge (8)"),
            ("perigee-init", 1, "nameserver"),
            ("perigee-geo-build", 1, "CSV"),
            ("perigee-explain-dns", 1, "subnet"),
            ("perigee-edge", 8, "PERIGEE_POP"),
            ("perigee-edge", 8, "SIGHUP"),
            ("perigee-shield", 8, "/etc/perigee/shield.env"),
            ("perigee-geodns", 8, "listen\\-quic"),
            ("perigee.toml", 5, "negative_ttl"),
        ] {
            assert!(page(name, section).contains(said), "{name}: {}", page(name, section));
        }
    }

    /// groff takes a dot or an apostrophe at the head of a line for a request: one that it does not know loses the line.
    #[test]
    fn what_begins_a_line_of_a_page_is_a_request_that_there_is() {
        const REQUESTS: [&str; 16] = [
            ".ie", ".el", ".TH", ".SH", ".SS", ".TP", ".B", ".BR", ".PP", ".nf", ".fi", ".RS", ".RE", ".br", ".IP",
            ".ft",
        ];
        for Page { name, text, .. } in pages().unwrap() {
            for line in text.lines().filter(|line| line.starts_with(['.', '\''])) {
                let request = line.split_whitespace().next().unwrap();
                assert!(REQUESTS.contains(&request), "{name}: {line}");
            }
        }
    }

    #[test]
    fn every_shell_completes_every_command() {
        for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
            let script = |program: Program| {
                let mut script = Vec::new();
                completions(&CompletionsArgs { shell, program }, &mut script).unwrap();
                String::from_utf8(script).unwrap()
            };
            for command in Cli::command().get_subcommands() {
                assert!(script(Program::Perigee).contains(command.get_name()), "{shell}: {}", command.get_name());
            }
            for (program, flag) in [
                (Program::PerigeeEdge, "drain-notice"),
                (Program::PerigeeShield, "shield"),
                (Program::PerigeeGeodns, "listen-quic"),
            ] {
                assert!(
                    script(program).contains(flag) && script(program).contains(program.name()),
                    "{shell} {program:?}"
                );
            }
        }
    }
}
