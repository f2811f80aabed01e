//! The files that users copy from: the samples in `examples/`, and the man pages.

use std::fs;
use std::path::{Path, PathBuf};

use super::grammar::ELEMENTS;
use super::*;

fn package() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Every cvip.conf below a folder.
fn samples(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            found.extend(samples(&path));
        } else if path.ends_with("cvip.conf") {
            found.push(path);
        }
    }
    found
}

#[test]
fn every_sample_loads_without_a_fault() {
    let samples = samples(&package().join("examples"));
    assert!(samples.len() >= 7, "{samples:?}");
    for conf in samples {
        let Loaded { conf, diagnostics, .. } = load(&conf, &conf.with_file_name("clustertab"));
        let shown: Vec<String> = diagnostics.iter().map(ToString::to_string).collect();
        assert_eq!(shown, Vec::<String>::new());
        assert!(conf.is_some());
    }
}

fn man_page(name: &str) -> String {
    fs::read_to_string(package().join("man").join(name)).expect("a man page")
}

/// What stands between `.EX` and `.EE`.
fn man_examples(page: &str) -> Vec<String> {
    let parts = page.split(".EX\n").skip(1);
    parts.map(|part| part.split(".EE\n").next().unwrap_or("").replace("\\-", "-")).collect()
}

#[test]
fn the_man_pages_examples_are_what_the_parser_takes_and_says() {
    let page = man_page("cvip.conf.5");
    let examples = man_examples(&page);
    let [file, checked, without_sshd, diagnostic] = &examples[..] else { panic!("{examples:?}") };
    assert_eq!(loaded(file).cvips[0].services.len(), 2);
    let checked = checked.replace("<node_num>3<", "<node_num>1<");
    let service = &loaded(&cvip("DR", &checked)).cvips[0].services[0];
    assert!(service.check.is_some() && service.always_exists());
    assert_eq!(loaded(&cvip("DR", without_sshd)).cvips[0].services.len(), 2);
    let mut lines = diagnostic.lines();
    let (first, source) = (lines.next().expect("a message"), lines.next().expect("a line"));
    let file = format!(
        "<cvips>\n<routing>DR</routing>\n<cvip>\n<ip_addr>192.168.200.10</ip_addr>\n\
         <director_node>\n<node_num>1</node_num>\n{source}\n</director_node></cvip></cvips>"
    );
    let (_, found) = parse(&file, "/etc/cvip.conf", &clustertab());
    assert_eq!(found.iter().map(|d| format!("{d}\n")).collect::<String>(), *diagnostic);
    assert!(first.starts_with("/etc/cvip.conf:7:23: "));

    let page = man_page("clustertab.5");
    let examples = man_examples(&page);
    let [file, diagnostic] = &examples[..] else { panic!("{examples:?}") };
    let (clustertab, found) = Clustertab::parse(file, "/etc/clustertab");
    assert_eq!((clustertab.map(|tab| tab.nodes.len()), found), (Some(3), Vec::new()));
    let wrong = file.replace("192.168.200.3", "192.168.200.1");
    let (_, found) = Clustertab::parse(&wrong, "/etc/clustertab");
    assert_eq!(found.iter().map(|d| format!("{d}\n")).collect::<String>(), *diagnostic);
}

#[test]
fn the_man_page_explains_every_element() {
    let page = man_page("cvip.conf.5");
    for name in ELEMENTS.iter().flat_map(|element| element.children().chain([element.name])) {
        let explained = [format!("\n.TP\n.B {name}\n"), format!("\n.TP\n.BR {name} "), {
            format!("\n.TP\n.BR start_port \", \" {name}\n")
        }];
        assert!(explained.iter().any(|text| page.contains(text)), "{name}");
    }
}
