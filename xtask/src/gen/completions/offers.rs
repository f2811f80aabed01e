//! What a shell offers: the same for each.

use clap::{Arg, ArgAction, Command, ValueHint};

/// A program: its commands, and its options.
#[derive(Debug)]
pub(in super::super) struct Offers {
    /// Its name, and others under which it is called.
    pub names: Vec<String>,
    /// Options that may stand anywhere.
    pub options: Vec<OfferedOption>,
    /// What stands behind the program's name.
    pub positional: Option<OfferedValue>,
    pub commands: Vec<OfferedCommand>,
    /// The program asks `cvipctl complete`.
    pub asks_cvipctl: bool,
}

/// A command of a program.
#[derive(Debug)]
pub(in super::super) struct OfferedCommand {
    pub name: String,
    pub about: String,
    /// Options that it has beside those of the program.
    pub options: Vec<OfferedOption>,
    pub positional: Option<OfferedValue>,
}

/// An option.
#[derive(Debug)]
pub(in super::super) struct OfferedOption {
    pub short: Option<char>,
    pub long: String,
    pub about: String,
    pub value: Option<OfferedValue>,
    /// It may stand several times.
    pub repeats: bool,
}

/// What an option or a command takes.
#[derive(Debug)]
pub(in super::super) struct OfferedValue {
    pub name: String,
    /// The option may stand without it.
    pub is_optional: bool,
    pub value: Value,
}

/// What can be offered for a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in super::super) enum Value {
    Any,
    /// One of these, each with what it is.
    Words(Vec<(String, String)>),
    File,
    Folder,
    Host,
    Interface,
    /// What `cvipctl complete` prints for this word.
    Known(&'static str),
    /// The virtual services of the kernel's table that ipvsadm names by this option.
    Service(&'static str),
}

/// The levels of `--log`, in place of a filter's whole language.
const LEVELS: [&str; 6] = ["error", "warn", "info", "debug", "trace", "off"];

impl Offers {
    /// A program that clap parses; clap must have built it.
    pub(in super::super) fn of(program: &Command) -> Offers {
        let globals: Vec<&str> = program
            .get_arguments()
            .filter(|arg| arg.is_global_set())
            .filter_map(Arg::get_long)
            .collect();
        let shown: Vec<&Command> =
            program.get_subcommands().filter(|sub| !sub.is_hide_set()).collect();
        let names = || shown.iter().filter(|sub| sub.get_name() != "help");
        let commands: Vec<OfferedCommand> = shown
            .iter()
            .map(|sub| OfferedCommand {
                name: sub.get_name().to_owned(),
                about: first_line(sub.get_about().map(ToString::to_string)),
                options: options(sub)
                    .filter(|option| !globals.contains(&option.long.as_str()))
                    .collect(),
                positional: match sub.get_name() {
                    "help" => Some(OfferedValue {
                        name: "COMMAND".to_owned(),
                        is_optional: true,
                        value: Value::Words(
                            names().map(|sub| (sub.get_name().to_owned(), String::new())).collect(),
                        ),
                    }),
                    _ => sub.get_positionals().next().map(|arg| offered(sub, arg)),
                },
            })
            .collect();
        let options: Vec<OfferedOption> = options(program).collect();
        let of_commands = commands.iter().flat_map(|command| {
            let values = command.options.iter().filter_map(|option| option.value.as_ref());
            values.chain(&command.positional)
        });
        let mut values =
            options.iter().filter_map(|option| option.value.as_ref()).chain(of_commands);
        let asks_cvipctl = values.any(|value| matches!(value.value, Value::Known(_)));
        let names = vec![program.get_name().to_owned()];
        Offers { names, options, positional: None, commands, asks_cvipctl }
    }
}

fn options(command: &Command) -> impl Iterator<Item = OfferedOption> {
    let shown = command.get_arguments().filter(|arg| !arg.is_positional() && !arg.is_hide_set());
    shown.filter_map(|arg| {
        let about = match arg.get_action() {
            ArgAction::Help => Some("Print help".to_owned()),
            _ => arg.get_help().map(ToString::to_string),
        };
        Some(OfferedOption {
            short: arg.get_short(),
            long: arg.get_long()?.to_owned(),
            about: first_line(about),
            value: arg.get_action().takes_values().then(|| offered(command, arg)),
            repeats: matches!(arg.get_action(), ArgAction::Append),
        })
    })
}

fn offered(command: &Command, arg: &Arg) -> OfferedValue {
    let names = arg.get_value_names().and_then(|names| names.first());
    let name = names.map_or_else(|| arg.get_id().to_string(), |name| name.to_string());
    let words = arg.get_possible_values();
    let value = match (arg.get_id().as_str(), command.get_name()) {
        ("node", _) => Value::Known("nodes"),
        ("target", "undrain") => Value::Known("drained"),
        ("target", _) => Value::Known("targets"),
        ("log", _) => Value::Words(LEVELS.map(|level| (level.to_owned(), String::new())).into()),
        ("interface" | "sync_interface", _) => Value::Interface,
        _ if !words.is_empty() => Value::Words(
            words
                .iter()
                .map(|word| {
                    let help = word.get_help().map(ToString::to_string).unwrap_or_default();
                    (word.get_name().to_owned(), help)
                })
                .collect(),
        ),
        _ => match arg.get_value_hint() {
            ValueHint::FilePath | ValueHint::AnyPath => Value::File,
            ValueHint::DirPath => Value::Folder,
            _ => Value::Any,
        },
    };
    OfferedValue { name, is_optional: false, value }
}

/// Help as a shell shows it beside a word: one line, without what else stands in brackets.
fn first_line(text: Option<String>) -> String {
    let text = text.unwrap_or_default();
    let text = text.split("\n\n").next().unwrap_or_default();
    text.split(" [default").next().unwrap_or_default().replace('\n', " ")
}

/// The options that say which cluster it is: shells hand them on to `cvipctl complete`.
pub(super) const SITE: [&str; 6] =
    ["conf", "clustertab", "run-dir", "settings", "store", "cluster-key-file"];
