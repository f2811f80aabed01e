//! `cargo xtask deny`: whether every crate may come with cvip, as deny.toml says.
//!
//! deny.toml is in cargo-deny's format, and `cargo deny check licenses bans sources` says the same
//! and more; but building cargo-deny takes longer than all tests. This looks at what cargo itself
//! knows: each crate's licence as its author declares it, its version, and where it is from.

mod licence;

use std::collections::BTreeMap;
use std::process::{ExitCode, Stdio};

use anyhow::{Context, Result, ensure};
use serde::Deserialize;

use crate::build;

/// Say whether licences, versions and sources of all crates are as deny.toml allows
#[derive(clap::Args)]
pub(crate) struct Arguments {}

pub(crate) fn run(_: &Arguments) -> Result<ExitCode> {
    let path = build::root().join("deny.toml");
    let text = std::fs::read_to_string(&path).context("cannot read deny.toml")?;
    let rules: Rules = toml::from_str(&text).context("deny.toml")?;
    let mut faults = Vec::new();
    let mut crates = 0;
    for target in &rules.graph.targets {
        let metadata = metadata(target)?;
        crates = crates.max(metadata.packages.len());
        faults.extend(rules.faults(&metadata.packages));
    }
    faults.sort();
    faults.dedup();
    if faults.is_empty() {
        println!("licences, versions and sources of {crates} crates are as deny.toml allows");
        return Ok(ExitCode::SUCCESS);
    }
    for fault in faults {
        eprintln!("{fault}");
    }
    Ok(ExitCode::FAILURE)
}

/// What cargo knows of the crates that are built for a target.
fn metadata(target: &str) -> Result<Metadata> {
    let output = build::cargo()
        .args(["metadata", "--locked", "--format-version", "1", "--filter-platform", target])
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .context("cannot run cargo")?;
    ensure!(output.status.success(), "cargo metadata failed");
    Ok(serde_json::from_slice(&output.stdout)?)
}

#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
}

#[derive(Clone, Debug, Deserialize)]
struct Package {
    name: String,
    version: String,
    license: Option<String>,
    /// `None`: it is this project's.
    source: Option<String>,
    dependencies: Vec<Dependency>,
}

#[derive(Clone, Debug, Deserialize)]
struct Dependency {
    name: String,
    req: String,
    path: Option<String>,
}

/// The part of deny.toml that is understood here; cargo-deny understands more.
#[derive(Deserialize)]
struct Rules {
    graph: Graph,
    licenses: Licenses,
    bans: Bans,
    sources: Sources,
}

#[derive(Deserialize)]
struct Graph {
    targets: Vec<String>,
}

#[derive(Deserialize)]
struct Licenses {
    allow: Vec<String>,
}

#[derive(Deserialize)]
struct Bans {
    deny: Vec<Spec>,
    skip: Vec<Spec>,
}

#[derive(Deserialize)]
struct Sources {
    #[serde(rename = "allow-registry")]
    allow_registry: Vec<String>,
}

/// A crate, perhaps of some versions only: `name`, or `name@1.2`.
#[derive(Deserialize)]
struct Spec {
    #[serde(rename = "crate")]
    name: String,
}

impl Spec {
    fn is(&self, package: &Package) -> bool {
        let (name, version) = self.name.split_once('@').unwrap_or((&self.name, ""));
        let rest = package.version.strip_prefix(version);
        name == package.name
            && rest
                .is_some_and(|rest| version.is_empty() || rest.is_empty() || rest.starts_with('.'))
    }
}

impl Rules {
    /// What is not allowed, one line each.
    fn faults(&self, packages: &[Package]) -> Vec<String> {
        let mut faults = Vec::new();
        let mut versions: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for package in packages {
            let Package { name, version, .. } = package;
            match package.license.as_deref() {
                None => faults.push(format!("{name} {version} declares no licence")),
                Some(text) => match licence::allowed(text, &self.licenses.allow) {
                    Ok(true) => {}
                    Ok(false) => faults.push(format!(
                        "{name} {version} is under `{text}`, which deny.toml does not allow"
                    )),
                    Err(error) => faults.push(format!("{name} {version}: `{text}`: {error}")),
                },
            }
            if self.bans.deny.iter().any(|spec| spec.is(package)) {
                faults.push(format!("{name} {version} is banned by deny.toml"));
            }
            match &package.source {
                None => faults.extend(wildcards(package)),
                Some(source) => {
                    let registry = source.strip_prefix("registry+").unwrap_or_default();
                    if !self.sources.allow_registry.iter().any(|allowed| allowed == registry) {
                        faults.push(format!("{name} {version} is from {source}"));
                    }
                }
            }
            if !self.bans.skip.iter().any(|spec| spec.is(package)) {
                versions.entry(name).or_default().push(version);
            }
        }
        for (name, versions) in versions.iter().filter(|(_, versions)| versions.len() > 1) {
            faults.push(format!(
                "{name} is there in {} versions: {}; `cargo tree --workspace --duplicates` says why",
                versions.len(),
                versions.join(", ")
            ));
        }
        faults
    }
}

/// The dependencies of a package of ours of which any version would do.
fn wildcards(package: &Package) -> impl Iterator<Item = String> {
    let any = package.dependencies.iter().filter(|d| d.req == "*" && d.path.is_none());
    any.map(|d| format!("{} takes any version of {}", package.name, d.name))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules() -> Rules {
        let text = std::fs::read_to_string(build::root().join("deny.toml")).unwrap();
        toml::from_str(&text).unwrap()
    }

    fn package(name: &str, version: &str, license: &str) -> Package {
        Package {
            name: name.to_owned(),
            version: version.to_owned(),
            license: Some(license.to_owned()),
            source: Some("registry+https://github.com/rust-lang/crates.io-index".to_owned()),
            dependencies: Vec::new(),
        }
    }

    #[test]
    fn a_foreign_licence_a_ban_a_second_version_and_another_source_are_faults() {
        let rules = rules();
        assert!(rules.faults(&[package("a", "1.0.0", "MIT OR GPL-3.0")]).is_empty());
        let faults = |packages: &[Package]| rules.faults(packages).join("\n");
        assert!(faults(&[package("a", "1.0.0", "GPL-3.0")]).contains("`GPL-3.0`"));
        assert!(faults(&[package("openssl-sys", "0.9.1", "MIT")]).contains("banned"));
        let two = [package("a", "1.0.0", "MIT"), package("a", "2.1.0", "MIT")];
        assert!(faults(&two).contains("a is there in 2 versions: 1.0.0, 2.1.0"));
        let mut elsewhere = package("a", "1.0.0", "MIT");
        elsewhere.source = Some("git+https://example.com/a".to_owned());
        assert!(faults(&[elsewhere]).contains("is from git+"));
        let mut nothing = package("a", "1.0.0", "MIT");
        nothing.license = None;
        assert!(faults(&[nothing]).contains("declares no licence"));
    }

    #[test]
    fn a_skipped_version_is_no_second_one() {
        let two = [package("syn", "2.0.119", "MIT"), package("syn", "3.0.1", "MIT")];
        assert!(rules().faults(&two).is_empty());
        let spec = Spec { name: "syn@2".to_owned() };
        assert!(!spec.is(&package("syn", "21.0.0", "MIT")));
    }

    #[test]
    fn a_dependency_of_ours_on_any_version_is_a_fault() {
        let dependency = |path: Option<&str>| Dependency {
            name: "a".to_owned(),
            req: "*".to_owned(),
            path: path.map(str::to_owned),
        };
        let mut ours = package("cvip", "0.1.0", "MIT");
        ours.source = None;
        ours.dependencies = vec![dependency(Some("../a"))];
        assert!(rules().faults(std::slice::from_ref(&ours)).is_empty());
        ours.dependencies = vec![dependency(None)];
        assert!(rules().faults(&[ours])[0].contains("any version of a"));
    }
}
