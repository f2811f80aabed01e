//! A record of network settings for tests.

use cvip::net::{DesiredSettings, Difference, Done, NetworkSettings, SettingsReport, ThisHost};
use cvip_lab::Namespace;

/// A keeper's record in a folder of its own.
pub(crate) struct Record(tempfile::TempDir);

impl Record {
    pub(crate) fn new() -> Record {
        Record(tempfile::tempdir().expect("a folder for a record"))
    }

    pub(crate) fn settings(&self) -> NetworkSettings {
        NetworkSettings::open(&self.host()).expect("a record that can be read")
    }

    pub(crate) fn host(&self) -> ThisHost {
        ThisHost::new(&self.0.path().join("net.json"))
    }

    /// Applies desired settings in a namespace, with a keeper that knows what the record says and
    /// nothing else: each call is a cvipd that was killed and started again.
    pub(crate) fn apply(&self, namespace: &Namespace, desired: &DesiredSettings) -> SettingsReport {
        let (mut settings, mut host) = (self.settings(), self.host());
        namespace.enter(|| settings.apply(&mut host, desired))
    }

    pub(crate) fn apply_well(
        &self,
        namespace: &Namespace,
        desired: &DesiredSettings,
    ) -> Vec<String> {
        let report = self.apply(namespace, desired);
        assert_eq!(report.failures, []);
        report.done.iter().map(Done::to_string).collect()
    }

    pub(crate) fn undo(&self, namespace: &Namespace) -> Vec<String> {
        self.apply_well(namespace, &DesiredSettings::default())
    }

    pub(crate) fn check(
        &self,
        namespace: &Namespace,
        desired: &DesiredSettings,
    ) -> Vec<Difference> {
        let (settings, mut host) = (self.settings(), self.host());
        namespace.enter(|| settings.check(&mut host, desired)).expect("lists of the kernel")
    }
}
