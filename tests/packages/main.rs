//! The packages, on fresh systems: `cargo xtask package --test` makes both and runs this in the lab.
//!
//! Beside the programs' folder stand the packages (`.deb`, `.rpm`), those of an older version (`older/`), and fresh
//! Debian root file systems (`roots/`).

mod archives;
mod install;
mod machine;
mod root;
mod upgrade;

/// The same tests in a root of each release, each with a kernel of its own.
macro_rules! on_debian {
    ($module:ident, $release:literal) => {
        mod $module {
            #[test]
            fn what_is_installed_runs_and_a_purge_leaves_nothing() {
                crate::install::what_is_installed_runs_and_a_purge_leaves_nothing($release);
            }

            #[test]
            fn ipvsadm_rs_is_ipvsadm_where_debians_own_is_not() {
                crate::install::ipvsadm_rs_is_ipvsadm_where_debians_own_is_not($release);
            }

            #[test]
            fn an_upgrade_and_a_downgrade_lose_nothing_and_a_removed_node_leaves() {
                crate::upgrade::an_upgrade_and_a_downgrade_lose_nothing_and_a_removed_node_leaves(
                    $release,
                );
            }
        }
    };
}

on_debian!(debian_12, 12);
on_debian!(debian_13, 13);
