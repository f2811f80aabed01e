//! The JSON document on a hook's standard input.

use std::time::SystemTime;

use serde::Serialize;

use super::messages::{HookCvip, HookEvent, QuorumChange, RoleChange, RoleEvent};
use crate::json::{SCHEMA, rfc3339_millis};
use crate::store::ServiceKey;

/// The document, as `docs/json/hook.json` describes it.
#[derive(Serialize)]
struct HookDocument<'a> {
    schema: u32,
    time: String,
    event: HookEvent,
    node: u32,
    /// The last change of its role; absent if there was none since cvipd started.
    #[serde(skip_serializing_if = "Option::is_none")]
    role: Option<RoleEvent>,
    #[serde(skip_serializing_if = "Option::is_none")]
    set: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    term: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cvips: Option<&'a [HookCvip]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    service: Option<HookService>,
}

#[derive(Serialize)]
struct HookService {
    #[serde(flatten)]
    key: ServiceKey,
    weight: u64,
    quorum: u32,
}

/// The document of a change of role.
pub(super) fn of_role(node: u32, event: HookEvent, change: &RoleChange, at: SystemTime) -> Vec<u8> {
    line(&HookDocument {
        schema: SCHEMA,
        time: rfc3339_millis(at),
        event,
        node,
        role: Some(change.event),
        set: Some(change.set),
        term: change.term,
        cvips: Some(&change.cvips),
        service: None,
    })
}

/// The document of a change of a service's quorum, by a director whose role changed like this last.
pub(super) fn of_quorum(
    node: u32,
    event: HookEvent,
    change: &QuorumChange,
    role: Option<&RoleChange>,
    at: SystemTime,
) -> Vec<u8> {
    let QuorumChange { service, weight, quorum, .. } = *change;
    line(&HookDocument {
        schema: SCHEMA,
        time: rfc3339_millis(at),
        event,
        node,
        role: role.map(|role| role.event),
        set: role.map(|role| role.set),
        term: role.and_then(|role| role.term),
        cvips: None,
        service: Some(HookService { key: service, weight, quorum }),
    })
}

fn line(document: &HookDocument<'_>) -> Vec<u8> {
    // Numbers, texts and addresses alone.
    let mut line = serde_json::to_vec(document).unwrap_or_default();
    line.push(b'\n');
    line
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::Protocol;

    fn text(bytes: Vec<u8>) -> String {
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn a_document_is_one_line_with_what_belongs_to_its_event() {
        let at = SystemTime::UNIX_EPOCH;
        let cvip = HookCvip {
            address: [192, 0, 2, 100].into(),
            interface: "eth0".to_owned(),
            gateway: None,
        };
        let change = RoleChange {
            number: 7,
            event: RoleEvent::Active,
            set: 1,
            term: Some(3),
            cvips: vec![cvip],
        };
        assert_eq!(
            text(of_role(2, HookEvent::Active, &change, at)),
            "{\"schema\":1,\"time\":\"1970-01-01T00:00:00.000Z\",\"event\":\"active\",\"node\":2,\
             \"role\":\"active\",\"set\":1,\"term\":3,\
             \"cvips\":[{\"address\":\"192.0.2.100\",\"interface\":\"eth0\"}]}\n"
        );
        let service =
            ServiceKey { cvip: [192, 0, 2, 100].into(), protocol: Protocol::Tcp, port: 80 };
        let quorum = QuorumChange { service, has_quorum: false, weight: 1, quorum: 2 };
        assert_eq!(
            text(of_quorum(2, HookEvent::QuorumDown, &quorum, None, at)),
            "{\"schema\":1,\"time\":\"1970-01-01T00:00:00.000Z\",\"event\":\"quorum-down\",\
             \"node\":2,\"service\":{\"cvip\":\"192.0.2.100\",\"protocol\":\"tcp\",\"port\":80,\
             \"weight\":1,\"quorum\":2}}\n"
        );
    }
}
