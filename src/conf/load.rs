//! The two files on disk: read with a limit, as regular files and UTF-8 only, then parsed.

use std::io::{self, Read};
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::clustertab::Clustertab;
use super::diagnostic::{Diagnostic, DiagnosticSeverity, SourcePlace};
use super::model::Conf;
use super::parse::parse_with;
use crate::files;

/// Where cvip.conf stands, as in OpenSSI.
pub const CONF_PATH: &str = "/etc/cvip.conf";

/// Where clustertab stands, as in OpenSSI.
pub const CLUSTERTAB_PATH: &str = "/etc/clustertab";

/// Largest file in bytes.
pub const MAX_BYTES: u64 = 1024 * 1024;

/// What the two files said.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Loaded {
    /// The configuration; `None` if any of the diagnostics is an error.
    pub conf: Option<Conf>,
    /// The nodes; `None` if clustertab itself has an error.
    pub clustertab: Option<Clustertab>,
    /// The faults of clustertab, then those of cvip.conf, each in the order of the file.
    pub diagnostics: Vec<Diagnostic>,
    /// The text that was read.
    pub sources: Sources,
}

/// The text of the two files; empty for one that could not be read.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sources {
    /// Of cvip.conf.
    pub conf: String,
    /// Of clustertab.
    pub clustertab: String,
}

impl Sources {
    /// What the texts say; none if they have an error.
    pub fn parse(&self) -> Option<(Conf, Clustertab)> {
        let clustertab = Clustertab::parse(&self.clustertab, CLUSTERTAB_PATH).0?;
        let conf = parse_with(&self.conf, CONF_PATH, Some(&clustertab)).0?;
        Some((conf, clustertab))
    }
}

impl Loaded {
    /// What was read elsewhere: a configuration without a fault, or none.
    pub fn of_conf(conf: Option<Conf>, sources: Sources) -> Loaded {
        Loaded { conf, clustertab: None, diagnostics: Vec::new(), sources }
    }
}

/// Loads cvip.conf and clustertab. What is wrong stands in the diagnostics.
pub fn load(conf_path: &Path, clustertab_path: &Path) -> Loaded {
    let mut sources = Sources::default();
    let (clustertab, mut diagnostics) = match read_clustertab(clustertab_path) {
        Ok(text) => {
            sources.clustertab = text;
            Clustertab::parse(&sources.clustertab, &clustertab_path.to_string_lossy())
        }
        Err(fault) => (None, vec![*fault]),
    };
    let missing = "HA-LVS is on where this file exists: see cvip.conf(5)";
    let conf = match read(conf_path, missing) {
        Ok(text) => {
            let name = conf_path.to_string_lossy();
            let (conf, mut found) = parse_with(&text, &name, clustertab.as_ref());
            diagnostics.append(&mut found);
            sources.conf = text;
            conf
        }
        Err(fault) => {
            diagnostics.push(*fault);
            None
        }
    };
    Loaded { conf, clustertab, diagnostics, sources }
}

/// Loads clustertab alone; `None` if any of the diagnostics is an error.
pub fn load_clustertab(path: &Path) -> (Option<Clustertab>, Vec<Diagnostic>) {
    match read_clustertab(path) {
        Ok(text) => Clustertab::parse(&text, &path.to_string_lossy()),
        Err(fault) => (None, vec![*fault]),
    }
}

fn read_clustertab(path: &Path) -> Result<String, Box<Diagnostic>> {
    read(path, "it gives every node's number and address: see clustertab(5)")
}

/// The text of a file; `missing` is the help where there is none.
fn read(path: &Path, missing: &str) -> Result<String, Box<Diagnostic>> {
    let fault = |message: String, help: Option<&str>| {
        Box::new(Diagnostic {
            severity: DiagnosticSeverity::Error,
            path: path.to_string_lossy().into_owned(),
            place: None,
            message,
            help: help.map(str::to_owned),
        })
    };
    let failed = |error: io::Error| match error.kind() {
        io::ErrorKind::NotFound => fault("there is no such file".to_owned(), Some(missing)),
        io::ErrorKind::PermissionDenied => {
            fault("no permission to read it".to_owned(), Some("run as root, or fix its mode"))
        }
        _ => fault(format!("cannot be read: {error}"), None),
    };
    // Before opening: to open a named pipe would wait for its writer.
    let kind = std::fs::metadata(path).map_err(failed)?;
    if !kind.is_file() {
        let what = if kind.is_dir() { "a directory" } else { "no regular file" };
        return Err(fault(format!("it is {what}"), Some("give the path of a file")));
    }
    let mut bytes = Vec::new();
    let file = files::open(path).map_err(failed)?;
    file.take(MAX_BYTES + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > MAX_BYTES {
        let message = format!("it is larger than {MAX_BYTES} bytes (1 MiB)");
        return Err(fault(message, Some("is it the right file?")));
    }
    String::from_utf8(bytes).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        let (place, message, help) = not_utf8(error.as_bytes(), at);
        Box::new(Diagnostic { place: Some(place), ..*fault(message, Some(help)) })
    })
}

/// Says where bytes stop being UTF-8; `at` is the first byte at fault.
fn not_utf8(bytes: &[u8], at: usize) -> (SourcePlace, String, &'static str) {
    let start = bytes[..at].iter().rposition(|b| *b == b'\n').map_or(0, |newline| newline + 1);
    let line = bytes[..at].iter().filter(|b| **b == b'\n').count() + 1;
    let end = bytes[at..].iter().position(|b| *b == b'\n').map_or(bytes.len(), |more| at + more);
    // All before the fault is UTF-8, so the two parts show as they would together.
    let before = String::from_utf8_lossy(&bytes[start..at]).into_owned();
    let text = before.clone() + &String::from_utf8_lossy(&bytes[at..end]);
    let fault = before.len()..before.len() + char::REPLACEMENT_CHARACTER.len_utf8();
    let place = SourcePlace::new(line, text.trim_end_matches('\r'), fault);
    let message =
        format!("byte {} of line {line} (0x{:02x}) is not UTF-8", at - start + 1, bytes[at]);
    let help = match bytes {
        [0xff, 0xfe, ..] | [0xfe, 0xff, ..] => "the file is in UTF-16: save it as UTF-8",
        _ => "save the file as UTF-8",
    };
    (place, message, help)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::time::Duration;

    use proptest::prelude::*;
    use tempfile::TempDir;

    use super::*;

    const CLUSTERTAB: &str = "1 10.0.0.1\n";
    const CONF: &str = "<cvips><routing>DR</routing><cvip><ip_addr>10.0.0.9</ip_addr>\
        <director_node><node_num>1</node_num><garp_interface>eth0</garp_interface>\
        </director_node></cvip></cvips>";

    /// A folder with the two files; `None` leaves one out.
    fn folder(conf: Option<&[u8]>, clustertab: Option<&[u8]>) -> TempDir {
        let folder = TempDir::new().expect("a folder");
        for (name, bytes) in [("cvip.conf", conf), ("clustertab", clustertab)] {
            if let Some(bytes) = bytes {
                fs::write(folder.path().join(name), bytes).expect("a file");
            }
        }
        folder
    }

    fn load_from(folder: &TempDir) -> (Loaded, String) {
        let path = |name: &str| folder.path().join(name);
        let loaded = load(&path("cvip.conf"), &path("clustertab"));
        let shown: String = loaded.diagnostics.iter().map(|d| format!("{d}\n")).collect();
        (loaded, shown.replace(&format!("{}/", folder.path().display()), ""))
    }

    fn refused(conf: Option<&[u8]>, clustertab: Option<&[u8]>) -> String {
        let (loaded, shown) = load_from(&folder(conf, clustertab));
        assert_eq!(loaded.conf, None);
        shown
    }

    #[test]
    fn two_good_files_are_a_configuration() {
        let (loaded, shown) =
            load_from(&folder(Some(CONF.as_bytes()), Some(CLUSTERTAB.as_bytes())));
        assert_eq!(shown, "");
        assert!(loaded.conf.is_some_and(|conf| conf.is_director(1)));
        assert_eq!(loaded.clustertab.map(|tab| tab.nodes.len()), Some(1));
        let again = loaded.sources.parse().map(|(conf, tab)| (conf.nodes(), tab.nodes.len()));
        assert_eq!(again, Some((vec![1], 1)), "the text says it again");
        assert_eq!(Sources::default().parse(), None);
    }

    #[test]
    fn missing_files_are_each_said() {
        assert_eq!(
            refused(None, None),
            "clustertab: error: there is no such file\n\
             help: it gives every node's number and address: see clustertab(5)\n\
             cvip.conf: error: there is no such file\n\
             help: HA-LVS is on where this file exists: see cvip.conf(5)\n"
        );
    }

    #[test]
    fn a_wrong_clustertab_hides_no_fault_of_cvip_conf_and_adds_none() {
        let conf = CONF.replace("DR", "RD");
        assert_eq!(
            refused(Some(conf.as_bytes()), Some(b"1 10.0.0\n")),
            "clustertab:1:3: error: `10.0.0` is not an IP address\n1 10.0.0\n  ^~~~~~\n\
             cvip.conf:1:17: error: unknown routing method `RD`\n\
             <cvips><routing>RD</routing><cvip><ip_addr>10.0.0.9</ip_addr><director_node>\
             <node_num>1</node_num><garp_interface>eth0</...\n                ^~\n\
             help: it is one of DR, NAT or TUN\n"
        );
        assert!(!refused(Some(CONF.as_bytes()), None).contains("cvip.conf:"));
    }

    #[test]
    fn what_is_not_utf_8_is_shown_by_line_and_byte() {
        assert_eq!(
            refused(Some(b"<cvips>\n  <!-- M\xc3\xbcller, K\xf6ln -->\n"), Some(b"")),
            "cvip.conf:2:17: error: byte 18 of line 2 (0xf6) is not UTF-8\n  \
             <!-- M\u{fc}ller, K\u{fffd}ln -->\n                ^\nhelp: save the file as UTF-8\n"
        );
        assert!(refused(Some(b"\xff\xfe<\0"), Some(b"")).contains("UTF-16"));
        assert!(refused(Some(b""), Some(b"\xc3")).contains("clustertab:1:1: error: byte 1"));
    }

    #[test]
    fn a_directory_or_a_pipe_is_no_configuration() {
        let folder = folder(None, Some(CLUSTERTAB.as_bytes()));
        let path = folder.path().join("cvip.conf");
        fs::create_dir(&path).expect("a directory");
        assert!(load_from(&folder).1.contains("error: it is a directory\n"));
        fs::remove_dir(&path).expect("it was there");
        let mode = nix::sys::stat::Mode::S_IRWXU;
        nix::unistd::mkfifo(&path, mode).expect("a named pipe");
        // To open it would wait for a writer that never comes.
        let (done, wait) = std::sync::mpsc::channel();
        std::thread::spawn(move || done.send(load_from(&folder).1));
        let shown = wait.recv_timeout(Duration::from_secs(60)).expect("it did not wait");
        assert!(shown.contains("error: it is no regular file\n"), "{shown}");
    }

    #[test]
    fn a_huge_file_is_refused_and_one_of_the_largest_size_is_not() {
        let padded = |size: u64| {
            let mut conf = CONF.as_bytes().to_vec();
            conf.resize(size as usize, b' ');
            load_from(&folder(Some(&conf), Some(CLUSTERTAB.as_bytes())))
        };
        assert_eq!(padded(MAX_BYTES).1, "");
        let (loaded, shown) = padded(MAX_BYTES + 1);
        assert_eq!(loaded.conf, None);
        assert!(shown.starts_with("cvip.conf: error: it is larger than 1048576 bytes (1 MiB)\n"));
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(
            conf in prop::collection::vec(any::<u8>(), 0..200),
            clustertab in prop::collection::vec(any::<u8>(), 0..200),
        ) {
            let (loaded, shown) = load_from(&folder(Some(&conf), Some(&clustertab)));
            prop_assert!(loaded.conf.is_none() && shown.contains("error: "));
        }

        #[test]
        fn any_bytes_behind_good_ones_are_shown_where_they_stand(
            more in prop::collection::vec(any::<u8>(), 0..40),
        ) {
            let bytes = [CONF.as_bytes(), &more].concat();
            let (loaded, shown) = load_from(&folder(Some(&bytes), Some(CLUSTERTAB.as_bytes())));
            prop_assert_eq!(loaded.conf.is_none(), shown.contains("error: "));
        }
    }
}
