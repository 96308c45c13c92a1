//! Commands that nobody runs, and commands in the prose, against what our programs say of themselves: no command and no flag
//! that does not exist.

use std::{collections::HashMap, path::PathBuf, process::Command};

const PROGRAMS: [&str; 4] = ["perigee", "perigee-edge", "perigee-shield", "perigee-geodns"];

/// What the programs' `--help` says, asked once each.
pub(crate) struct Helps {
    programs: PathBuf,
    said: HashMap<String, String>,
}

impl Helps {
    pub(crate) fn of(programs: PathBuf) -> Self {
        Self { programs, said: HashMap::new() }
    }

    fn help(&mut self, words: &[&str]) -> &str {
        let programs = &self.programs;
        self.said.entry(words.join(" ")).or_insert_with(|| {
            let mut command = Command::new(programs.join(words[0]));
            let output = command.args(&words[1..]).arg("--help").output().unwrap();
            String::from_utf8(output.stdout).unwrap()
        })
    }

    /// What is wrong with the commands of ours in some lines of shell.
    pub(crate) fn mistakes(&mut self, script: &str) -> Vec<String> {
        let script = script.replace("\\\n", " ");
        let commands =
            script.lines().flat_map(|line| line.split(" #").next().unwrap_or_default().split(['|', ';', '&']));
        commands.filter_map(|command| self.mistake(command)).collect()
    }

    fn mistake(&mut self, command: &str) -> Option<String> {
        let before = |word: &&str| ["$", "sudo", "exec", "env"].contains(word) || word.contains('=');
        let words: Vec<_> = command.split_whitespace().skip_while(before).collect();
        let mut asked = vec![*words.first().filter(|program| PROGRAMS.contains(program))?];
        let mut rest = words.get(1..).unwrap_or_default();
        while let Some((word, after)) = rest.split_first() {
            let commands = subcommands(self.help(&asked));
            // Prose leaves words open: `perigee COMMAND`, `perigee …`.
            if commands.is_empty() || word.starts_with('-') || !word.starts_with(|c: char| c.is_ascii_lowercase()) {
                break;
            }
            if !commands.iter().any(|known| known == word) {
                return Some(format!("{} has no command {word}", asked.join(" ")));
            }
            asked.push(word);
            rest = after;
        }
        let mut flags = rest
            .iter()
            .filter_map(|word| word.split(['=', ',', '\'', '"']).next())
            .filter(|word| word.starts_with("--"));
        let known = flags_of(self.help(&asked));
        let unknown = flags.find(|flag| flag.len() > 2 && !known.iter().any(|known| known == flag))?;
        Some(format!("{} has no {unknown}", asked.join(" ")))
    }
}

fn subcommands(help: &str) -> Vec<String> {
    let list = help.lines().skip_while(|line| *line != "Commands:").skip(1).take_while(|line| !line.is_empty());
    let named = list.filter(|line| line.starts_with("  ") && !line.starts_with("    "));
    named.filter_map(|line| line.split_whitespace().next()).map(str::to_owned).collect()
}

fn flags_of(help: &str) -> Vec<String> {
    let word = |c: char| !(c.is_ascii_alphanumeric() || c == '-');
    help.split(word).filter(|word| word.starts_with("--")).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::Helps;

    #[test]
    fn what_our_programs_do_not_have_is_found() {
        let mut helps = Helps::of(crate::programs());
        let cases = [
            ("perigee check --explain KEY perigee.toml", None),
            ("perigee geo fetch x.mmdb --every 3d # --never", None),
            ("sudo perigee-edge --document cdn.toml --pop fra", None),
            ("PERIGEE_POP=fra perigee-edge \\\n  --document cdn.toml", None),
            ("journalctl -u perigee-edge --since yesterday", None),
            ("perigee …", None),
            ("perigee COMMAND --help", None),
            ("perigee pop drain fra --node a,b | tee x --quiet", None),
            ("perigee geo fetsh x.mmdb", Some("perigee geo has no command fetsh")),
            ("perigee geo fetch x.mmdb --evry 3d", Some("perigee geo fetch has no --evry")),
            ("true && perigee-edge --pops fra", Some("perigee-edge has no --pops")),
            ("perigee-geodns \\\n  --stat x", Some("perigee-geodns has no --stat")),
        ];
        for (script, expected) in cases {
            let found = helps.mistakes(script);
            assert_eq!(found.first().map(String::as_str), expected, "{script}");
        }
    }
}
