//! What must never be, and how a world must stand once nothing changes any more.

use cvip::counter;
use cvip::director::election::ElectionRole;
use cvip::store::Elected;

use super::event::Fault;
use super::world::World;

/// What must never be after a step of time.
///
/// # Errors
/// It is.
pub(super) fn check_safety(before: &World, world: &World) -> Result<(), String> {
    for (at, director) in world.directors.iter().enumerate() {
        if let Some((set, term)) = director.active() {
            knows_of_no_later(world, at, set, term)?;
        }
    }
    for (one, set, term) in active(world) {
        for (other, other_set, other_term) in active(world) {
            if one >= other || set != other_set {
                continue;
            }
            let names = format!("directors {} and {}", node(world, one), node(world, other));
            if term == other_term && term > 0 && !world.has_lost_terms {
                return Err(format!("{names} are both active in term {term}"));
            }
            let was = |at: usize| before.directors[at].active() == world.directors[at].active();
            let hear_each_other = world.hears(one, other) && world.hears(other, one);
            if was(one) && was(other) && hear_each_other {
                return Err(format!("{names} hear one another, and both stay active"));
            }
        }
    }
    Ok(())
}

/// An active director of a lower term has nothing at hand that says so: the higher one is under
/// way to it.
fn knows_of_no_later(world: &World, at: usize, set: u32, term: u64) -> Result<(), String> {
    let director = &world.directors[at];
    let Some(running) = &director.running else { return Ok(()) };
    if running.candidacy.is_claiming() {
        return Ok(());
    }
    let is_read = !world.lacks_store(at) && !world.has(Fault::StoreSlow(at as u8));
    let replaces = |elected: &Elected| {
        let is_later = counter::is_later(elected.term, term) || elected.term == term;
        elected.node != director.node && is_later && term > 0
    };
    let me = director.node;
    if let Some(elected) = running.view.elected.get(&set).filter(|e| is_read && replaces(e)) {
        return Err(format!(
            "director {me} reads that {} is elected in term {}, and stays active in term {term}",
            elected.node, elected.term
        ));
    }
    for (other, last) in &running.heard {
        let is_later = |leadership: &cvip::heartbeat::Leadership| {
            leadership.active && leadership.set == set && counter::is_later(leadership.term, term)
        };
        let is_heard = last.at == world.now && !last.heartbeat.leaving;
        if is_heard && last.heartbeat.leaderships.iter().any(is_later) {
            return Err(format!(
                "director {me} hears {other} in a later term, and stays active in term {term}"
            ));
        }
    }
    Ok(())
}

/// How a world must stand in which nothing changes any more but time, its faults lasting.
///
/// # Errors
/// It does not stand so.
pub(super) fn check_outcome(world: &World) -> Result<(), String> {
    let runs = |at: usize| world.directors[at].running.is_some();
    let all = || 0..world.directors.len();
    let is_new = |at: usize| world.directors[at].has_new_conf;
    if all().filter(|at| runs(*at)).any(|at| is_new(at) != world.is_new_conf_there) {
        return Ok(()); // The directors know different files: one may wait for another to read its.
    }
    let reads = |at: usize| {
        let fault = |fault: fn(u8) -> Fault| world.has(fault(at as u8));
        runs(at) && !world.lacks_store(at) && !fault(Fault::StoreSlow)
    };
    let can_carry = |at: usize| !world.has(Fault::CannotCarry(at as u8));
    // One that cannot carry waits for one that can, be the store slow to that.
    let is_slow = all().any(|at| world.has(Fault::StoreSlow(at as u8)));
    let could = |at: usize| reads(at) && (can_carry(at) || !is_slow);
    let active: Vec<usize> = active(world).map(|(at, ..)| at).collect();
    if active.is_empty() && all().any(could) {
        return Err("no director is active, and one could be".to_owned());
    }
    for one in &active {
        for other in active.iter().filter(|other| *other > one) {
            let hear_each_other = world.reaches(*one, *other) && world.reaches(*other, *one);
            if reads(*one) && reads(*other) || hear_each_other {
                let names = format!("{} and {}", node(world, *one), node(world, *other));
                return Err(format!("directors {names} are both active, and could know it"));
            }
        }
        let could_follow = |at: usize| {
            at != *one
                && reads(at)
                && can_carry(at)
                && world.reaches(*one, at)
                && world.reaches(at, *one)
        };
        if reads(*one) && !can_carry(*one) && all().any(could_follow) {
            let name = node(world, *one);
            return Err(format!("director {name} is active and cannot carry, and another could"));
        }
    }
    if world.faults.is_empty() && all().any(runs) { agree(world, &active) } else { Ok(()) }
}

/// Without faults one director is active, and all that run know it.
fn agree(world: &World, active: &[usize]) -> Result<(), String> {
    let [one] = *active else {
        return Err(format!("{} directors are active, and there is no fault", active.len()));
    };
    let director = &world.directors[one];
    let Some((set, role)) = director.role() else { return Ok(()) };
    if role == (ElectionRole::Active { term: 0 }) {
        return match world.directors.iter().filter(|d| d.running.is_some()).count() {
            1 => Ok(()),
            _ => Err(format!("director {} is active, and was never elected", director.node)),
        };
    }
    let running = world.directors.iter().filter_map(|director| director.running.as_ref());
    for elected in running.map(|running| running.view.elected.get(&set)) {
        let stands = elected.map(|e| (e.node, ElectionRole::Active { term: e.term }));
        if stands != Some((director.node, role)) {
            return Err(format!("director {} is active, and not all know it", director.node));
        }
    }
    Ok(())
}

/// The directors that are active, by place, with set and term.
pub(super) fn active(world: &World) -> impl Iterator<Item = (usize, u32, u64)> + '_ {
    let directors = world.directors.iter().enumerate();
    directors.filter_map(|(at, director)| {
        let (set, term) = director.active()?;
        Some((at, set, term))
    })
}

fn node(world: &World, at: usize) -> u32 {
    world.directors[at].node
}
