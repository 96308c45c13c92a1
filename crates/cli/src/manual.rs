//! `perigee man` and `perigee completions`: what the command line says of itself, for `man` and for shells.

use std::{fs, io::Write, path::PathBuf};

use anyhow::Context;
use clap::{Args, CommandFactory as _};
use clap_complete::Shell;
use clap_mangen::Man;

use crate::{args::Cli, geo::replace};

#[derive(Debug, Args)]
pub(crate) struct ManArgs {
    /// The folder to write perigee.1 and a page for each command into
    #[arg(value_name = "FOLDER")]
    pub(crate) folder: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct CompletionsArgs {
    /// The shell
    #[arg(value_name = "SHELL")]
    pub(crate) shell: Shell,
}

/// Writes `perigee.1`, `perigee-geo.1`, `perigee-geo-build.1` and so on.
pub(crate) fn man(args: &ManArgs, out: &mut impl Write) -> anyhow::Result<()> {
    fs::create_dir_all(&args.folder).with_context(|| format!("cannot make {}", args.folder.display()))?;
    let pages = pages(Cli::command().disable_help_subcommand(true))?;
    for (name, page) in &pages {
        replace(&args.folder.join(name), page)?;
    }
    writeln!(out, "wrote {} pages into {}", pages.len(), args.folder.display())?;
    Ok(())
}

/// The pages of a command and of all below it, by file name.
fn pages(mut command: clap::Command) -> anyhow::Result<Vec<(String, Vec<u8>)>> {
    command.build();
    let mut pages = Vec::new();
    let mut waiting = vec![command];
    while let Some(command) = waiting.pop() {
        waiting.extend(
            command.get_subcommands().filter(|inner| inner.get_name() != "help" && !inner.is_hide_set()).cloned(),
        );
        let name = command.get_display_name().unwrap_or(command.get_name()).replace(' ', "-");
        let mut page = Vec::new();
        Man::new(command).render(&mut page)?;
        pages.push((format!("{name}.1"), page));
    }
    Ok(pages)
}

/// Prints the script of a shell.
pub(crate) fn completions(args: &CompletionsArgs, out: &mut impl Write) -> anyhow::Result<()> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "perigee", &mut script);
    out.write_all(&script)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_has_a_page_that_says_its_flags() {
        let pages = pages(Cli::command().disable_help_subcommand(true)).unwrap();
        let page = |name: &str| {
            let found =
                pages.iter().find(|(file, _)| file == name).map(|(_, page)| String::from_utf8_lossy(page).into_owned());
            found.unwrap_or_else(|| {
                panic!("{name} is not among {:?}", pages.iter().map(|(file, _)| file).collect::<Vec<_>>())
            })
        };
        for (name, said) in [
            ("perigee.1", "demo"),
            ("perigee-init.1", "nameserver"),
            ("perigee-geo-build.1", "CSV"),
            ("perigee-explain-dns.1", "subnet"),
        ] {
            assert!(page(name).contains(said), "{name}: {}", page(name));
        }
    }

    #[test]
    fn every_shell_completes_every_command() {
        for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
            let mut script = Vec::new();
            completions(&CompletionsArgs { shell }, &mut script).unwrap();
            let script = String::from_utf8(script).unwrap();
            for command in Cli::command().get_subcommands() {
                assert!(script.contains(command.get_name()), "{shell}: {}", command.get_name());
            }
        }
    }
}
