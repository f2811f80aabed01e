//! A way as a table to read: what happens, and how the world stands then.

use std::fmt;

use cvip::director::election::ElectionRole;

use super::event::Event;
use super::search::Violation;
use super::world::{Frame, Setting, World};

/// What happened on the way to a violation.
#[derive(Debug)]
pub struct Timeline<'v> {
    /// In which world.
    pub setting: Setting,
    /// What is wrong.
    pub violation: &'v Violation,
}

impl fmt::Display for Timeline<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let frame = Frame::new(self.setting.clone());
        let mut world = World::new(&frame);
        let beginning = world.now;
        writeln!(f, "{:>6}  {:<44} {:<22} directors", "s", "event", "store")?;
        let mut before = String::new();
        let mut steps = 0;
        for event in &self.violation.events {
            let result = world.happen(*event, &frame);
            let stands = stands(&world);
            // Steps in which nothing changes are left out.
            let is_step = matches!(event, Event::Step(_));
            if is_step && stands == before && result.is_ok() {
                steps += 1;
                continue;
            }
            if steps > 0 {
                writeln!(f, "{:>6}  ({steps} steps in which nothing changes)", "")?;
                steps = 0;
            }
            let s = world.now.duration_since(beginning).as_secs_f32();
            writeln!(f, "{s:>6.1}  {:<44} {stands}", event.to_string())?;
            before = stands;
        }
        if steps > 0 {
            writeln!(f, "{:>6}  ({steps} steps in which nothing changes)", "")?;
        }
        writeln!(f, "        {}", self.violation.what)
    }
}

fn stands(world: &World) -> String {
    let elected = world
        .store
        .elected
        .iter()
        .map(|(set, elected)| format!("set {set}: {} in {}", elected.node, elected.term));
    let elected = elected.collect::<Vec<_>>().join(", ");
    let directors = world.directors.iter().map(|director| {
        let role = match director.role() {
            None => "down".to_owned(),
            Some((_, ElectionRole::Standby)) => "standby".to_owned(),
            Some((_, ElectionRole::Active { term })) => format!("ACTIVE in {term}"),
        };
        let others = world.directors.iter().filter(|other| other.node != director.node);
        let heard = others.filter(|other| director.hears(other.node, world.now));
        let heard: Vec<String> = heard.map(|other| other.node.to_string()).collect();
        format!("{}: {role}, hears [{}]", director.node, heard.join(" "))
    });
    format!("{elected:<22} {}", directors.collect::<Vec<_>>().join("; "))
}
