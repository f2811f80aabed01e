use super::super::messages::{PendingState, Unavailable};
use super::*;
use crate::store::{DrainTarget, Elected};

const PATIENCE: Duration = Duration::from_secs(2);

fn at(generation: u64, revision: i64) -> StoreVersion {
    StoreVersion { generation, revision }
}

fn layout() -> Layout {
    Layout::new("/cvip/")
}

fn record(node: u32, incarnation: u64, sequence: u64) -> NodeRecord {
    NodeRecord::empty(node, incarnation, sequence)
}

fn text(value: &Value) -> Arc<StoredText> {
    StoredText::new(value.encode())
}

fn item(key: Key, value: Option<&Value>, at: StoreVersion) -> (Vec<u8>, Item) {
    (layout().path(key).unwrap().into_bytes(), Item { text: value.map(text), at })
}

fn stored(value: &Value, revision: i64) -> StoredValue {
    StoredValue { text: text(value), revision, lease: 0 }
}

/// A refresh: what the store's owner does between the wait and the answer.
fn refresh(view: &mut EtcdView, pending: &mut PendingState) -> Result<Refreshed, StoreError> {
    let (changes, reading) = pending.take();
    let Taken { changed, corrupt } = view.take(changes, reading, PATIENCE)?;
    let fault = |Corrupt { key, reason, .. }| Fault {
        key,
        path: layout().path(key).unwrap().into(),
        set_aside: None,
        reason,
    };
    let faults = corrupt.into_iter().map(fault).collect();
    view.tell(changed, faults, Ok(Refreshed::default()), PATIENCE)
}

fn changed(refreshed: Result<Refreshed, StoreError>) -> Vec<Key> {
    refreshed.unwrap().changed.into_iter().collect()
}

/// A view that read these values at the first session's revision 10.
fn view_of(values: &[(Key, Value)]) -> (EtcdView, PendingState) {
    let (mut view, mut pending) = (EtcdView::new(layout()), PendingState::default());
    let items = values.iter().map(|(key, value)| item(*key, Some(value), at(1, 10)));
    pending.put_whole(at(1, 10), items, 0);
    refresh(&mut view, &mut pending).unwrap();
    (view, pending)
}

#[test]
fn nothing_is_known_before_everything_was_read_once_and_an_absence_takes_nothing_away() {
    let (mut view, mut pending) = (EtcdView::new(layout()), PendingState::default());
    pending.put([item(Key::Alive(1), Some(&Value::Alive(5)), at(1, 3))].into_iter());
    assert!(refresh(&mut view, &mut pending).unwrap_err().is_unavailable());
    assert!(view.is_asked(), "the next refresh waits again");
    assert_eq!(view.state(), &StoreState::default());
    let alive = [item(Key::Alive(1), Some(&Value::Alive(5)), at(1, 3))];
    pending.put_whole(at(1, 4), alive.into_iter(), 0);
    assert_eq!(changed(refresh(&mut view, &mut pending)), [Key::Alive(1)]);
    let since = Instant::now();
    let unavailable = Unavailable { since, reason: "unavailable".to_owned() };
    assert!(pending.set_unavailable(Some(unavailable)));
    assert!(changed(refresh(&mut view, &mut pending)).is_empty());
    assert_eq!(view.unavailable_since(), Some(since));
    assert_eq!(view.state().alive[&1], 5);
}

#[test]
fn a_full_read_removes_what_is_missing_from_it_but_nothing_that_was_written_since() {
    let alive = (Key::Alive(2), Value::Alive(7));
    let (mut view, mut pending) = view_of(&[alive, (Key::Node(1), Value::Node(record(1, 1, 1)))]);
    view.wrote(Key::Node(1), Some(text(&Value::Node(record(1, 1, 2)))), at(1, 12));
    // It was read before our write.
    pending.put_whole(at(1, 11), std::iter::empty(), 0);
    assert_eq!(changed(refresh(&mut view, &mut pending)), [Key::Node(1), Key::Alive(2)]);
    assert_eq!(view.state().nodes[&1].sequence, 2);
    assert!(view.state().alive.is_empty());
    // An older value of the same key comes late.
    let older = item(Key::Node(1), Some(&Value::Node(record(1, 1, 1))), at(1, 11));
    pending.put([older].into_iter());
    assert!(changed(refresh(&mut view, &mut pending)).is_empty());
    // A later session sees an older state of the cluster: it counts, whatever its revision.
    pending.put_whole(at(2, 3), std::iter::empty(), 0);
    assert_eq!(changed(refresh(&mut view, &mut pending)), [Key::Node(1)]);
    assert!(view.state().nodes.is_empty());
}

#[test]
fn what_cannot_be_read_is_told_and_the_last_value_stays() {
    let (mut view, mut pending) = view_of(&[(Key::Node(1), Value::Node(record(1, 1, 1)))]);
    let corrupt = |key| {
        let text = Some(StoredText::new(b"{".to_vec()));
        (layout().path(key).unwrap().into_bytes(), Item { text, at: at(1, 11) })
    };
    pending.put([corrupt(Key::Node(1)), corrupt(Key::Alive(3))].into_iter());
    let refreshed = refresh(&mut view, &mut pending).unwrap();
    assert_eq!(refreshed.faults.len(), 2);
    assert_eq!(view.state().nodes[&1].sequence, 1);
    assert_eq!(view.state().alive[&3], 0, "it is held, whichever process holds it");
}

#[test]
fn a_full_read_that_does_not_come_is_an_error_and_what_came_meanwhile_is_told_later() {
    let (mut view, mut pending) = view_of(&[]);
    let ticket = view.invalidate();
    assert!(view.is_asked() && pending.awaits(ticket));
    pending.put([item(Key::Alive(1), Some(&Value::Alive(5)), at(1, 11))].into_iter());
    assert!(refresh(&mut view, &mut pending).unwrap_err().is_unavailable());
    assert!(!view.is_asked(), "it was waited for in vain");
    assert_eq!(view.state().alive[&1], 5);
    let alive = [item(Key::Alive(1), Some(&Value::Alive(5)), at(1, 11))];
    pending.put_whole(at(1, 11), alive.into_iter(), ticket);
    assert_eq!(changed(refresh(&mut view, &mut pending)), [Key::Alive(1)]);
}

#[test]
fn a_record_is_written_over_earlier_ones_alone_and_its_last_write_need_not_be_read() {
    let (mut view, _) = view_of(&[]);
    let (second, first) = (record(1, 2, 1), record(1, 1, 9));
    let mut write = EtcdWrite::PutNode(&second);
    assert!(view.known(&write).is_none());
    let earlier = stored(&Value::Node(first.clone()), 4);
    let Ok((Decision::Replace(Some(written)), _)) = view.decide(&mut write, Some(&earlier)) else {
        panic!("it is later");
    };
    assert_eq!(written.value(Key::Node(1)), Ok(&Value::Node(second.clone())));
    view.wrote(Key::Node(1), Some(written), at(1, 5));
    let third = record(1, 2, 2);
    assert_eq!(view.known(&EtcdWrite::PutNode(&third)).unwrap().revision, 5);
    let mut write = EtcdWrite::PutNode(&first);
    assert!(view.known(&write).is_none(), "what is known refuses nothing");
    let later = stored(&Value::Node(second), 5);
    let refused = view.decide(&mut write, Some(&later));
    assert!(matches!(refused, Err(StoreError::Superseded(1))));
}

#[test]
fn terms_do_not_go_back_with_the_store() {
    let elected = |term| Elected { node: 1, incarnation: 1, term };
    let (mut view, mut pending) = view_of(&[(Key::Director(1), Value::Director(elected(7)))]);
    pending.put_whole(at(2, 1), std::iter::empty(), 0);
    assert_eq!(changed(refresh(&mut view, &mut pending)), [Key::Director(1)]);
    let claim = |expected_term| EtcdWrite::Claim { set: 1, expected_term, claimant: (2, 5) };
    let won = |view: &EtcdView| view.decide(&mut claim(None), None).unwrap().1.claim.unwrap();
    assert_eq!(won(&view), TermClaim::Won(Elected { node: 2, incarnation: 5, term: 8 }));
    view.surpass(1, 20);
    assert_eq!(won(&view), TermClaim::Won(Elected { node: 2, incarnation: 5, term: 21 }));
    let other = stored(&Value::Director(elected(3)), 2);
    let (decision, written) = view.decide(&mut claim(None), Some(&other)).unwrap();
    assert!(matches!(decision, Decision::Leave));
    assert_eq!(written.claim, Some(TermClaim::Stands(Some(elected(3)))));
}

#[test]
fn an_update_starts_from_what_stands_there_and_from_nothing_where_that_is_corrupt() {
    let (view, _) = view_of(&[]);
    let target = DrainTarget { node: 3, port: None };
    let mut seen = Vec::new();
    let mut change = |drains: &mut Drains| {
        seen.push(drains.len());
        drains.remove(&target);
    };
    let mut write = EtcdWrite::UpdateDrains(&mut change);
    let order = br#"[{"node":3,"since":1,"by":"root"}]"#.to_vec();
    let there = |bytes| StoredValue { text: StoredText::new(bytes), revision: 2, lease: 0 };
    let (_, written) = view.decide(&mut write, Some(&there(order))).unwrap();
    assert!(written.corrupt.is_none());
    let (_, written) = view.decide(&mut write, Some(&there(b"[{".to_vec()))).unwrap();
    assert!(written.corrupt.is_some());
    view.decide(&mut write, None).unwrap();
    assert_eq!(seen, [1, 0, 0]);
}

#[test]
fn only_what_is_corrupt_is_repaired_with_what_the_view_has() {
    let value = Value::Alive(4);
    let record = Value::Node(record(1, 1, 1));
    let (view, _) = view_of(&[(Key::Node(1), record.clone()), (Key::Alive(1), value)]);
    let repair = |key, stored: Option<&StoredValue>| {
        view.decide(&mut EtcdWrite::Repair(key), stored).unwrap().0
    };
    let corrupt = || StoredValue { text: StoredText::new(b"{".to_vec()), revision: 2, lease: 0 };
    assert!(matches!(repair(Key::Node(1), None), Decision::Leave));
    assert!(matches!(repair(Key::Node(1), Some(&stored(&record, 2))), Decision::Leave));
    let Decision::Replace(Some(again)) = repair(Key::Node(1), Some(&corrupt())) else {
        panic!("it is put back");
    };
    assert_eq!(again.value(Key::Node(1)), Ok(&record));
    assert!(matches!(repair(Key::Drains, Some(&corrupt())), Decision::Replace(None)));
}
