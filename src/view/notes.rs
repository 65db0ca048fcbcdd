//! What was decided, in sentences.

use crate::scenario::{Role, Run};
use crate::sim::metrics::ScalingEvent;
use crate::sim::planner::Decision;
use crate::time::{SimDuration, SimTime};

use super::frame::Note;

/// For how long a decision is shown.
const SHOWN: SimDuration = SimDuration::from_nanos(8_000_000_000);

/// The instant after which decisions are shown at `at`.
pub(super) fn since(at: SimTime) -> Option<SimTime> {
    at.as_nanos().checked_sub(SHOWN.as_nanos()).map(SimTime::from_nanos)
}

/// When a decision was made.
pub(super) fn time_of(decision: &Decision) -> SimTime {
    SimTime::from_ms(decision.tick.at_s * 1000.0).unwrap_or_default()
}

/// Changes of replicas after `from` and up to `to`, each with the sentence that explains it, oldest first.
pub(super) fn between(
    run: &Run,
    decisions: &[Decision],
    events: &[ScalingEvent],
    from: Option<SimTime>,
    to: SimTime,
) -> Vec<Note> {
    let first = from.map_or(0, |from| events.partition_point(|event| event.at <= from));
    let events = events[first..].iter().take_while(|event| event.at <= to);
    events.map(|event| note(run, decisions, event)).collect()
}

fn note(run: &Run, decisions: &[Decision], event: &ScalingEvent) -> Note {
    let from = decisions.partition_point(|decision| time_of(decision) < event.at);
    let at_once = decisions[from..].iter().take_while(|decision| time_of(decision) == event.at);
    let sentence = at_once
        .filter(|decision| decision.scale_to.is_some())
        .flat_map(Decision::sentences)
        .find_map(|(role, sentence)| (role == event.role).then_some(sentence));
    let text = sentence.unwrap_or_else(|| {
        let who = if run.scaling.is_some() { "scaling script" } else { "intervention" };
        format!("{who}: {} {} to {}", pool_word(event.role), event.from, event.to)
    });
    Note { at: event.at, role: event.role, text, change: Some((event.from, event.to)) }
}

fn pool_word(role: Role) -> &'static str {
    match role {
        Role::Aggregated => "workers",
        Role::Prefill => "prefill workers",
        Role::Decode => "decode workers",
    }
}
