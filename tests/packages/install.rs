//! Installation, removal and purge, where no service manager runs.

use std::collections::BTreeSet;

use crate::root::{Root, VERSION};

/// What a system writes down of every installation.
const LOGS: [&str; 9] = [
    "/etc/.pwd.lock",
    "/etc/ld.so.cache",
    "/tmp",
    "/var/cache",
    "/var/lib/apt",
    "/var/lib/dpkg",
    "/var/lib/systemd/deb-systemd-helper",
    "/var/log",
    "/run",
];

/// Every file with its kind, mode, owners, size and the target of a link, but for logs.
fn files(root: &Root) -> BTreeSet<String> {
    // A folder's size and the backups of passwd(5) say nothing.
    let listed = root.sh(
        "find / -xdev -type d -printf '%p d %m %U %G\\n' -o -type f -printf '%p f %m %U %G %s\\n' \
         -o -printf '%p %y %m %U %G %l\\n'",
    );
    let lines = listed.lines().filter(|line| {
        let path = line.split(' ').next().unwrap_or_default();
        !LOGS.iter().any(|log| path.starts_with(log)) && !path.ends_with('-')
    });
    lines.map(str::to_owned).collect()
}

/// Asserts that nothing was added, changed or taken away.
#[track_caller]
fn assert_same(before: &BTreeSet<String>, after: &BTreeSet<String>) {
    let difference: Vec<_> = before.symmetric_difference(after).collect();
    assert!(difference.is_empty(), "{difference:#?}");
}

/// Every file of the packages is where it belongs, and what they made is gone with them.
pub(crate) fn what_is_installed_runs_and_a_purge_leaves_nothing(release: u8) {
    let root = Root::fresh(release).furnished();
    let before = files(&root);
    root.sh(&format!(
        "apt-get -y install /mnt/cvip_{VERSION}_*.deb /mnt/ipvsadm-rs_{VERSION}_*.deb"
    ));

    for program in ["cvipd", "cvipctl", "setport_weight"] {
        let said = root.sh(&format!("{program} --version"));
        assert_eq!(said, format!("{program} {}\n", env!("CARGO_PKG_VERSION")));
    }
    let version = root.sh("ipvsadm-rs --version");
    assert!(version.starts_with("ipvsadm v1.31 "), "{version}");
    assert_eq!(
        root.sh("cvipctl check --conf=/usr/share/doc/cvip/examples/ipv6/cvip.conf \
                        --clustertab=/usr/share/doc/cvip/examples/ipv6/clustertab")
            .lines()
            .filter(|line| line.contains("error"))
            .count(),
        0
    );
    root.sh("for file in man/man5/cvip.conf.5.gz man/man5/clustertab.5.gz man/man7/cvip.7.gz \
             man/man8/cvipd.8.gz man/man8/cvipctl-drain.8.gz man/man8/ipvsadm-rs.8.gz \
             bash-completion/completions/cvipctl zsh/vendor-completions/_cvipctl \
             fish/vendor_completions.d/cvipctl.fish bash-completion/completions/ipvsadm-rs \
             doc/cvip/copyright doc/cvip/changelog.Debian.gz doc/cvip/cluster.md; do \
             test -s /usr/share/$file || { echo $file; exit 1; }; done
         for file in sysusers.d/cvip.conf tmpfiles.d/cvip.conf modules-load.d/cvip.conf \
             systemd/system/cvipd.service systemd/system/ipvsadm-rs.service; do \
             test -s /usr/lib/$file || { echo $file; exit 1; }; done
         test -s /etc/default/cvipd && test -s /etc/cvip/cvip.toml");
    // The unit begins with the next boot; ipvsadm-rs.service is for those who enable it.
    let wanted = "ls /etc/systemd/system/multi-user.target.wants";
    assert!(root.sh(wanted).contains("cvipd.service"));
    assert!(!root.sh(wanted).contains("ipvsadm-rs.service"));
    assert_eq!(root.sh("getent passwd cvip | cut -d: -f1"), "cvip\n");
    // What stands in a C library's plug-ins is found: these programs are not static.
    assert!(root.sh("ldd /usr/sbin/cvipd").contains("libc.so.6"));

    root.sh("apt-get -y remove cvip ipvsadm-rs");
    root.sh(
        "test ! -e /usr/sbin/cvipd && test ! -e /usr/sbin/ipvsadm && test -s /etc/cvip/cvip.toml",
    );
    // It comes back as enabled as it was.
    root.sh(&format!("apt-get -y install /mnt/cvip_{VERSION}_*.deb && systemctl is-enabled cvipd"));
    root.sh("systemctl disable cvipd");
    root.sh(&format!("apt-get -y reinstall /mnt/cvip_{VERSION}_*.deb"));
    assert!(!root.sh(wanted).contains("cvipd.service"), "an administrator disabled it");

    root.sh("mkdir -p /run/cvip && touch /run/cvip/events");
    root.sh("apt-get -y purge cvip ipvsadm-rs");
    root.sh("test ! -e /run/cvip");
    assert_same(&before, &files(&root));

    // What an administrator wrote is not the package's to delete.
    root.sh(&format!("apt-get -y install /mnt/cvip_{VERSION}_*.deb"));
    root.sh("echo secret >/etc/cvip/cluster.key; touch /etc/cvip.conf");
    let said = root.sh("apt-get -y purge cvip");
    assert!(said.contains("/etc/cvip.conf was written by an administrator"), "{said}");
    root.sh("test -s /etc/cvip/cluster.key && test -e /etc/cvip.conf");
}

/// The names ipvsadm, ipvsadm-save and ipvsadm-restore are ipvsadm-rs's while no package has files there.
pub(crate) fn ipvsadm_rs_is_ipvsadm_where_debians_own_is_not(release: u8) {
    let root = Root::fresh(release).furnished();
    let before = files(&root);
    let ours = |root: &Root| {
        for name in ["ipvsadm", "ipvsadm-save", "ipvsadm-restore"] {
            assert_eq!(root.sh(&format!("readlink -f /usr/sbin/{name}")), "/usr/sbin/ipvsadm-rs\n");
        }
        assert!(root.sh("ipvsadm --version").starts_with("ipvsadm v1.31 "));
    };
    let debians = |root: &Root| {
        for name in ["ipvsadm", "ipvsadm-save", "ipvsadm-restore"] {
            assert_eq!(
                root.sh(&format!("readlink -f /usr/sbin/{name}")),
                format!("/usr/sbin/{name}\n")
            );
        }
    };
    let install_ours = format!("apt-get -y install /mnt/ipvsadm-rs_{VERSION}_*.deb");
    let install_debians = "dpkg --install /srv/packages/*.deb";

    root.sh(&install_ours);
    ours(&root);
    let asked = root.sh("update-alternatives --query ipvsadm");
    assert!(asked.contains("Value: /usr/sbin/ipvsadm-rs"), "{asked}");
    // An upgrade forgets no choice.
    root.sh(&install_ours.replace("install", "reinstall"));
    ours(&root);

    // Another order of both, and both ways to end.
    root.sh(install_debians);
    debians(&root);
    root.sh("dpkg --remove ipvsadm");
    ours(&root);
    root.sh("apt-get -y purge ipvsadm-rs && test ! -e /usr/sbin/ipvsadm");
    root.sh(install_debians);
    root.sh(&install_ours);
    debians(&root);
    root.sh("apt-get -y purge ipvsadm-rs");
    debians(&root);
    root.sh(&install_ours);
    root.sh("dpkg --purge ipvsadm");
    ours(&root);

    root.sh("apt-get -y purge ipvsadm-rs
         dpkg --purge $(for deb in /srv/packages/*.deb; do dpkg-deb --field $deb Package; done)");
    assert_same(&before, &files(&root));
}
