//! What `top` shows: a thread looks at the cluster again and again, and gives the orders that the
//! user has confirmed.

use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender};
use std::time::Duration;

use super::rows::TopEvent;
use super::state::TopOrder;
use crate::cli::cvipctl::drain;
use crate::cli::cvipctl::events::Readers;
use crate::cli::cvipctl::overview::{Overview, overview};
use crate::cli::{NodeOption, Site, Streams};
use crate::clock::Instant;

/// So many events are kept.
const EVENTS: usize = 500;

/// A look at the cluster.
#[derive(Debug)]
pub(super) struct TopLook {
    pub(super) overview: Overview,
    pub(super) events: Vec<TopEvent>,
    pub(super) taken: Instant,
    /// Why a later look failed.
    pub(super) failed: Option<String>,
}

/// What the thread says.
pub(super) enum News {
    Look(Box<TopLook>),
    /// A look failed.
    Failed(String),
    /// What became of an order.
    Answer(String),
}

/// How the thread looks.
pub(super) struct Looker {
    pub(super) node: NodeOption,
    pub(super) site: Site,
    pub(super) every: Duration,
}

impl Looker {
    /// Looks and gives orders until the screen is gone.
    pub(super) fn run(&self, orders: &Receiver<TopOrder>, news: &Sender<News>) {
        let mut readers = Readers::default();
        let mut events = Vec::new();
        loop {
            let read = readers.read(&self.site.run_dir).unwrap_or_default();
            events.extend(read.into_iter().map(|event| TopEvent {
                text: event.what.to_string(),
                at: event.at,
                node: event.director,
            }));
            events.drain(..events.len().saturating_sub(EVENTS));
            let said = match overview(&self.node, &self.site, false) {
                Ok(overview) => News::Look(Box::new(TopLook {
                    overview,
                    events: events.clone(),
                    taken: Instant::now(),
                    failed: None,
                })),
                Err(error) => News::Failed(format!("{error:#}")),
            };
            if news.send(said).is_err() {
                return;
            }
            match orders.recv_timeout(self.every) {
                Ok(order) => {
                    // What is told is seen with the next look, at once.
                    if news.send(News::Answer(self.give(order))).is_err() {
                        return;
                    }
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    /// Gives an order as `cvipctl drain` and `undrain` do; what they say, on one line.
    fn give(&self, order: TopOrder) -> String {
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let mut streams = Streams::plain(&mut out, &mut err);
        let outcome = match order {
            TopOrder::Drain(target) => {
                drain::run(&drain::Args::of(target), &self.site, &mut streams)
            }
            TopOrder::Undrain(target) => {
                drain::undrain(&drain::UndrainArgs::of(target), &self.site, &mut streams)
            }
        };
        let mut said = String::from_utf8_lossy(&[out, err].concat()).into_owned();
        if let Err(error) = outcome {
            said += &format!("{error:#}");
        }
        said.lines().collect::<Vec<_>>().join("; ")
    }
}
