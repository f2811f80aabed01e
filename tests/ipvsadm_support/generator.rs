//! Command lines of every kind, from a seed: good ones, odd ones, wrong ones, nonsense.
//!
//! The words are few on purpose, so that lines meet: a service is added that is there, a
//! server edited that is not. What is here is the original's language, written down once more;
//! new options of ours do not belong here.
//!
//! Two kinds of addresses are kept out, because of them the original's order of a listing
//! depends on the order in which the kernel has its services, and so on the network namespace:
//! those from 128 to 171 and around 127 (beside 10 and 192), and firewall marks around 2^31.

use cvip_lab::Dice;

/// A command line, and what it reads.
#[derive(Clone, Debug)]
pub(crate) struct CommandLine {
    pub(crate) words: Vec<String>,
    pub(crate) stdin: String,
}

impl std::fmt::Display for CommandLine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?}", self.words)?;
        if self.stdin.is_empty() { Ok(()) } else { write!(f, " reading {:?}", self.stdin) }
    }
}

/// Whether an option takes a value, good ones, and odd or wrong ones.
enum Takes {
    Nothing,
    Value(&'static [&'static str], &'static [&'static str]),
    /// Perhaps one.
    Perhaps(&'static [&'static str], &'static [&'static str]),
}

use Takes::{Nothing, Perhaps, Value};

struct Opt(Option<char>, &'static str, Takes);

const SERVICES: &[&str] = &[
    "10.0.0.1:80",
    "10.0.0.1:53",
    "10.0.0.2:80",
    "192.168.0.1:80",
    "172.16.0.1:5060",
    "vip1:80",
    "vip1:sip",
    "10.0.0.1:0",
    "[2001:db8::1]:80",
    "[fd00::2]:53",
    "2001:db8::1",
    "10.0.0.1",
    "longhost:443",
];
const ODD_ADDRESSES: &[&str] = &[
    "",
    ":80",
    "80",
    "10.0.0.1:",
    "10.0.0.1:65536",
    "10.0.0.1:-1",
    "10.0.0.1:http",
    "10.0.0.1:HTTP",
    "10.0.0.1:nosuch",
    "1.2:80",
    "0x0a000001:80",
    "10.0.0.01:80",
    "010.0.0.1:80",
    "10.0.0.256:80",
    "nosuch.example.com:80",
    "[10.0.0.1]:80",
    "[2001:db8::1]",
    "[2001:db8::1]:",
    "[2001:db8::1",
    "[vip6]:80",
    "vip6:80",
    "2001:db8::1:80",
    "[fe80::1]:80",
    "[fe80::1%lo]:80",
    "[::]:80",
    "::1",
    "0.0.0.0:80",
    "224.0.0.1:80",
    "255.255.255.255:80",
    "[ff02::1]:80",
    "10.0.0.1:0x50",
    "10.0.0.1:80:90",
    "10.0.0.1: 80",
    "10.0.0.1:80x",
    "[2001:db8::1]80",
    "::ffff:10.0.0.1",
    "[::ffff:10.0.0.1]:80",
    "10.0.0.1:+80",
    "10.0.0.1:00080",
    "-t",
    "-",
];
const SERVERS: &[&str] = &[
    "192.168.1.10:80",
    "192.168.1.11:80",
    "192.168.1.11:8080",
    "192.168.1.10",
    "rs1:http",
    "rs1",
    "10.9.9.9:53",
    "[2001:db8::10]:80",
    "[2001:db8::11]:8080",
    "2001:db8::10",
    "10.9.9.9:0",
];
const NUMBERS: &[&str] = &[
    "",
    "-1",
    "0",
    "+1",
    " 1",
    "1 ",
    "1x",
    "x",
    "0x10",
    "010",
    "65535",
    "65536",
    "2147483648",
    "4294967296",
    "99999999999999999999",
    "-99999999999999999999",
    "1.5",
    "256",
    "2678400",
    "2678401",
    "=5",
];
const ROLES: Takes = Value(&["master", "backup"], &["", "Master", "both", "master1"]);

const COMMANDS: &[Opt] = &[
    Opt(Some('A'), "add-service", Nothing),
    Opt(Some('E'), "edit-service", Nothing),
    Opt(Some('D'), "delete-service", Nothing),
    Opt(Some('C'), "clear", Nothing),
    Opt(Some('a'), "add-server", Nothing),
    Opt(Some('e'), "edit-server", Nothing),
    Opt(Some('d'), "delete-server", Nothing),
    Opt(Some('L'), "list", Nothing),
    Opt(Some('l'), "list", Nothing),
    Opt(Some('Z'), "zero", Nothing),
    Opt(Some('S'), "save", Nothing),
    Opt(Some('R'), "restore", Nothing),
    Opt(None, "set", Nothing),
    Opt(None, "start-daemon", ROLES),
    Opt(None, "stop-daemon", ROLES),
    Opt(Some('h'), "help", Nothing),
    Opt(Some('v'), "version", Nothing),
];

const OPTIONS: &[Opt] = &[
    Opt(Some('t'), "tcp-service", Value(SERVICES, ODD_ADDRESSES)),
    Opt(Some('u'), "udp-service", Value(SERVICES, ODD_ADDRESSES)),
    Opt(None, "sctp-service", Value(SERVICES, ODD_ADDRESSES)),
    Opt(Some('f'), "fwmark-service", Value(&["1", "2", "4294967295", "+2", "007"], NUMBERS)),
    Opt(Some('6'), "ipv6", Nothing),
    Opt(
        Some('s'),
        "scheduler",
        Value(
            &[
                "rr", "wrr", "lc", "wlc", "sh", "mh", "sed", "nq", "fo", "ovf", "dh", "lblc",
                "lblcr",
            ],
            &["", "none", "nosuch", "RR", "a-scheduler-with-a-long-name", "w l c"],
        ),
    ),
    Opt(
        Some('b'),
        "sched-flags",
        Value(
            &[
                "flag-1",
                "flag-2",
                "flag-3",
                "flag-1,flag-3",
                "sh-port",
                "sh-fallback",
                "sh-fallback,sh-port",
                "mh-port",
                "mh-fallback",
                "mh-fallback,mh-port",
                "flag-2,flag-2",
            ],
            &[
                "",
                "flag-4",
                "flag-1,",
                ",flag-1",
                "flag-1,,flag-2",
                "FLAG-1",
                "sh-port,nosuch",
                "sh",
            ],
        ),
    ),
    Opt(Some('p'), "persistent", Perhaps(&["60", "360", "1", "2678400"], NUMBERS)),
    Opt(
        Some('M'),
        "netmask",
        Value(
            &["255.255.255.0", "255.255.255.255", "64", "128", "255.0.0.0", "1"],
            &[
                "",
                "0",
                "129",
                "255.0.255.0",
                "0.0.0.0",
                "255.255.255",
                "x",
                "-1",
                "64x",
                "/24",
                "24",
            ],
        ),
    ),
    Opt(None, "pe", Value(&["sip"], &["", "nosuch", "SIP", "an-engine-with-a-long-name"])),
    Opt(Some('o'), "ops", Nothing),
    Opt(Some('r'), "real-server", Value(SERVERS, ODD_ADDRESSES)),
    Opt(Some('g'), "gatewaying", Nothing),
    Opt(Some('i'), "ipip", Nothing),
    Opt(Some('m'), "masquerading", Nothing),
    Opt(Some('w'), "weight", Value(&["0", "1", "5", "65535", "65536", "2147483647"], NUMBERS)),
    Opt(Some('x'), "u-threshold", Value(&["0", "10", "200", "2147483647"], NUMBERS)),
    Opt(Some('y'), "l-threshold", Value(&["0", "5", "10", "100"], NUMBERS)),
    Opt(None, "tun-type", Value(&["ipip", "gue", "gre"], &["", "GUE", "vxlan", "gre2"])),
    Opt(None, "tun-port", Value(&["6080", "1", "65535"], NUMBERS)),
    Opt(None, "tun-nocsum", Nothing),
    Opt(None, "tun-csum", Nothing),
    Opt(None, "tun-remcsum", Nothing),
    Opt(Some('c'), "connection", Nothing),
    Opt(None, "timeout", Nothing),
    Opt(None, "daemon", Nothing),
    Opt(None, "stats", Nothing),
    Opt(None, "rate", Nothing),
    Opt(None, "thresholds", Nothing),
    Opt(None, "persistent-conn", Nothing),
    Opt(None, "tun-info", Nothing),
    Opt(Some('X'), "exact", Nothing),
    Opt(None, "nosort", Nothing),
    Opt(None, "sort", Nothing),
    Opt(Some('n'), "numeric", Nothing),
    Opt(None, "mcast-interface", Value(&["lo"], &["", "nosuch0", "an-interface-with-a-long-name"])),
    Opt(None, "syncid", Value(&["0", "1", "255"], NUMBERS)),
    Opt(None, "sync-maxlen", Value(&["1300", "1400", "1"], NUMBERS)),
    Opt(
        None,
        "mcast-group",
        Value(
            &["224.0.0.99", "239.1.1.1", "ff02::99"],
            &[
                "",
                "10.0.0.1",
                "2001:db8::1",
                "[ff02::99]",
                "224.0.0",
                "224.0.0.256",
                "x",
                "ff02::%lo",
            ],
        ),
    ),
    Opt(None, "mcast-port", Value(&["8850", "1", "65535"], NUMBERS)),
    Opt(None, "mcast-ttl", Value(&["1", "4", "255"], NUMBERS)),
];

/// What is no option of either program, and what is hardly a word.
const ODD_WORDS: &[&str] = &[
    "",
    "-",
    "--",
    "foo",
    "-Q",
    "-7",
    "--nosuch",
    "--stat",
    "--list=x",
    "--numeric=1",
    "-n5",
    "--=",
    "---",
    "-An",
    "-LL",
    "--add",
    "-tx",
    "--exact=",
    "\u{e9}",
    "-\u{e9}",
    "5",
    "#",
    "-?",
    "--usage",
];

/// Makes command lines, the same ones from the same seed.
#[derive(Debug)]
pub(crate) struct Generator {
    dice: Dice,
}

impl Generator {
    pub(crate) fn new(seed: u64) -> Generator {
        Generator { dice: Dice::new(seed) }
    }

    fn below(&mut self, bound: usize) -> usize {
        self.dice.index(bound)
    }

    fn chance(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }

    fn one_of<'a, T>(&mut self, items: &'a [T]) -> &'a T {
        &items[self.below(items.len())]
    }

    /// The next command line.
    pub(crate) fn line(&mut self) -> CommandLine {
        let mut words = match self.below(20) {
            0 => self.nonsense(),
            1 => return self.restore(),
            _ => self.sensible(),
        };
        if self.chance(35) {
            self.spoil(&mut words);
        }
        if self.chance(20) {
            self.cluster(&mut words);
        }
        let reads = words.first().is_some_and(|word| word.contains('R') || word == "--restore");
        let stdin = if reads { self.restored() } else { String::new() };
        CommandLine { words, stdin }
    }

    fn restore(&mut self) -> CommandLine {
        CommandLine { words: vec!["-R".to_owned()], stdin: self.restored() }
    }

    /// The lines of a restore.
    fn restored(&mut self) -> String {
        let mut text = String::new();
        for _ in 0..self.below(8) {
            let mut words = if self.chance(5) { self.nonsense() } else { self.sensible() };
            if self.chance(15) {
                self.spoil(&mut words);
            }
            if self.chance(10) {
                words.insert(0, "ipvsadm".to_owned());
            }
            let blank = *self.one_of(&[" ", " ", " ", "\t", "  "]);
            text += &words.join(blank);
            text += *self.one_of(&["\n", "\n", "\n", "\r\n", "\n\n", " \n"]);
        }
        if self.chance(10) {
            text.truncate(text.trim_end().len());
        }
        text
    }

    /// A command with what goes with it.
    fn sensible(&mut self) -> Vec<String> {
        let command = *self.one_of(&[
            "add-service",
            "add-service",
            "add-service",
            "edit-service",
            "delete-service",
            "add-server",
            "add-server",
            "add-server",
            "add-server",
            "edit-server",
            "delete-server",
            "list",
            "list",
            "list",
            "list",
            "list",
            "zero",
            "save",
            "save",
            "set",
            "start-daemon",
            "stop-daemon",
            "clear",
            "help",
            "version",
        ]);
        let (some, most): (&[&str], usize) = match command {
            "add-service" | "edit-service" => {
                (&["scheduler", "sched-flags", "persistent", "netmask", "pe", "ops"], 4)
            }
            "add-server" | "edit-server" => (
                &[
                    "gatewaying",
                    "ipip",
                    "masquerading",
                    "weight",
                    "u-threshold",
                    "l-threshold",
                    "tun-type",
                    "tun-port",
                    "tun-nocsum",
                    "tun-csum",
                    "tun-remcsum",
                    "weight",
                    "masquerading",
                    "ipip",
                ],
                4,
            ),
            "list" => (
                &[
                    "numeric",
                    "numeric",
                    "stats",
                    "rate",
                    "thresholds",
                    "persistent-conn",
                    "exact",
                    "tun-info",
                    "nosort",
                    "sort",
                    "connection",
                    "timeout",
                    "daemon",
                    "syncid",
                ],
                3,
            ),
            "save" => (&["numeric"], 1),
            "start-daemon" => (
                &[
                    "mcast-interface",
                    "mcast-interface",
                    "syncid",
                    "sync-maxlen",
                    "mcast-group",
                    "mcast-port",
                    "mcast-ttl",
                ],
                4,
            ),
            "stop-daemon" => (&["syncid"], 1),
            _ => (&[], 0),
        };
        let mut groups = Vec::new();
        let wants_service = match command {
            "list" => self.chance(25),
            "zero" => self.chance(70),
            other => other.ends_with("service") || other.ends_with("server"),
        };
        if wants_service {
            groups.push(self.service());
        }
        if command.ends_with("server") {
            groups.push(self.option("real-server"));
        }
        let mut left: Vec<&str> = some.to_vec();
        for _ in 0..self.below(most + 1) {
            let name = left.remove(self.below(left.len()));
            groups.push(self.option(name));
        }
        // In any order.
        for last in (1..groups.len()).rev() {
            if self.chance(40) {
                let other = self.below(last + 1);
                groups.swap(last, other);
            }
        }
        if command == "set" {
            let numbers = ["0", "1", "60", "900", "2678400", "2678401", "-1", "x"];
            groups.push((0..3).map(|_| (*self.one_of(&numbers[..6])).to_owned()).collect());
        }
        let command = COMMANDS.iter().filter(|known| known.1 == command).collect::<Vec<_>>();
        let command = *self.one_of(&command);
        let mut words = self.spell(command);
        words.extend(groups.into_iter().flatten());
        words
    }

    fn service(&mut self) -> Vec<String> {
        let name = *self.one_of(&[
            "tcp-service",
            "tcp-service",
            "tcp-service",
            "udp-service",
            "sctp-service",
            "fwmark-service",
        ]);
        let mut words = self.option(name);
        if name == "fwmark-service" && self.chance(40) {
            words.push("-6".to_owned());
        }
        words
    }

    fn option(&mut self, name: &str) -> Vec<String> {
        let option = OPTIONS.iter().find(|option| option.1 == name).expect("an option");
        self.spell(option)
    }

    /// An option with a value, in one of the ways in which it can be written.
    fn spell(&mut self, Opt(short, long, takes): &Opt) -> Vec<String> {
        let value = match takes {
            Nothing => None,
            Perhaps(..) if self.chance(30) => None,
            Value(good, odd) | Perhaps(good, odd) => {
                Some(*if self.chance(94) { self.one_of(good) } else { self.one_of(odd) })
            }
        };
        match (short.filter(|_| self.chance(70)), value) {
            (Some(short), None) => vec![format!("-{short}")],
            (None, None) => vec![format!("--{long}")],
            (Some(short), Some(value)) => match self.below(10) {
                0 => vec![format!("-{short}{value}")],
                1 => vec![format!("-{short}={value}")],
                _ => vec![format!("-{short}"), value.to_owned()],
            },
            (None, Some(value)) => match self.below(4) {
                0 => vec![format!("--{long}={value}")],
                _ => vec![format!("--{long}"), value.to_owned()],
            },
        }
    }

    /// Any words at all.
    fn nonsense(&mut self) -> Vec<String> {
        let mut words = Vec::new();
        for _ in 0..=self.below(6) {
            match self.below(10) {
                0..4 => words.extend(self.any(COMMANDS)),
                4..8 => words.extend(self.any(OPTIONS)),
                _ => words.push((*self.one_of(ODD_WORDS)).to_owned()),
            }
        }
        words
    }

    fn any(&mut self, options: &[Opt]) -> Vec<String> {
        let at = self.below(options.len());
        self.spell(&options[at])
    }

    /// Makes a line odd, and mostly wrong.
    fn spoil(&mut self, words: &mut Vec<String>) {
        for _ in 0..=self.below(2) {
            let at = self.below(words.len().max(1));
            let odd = (*self.one_of(ODD_WORDS)).to_owned();
            match self.below(8) {
                0 if at < words.len() => drop(words.remove(at)),
                1 if at < words.len() => words.insert(at, words[at].clone()),
                2 if at < words.len() => {
                    let other = self.below(words.len());
                    words.swap(at, other);
                }
                3 if at < words.len() => words[at] = odd,
                4 => words.insert(at, odd),
                5 => words.truncate(at),
                6 => words.extend(self.any(OPTIONS)),
                _ => words.extend(self.any(COMMANDS)),
            }
        }
    }

    /// Writes two options as one word where that can be.
    fn cluster(&mut self, words: &mut Vec<String>) {
        let flag = |word: &String| {
            let mut chars = word.chars();
            chars.next() == Some('-')
                && chars.next().is_some_and(char::is_alphanumeric)
                && chars.next().is_none()
        };
        let pairs: Vec<usize> =
            (1..words.len()).filter(|at| flag(&words[at - 1]) && flag(&words[*at])).collect();
        if !pairs.is_empty() {
            let at = *self.one_of(&pairs);
            let second = words.remove(at);
            words[at - 1] += &second[1..];
        }
    }
}
