//! `cvipctl import FILE`: the draft of a cvip.conf from another system's configuration.

use std::fs;
use std::io::{self, Read, Write};
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail, ensure};
use clap::builder::{PossibleValuesParser, TypedValueParser};
use serde::Serialize;

use super::super::site::all_faults;
use super::super::{OK, Site, Streams};
use crate::conf::{Clustertab, RegistrationMode, Routing};
use crate::ipvsadm::names::SystemNames;
use crate::migrate::{
    Draft, DraftOptions, MAX_BYTES, Migration, Outcome, SourceFormat, StatementNote,
    StatementTotals, migrate,
};
use crate::output::harmless;
use crate::replace::Replacement;
use crate::{files, json};

/// The arguments that are for a file alone.
#[derive(clap::Args, Clone, Debug)]
pub(super) struct FileArgs {
    /// Another system's configuration, of which a cvip.conf is drafted; - for standard input
    #[arg(value_name = "FILE", value_hint = clap::ValueHint::FilePath)]
    pub(super) file: Option<PathBuf>,

    /// The format of FILE [default: as it is recognised]
    #[arg(long, value_name = "FORMAT", requires = "file", value_parser = format_parser())]
    from: Option<SourceFormat>,

    /// A director's address, and with a comma its one of the other family; repeat it for each
    /// director, the first choice first [default: as FILE tells]
    #[arg(long = "director", value_name = "ADDRESS", requires = "file", value_parser = addresses)]
    directors: Vec<DirectorAddresses>,

    /// The interface of the directors that carries the CVIPs [default: as FILE tells]
    #[arg(long, value_name = "NAME", requires = "file")]
    interface: Option<String>,

    /// The interface on which directors synchronise connections [default: as FILE tells]
    #[arg(long, value_name = "NAME", requires = "file")]
    sync_interface: Option<String>,

    /// The forwarding method of the draft, which has one [default: that of most services]
    #[arg(long, value_name = "METHOD", requires = "file", value_parser = routing_parser())]
    routing: Option<Routing>,

    /// How real servers join the services: static needs no cvipd on them [default: static]
    #[arg(long, value_name = "HOW", requires = "file", value_parser = registration_parser())]
    registration: Option<RegistrationMode>,

    /// Write cvip.conf and clustertab into this folder, where neither is yet
    #[arg(long, value_name = "DIR", requires = "file", value_hint = clap::ValueHint::DirPath)]
    output: Option<PathBuf>,

    /// Name the statements too that are carried as they are
    #[arg(long, requires = "file")]
    all: bool,

    /// Print what was imported as JSON; of a file, what became of each statement, and the draft
    #[arg(long)]
    pub(super) json: bool,
}

/// The addresses of one director.
#[derive(Clone, Debug)]
struct DirectorAddresses(Vec<IpAddr>);

fn addresses(text: &str) -> Result<DirectorAddresses, String> {
    let addr = |text: &str| text.parse().map_err(|_| format!("`{text}` is no address"));
    text.split(',').map(addr).collect::<Result<_, _>>().map(DirectorAddresses)
}

/// A parser of one word for each variant, in capitals or not.
macro_rules! words_parser {
    ($name:ident, $type:ident) => {
        fn $name() -> impl TypedValueParser<Value = $type> {
            PossibleValuesParser::new($type::ALL.map($type::name)).try_map(|word| {
                let known = $type::ALL.into_iter().find(|known| known.name() == word);
                known.ok_or("it is none of these words")
            })
        }
    };
}
words_parser!(format_parser, SourceFormat);
words_parser!(routing_parser, Routing);
words_parser!(registration_parser, RegistrationMode);

/// The document of `--json`.
#[derive(Serialize)]
struct ImportDocument<'a> {
    format: SourceFormat,
    totals: StatementTotals,
    notes: &'a [StatementNote],
    /// With --output alone: whether files were written.
    #[serde(skip_serializing_if = "Option::is_none")]
    changed: Option<bool>,
    #[serde(flatten)]
    outcome: ImportOutcomeObject,
}

/// The draft, or why there is none.
#[derive(Serialize)]
#[serde(untagged)]
enum ImportOutcomeObject {
    Draft { cvip_conf: String, clustertab: String },
    None { error: String },
}

pub(super) fn run(
    path: &Path,
    args: &FileArgs,
    site: &Site,
    streams: &mut Streams<'_>,
) -> anyhow::Result<u8> {
    let name = match path.to_str() {
        Some("-") => "standard input".to_owned(),
        _ => harmless(&path.display().to_string()),
    };
    // Standard input may be typed.
    streams.progress.end();
    let text = read(path).with_context(|| name.clone())?;
    streams.progress.begin("cvipctl: drafting, with host names looked up");
    let (clustertab, clustertab_text) = clustertab(site)?;
    let directors: Vec<Vec<IpAddr>> = args.directors.iter().map(|own| own.0.clone()).collect();
    let options = DraftOptions {
        directors: &directors,
        interface: args.interface.as_deref(),
        sync_interface: args.sync_interface.as_deref(),
        routing: args.routing,
        registration: args.registration.unwrap_or(RegistrationMode::Static),
        clustertab: &clustertab,
    };
    let migration = migrate(&text, args.from, &options, &mut SystemNames::default())
        .with_context(|| name.clone())?;
    let totals = migration.totals();
    let Migration { format, notes, draft, .. } = migration;
    let texts = draft.map(|draft| DraftTexts::of(&draft, &name, &clustertab, &clustertab_text));
    if !args.json {
        for note in notes.iter().filter(|note| args.all || note.outcome != Outcome::Carried) {
            writeln!(streams.err, "{}", shown(note, &name))?;
        }
        let StatementTotals { statements, carried, changed, not_carried } = totals;
        writeln!(
            streams.err,
            "cvipctl: {statements} statements: {carried} carried, {changed} carried differently, \
             {not_carried} not carried"
        )?;
    }
    let mut changed = None;
    if let (Ok(texts), Some(folder)) = (&texts, &args.output) {
        let is_written = texts.write(folder)?;
        changed = Some(is_written);
        let folder = folder.display();
        let are = if is_written { "are written" } else { "have this text already" };
        writeln!(
            streams.err,
            "cvipctl: {folder}/cvip.conf and {folder}/clustertab {are}: read them, then run \
             `cvipctl check --conf={folder}/cvip.conf --clustertab={folder}/clustertab --offline`"
        )?;
    }
    if args.json {
        let status = if texts.is_ok() { OK } else { super::super::FAILED };
        let outcome = match texts {
            Ok(DraftTexts { conf, clustertab }) => {
                ImportOutcomeObject::Draft { cvip_conf: conf, clustertab }
            }
            Err(error) => ImportOutcomeObject::None { error },
        };
        let document = ImportDocument { format, totals, notes: &notes, changed, outcome };
        json::write(streams.out, document)?;
        return Ok(status);
    }
    match texts {
        Err(why) => bail!("{name}: no draft: {why}"),
        Ok(texts) if args.output.is_none() => write!(streams.out, "{}", texts.conf)?,
        Ok(_) => {}
    }
    Ok(OK)
}

/// The text of the file or of standard input.
fn read(path: &Path) -> anyhow::Result<String> {
    if path.to_str() != Some("-") {
        return Ok(files::read_text(path, MAX_BYTES as u64)?);
    }
    let mut bytes = Vec::new();
    io::stdin().lock().take(MAX_BYTES as u64 + 1).read_to_end(&mut bytes)?;
    Ok(files::text(bytes)?)
}

/// The clustertab that stands, and its text; nothing where there is none.
fn clustertab(site: &Site) -> anyhow::Result<(Clustertab, String)> {
    let path = &site.clustertab;
    if !path.try_exists().unwrap_or(true) {
        return Ok(Default::default());
    }
    let text =
        files::read_text(path, MAX_BYTES as u64).with_context(|| path.display().to_string())?;
    match Clustertab::parse(&text, &path.to_string_lossy()) {
        (Some(clustertab), _) => Ok((clustertab, text)),
        (None, faults) => bail!("{}", all_faults(&faults)),
    }
}

/// A note as a line: its place, what became of the statement, and why.
fn shown(note: &StatementNote, name: &str) -> String {
    let StatementNote { line, column, statement, outcome, message, .. } = note;
    let message = message.as_deref().map_or_else(String::new, |message| format!(": {message}"));
    format!("{name}:{line}:{column}: {outcome}: `{statement}`{message}")
}

/// A draft as two files.
struct DraftTexts {
    conf: String,
    clustertab: String,
}

impl DraftTexts {
    fn of(draft: &Draft, name: &str, before: &Clustertab, before_text: &str) -> DraftTexts {
        let new = draft.new_nodes(before);
        let mut clustertab = before_text.to_owned();
        if !clustertab.is_empty() && !clustertab.ends_with('\n') {
            clustertab.push('\n');
        }
        clustertab.push_str(&new);
        // Two dashes would end a comment.
        let name = name.replace("--", "- -");
        let name = name.trim_end_matches('-');
        let lines: String = new.lines().map(|line| format!("     {line}\n")).collect();
        let nodes = match new.is_empty() {
            true => String::new(),
            false => format!("\n     clustertab needs these lines besides:\n{lines}    "),
        };
        let comment = format!("<!-- Drafted by cvipctl import from {name}.{nodes} -->\n");
        let conf = draft.conf_text();
        let conf = match conf.split_once('\n') {
            Some((first, rest)) => format!("{first}\n{comment}{rest}"),
            None => conf,
        };
        DraftTexts { conf, clustertab }
    }

    /// Writes both files, or neither; false if both have these texts already.
    fn write(&self, folder: &Path) -> anyhow::Result<bool> {
        fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
        let paths = [folder.join("cvip.conf"), folder.join("clustertab")];
        let texts = [&self.conf, &self.clustertab];
        let has = |(path, text): (&PathBuf, &String)| {
            files::read_text(path, MAX_BYTES as u64).is_ok_and(|there| there == *text)
        };
        if paths.iter().zip(texts).all(has) {
            return Ok(false);
        }
        for path in &paths {
            let is_there = path.try_exists().with_context(|| path.display().to_string())?;
            ensure!(!is_there, "{} is there already: give another folder", path.display());
        }
        let mut written: Vec<&PathBuf> = Vec::new();
        for (path, text) in paths.iter().zip(texts) {
            let put = || -> io::Result<()> {
                let mut file = Replacement::of(path)?;
                file.file().write_all(text.as_bytes())?;
                file.put()
            };
            if let Err(error) = put() {
                for path in written {
                    // The error that is told is the one that matters.
                    let _ = fs::remove_file(path);
                }
                return Err(error).with_context(|| path.display().to_string());
            }
            written.push(path);
        }
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::testing::run_with;
    use super::*;

    const RULES: &str = "-A -t 10.0.0.100:80 -s rr\n-a -t 10.0.0.100:80 -r 10.0.0.11:80 -g -w 1\n\
                         --set 1 2 3\n";

    /// Runs the command on a file in a folder, with a clustertab beside it.
    fn import(dir: &Path, text: &str, more: &[&str]) -> (u8, String, String) {
        let (file, tab) = (dir.join("rules"), dir.join("tab"));
        fs::write(&file, text).unwrap();
        let (file, tab) = (file.display().to_string(), tab.display().to_string());
        let mut args = vec!["cvipctl", "import", &file, "--clustertab", &tab];
        args.extend(more);
        let (status, out, err) = run_with(&args, super::super::run);
        let plain = |text: String| text.replace(&dir.display().to_string(), "DIR");
        (status, plain(out), plain(err))
    }

    const DIRECTOR: [&str; 2] = ["--director=10.0.0.1", "--interface=eth0"];

    #[test]
    fn the_draft_goes_to_standard_output_and_what_it_lacks_to_standard_error() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("tab"), "# mine\n4 10.0.0.11").unwrap();
        let (status, out, err) = import(dir.path(), RULES, &DIRECTOR);
        assert_eq!(status, 0);
        let head = "<?xml version=\"1.0\"?>\n<!-- Drafted by cvipctl import from DIR/rules.\n     \
                    clustertab needs these lines besides:\n     1 10.0.0.1\n     -->\n<cvips>\n";
        assert!(out.starts_with(head), "{out}");
        snapbox::assert_data_eq!(
            err,
            snapbox::str![[r#"
DIR/rules:3:1: not carried: `--set`: the kernel's time-outs are the host's: `ipvsadm --set`, at boot
cvipctl: 9 statements: 8 carried, 0 carried differently, 1 not carried

"#]]
        );
        let (_, _, all) = import(dir.path(), RULES, &["--all", DIRECTOR[0], DIRECTOR[1]]);
        assert!(all.contains("DIR/rules:1:1: carried: `--scheduler rr`\n"), "{all}");
    }

    #[test]
    fn a_folder_gets_both_files_and_none_is_replaced() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("tab"), "# mine\n4 10.0.0.11").unwrap();
        let folder = dir.path().join("draft");
        let output = format!("--output={}", folder.display());
        let more = [DIRECTOR[0], DIRECTOR[1], &output];
        let (status, out, err) = import(dir.path(), RULES, &more);
        assert_eq!((status, out.as_str()), (0, ""), "{err}");
        let read = |name: &str| fs::read_to_string(folder.join(name)).unwrap();
        assert_eq!(read("clustertab"), "# mine\n4 10.0.0.11\n1 10.0.0.1\n");
        let tab = Clustertab::parse(&read("clustertab"), "clustertab").0.unwrap();
        let (conf, faults) = crate::conf::parse(&read("cvip.conf"), "cvip.conf", &tab);
        assert!(conf.is_some(), "{faults:?}");
        let (status, _, err) = import(dir.path(), RULES, &more);
        assert!(status == 0 && err.contains("have this text already"), "{err}");
        fs::remove_file(folder.join("cvip.conf")).unwrap();
        let (status, _, err) = import(dir.path(), RULES, &more);
        assert_eq!(status, 1);
        assert!(err.contains("DIR/draft/clustertab is there already"), "{err}");
        assert!(!folder.join("cvip.conf").exists(), "nothing is half written");
    }

    #[test]
    fn without_a_draft_the_status_says_so_and_the_notes_are_shown_all_the_same() {
        let dir = tempfile::tempdir().unwrap();
        let (status, out, err) = import(dir.path(), RULES, &[]);
        assert_eq!((status, out.as_str()), (1, ""));
        assert!(err.contains("DIR/rules:3:1: not carried") && err.contains("--director"), "{err}");
        let (status, out, _) = import(dir.path(), RULES, &["--json"]);
        let document: serde_json::Value = serde_json::from_str(&out).unwrap();
        assert_eq!((status, &document["cvip_conf"]), (1, &serde_json::Value::Null));
        assert_eq!(document["totals"]["carried"], 8);
        let (status, _, err) = import(dir.path(), "a {\n", &["--from=keepalived"]);
        assert_eq!(status, 1);
        assert!(err.contains("DIR/rules: line 1, column 3: a block that is never closed"), "{err}");
        let (status, _, err) = import(dir.path(), "hello\n", &[]);
        assert!(status == 1 && err.contains("--from"), "{err}");
    }

    #[test]
    fn a_faulty_clustertab_is_shown_and_options_of_the_kernels_table_are_not_for_files() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("tab"), "1 nowhere\n").unwrap();
        let (status, _, err) = import(dir.path(), RULES, &DIRECTOR);
        assert!(status == 1 && err.contains("`nowhere` is not an IP address"), "{err}");
        let (status, _, err) = import(dir.path(), RULES, &["--dry-run"]);
        assert!(status == 2 && err.contains("--dry-run"), "{err}");
        let (status, _, err) = import(dir.path(), RULES, &["--director=lb1"]);
        assert!(status == 2 && err.contains("`lb1` is no address"), "{err}");
    }
}
