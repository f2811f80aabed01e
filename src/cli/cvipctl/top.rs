//! `cvipctl top`: the cluster live, on a whole terminal.
//!
//! ```text
//!   look     a thread asks what `status` asks, and gives orders     store, cvipd, kernel
//!   rows     what was seen x the choice -> rows                     pure
//!   state    a key x the rows -> the choice, or an action           pure
//!   view     rows, choice and time -> the screen                    pure
//!   here     keys and screen                                        terminal
//! ```

mod choice;
mod look;
mod rows;
mod state;
#[cfg(test)]
mod testing;
mod view;

use std::io::IsTerminal;
use std::sync::mpsc::{self, Receiver, Sender, TryRecvError};
use std::thread;
use std::time::Duration;

use anyhow::{Context, bail};
use ratatui::DefaultTerminal;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};

use super::super::{NodeOption, OK, Site, Streams};
use crate::clock::Instant;
use crate::interrupts::Interrupts;
use look::{Looker, News, TopLook};
use rows::TopRows;
use state::{TopAction, TopKey, TopOrder, TopState};

/// A look every so often, unless said otherwise.
const EVERY: &str = "1s";

/// For so long a key is waited for before it is seen whether there is something new.
const KEYS_WITHIN: Duration = Duration::from_millis(100);

#[derive(clap::Args, Clone, Debug)]
pub(super) struct Args {
    #[command(flatten)]
    node: NodeOption,

    /// Look again after so long
    #[arg(long, value_name = "TIME", default_value = EVERY, value_parser = super::status::interval)]
    interval: Duration,
}

pub(super) fn run(args: &Args, site: &Site, streams: &mut Streams<'_>) -> anyhow::Result<u8> {
    if !streams.terminal || !std::io::stdin().is_terminal() {
        bail!("top needs a terminal; `cvipctl status --watch` prints one look after another");
    }
    // What cannot be seen at all is said before the screen is taken.
    site.settings()?;
    // Before there are threads, which would be ended by a signal in our place.
    let interrupts = Interrupts::hold().context("signals cannot be held back")?;
    let (orders, ordered) = mpsc::channel();
    let (news, heard) = mpsc::channel();
    let looker = Looker { node: args.node.clone(), site: site.clone(), every: args.interval };
    thread::Builder::new()
        .name("look".to_owned())
        .spawn(move || looker.run(&ordered, &news))
        .context("cannot start a thread")?;
    let mut terminal = ratatui::try_init().context("cannot take the terminal")?;
    let outcome = drive(&mut terminal, &interrupts, &orders, &heard, streams.colour);
    ratatui::restore();
    outcome.map(|()| OK)
}

/// Shows and obeys until the user has enough.
fn drive(
    terminal: &mut DefaultTerminal,
    interrupts: &Interrupts,
    orders: &Sender<TopOrder>,
    news: &Receiver<News>,
    in_colour: bool,
) -> anyhow::Result<()> {
    let mut state = TopState::default();
    let mut look: Option<Box<TopLook>> = None;
    loop {
        if interrupts.came() {
            return Ok(());
        }
        take_news(news, &mut look, &mut state)?;
        let shown = rows_of(look.as_deref(), &state);
        let now = Instant::now();
        terminal.draw(|frame| {
            view::draw(frame, &state, &shown, look.as_deref(), now, in_colour);
        })?;
        if !event::poll(KEYS_WITHIN)? {
            continue;
        }
        let Event::Key(pressed) = event::read()? else { continue };
        let Some(key) = key_of(pressed) else { continue };
        let page = view::page(terminal.size()?.height);
        match state.key(key, &shown, page) {
            Some(TopAction::Quit) => return Ok(()),
            Some(TopAction::Order(order)) => {
                state.message = Some("ordered ...".to_owned());
                orders.send(order).context("the thread that gives orders has ended")?;
            }
            None => {}
        }
    }
}

/// Takes what the thread has said. A first look that fails is the end.
fn take_news(
    news: &Receiver<News>,
    look: &mut Option<Box<TopLook>>,
    state: &mut TopState,
) -> anyhow::Result<()> {
    loop {
        match news.try_recv() {
            Ok(News::Look(seen)) => *look = Some(seen),
            Ok(News::Failed(why)) => match look {
                Some(look) => look.failed = Some(why),
                None => bail!("{why}"),
            },
            Ok(News::Answer(said)) => state.message = Some(said),
            Err(TryRecvError::Empty) => return Ok(()),
            Err(TryRecvError::Disconnected) => {
                bail!("the thread that looks at the cluster has ended")
            }
        }
    }
}

fn rows_of(look: Option<&TopLook>, state: &TopState) -> TopRows {
    match look {
        Some(look) => rows::rows(&look.overview, &look.events, &state.choice),
        None => TopRows { columns: &[], rows: Vec::new() },
    }
}

/// The key that was pressed, if it means something here.
fn key_of(pressed: KeyEvent) -> Option<TopKey> {
    if pressed.kind == KeyEventKind::Release {
        return None;
    }
    if pressed.modifiers.contains(KeyModifiers::CONTROL) {
        return (pressed.code == KeyCode::Char('c')).then_some(TopKey::Interrupt);
    }
    Some(match pressed.code {
        KeyCode::Char(c) => TopKey::Char(c),
        KeyCode::Up => TopKey::Up,
        KeyCode::Down => TopKey::Down,
        KeyCode::PageUp => TopKey::PageUp,
        KeyCode::PageDown => TopKey::PageDown,
        KeyCode::Home => TopKey::Home,
        KeyCode::End => TopKey::End,
        KeyCode::Enter => TopKey::Enter,
        KeyCode::Esc => TopKey::Escape,
        KeyCode::Tab => TopKey::Tab,
        KeyCode::BackTab => TopKey::BackTab,
        KeyCode::Backspace => TopKey::Backspace,
        _ => return None,
    })
}
