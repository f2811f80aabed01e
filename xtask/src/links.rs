//! The links of the documents: each leads to something, and README.md leads to each page.
//!
//! What is read is Markdown as the documents have it: links and pictures in line, `[text](target)`,
//! headings with `#`, blocks of code between lines of three backquotes. Addresses of other sites are
//! not asked for: a test needs no network.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Component, Path, PathBuf};

use crate::lines::files_below;

/// The folders whose files a document names by their paths, in backquotes.
const FOLDERS: [&str; 10] =
    ["completions", "docs", "examples", "fuzz", "lab", "man", "packaging", "src", "tests", "xtask"];

/// A document: what its links lead to, and what leads into it.
#[derive(Debug, Default)]
struct Document {
    /// The line and the target of each link.
    links: Vec<(usize, String)>,
    /// The line and the text of what stands between backquotes.
    quoted: Vec<(usize, String)>,
    /// The line, the name and the section of each manual page that is named.
    manual: Vec<(usize, String, char)>,
    /// What can stand behind `#` in a link to a heading.
    anchors: BTreeSet<String>,
}

/// Reads a document.
fn read(text: &str) -> Document {
    let mut document = Document::default();
    let mut fenced = false;
    for (line, text) in (1..).zip(text.lines()) {
        let code = text.trim_start().starts_with("```");
        fenced ^= code;
        if code || fenced {
            continue;
        }
        // Between backquotes stands what is written as it is: no links, but paths and manual pages.
        for (n, part) in text.split('`').enumerate() {
            if n % 2 == 1 {
                document.quoted.push((line, part.to_owned()));
            }
        }
        let plain: Vec<&str> = text.split('`').step_by(2).collect();
        let plain = plain.join("``");
        for rest in plain.split("](").skip(1) {
            let target = rest.split(')').next().unwrap_or_default();
            document.links.push((line, target.to_owned()));
        }
        let pages = manual_pages(text).map(|(name, section)| (line, name, section));
        document.manual.extend(pages);
        let title = text.trim_start_matches('#');
        if title.starts_with(' ') && title.len() < text.len() {
            let anchor = anchor(title.trim());
            let with = |n: usize| if n == 0 { anchor.clone() } else { format!("{anchor}-{n}") };
            let free = (0..).map(with).find(|anchor| !document.anchors.contains(anchor));
            document.anchors.extend(free);
        }
    }
    document
}

/// The anchor that GitHub makes of a heading: letters and digits in lower case, hyphens for blanks.
fn anchor(title: &str) -> String {
    let kept = title.chars().filter(|c| c.is_alphanumeric() || " -_".contains(*c));
    kept.flat_map(char::to_lowercase).map(|c| if c == ' ' { '-' } else { c }).collect()
}

/// The manual pages that a line names: `cvip.conf(5)`.
fn manual_pages(line: &str) -> impl Iterator<Item = (String, char)> + '_ {
    line.match_indices('(').filter_map(|(at, _)| {
        let mut after = line[at + 1..].chars();
        let section = after.next().filter(char::is_ascii_digit)?;
        after.next().filter(|c| *c == ')')?;
        let named = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
        let name = line[..at].rsplit(|c| !named(c)).next()?;
        (!name.is_empty()).then(|| (name.to_owned(), section))
    })
}

/// Whether a manual page is the project's, and not of Linux or of another program.
fn is_ours(page: &str) -> bool {
    page.starts_with("cvip") || ["clustertab", "ipvsadm-rs", "setport_weight"].contains(&page)
}

/// Where a link of a file leads, as a path below the workspace; none if that is outside of it.
fn target(file: &Path, link: &str) -> Option<PathBuf> {
    let mut path = file.parent()?.to_owned();
    for part in Path::new(link).components() {
        match part {
            Component::Normal(name) => path.push(name),
            Component::ParentDir => {
                let inside = path.pop();
                inside.then_some(())?;
            }
            Component::CurDir => {}
            Component::RootDir | Component::Prefix(_) => return None,
        }
    }
    Some(path)
}

/// Whether something is quoted that is meant as a path of the workspace. NAME stands for any.
fn is_path(quoted: &str) -> bool {
    let first = quoted.split_once('/').map(|(first, _)| first);
    first.is_some_and(|first| FOLDERS.contains(&first))
        && !quoted.contains("NAME")
        && quoted.chars().all(|c| c.is_ascii_alphanumeric() || "._-/".contains(c))
}

/// The documents below the workspace's folder, by their paths there.
fn documents(workspace: &Path) -> BTreeMap<PathBuf, Document> {
    let mut files: Vec<PathBuf> =
        ["README.md", "CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md"].map(PathBuf::from).into();
    for folder in ["docs", "examples"] {
        let below = files_below(&workspace.join(folder)).expect("a folder of the workspace");
        let below = below.iter().filter(|file| file.extension().is_some_and(|e| e == "md"));
        let short = |file: &PathBuf| file.strip_prefix(workspace).expect("below it").to_owned();
        files.extend(below.map(short));
    }
    let text = |file: &Path| {
        let text = fs::read_to_string(workspace.join(file));
        text.unwrap_or_else(|error| panic!("{}: {error}", file.display()))
    };
    files.into_iter().map(|file| (file.clone(), read(&text(&file)))).collect()
}

/// Where a document's link leads, or what is wrong with it. None is outside of the workspace.
fn follow(
    workspace: &Path,
    documents: &BTreeMap<PathBuf, Document>,
    file: &Path,
    link: &str,
) -> Result<Option<PathBuf>, String> {
    if link.contains("://") || link.starts_with("mailto:") {
        return Ok(None);
    }
    let (path, anchor) = link.split_once('#').map_or((link, None), |(p, a)| (p, Some(a)));
    let path = if path.is_empty() {
        file.to_owned()
    } else {
        target(file, path).ok_or("leads out of the project")?
    };
    if !workspace.join(&path).exists() {
        return Err(format!("{} does not exist", path.display()));
    }
    if let Some(anchor) = anchor {
        let document = documents.get(&path).ok_or("a heading of what is no document")?;
        if !document.anchors.contains(anchor) {
            return Err(format!("{} has no heading for #{anchor}", path.display()));
        }
    }
    Ok(Some(path))
}

/// What is wrong with the documents of a workspace, one line for each fault.
fn faults(workspace: &Path) -> Vec<String> {
    let documents = documents(workspace);
    let mut faults = Vec::new();
    let mut leads: BTreeMap<&Path, Vec<PathBuf>> = BTreeMap::new();
    for (file, document) in &documents {
        let mut fault = |line: usize, what: String| {
            faults.push(format!("{}:{line}: {what}", file.display()));
        };
        for (line, link) in &document.links {
            match follow(workspace, &documents, file, link) {
                Ok(to) => leads.entry(file.as_path()).or_default().extend(to),
                Err(what) => fault(*line, format!("the link to {link}: {what}")),
            }
        }
        for (line, path) in &document.quoted {
            if is_path(path) && !workspace.join(path).exists() {
                fault(*line, format!("`{path}` does not exist"));
            }
        }
        for (line, page, section) in &document.manual {
            if is_ours(page) && !workspace.join(format!("man/{page}.{section}")).exists() {
                fault(*line, format!("there is no manual page {page}({section})"));
            }
        }
    }
    let mut reached = BTreeSet::from([PathBuf::from("README.md")]);
    let mut next = vec![PathBuf::from("README.md")];
    while let Some(at) = next.pop() {
        let led = leads.get(at.as_path()).into_iter().flatten();
        next.extend(led.filter(|to| reached.insert((*to).clone())).cloned());
    }
    let pages =
        documents.keys().filter(|file| file.starts_with("docs") && !reached.contains(*file));
    faults.extend(pages.map(|page| format!("{}: README.md does not lead to it", page.display())));
    faults
}

#[test]
fn the_documents_lead_to_what_is_there_and_readme_leads_to_each() {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace");
    let faults = faults(workspace);
    assert!(faults.is_empty(), "{} links lead nowhere:\n{}", faults.len(), faults.join("\n"));
}

#[test]
fn headings_become_anchors_as_github_makes_them() {
    assert_eq!(anchor("When you do not see why"), "when-you-do-not-see-why");
    assert_eq!(anchor("`etcd`'s database is full (NOSPACE)"), "etcds-database-is-full-nospace");
    let document = read("# A\n## B c\n```sh\n# no heading\n```\n## B c\n#!/bin/sh\n");
    assert_eq!(document.anchors, BTreeSet::from(["a", "b-c", "b-c-1"].map(String::from)));
}

#[test]
fn each_kind_of_fault_is_found() {
    let dir = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        let path = dir.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    };
    for name in ["CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md", "examples/README.md"] {
        write(name, "");
    }
    write("man/cvipd.8", "");
    write("README.md", "# Top\n[a](docs/a.md#the-end) [b](#top) [c](https://example.net/x#y)\n");
    write(
        "docs/a.md",
        "## The end\n`docs/a.md`, cvipd(8), ip(8) and `[x](y)`\n[up](../README.md)\n",
    );
    assert_eq!(faults(dir.path()), Vec::<String>::new());

    write("docs/a.md", "[x](b.md)\n`docs/b.md`\ncvipd(7)\n[o](../../b)\n[t](a.md#t)\n");
    write("docs/c/d.md", "");
    assert_eq!(
        faults(dir.path()),
        [
            "README.md:2: the link to docs/a.md#the-end: docs/a.md has no heading for #the-end",
            "docs/a.md:1: the link to b.md: docs/b.md does not exist",
            "docs/a.md:4: the link to ../../b: leads out of the project",
            "docs/a.md:5: the link to a.md#t: docs/a.md has no heading for #t",
            "docs/a.md:2: `docs/b.md` does not exist",
            "docs/a.md:3: there is no manual page cvipd(7)",
            "docs/a.md: README.md does not lead to it",
            "docs/c/d.md: README.md does not lead to it",
        ]
    );
}
