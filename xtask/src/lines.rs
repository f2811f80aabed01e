//! `cargo xtask lines`: how large the product is.
//!
//! A line counts if it is neither blank nor a comment nor a test. A test is an item behind
//! `#[cfg(test)]`, and a file that such an item declares, with the files below it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result};

/// Count the lines of src/ that are neither blank, comment nor test, for each module
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// The files instead of the modules
    #[arg(long)]
    files: bool,
}

pub(crate) fn run(arguments: &Arguments) -> Result<ExitCode> {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("../src");
    let mut lines = BTreeMap::new();
    let mut tests = BTreeSet::new();
    for file in files_below(&src)? {
        if file.extension().is_none_or(|extension| extension != "rs") {
            continue;
        }
        let text = fs::read_to_string(&file).with_context(|| format!("{}", file.display()))?;
        let (count, declared) = product_lines(&text);
        tests.extend(declared.iter().map(|module| beside(&file, module)));
        lines.insert(file, count);
    }
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    for (file, count) in &lines {
        let module = file.with_extension("");
        if module.ancestors().any(|above| tests.contains(above)) {
            continue;
        }
        let mut name = file.strip_prefix(&src)?.to_string_lossy().into_owned();
        if !arguments.files {
            name = name.split('/').next().unwrap_or_default().trim_end_matches(".rs").to_owned();
        }
        *counts.entry(name).or_default() += count;
    }
    for (name, count) in &counts {
        println!("{count:6} {name}");
    }
    println!("{:6} in all", counts.values().sum::<usize>());
    Ok(ExitCode::SUCCESS)
}

/// A file, or all files below a folder.
pub(crate) fn files_below(path: &Path) -> Result<Vec<PathBuf>> {
    if !path.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let mut files = Vec::new();
    for entry in fs::read_dir(path).with_context(|| format!("{}", path.display()))? {
        files.extend(files_below(&entry?.path())?);
    }
    Ok(files)
}

/// A test's module that a file declares, as the path of its file without `.rs`, or of its folder.
fn beside(file: &Path, module: &str) -> PathBuf {
    let folder = file.parent().unwrap_or(file);
    match module.strip_suffix(".rs") {
        Some(path) => folder.join(path),
        None if file.ends_with("mod.rs") || file.ends_with("lib.rs") => folder.join(module),
        None => file.with_extension("").join(module),
    }
}

/// How many of a file's lines count, and which modules (a name, or the path in `#[path]`) it
/// declares for tests. The file is as `cargo fmt` leaves it, and a block of tests stands last.
fn product_lines(text: &str) -> (usize, Vec<String>) {
    let (mut count, mut declared) = (0, Vec::new());
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        let code = line.trim_start();
        if code == "#[cfg(test)]" {
            let indent = &line[..line.len() - code.len()];
            let (ends, mut path) = ([format!("{indent}}}"), format!("{indent}}};")], None);
            for line in lines.by_ref() {
                let item = line.trim_start();
                if line == item && item.contains("mod ") && item.ends_with('{') {
                    return (count, declared);
                } else if let Some(quoted) = item.strip_prefix("#[path = \"") {
                    path = quoted.strip_suffix("\"]").map(str::to_owned);
                } else if let Some(item) = item.strip_suffix(';') {
                    let name = item.rsplit_once("mod ").map(|(_, name)| name.to_owned());
                    declared.extend(path.take().or(name).filter(|_| line.starts_with(indent)));
                    if line[indent.len().min(line.len())..].starts_with(|c: char| c != ' ') {
                        break;
                    }
                } else if ends.iter().any(|end| line == end) || item.ends_with("{}") {
                    break;
                }
            }
        } else if !code.is_empty() && !code.starts_with("//") {
            count += 1;
        }
    }
    (count, declared)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blank_lines_comments_and_tests_do_not_count() {
        let text = "//! About\n\nuse a::b;\n#[cfg(test)]\nuse c::d;\n\n/// It.\nfn it() {\n    \
                    #[cfg(test)]\n    {\n        x();\n    }\n    y(); // one\n}\n\n#[cfg(test)]\n\
                    mod tests {\n    const T: &str = \"\n}\nelse\n\";\n}\n";
        assert_eq!(product_lines(text), (4, vec![]));
    }

    #[test]
    fn a_file_that_is_declared_for_tests_is_found() {
        let text = "#[cfg(test)]\nmod tests;\n#[cfg(test)]\n#[path = \"a/world.rs\"]\n\
                    pub(super) mod w;\nmod product;\n";
        let (count, declared) = product_lines(text);
        assert_eq!((count, &declared[..]), (1, &["tests".to_owned(), "a/world.rs".to_owned()][..]));
        let found = |file: &str, module| beside(Path::new(file), module);
        assert_eq!(found("src/conf/mod.rs", "tests"), Path::new("src/conf/tests"));
        assert_eq!(found("src/settings.rs", "tests"), Path::new("src/settings/tests"));
        assert_eq!(found("src/d/election.rs", "a/world.rs"), Path::new("src/d/a/world"));
    }
}
