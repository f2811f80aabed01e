//! The unit that keeps a table over a reboot where no cvipd runs.

use super::*;

#[test]
fn the_unit_applies_its_file_at_start_and_reload_and_nothing_at_stop() {
    let unit = include_str!("../../packaging/ipvsadm-rs.service");
    let value = |key: &str| -> Vec<&str> {
        let value = |line: &'static str| line.strip_prefix(key)?.strip_prefix('=');
        unit.lines().filter_map(value).collect()
    };
    assert_eq!((value("ExecStop"), value("ExecStopPost")), (vec![], vec![]));
    assert_eq!((value("Type"), value("RemainAfterExit")), (vec!["oneshot"], vec!["yes"]));
    let rules = value("Environment");
    let file = rules[0].strip_prefix("RULES=").expect("the file that it reads");
    assert!(value("ConditionPathExists").contains(&format!("|{file}").as_str()));

    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("ipvsadm.rules");
    std::fs::write(&path, RULES).unwrap();
    for command in [value("ExecStart"), value("ExecReload")] {
        let words: Vec<String> = command[0]
            .split(' ')
            .map(|word| word.replace("${RULES}", path.to_str().unwrap()))
            .collect();
        assert_eq!(words[0], "/usr/sbin/ipvsadm-rs");
        let words: Vec<&str> = words[1..].iter().map(String::as_str).collect();
        let memory = table("-A -t 10.0.0.9:80 -s rr\n");
        let ran = ipvsadm(&memory, &words, "");
        assert_eq!((ran.out.as_str(), ran.err.as_str(), ran.status), ("", "", 0), "{words:?}");
        assert_eq!(saved(&memory), saved(&table(RULES)));
    }
}
