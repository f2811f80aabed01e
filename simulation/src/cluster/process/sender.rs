//! The heartbeat sender: cvipd's schedule, and a network.

use std::rc::Rc;

use cvip::cores::{SendSchedule, SenderMessage};

use super::Environment;
use super::post::Worker;
use crate::cluster::conf::node_of;
use crate::cluster::packet::{Packet, Place};
use crate::time::SimTime;

/// One node's heartbeat sender.
pub struct Sender {
    schedule: SendSchedule,
}

impl Sender {
    /// A sender with this schedule.
    pub fn new(schedule: SendSchedule) -> Sender {
        Sender { schedule }
    }

    /// Takes messages, and sends what is due.
    pub fn run(&mut self, env: &mut Environment<'_>) {
        let now = env.now.instant();
        while let Some(message) = env.post.sender.pop_front() {
            match message {
                // More than fits does not occur with one set of directors.
                SenderMessage::HeartbeatContent(content) => {
                    let _ = self.schedule.set_content(content, now);
                }
                SenderMessage::Left(left) => self.schedule.tell_left(left, now),
                SenderMessage::View(_) => {}
            }
        }
        if let Some(heartbeat) = self.schedule.due(now) {
            let heartbeat = Rc::new(heartbeat);
            for to in self.schedule.receivers().iter().copied().filter_map(node_of) {
                env.sent.push((Place::Node(to), Packet::Heartbeat(Rc::clone(&heartbeat))));
            }
        }
        env.post.at(Worker::Sender, SimTime::of(self.schedule.next()), env.now);
    }
}
