//! Workers and their forward passes: completing those that end, starting the next, running on where nobody is concerned.

use bevy::prelude::*;

use crate::scenario::Role;
use crate::time::{SimDuration, SimTime};

use super::RunFacts;
use super::arrivals::Arrivals;
use super::clock::{Agenda, Due, VirtualClock};
use super::engine::EngineEvent;
use super::handoff::Handoffs;
use super::request::{News, NewsItem, Prompts};
use super::router::{Dispatch, Routers, Routing};
use super::worker::{Engine, Fleet, Stuck, Worker};

/// A pass ended at `at`: the worker is idle, waiting actions resume, what happened is published.
fn complete_pass(worker: Worker, engine: &mut Engine, at: SimTime, handoffs: &mut Handoffs, news: &mut News) {
    engine.busy_until = None;
    for rank in &mut engine.ranks {
        let reservation = if worker.role == Role::Decode { rank.try_reservation() } else { None };
        handoffs.resume(engine.deferred.drain(..));
        for event in rank.drain_events() {
            match event {
                EngineEvent::Held { request } => handoffs.held(request, at),
                EngineEvent::Ended { request, .. } if worker.role == Role::Prefill => handoffs.close(request),
                _ => {}
            }
            news.0.push(NewsItem { at, role: worker.role, event });
        }
        handoffs.reserved(reservation, at);
    }
}

/// Forms a pass on every rank with work and emits it when the slowest rank is done. Returns that instant, and whether
/// the pass did anything.
fn run_pass(engine: &mut Engine, now: SimTime) -> (SimTime, bool) {
    let (end, worked) = run_ranks(engine, now);
    engine.busy += end.since(now);
    (end, worked)
}

fn run_ranks(engine: &mut Engine, now: SimTime) -> (SimTime, bool) {
    if let [rank] = engine.ranks.as_mut_slice() {
        let formed = rank.form(now);
        rank.emit(&formed, formed.end);
        return (formed.end, formed.worked);
    }
    let formed: Vec<_> = engine.ranks.iter_mut().map(|r| r.has_work().then(|| r.form(now))).collect();
    let end = formed.iter().flatten().map(|f| f.end).max().unwrap_or(now);
    let worked = formed.iter().flatten().any(|f| f.worked);
    for (rank, formed) in engine.ranks.iter_mut().zip(&formed) {
        match formed {
            Some(formed) => {
                rank.emit(formed, end);
                rank.idle(u64::from(worked && !formed.worked));
            }
            None => rank.watch().pause(now, end),
        }
    }
    (end, worked)
}

/// Completes the passes that end now, in the order in which they began.
pub fn complete_passes(
    facts: Res<RunFacts>,
    fleet: Res<Fleet>,
    clock: Res<VirtualClock>,
    mut agenda: ResMut<Agenda>,
    mut handoffs: ResMut<Handoffs>,
    mut news: ResMut<News>,
    mut engines: Query<(&Worker, &mut Engine)>,
    mut ending: Local<Vec<(u32, Entity)>>,
) {
    if facts.meets_at_arrivals {
        // These workers have run by themselves up to now; only what ends at this very instant is left.
        for member in fleet.pools.iter().flat_map(|pool| &pool.members) {
            let Ok((worker, mut engine)) = engines.get_mut(member.entity) else { continue };
            if engine.busy_until == Some(clock.now) {
                engine.idle_at = clock.now;
                complete_pass(*worker, &mut engine, clock.now, &mut handoffs, &mut news);
            }
        }
    }
    ending.clear();
    while let Some(due) = agenda.take_if(clock.now, |due| matches!(due, Due::PassEnd(_))) {
        let Due::PassEnd(entity) = due else { continue };
        let Ok((worker, _)) = engines.get(entity) else { continue };
        ending.push((worker.id, entity));
    }
    if facts.apart {
        // How far each ran by itself decides when its pass was entered, so that may not decide their order.
        ending.sort_unstable();
    }
    for (_, entity) in ending.drain(..) {
        let Ok((worker, mut engine)) = engines.get_mut(entity) else { continue };
        complete_pass(*worker, &mut engine, clock.now, &mut handoffs, &mut news);
    }
}

/// A pass that was started.
enum Started {
    /// It ends at this instant.
    Ends(SimTime),
    /// It took no time: it is over, and the worker may go on.
    Over,
}

/// A look at all idle workers.
struct Look<'a> {
    now: SimTime,
    /// Whether there is one worker only: it repeats passes that had nothing to do as long as that changes anything.
    only: bool,
    stuck: &'a mut Stuck,
    handoffs: &'a mut Handoffs,
    news: &'a mut News,
}

impl Look<'_> {
    /// Starts a pass of a worker, unless it is busy, has nothing to do, or can do nothing.
    fn start_pass(&mut self, worker: Worker, engine: &mut Engine) -> Option<Started> {
        if engine.busy_until.is_some() || !engine.has_work() {
            return None;
        }
        loop {
            engine.idle(self.stuck.leave(worker));
            if let [rank] = engine.ranks.as_mut_slice()
                && worker.role == Role::Prefill
            {
                rank.run_on(self.now, self.now);
            }
            let (end, worked) = run_pass(engine, self.now);
            self.stuck.passes(worker, u64::from(worked || end > self.now));
            if end > self.now {
                engine.busy_until = Some(end);
                return Some(Started::Ends(end));
            }
            if worked {
                complete_pass(worker, engine, self.now, self.handoffs, self.news);
                return Some(Started::Over);
            }
            if !engine.idle(1) || !self.only {
                self.stuck.enter(worker, 0);
                return None;
            }
        }
    }
}

/// Starts passes on idle workers that have work, by ascending number, prefill pool first. A pass that takes no time is
/// completed at once and the same worker goes on.
pub fn start_passes(
    facts: Res<RunFacts>,
    fleet: Res<Fleet>,
    clock: Res<VirtualClock>,
    mut stuck: ResMut<Stuck>,
    mut agenda: ResMut<Agenda>,
    mut handoffs: ResMut<Handoffs>,
    mut news: ResMut<News>,
    mut engines: Query<(&Worker, &mut Engine)>,
) {
    if facts.independent {
        return;
    }
    let now = clock.now;
    stuck.look(1);
    let mut look = Look { now, only: facts.single_worker, stuck: &mut stuck, handoffs: &mut handoffs, news: &mut news };
    for member in fleet.pools.iter().flat_map(|pool| &pool.members) {
        let Ok((worker, engine)) = engines.get_mut(member.entity) else { continue };
        let engine = engine.into_inner();
        while let Some(started) = look.start_pass(*worker, engine) {
            match started {
                Started::Ends(end) => {
                    agenda.enter(end, Due::PassEnd(member.entity));
                    break;
                }
                // The reference's single-worker loop looks at arrivals before every pass.
                Started::Over if facts.single_worker && !look.news.0.is_empty() => break,
                Started::Over => {}
            }
        }
    }
}

/// As [`start_passes`], for a router that holds requests back: should a pass that takes no time let one go to a worker
/// further in front, that worker is next.
pub fn start_passes_and_release(
    clock: Res<VirtualClock>,
    mut stuck: ResMut<Stuck>,
    mut agenda: ResMut<Agenda>,
    mut news: ResMut<News>,
    mut members: Local<Vec<Entity>>,
    mut routing: Routing,
) {
    if routing.dispatch.facts.independent {
        return;
    }
    stuck.look(1);
    members.clear();
    members.extend(routing.fleet.pools.iter().flat_map(|pool| &pool.members).map(|member| member.entity));
    let mut place = 0;
    while let Some(entity) = members.get(place).copied() {
        place += 1;
        loop {
            let Dispatch { engines, handoffs, .. } = &mut routing.dispatch;
            let Ok((worker, mut engine)) = engines.get_mut(entity) else { break };
            let mut look = Look { now: clock.now, only: false, stuck: &mut stuck, handoffs, news: &mut news };
            match look.start_pass(*worker, &mut engine) {
                None => break,
                Some(Started::Ends(end)) => {
                    agenda.enter(end, Due::PassEnd(entity));
                    break;
                }
                Some(Started::Over) if routing.has_backlog() => {
                    if let Some(lowest) = routing.hear(&news).filter(|lowest| *lowest < place) {
                        place = lowest;
                        break;
                    }
                }
                Some(Started::Over) => {}
            }
        }
    }
}

/// Lets workers whose passes concern nobody else run on: with a flat list of arrivals under round robin, each through
/// everything it was given; otherwise the worker whose pass ends next, until something crosses a border. What other workers
/// do is one, unless they are apart.
pub fn run_on(
    facts: Res<RunFacts>,
    prompts: Res<Prompts>,
    arrivals: Res<Arrivals>,
    routers: Res<Routers>,
    mut clock: ResMut<VirtualClock>,
    mut stuck: ResMut<Stuck>,
    mut agenda: ResMut<Agenda>,
    mut news: ResMut<News>,
    mut engines: Query<(Entity, &Worker, &mut Engine)>,
) {
    let mut until = clock.limit.saturating_add(SimDuration::from_nanos(1));
    for next in arrivals.next_time().into_iter().chain(routers.next_wake()) {
        until = until.min(next);
    }
    if facts.independent {
        for (_, worker, engine) in &mut engines {
            let last = run_alone(*worker, engine.into_inner(), &prompts, until, facts.single_worker, &mut news);
            clock.last_event = clock.last_event.max(last);
        }
        return;
    }
    if facts.has_tiers {
        // A pass may begin a copy that others wait for: rounds take everything in order.
        return;
    }
    if facts.apart {
        until = agenda.next_besides_passes().map_or(until, |next| until.min(next));
    }
    while let Some((at, Due::PassEnd(entity))) = agenda.peek() {
        if at >= until {
            return;
        }
        let Ok((_, worker, engine)) = engines.get_mut(entity) else { return };
        let engine = engine.into_inner();
        if !is_private(*worker, engine) {
            return;
        }
        let Some(entry) = agenda.take() else { return };
        let border = agenda.peek().filter(|_| !facts.apart).map_or(until, |(next, _)| until.min(next));
        if border <= at {
            // Something else happens at this instant: a round takes everything in order.
            agenda.put_back(entry);
            return;
        }
        clock.last_event = clock.last_event.max(at);
        engine.busy_until = None;
        let (end, idle, passes) = run_privately(*worker, engine, at, border, facts.single_worker, &mut news);
        stuck.look(2 * (passes + u64::from(idle)));
        stuck.passes(*worker, passes);
        if idle {
            clock.last_event = clock.last_event.max(end);
            if engine.has_work() {
                engine.idle(1);
                // That was at the first of the two looks at this instant.
                stuck.enter(*worker, 1);
            }
        } else {
            engine.busy_until = Some(end);
            agenda.enter(end, Due::PassEnd(entity));
        }
    }
}

/// Whether the end of the worker's pass, and the start of its next one, concern nobody else.
fn is_private(worker: Worker, engine: &Engine) -> bool {
    match engine.ranks.as_slice() {
        [rank] => {
            engine.deferred.is_empty()
                && !rank.has_news()
                && !rank.wants_reservation()
                && (worker.role != Role::Prefill || rank.takes_time())
        }
        _ => false,
    }
}

/// Runs passes from `now` on while they concern nobody and start before `border`. A worker that is the `only` one repeats
/// passes that had nothing to do as long as that changes anything. Returns the end of the last one, whether the worker
/// has nothing more to do then, and the number of passes.
fn run_privately(
    worker: Worker,
    engine: &mut Engine,
    now: SimTime,
    border: SimTime,
    only: bool,
    news: &mut News,
) -> (SimTime, bool, u64) {
    let Some(rank) = engine.ranks.first_mut() else { return (now, true, 0) };
    let before = rank.passes();
    let mut at = now;
    let idle = loop {
        for event in rank.drain_events() {
            news.0.push(NewsItem { at, role: worker.role, event });
        }
        let steady_end = rank.run_on(at, border);
        if steady_end > at {
            at = steady_end;
            if at >= border {
                break false;
            }
        }
        if !rank.has_work() {
            break true;
        }
        let formed = rank.form(at);
        rank.emit(&formed, formed.end);
        if formed.end == at && !formed.worked {
            if only && rank.idle(1) {
                continue;
            }
            break true;
        }
        let private = formed.end > at
            && !rank.has_news()
            && !rank.wants_reservation()
            && (worker.role != Role::Prefill || rank.takes_time());
        at = formed.end;
        if !private || at >= border {
            break false;
        }
    };
    let passes = rank.passes() - before;
    // They follow each other without a gap.
    engine.busy += at.since(now);
    (at, idle, passes)
}

/// Runs a worker that nobody else is concerned with through its inbox, passes starting before `until`. A worker that is
/// the `only` one repeats passes that had nothing to do as long as that changes anything. Returns the last instant at which something happened.
fn run_alone(
    worker: Worker,
    engine: &mut Engine,
    prompts: &Prompts,
    until: SimTime,
    only: bool,
    news: &mut News,
) -> SimTime {
    let mut last = SimTime::ZERO;
    let mut now = engine.idle_at;
    loop {
        if let Some(end) = engine.busy_until {
            if end >= until {
                return last;
            }
            now = end;
            engine.idle_at = end;
            last = last.max(end);
            engine.busy_until = None;
            for rank in &mut engine.ranks {
                for event in rank.drain_events() {
                    news.0.push(NewsItem { at: end, role: worker.role, event });
                }
            }
        }
        if !engine.has_work() {
            match engine.inbox.front() {
                Some((at, _, _)) => now = now.max(*at),
                None => return last,
            }
            if now >= until {
                return last;
            }
        }
        submit_due(engine, prompts, now);
        if let [rank] = engine.ranks.as_mut_slice() {
            let border = engine.inbox.front().map_or(until, |(at, _, _)| until.min(*at));
            let end = rank.run_on(now, border);
            if end > now {
                engine.busy += end.since(now);
                engine.busy_until = Some(end);
                continue;
            }
        }
        let (end, worked) = run_pass(engine, now);
        if end > now || worked {
            engine.busy_until = Some(end);
            continue;
        }
        if only && engine.idle(1) {
            continue;
        }
        // Stuck: only another arrival could change anything.
        match engine.inbox.front() {
            Some((at, _, _)) if *at < until => {
                now = *at;
                submit_due(engine, prompts, now);
            }
            _ => return last,
        }
    }
}

fn submit_due(engine: &mut Engine, prompts: &Prompts, now: SimTime) {
    while let Some((at, rank, job)) = engine.inbox.front().copied() {
        if at > now {
            break;
        }
        engine.inbox.pop_front();
        engine.ranks[rank as usize].submit(job, &prompts.0);
    }
}
