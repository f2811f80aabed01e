//! What the user of `top` sees and does: a key changes the state, or asks for an action. Pure.

use super::choice::{Choice, Listing, Within};
use super::rows::{TopRow, TopRows};
use crate::cli::cvipctl::drain::DrainArgument;

/// A key, as far as it means something here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TopKey {
    Char(char),
    Up,
    Down,
    PageUp,
    PageDown,
    Home,
    End,
    Enter,
    Escape,
    Tab,
    BackTab,
    Backspace,
    /// Control and C.
    Interrupt,
}

/// An order for the cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TopOrder {
    Drain(DrainArgument),
    Undrain(DrainArgument),
}

/// What the next key is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Mode {
    Browse,
    /// The text of the filter is typed.
    Filter,
    /// An order is to be confirmed; the text says which.
    Confirm(TopOrder, String),
    Help,
}

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TopAction {
    Quit,
    Order(TopOrder),
}

/// What the user has chosen, and what the next key is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct TopState {
    pub(super) choice: Choice,
    pub(super) mode: Mode,
    /// The row under the cursor; it may be beyond the last one.
    pub(super) selected: usize,
    /// What became of the last order.
    pub(super) message: Option<String>,
}

impl Default for TopState {
    fn default() -> TopState {
        TopState { choice: Choice::default(), mode: Mode::Browse, selected: 0, message: None }
    }
}

impl TopState {
    /// Takes a key. `rows` are those that are shown, `page` of them at a time.
    pub(super) fn key(&mut self, key: TopKey, rows: &TopRows, page: usize) -> Option<TopAction> {
        if key == TopKey::Interrupt {
            return Some(TopAction::Quit);
        }
        match std::mem::replace(&mut self.mode, Mode::Browse) {
            Mode::Browse => self.browse(key, rows, page),
            Mode::Filter => {
                self.type_filter(key);
                None
            }
            // Any other key is a no.
            Mode::Confirm(order, _) => {
                matches!(key, TopKey::Char('y' | 'Y')).then_some(TopAction::Order(order))
            }
            Mode::Help => None,
        }
    }

    fn type_filter(&mut self, key: TopKey) {
        self.selected = 0;
        match key {
            TopKey::Enter => return,
            TopKey::Escape => {
                self.choice.filter.clear();
                return;
            }
            TopKey::Backspace => {
                self.choice.filter.pop();
            }
            TopKey::Char(c) if !c.is_control() => self.choice.filter.push(c),
            _ => {}
        }
        self.mode = Mode::Filter;
    }

    fn browse(&mut self, key: TopKey, rows: &TopRows, page: usize) -> Option<TopAction> {
        let last = rows.rows.len().saturating_sub(1);
        let at = self.selected.min(last);
        self.message = None;
        match key {
            TopKey::Char('q') => return Some(TopAction::Quit),
            TopKey::Up | TopKey::Char('k') => self.selected = at.saturating_sub(1),
            TopKey::Down | TopKey::Char('j') => self.selected = (at + 1).min(last),
            TopKey::PageUp => self.selected = at.saturating_sub(page),
            TopKey::PageDown => self.selected = at.saturating_add(page).min(last),
            TopKey::Home => self.selected = 0,
            TopKey::End => self.selected = last,
            TopKey::Tab => self.list(self.choice.listing.beside(true), None),
            TopKey::BackTab => self.list(self.choice.listing.beside(false), None),
            TopKey::Char(c @ '1'..='5') => {
                self.list(Listing::ALL[c as usize - '1' as usize], None);
            }
            TopKey::Char('s') => self.choice.sort = self.choice.sort.next(),
            TopKey::Char('/') => self.mode = Mode::Filter,
            TopKey::Char('?' | 'h') => self.mode = Mode::Help,
            TopKey::Escape => self.back(),
            TopKey::Enter => {
                if let Some(within) = rows.rows.get(at).and_then(|row| row.opens.clone()) {
                    self.choice.filter.clear();
                    self.list(Listing::Servers, Some(within));
                }
            }
            TopKey::Char(c @ ('d' | 'u')) => self.ask(c == 'd', rows.rows.get(at)),
            _ => {}
        }
        None
    }

    /// Undoes the last of what narrows the view.
    fn back(&mut self) {
        match (self.choice.filter.is_empty(), self.choice.within.take()) {
            (false, within) => {
                self.choice.within = within;
                self.choice.filter.clear();
            }
            (true, Some(Within::Service(_))) => self.list(Listing::Services, None),
            (true, Some(Within::Node(_))) => self.list(Listing::Nodes, None),
            (true, None) => {}
        }
    }

    fn list(&mut self, listing: Listing, within: Option<Within>) {
        (self.choice.listing, self.choice.within, self.selected) = (listing, within, 0);
    }

    /// Asks whether a row is to be drained, or put back.
    fn ask(&mut self, drains: bool, row: Option<&TopRow>) {
        let Some((target, called)) = row.and_then(|row| row.target.clone()) else {
            let text = "choose a node, a real server or a drain (keys 2, 3, 4) to drain or undrain";
            self.message = Some(text.to_owned());
            return;
        };
        self.mode = match drains {
            true => Mode::Confirm(
                TopOrder::Drain(target),
                format!("Drain {called}: no new connections, the old ones go on?"),
            ),
            false => Mode::Confirm(
                TopOrder::Undrain(target),
                format!("Put {called} back: it gets new connections?"),
            ),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::super::choice::SortBy;
    use super::super::testing::shown;
    use super::*;

    /// Types keys; the last action, and the state after it.
    fn typed(keys: &[TopKey]) -> (Option<TopAction>, TopState) {
        let mut state = TopState::default();
        let mut action = None;
        for key in keys {
            action = state.key(*key, &shown(&state.choice), 10);
        }
        (action, state)
    }

    use TopKey::{Char, Down, Enter, Escape, Interrupt, Tab, Up};

    #[test]
    fn a_drain_is_ordered_once_it_is_confirmed_and_of_the_row_under_the_cursor() {
        let node = DrainArgument { node: 3, port: None };
        let (action, state) = typed(&[Char('3'), Down, Down, Char('d')]);
        assert_eq!(action, None);
        let Mode::Confirm(TopOrder::Drain(target), text) = &state.mode else { panic!("{state:?}") };
        assert_eq!(*target, node);
        assert!(text.starts_with("Drain node 3: "), "{text}");
        let keys = [Char('3'), Down, Down, Char('d'), Char('y')];
        assert_eq!(typed(&keys).0, Some(TopAction::Order(TopOrder::Drain(node))));
        for no in [Char('n'), Enter, Escape, Char('q')] {
            let (action, state) = typed(&[Char('3'), Down, Down, Char('d'), no]);
            assert_eq!((action, state.mode), (None, Mode::Browse));
        }
        let (action, _) = typed(&[Char('4'), Char('u'), Char('y')]);
        assert_eq!(action, Some(TopAction::Order(TopOrder::Undrain(node))));
        let (_, state) = typed(&[Char('1'), Char('d')]);
        assert!(state.mode == Mode::Browse && state.message.is_some(), "a service is no target");
    }

    #[test]
    fn enter_shows_the_real_servers_of_a_service_and_escape_goes_back() {
        let (_, state) = typed(&[Enter]);
        assert_eq!(state.choice.listing, Listing::Servers);
        assert_eq!(state.choice.within, Some(Within::Service("tcp 192.0.2.10:80".to_owned())));
        let rows = shown(&state.choice);
        assert_eq!(rows.rows.len(), 3);
        let (_, state) = typed(&[Enter, Escape]);
        assert_eq!((state.choice.listing, state.choice.within), (Listing::Services, None));
        let (_, state) = typed(&[Char('3'), Enter]);
        assert_eq!(state.choice.within, Some(Within::Node(1)));
    }

    #[test]
    fn a_filter_is_typed_and_taken_back() {
        let keys = [Char('2'), Char('/'), Char('b'), Char('E'), Char('t')];
        let (action, state) = typed(&keys);
        assert_eq!(
            (action, state.choice.filter.as_str(), &state.mode),
            (None, "bEt", &Mode::Filter)
        );
        assert!(shown(&state.choice).rows.iter().all(|row| row.cells.concat().contains("beta")));
        let mut more = keys.to_vec();
        more.extend([Enter, Escape]);
        assert_eq!(typed(&more).1.choice.filter, "");
    }

    #[test]
    fn the_cursor_stays_within_the_rows_and_q_ends_it() {
        assert_eq!(typed(&[Up]).1.selected, 0);
        assert_eq!(
            typed(&[TopKey::End, Down]).1.selected,
            shown(&Choice::default()).rows.len() - 1
        );
        assert_eq!(typed(&[Tab]).1.choice.listing, Listing::Servers);
        assert_eq!(typed(&[TopKey::BackTab]).1.choice.listing, Listing::Events);
        assert_eq!(typed(&[Char('q')]).0, Some(TopAction::Quit));
        assert_eq!(typed(&[Char('/'), Interrupt]).0, Some(TopAction::Quit));
        assert_eq!(typed(&[Char('s'), Char('s')]).1.choice.sort, SortBy::Rate);
    }
}
