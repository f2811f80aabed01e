//! The completions of a program for bash, zsh and fish.
//!
//! What is offered is the same in each shell: commands, options, and what an option takes. Nodes,
//! ports and drains are those of the running cluster, which `cvipctl complete` tells; the table's
//! services those of `ipvsadm-rs -Sn`.

mod bash;
mod fish;
mod offers;
mod zsh;

pub(super) use offers::{OfferedOption, OfferedValue, Offers, Value};

/// A shell that completions are made for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shell {
    Bash,
    Zsh,
    Fish,
}

impl Shell {
    pub(super) const ALL: [Shell; 3] = [Shell::Bash, Shell::Zsh, Shell::Fish];

    /// Where the completions of a program stand.
    pub(super) fn file(self, program: &str) -> String {
        match self {
            Shell::Bash => format!("completions/{program}.bash"),
            Shell::Zsh => format!("completions/_{program}"),
            Shell::Fish => format!("completions/{program}.fish"),
        }
    }
}

/// The script for a shell.
pub(super) fn script(offers: &Offers, shell: Shell) -> String {
    match shell {
        Shell::Bash => bash::script(offers),
        Shell::Zsh => zsh::script(offers),
        Shell::Fish => fish::script(offers),
    }
}

#[cfg(test)]
mod tests {
    use super::super::{ipvsadm, programs};
    use super::*;

    #[test]
    fn every_option_and_command_is_in_every_shell_s_script() {
        let mut offers = vec![ipvsadm::offers()];
        offers.extend(programs::programs().into_iter().map(|mut program| {
            program.build();
            Offers::of(&program)
        }));
        for program in &offers {
            let of_commands = program.commands.iter().flat_map(|command| &command.options);
            let options: Vec<&OfferedOption> = program.options.iter().chain(of_commands).collect();
            assert!(options.len() > 10, "{:?}", program.names);
            for shell in Shell::ALL {
                let script = script(program, shell);
                let has = |word: &str| {
                    script.split(['*', ' ', '\'', '=', '[', '|', ')', '"', '\n']).any(|w| w == word)
                };
                for option in &options {
                    let written = match shell {
                        Shell::Fish => has(&option.long),
                        _ => has(&format!("--{}", option.long)),
                    };
                    assert!(written, "{shell:?}: {:?} --{}", program.names, option.long);
                }
                for command in &program.commands {
                    let name = &command.name;
                    assert!(
                        has(name) || script.contains(&format!("'{name}:")),
                        "{shell:?}: {name}"
                    );
                }
            }
        }
    }

    #[test]
    fn a_hidden_command_is_offered_by_no_shell() {
        for mut program in programs::programs() {
            program.build();
            let offers = Offers::of(&program);
            assert!(offers.commands.iter().all(|command| command.name != "complete"));
        }
    }
}
