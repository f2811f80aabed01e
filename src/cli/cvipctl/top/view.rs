//! The screen of `top`: from what was seen, what the user has chosen, and the time. Pure.

use std::time::Duration;

use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::Paragraph;

use super::choice::{Choice, Listing, SortBy, Within};
use super::look::TopLook;
use super::rows::{Column, RowTone, TopRows};
use super::state::{Mode, TopState};
use crate::cli::cvipctl::overview::{Condition, cut};
use crate::clock::Instant;
use crate::output::harmless;

/// Lines above the rows, and below them.
const ABOVE: u16 = 4;
const BELOW: u16 = 2;

/// What was seen longer ago than this is marked.
const OLD: Duration = Duration::from_secs(10);

const KEYS: &str = "q quit  Tab list  Enter open  Esc back  s sort  / find  d drain  u undrain  ?";

const HELP: [&str; 15] = [
    "1 services  2 real servers  3 nodes  4 drains  5 events  Tab the next of them",
    "",
    "Up Down PageUp PageDown Home End   move the cursor (also k and j)",
    "Enter   the real servers of the service or node under the cursor",
    "Esc     take back the filter, or go back from where Enter led",
    "s       sort by the next of: name, connections, rate, bytes, weight",
    "/       show only rows that contain a text; Enter keeps it, Esc drops it",
    "d       drain what is under the cursor: a node, or a port of it",
    "u       put it back",
    "q       end (also Ctrl-C)",
    "",
    "An order is given once it is confirmed with y. Draining takes no connection",
    "away: new ones go elsewhere, old ones go on until the service's drain_timeout.",
    "",
    "Any key goes back.",
];

/// How many rows a screen of this height shows.
pub(super) fn page(height: u16) -> usize {
    usize::from(height.saturating_sub(ABOVE + BELOW)).max(1)
}

/// Draws the screen.
pub(super) fn draw(
    frame: &mut Frame<'_>,
    state: &TopState,
    rows: &TopRows,
    look: Option<&TopLook>,
    now: Instant,
    in_colour: bool,
) {
    let area = frame.area();
    let width = usize::from(area.width);
    let mut screen = Screen { frame, area, width, in_colour };
    let Some(look) = look else {
        screen.line(0, Style::new(), "looking at the cluster ...");
        screen.line(area.height.saturating_sub(1), Style::new(), "q quit");
        return;
    };
    screen.headline(look, now);
    screen.tabs(&state.choice);
    screen.elections(look);
    match &state.mode {
        Mode::Help => {
            for (at, text) in (3..).zip(HELP) {
                screen.line(at, Style::new(), text);
            }
        }
        _ => screen.rows(state.selected, rows),
    }
    screen.foot(state, rows);
}

struct Screen<'a, 'b> {
    frame: &'a mut Frame<'b>,
    area: Rect,
    width: usize,
    in_colour: bool,
}

impl Screen<'_, '_> {
    fn put(&mut self, at: u16, line: Line<'_>) {
        if at < self.area.height {
            let area = Rect { y: self.area.y + at, height: 1, ..self.area };
            self.frame.render_widget(Paragraph::new(line), area);
        }
    }

    /// A line over the whole width, which is cut.
    fn line(&mut self, at: u16, style: Style, text: &str) {
        let text = cut(&harmless(text), self.width);
        let text = format!("{text:<width$}", width = self.width);
        self.put(at, Line::from(Span::styled(text, style)));
    }

    fn colour(&self, colour: Color) -> Style {
        if self.in_colour { Style::new().fg(colour) } else { Style::new() }
    }

    fn headline(&mut self, look: &TopLook, now: Instant) {
        let age = now.saturating_duration_since(look.taken);
        let note = match (&look.failed, age >= OLD) {
            (Some(why), _) => format!(" [not seen anew: {why}]"),
            (None, true) => format!(" [{} s ago]", age.as_secs()),
            (None, false) => String::new(),
        };
        let note = cut(&note, self.width / 2);
        let headline = &look.overview.report.headline;
        let text = headline.line(self.width.saturating_sub(note.chars().count()));
        let colour = match headline.condition {
            Condition::Ok => Color::Green,
            Condition::Warning => Color::Yellow,
            Condition::Fault => Color::Red,
        };
        let style = self.colour(colour).add_modifier(Modifier::BOLD);
        self.line(0, style, &format!("{text}{note}"));
    }

    fn tabs(&mut self, choice: &Choice) {
        let mut spans = Vec::new();
        for (number, listing) in (1..).zip(Listing::ALL) {
            let chosen = listing == choice.listing;
            let style = if chosen { Modifier::REVERSED } else { Modifier::empty() };
            let text = format!(" {number} {} ", listing.name());
            spans.push(Span::styled(text, Style::new().add_modifier(style)));
        }
        let within = match &choice.within {
            None => String::new(),
            Some(Within::Service(service)) => format!("  of {service}"),
            Some(Within::Node(node)) => format!("  of node {node}"),
        };
        let sort = match choice.sort {
            SortBy::Name => String::new(),
            sort => format!("  by {}", sort.name()),
        };
        spans.push(Span::raw(harmless(&format!("{within}{sort}"))));
        self.put(1, Line::from(spans));
    }

    /// Who directs what.
    fn elections(&mut self, look: &TopLook) {
        let report = &look.overview.report;
        let names = &look.overview.names;
        let sets = report.director_sets.iter().map(|set| {
            let active = set.directors.iter().find(|node| set.is_active(**node));
            let active = active.map_or_else(|| "no node".to_owned(), |node| names.called(*node));
            let others = set.directors.iter().filter(|node| !set.is_active(**node));
            let others: Vec<String> = others.map(|node| names.called(*node)).collect();
            let cvips: Vec<String> = set.cvips.iter().map(ToString::to_string).collect();
            let term = set.term.map_or_else(String::new, |term| format!(", term {term}"));
            let standby = match others.is_empty() {
                true => String::new(),
                false => format!(" (standby {}{term})", others.join(", ")),
            };
            format!("{}: {active} directs{standby}", cvips.join(", "))
        });
        let text = sets.collect::<Vec<_>>().join("; ");
        self.line(2, Style::new(), &text);
    }

    fn rows(&mut self, selected: usize, rows: &TopRows) {
        let titles: Vec<&str> = rows.columns.iter().map(|(title, ..)| *title).collect();
        let bold = Style::new().add_modifier(Modifier::BOLD | Modifier::UNDERLINED);
        let text = laid_out(rows.columns, &titles, self.width);
        self.line(3, bold, &text);
        let page = page(self.area.height);
        let selected = selected.min(rows.rows.len().saturating_sub(1));
        let first = selected / page * page;
        for (at, row) in rows.rows.iter().enumerate().skip(first).take(page) {
            let style = match row.tone {
                RowTone::Plain => Style::new(),
                RowTone::Warning => self.colour(Color::Yellow),
                RowTone::Fault => self.colour(Color::Red).add_modifier(Modifier::BOLD),
                RowTone::Faint => Style::new().add_modifier(Modifier::DIM),
            };
            let style = match at == selected {
                true => style.add_modifier(Modifier::REVERSED),
                false => style,
            };
            let cells: Vec<String> = row.cells.iter().map(|cell| harmless(cell)).collect();
            let cells: Vec<&str> = cells.iter().map(String::as_str).collect();
            let text = laid_out(rows.columns, &cells, self.width);
            let y = u16::try_from(at - first).unwrap_or(u16::MAX).saturating_add(ABOVE);
            self.line(y, style, &text);
        }
        if rows.rows.is_empty() {
            self.line(ABOVE, Style::new(), "nothing to show");
        }
    }

    fn foot(&mut self, state: &TopState, rows: &TopRows) {
        let count = rows.rows.len();
        let selected = state.selected.min(count.saturating_sub(1));
        let about = rows.rows.get(selected).map_or("", |row| row.about.as_str());
        let filter = &state.choice.filter;
        let text = match &state.mode {
            Mode::Confirm(_, text) => format!("{text} (y/n)"),
            Mode::Filter => format!("Filter: {filter}_"),
            _ => match (&state.message, filter.is_empty()) {
                (Some(message), _) => message.clone(),
                (None, false) => format!("Filter: {filter} ({count} rows, Esc drops it)  {about}"),
                (None, true) => about.to_owned(),
            },
        };
        let is_question = matches!(state.mode, Mode::Confirm(..));
        let style = match is_question {
            true => self.colour(Color::Yellow).add_modifier(Modifier::BOLD),
            false => Style::new(),
        };
        let height = self.area.height;
        self.line(height.saturating_sub(2), style, &text);
        let keys = Style::new().add_modifier(Modifier::DIM);
        self.line(height.saturating_sub(1), keys, KEYS);
    }
}

/// Cells in their columns, of the width of the screen in all.
fn laid_out(columns: &[Column], cells: &[&str], width: usize) -> String {
    let fixed: usize = columns.iter().map(|(_, width, _)| width + 1).sum();
    let rest = width.saturating_sub(fixed).max(8);
    let mut text = String::new();
    for ((_, width, is_right), cell) in columns.iter().zip(cells) {
        let width = if *width == 0 { rest } else { *width };
        let cell = cut(cell, width);
        text += &match is_right {
            true => format!("{cell:>width$} "),
            false => format!("{cell:<width$} "),
        };
    }
    text.trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use ratatui::Terminal;
    use ratatui::backend::TestBackend;

    use super::super::rows::rows;
    use super::super::state::TopKey;
    use super::super::testing;
    use super::*;
    use crate::cli::cvipctl::overview::testing::Cluster;

    fn look() -> TopLook {
        TopLook {
            overview: Cluster::troubled().overview(),
            events: testing::events(),
            taken: Instant::now(),
            failed: None,
        }
    }

    /// The screen after some keys, of 80 columns and 24 lines.
    fn screen(keys: &[TopKey], look: Option<&TopLook>, later: Duration) -> Vec<String> {
        let mut state = TopState::default();
        let of = |choice: &Choice| {
            let seen = look.map(|look| rows(&look.overview, &look.events, choice));
            seen.unwrap_or(TopRows { columns: &[], rows: Vec::new() })
        };
        for key in keys {
            state.key(*key, &of(&state.choice), page(24));
        }
        let mut terminal = Terminal::new(TestBackend::new(80, 24)).unwrap();
        let shown = of(&state.choice);
        let now = look.map_or_else(Instant::now, |look| look.taken) + later;
        terminal.draw(|frame| draw(frame, &state, &shown, look, now, true)).unwrap();
        let buffer = terminal.backend().buffer();
        let line = |y| (0..80).map(|x| buffer[(x, y)].symbol()).collect::<String>();
        (0..24).map(|y| line(y).trim_end().to_owned()).collect()
    }

    #[test]
    fn the_services_with_their_connections_and_rates_are_seen_first() {
        let lines = screen(&[], Some(&look()), Duration::ZERO);
        assert!(
            lines[0].starts_with("FAULT: beta: tcp 192.0.2.10:80 fails its check"),
            "{lines:#?}"
        );
        assert!(lines[1].starts_with(" 1 Services  2 Real servers  3 Nodes"), "{lines:#?}");
        assert_eq!(lines[2], "192.0.2.10: alpha directs (standby beta, term 4)");
        let words = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
        assert_eq!(words(&lines[3]), "Service Sched Servers Active Inactive Conn/s B in/s");
        assert_eq!(words(&lines[4]), "tcp 192.0.2.10:80 wlc 1/3 44 9 158 96.8k");
        assert!(lines[23].starts_with("q quit"), "{lines:#?}");
    }

    #[test]
    fn each_listing_shows_what_it_is_about_and_the_line_below_says_why() {
        let of = |keys: &[TopKey]| screen(keys, Some(&look()), Duration::ZERO);
        let lines = of(&[TopKey::Enter, TopKey::Down]);
        assert!(lines[1].contains("of tcp 192.0.2.10:80"), "{lines:#?}");
        assert_eq!(lines[22], "unhealthy: status 503, not 200-399");
        let lines = of(&[TopKey::Char('3')]);
        assert!(lines[4].contains("alpha") && lines[4].contains("running"), "{lines:#?}");
        let lines = of(&[TopKey::Char('4')]);
        assert!(lines[4].starts_with("node 3 ") && lines[4].ends_with("new disk"), "{lines:#?}");
        let lines = of(&[TopKey::Char('5')]);
        assert!(lines[4].starts_with("2026-03-01 10:00:02 alpha"), "{lines:#?}");
        let lines = of(&[TopKey::Char('3'), TopKey::Char('d')]);
        assert!(lines[22].starts_with("Drain node 1 (alpha): "), "{lines:#?}");
        assert!(lines[22].ends_with("(y/n)"), "{lines:#?}");
        let lines = of(&[TopKey::Char('?')]);
        assert!(lines.iter().any(|line| line.starts_with("An order is given once")), "{lines:#?}");
    }

    #[test]
    fn what_was_not_seen_for_long_is_marked() {
        let lines = screen(&[], Some(&look()), Duration::from_secs(42));
        assert!(lines[0].ends_with("[42 s ago]") && lines[0].chars().count() <= 80, "{lines:#?}");
        let failed = TopLook { failed: Some("no store".to_owned()), ..look() };
        let lines = screen(&[], Some(&failed), Duration::ZERO);
        assert!(lines[0].ends_with("[not seen anew: no store]"), "{lines:#?}");
        assert!(screen(&[], None, Duration::ZERO)[0].starts_with("looking at the cluster"));
    }
}
