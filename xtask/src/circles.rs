//! Circles between files: files that use one another, straight or by way of others. There are
//! none: who reads a file then has to know those that it uses, and none that use it. The same is
//! true of the library's modules.
//!
//! A file uses another one if a path in it leads to a name that the other defines. Re-exports are
//! followed, and are no use themselves. What a module's file has in common with its children is
//! found in this way too. Unit tests are not read, nor are names that a macro makes.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// The names of a path, such as `crate`, `store`, `Key`; also where a module stands in its crate.
type Names = Vec<String>;

/// A module with a file of its own.
struct Module {
    file: PathBuf,
    /// What it is brought in or called by: a name (`*` for a glob), and the path behind it.
    brought_in: Vec<(String, Names)>,
    /// The paths that it uses.
    uses: BTreeSet<Names>,
    /// The names that it defines.
    defines: BTreeSet<String>,
}

/// A word or a sign of a file, and how many modules within the file it stands in.
struct Token {
    text: String,
    depth: usize,
}

/// The modules of a crate, given its first file.
fn modules(root: &Path) -> BTreeMap<Names, Module> {
    let mut modules = BTreeMap::new();
    let mut found = vec![(Names::new(), root.to_owned())];
    while let Some((names, file)) = found.pop() {
        let text =
            fs::read_to_string(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        let folder = file.parent().expect("a folder");
        // The root and mod.rs have their children beside them, others in a folder of their name.
        let beside = names.is_empty() || file.file_name().is_some_and(|name| name == "mod.rs");
        let below = if beside { folder.to_owned() } else { file.with_extension("") };
        for (child, path) in children(&text) {
            let nested = below.join(&child).join("mod.rs");
            let path = match path {
                Some(path) => folder.join(path),
                None if nested.exists() => nested,
                None => below.join(format!("{child}.rs")),
            };
            found.push(([&names[..], &[child]].concat(), path));
        }
        modules.insert(names, read(file, &text));
    }
    modules
}

/// The children that a file declares, with the path that is given for one.
fn children(text: &str) -> Vec<(String, Option<String>)> {
    let mut given = None;
    let mut all = Vec::new();
    for line in text.lines() {
        let line = line.trim();
        if let Some(rest) = line.strip_prefix("#[path = \"") {
            given = rest.split('"').next().map(str::to_owned);
        }
        let words: Vec<&str> = line.split_whitespace().collect();
        if let [.., "mod", name] = words[..]
            && let Some(name) = name.strip_suffix(';')
            && matches!(words.len(), 2 | 3)
            && !line.starts_with("//")
        {
            all.push((name.trim_start_matches("r#").to_owned(), given.take()));
        }
    }
    all
}

/// The words and signs of a file up to its unit tests, without comments.
fn tokens(text: &str) -> Vec<Token> {
    let mut tokens = Vec::new();
    // The lines at whose indentation a module within the file ends.
    let mut inner: Vec<String> = Vec::new();
    let text = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
    for line in text.lines() {
        let bare = line.trim_start();
        let indentation = &line[..line.len() - bare.len()];
        if bare.starts_with("//") {
            continue;
        }
        if inner.last().is_some_and(|end| *end == line) {
            inner.pop();
        }
        let mut rest = bare.split(" // ").next().unwrap_or_default();
        while let Some(first) = rest.chars().next() {
            let length = match rest.find(|c: char| !is_of_a_name(c)) {
                _ if rest.starts_with("::") => 2,
                _ if rest.starts_with("r#") => {
                    2 + rest[2..].find(|c: char| !is_of_a_name(c)).unwrap_or(rest.len() - 2)
                }
                Some(0) => first.len_utf8(),
                Some(end) => end,
                None => rest.len(),
            };
            let text = rest[..length].trim_start_matches("r#").to_owned();
            if text != " " {
                tokens.push(Token { text, depth: inner.len() });
            }
            rest = &rest[length..];
        }
        if bare.ends_with('{') && bare.trim_start_matches("pub(crate) ").starts_with("mod ") {
            inner.push(format!("{indentation}}}"));
        }
    }
    tokens
}

fn is_of_a_name(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

fn read(file: PathBuf, text: &str) -> Module {
    const KINDS: [&str; 9] =
        ["fn", "struct", "enum", "trait", "type", "const", "static", "union", "mod"];
    let tokens = tokens(text);
    let at = |n: usize| tokens.get(n).map_or("", |token| token.text.as_str());
    let mut module =
        Module { file, brought_in: Vec::new(), uses: BTreeSet::new(), defines: BTreeSet::new() };
    // Names that are passed on, which count where they are used here too.
    let mut passed_on: BTreeMap<String, Names> = BTreeMap::new();
    let mut words = BTreeSet::new();
    let mut n = 0;
    while n < tokens.len() {
        let (depth, before) = (tokens[n].depth, n.checked_sub(1).map_or("", at));
        if at(n) == "use" && ["", ";", "}", "{", "]", "pub", ")"].contains(&before) {
            let mut tree = Vec::new();
            n = read_tree(&tokens, n + 1, &Names::new(), &mut tree);
            for (name, path) in tree {
                let path = within(path, depth);
                match before {
                    "pub" | ")" if depth == 0 => drop(passed_on.insert(name.clone(), path.clone())),
                    _ => drop(module.uses.insert(path.clone())),
                }
                if depth == 0 {
                    module.brought_in.push((name, path));
                }
            }
            continue;
        }
        if KINDS.contains(&before) && depth == 0 {
            module.defines.insert(at(n).to_owned());
        }
        if at(n).starts_with(is_of_a_name) && !["::", "."].contains(&before) {
            let mut path = vec![at(n).to_owned()];
            while at(n + 1) == "::" && at(n + 2).starts_with(is_of_a_name) {
                path.push(at(n + 2).to_owned());
                n += 2;
            }
            if !KINDS.contains(&before) {
                words.insert(path[0].clone());
            }
            if path.len() > 1 {
                module.uses.insert(within(path, depth));
            }
        }
        n += 1;
    }
    let used = passed_on.into_iter().filter(|(name, _)| words.contains(name));
    module.uses.extend(used.map(|(_, path)| path));
    module
}

/// Reads what follows `use`: every path, with the name that it is called by; where it ends.
fn read_tree(
    tokens: &[Token],
    mut n: usize,
    before: &Names,
    tree: &mut Vec<(String, Names)>,
) -> usize {
    let at = |n: usize| tokens.get(n).map_or(";", |token| token.text.as_str());
    let mut path = before.clone();
    loop {
        match at(n) {
            "::" => n += 1,
            "{" => {
                while at(n) != "}" && at(n) != ";" {
                    n = read_tree(tokens, n + 1, &path, tree);
                }
                return n + 1;
            }
            "self" if !before.is_empty() => n += 1,
            "as" => {
                tree.push((at(n + 1).to_owned(), path));
                return n + 2;
            }
            "," | "}" | ";" => {
                let name = path.last().cloned();
                tree.extend(
                    name.filter(|_| path != *before || at(n - 1) == "self")
                        .map(|name| (name, path)),
                );
                return n;
            }
            name => {
                path.push(name.to_owned());
                n += 1;
            }
        }
    }
}

/// A path as the file has it that stands in so many modules within the file.
fn within(mut path: Names, depth: usize) -> Names {
    let supers = path.iter().take_while(|name| *name == "super").count();
    if supers > 0 && depth > 0 {
        path.drain(..supers.min(depth));
        path.insert(0, "self".to_owned());
    }
    path
}

/// The module in which a path's name is defined, seen from another one; none if that is not of this
/// crate, if the path names a module, or after so many re-exports.
fn definer(
    modules: &BTreeMap<Names, Module>,
    from: &Names,
    path: &[String],
    most: usize,
) -> Option<Names> {
    let most = most.checked_sub(1)?;
    let mut at = from.clone();
    let mut rooted = false;
    for (n, name) in path.iter().enumerate() {
        let child = [&at[..], std::slice::from_ref(name)].concat();
        match name.as_str() {
            "crate" => at.clear(),
            "self" => {}
            "super" => drop(at.pop()),
            _ if modules.contains_key(&child) => at = child,
            _ => {
                let module = &modules[&at];
                let brought_in = module.brought_in.iter();
                if let Some((_, to)) = brought_in.clone().find(|(called, _)| called == name) {
                    let whole = [&to[..], &path[n + 1..]].concat();
                    return definer(modules, &at, &whole, most);
                }
                let here = module.defines.contains(name) || name == "*";
                let globs = brought_in.filter(|(called, _)| !here && called == "*");
                let defined = globs.filter_map(|(_, to)| {
                    let whole = [&to[..to.len() - 1], &path[n..]].concat();
                    let found = definer(modules, &at, &whole, most)?;
                    modules[&found].defines.contains(name).then_some(found)
                });
                return { defined }.next().or(rooted.then_some(at));
            }
        }
        rooted = true;
    }
    None
}

/// What uses what.
type Arrows = BTreeMap<PathBuf, BTreeSet<PathBuf>>;

/// Which file of a crate uses which.
fn arrows(root: &Path) -> Arrows {
    let modules = modules(root);
    let used = |names, module: &Module| {
        let used = module.uses.iter().filter_map(|path| definer(&modules, names, path, 8));
        let files = used.map(|used| modules[&used].file.clone());
        files.filter(|file| *file != module.file).collect()
    };
    modules.iter().map(|(names, module)| (module.file.clone(), used(names, module))).collect()
}

/// Which module right below a crate's root uses which.
fn between_modules(files: &Arrows, folder: &Path) -> Arrows {
    let module = |file: &PathBuf| {
        let name = file.strip_prefix(folder).expect("a file of the crate").iter().next();
        folder.join(name.expect("a name")).with_extension("")
    };
    let mut modules = Arrows::new();
    for (file, used) in files {
        let (file, used) = (module(file), used.iter().map(module));
        modules.entry(file.clone()).or_default().extend(used.filter(|used| *used != file));
    }
    modules
}

/// The circles: in each, everything leads to everything else.
fn circles(arrows: &Arrows) -> Vec<BTreeSet<PathBuf>> {
    let reached = |start: &Path| {
        let mut reached = BTreeSet::new();
        let mut next: Vec<&Path> = vec![start];
        while let Some(at) = next.pop() {
            let used = arrows[at].iter().map(PathBuf::as_path);
            next.extend(used.filter(|used| reached.insert(used.to_path_buf())));
        }
        reached
    };
    let all: BTreeMap<&Path, BTreeSet<PathBuf>> =
        arrows.keys().map(|at| (at.as_path(), reached(at))).collect();
    let circle = |at: &Path| -> BTreeSet<PathBuf> {
        all[at].iter().filter(|other| all[other.as_path()].contains(at)).cloned().collect()
    };
    let all: BTreeSet<BTreeSet<PathBuf>> = all.keys().map(|at| circle(at)).collect();
    all.into_iter().filter(|circle| !circle.is_empty()).collect()
}

/// The files that Cargo takes for the roots of crates, below the workspace's folder.
fn roots(workspace: &Path) -> Vec<PathBuf> {
    let mut roots: Vec<PathBuf> = ["src/lib.rs", "lab/src/lib.rs", "xtask/src/main.rs"]
        .iter()
        .map(|root| workspace.join(root))
        .collect();
    for folder in ["tests", "benches", "lab/tests"] {
        let entries = fs::read_dir(workspace.join(folder)).expect("a folder of the workspace");
        let paths = entries.map(|entry| entry.expect("an entry").path());
        let root = |path: PathBuf| if path.is_dir() { path.join("main.rs") } else { path };
        let is_root = |path: &PathBuf| path.extension().is_some_and(|e| e == "rs") && path.exists();
        roots.extend(paths.map(root).filter(is_root));
    }
    roots
}

#[test]
fn no_files_use_one_another() {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace");
    let mut found = BTreeSet::new();
    for root in roots(workspace) {
        for circle in circles(&arrows(&root)) {
            let files = circle.iter().map(|file| file.strip_prefix(workspace).unwrap_or(file));
            let files: Vec<_> = files.map(|file| file.display().to_string()).collect();
            found.insert(files.join(" "));
        }
    }
    assert!(found.is_empty(), "these files use one another: {found:#?}");
}

#[test]
fn no_modules_of_the_library_use_one_another() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace");
    let found = circles(&between_modules(&arrows(&root.join("src/lib.rs")), &root.join("src")));
    assert!(found.is_empty(), "these modules use one another: {found:#?}");
}

#[test]
fn a_circle_is_found_through_re_exports_groups_and_inner_modules() {
    let dir = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        let path = dir.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    };
    let found = || -> Vec<String> {
        let circles = circles(&arrows(&dir.path().join("lib.rs")));
        let name = |file: &PathBuf| file.strip_prefix(dir.path()).unwrap().display().to_string();
        circles.iter().map(|c| c.iter().map(name).collect::<Vec<_>>().join(" ")).collect()
    };
    // A root that passes names on, and a test, are in no circle.
    write("lib.rs", "mod a;\npub mod b;\npub use a::A;\n");
    write("a.rs", "use crate::b::{B, c::C};\npub struct A(B, C);\n");
    write("b/mod.rs", "pub mod c;\npub(crate) struct B;\n");
    write("b/c.rs", "// super::B\npub struct C;\n#[cfg(test)]\nmod tests {\nuse crate::A;\n}\n");
    assert!(found().is_empty(), "{:?}", found());
    // By way of the root, from within a module of the file.
    write("b/c.rs", "pub struct C;\nmod inner {\n    use crate::A;\n    fn f(_: A) {}\n}\n");
    assert_eq!(found(), ["a.rs b/c.rs"]);
    // A parent and its child.
    write("b/c.rs", "use super::*;\npub struct C(B);\n");
    write("b/mod.rs", "pub mod c;\npub(crate) struct B;\nfn f() -> c::C { c::C(B) }\n");
    assert_eq!(found(), ["b/c.rs b/mod.rs"]);
    // Two modules, by way of different files of them.
    write("a.rs", "use crate::b::c::C;\npub struct A(C);\n");
    write("b/mod.rs", "pub mod c;\npub(crate) struct B(crate::a::A);\n");
    write("b/c.rs", "pub struct C;\n");
    assert!(found().is_empty(), "{:?}", found());
    let modules = between_modules(&arrows(&dir.path().join("lib.rs")), dir.path());
    assert_eq!(circles(&modules), [BTreeSet::from(["a", "b"].map(|name| dir.path().join(name)))]);
}
