//! The life of a request, as stages that follow one another.

use crate::scenario::{Role, Run};
use crate::sim::metrics::RequestRecord;
use crate::time::SimTime;

use super::extract::{met_sla, placed};
use super::frame::WorkerName;

/// What a request went through for a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum StageKind {
    /// At the router, or without any worker to go to.
    RouterQueue,
    /// At a worker, before its first pass there.
    EngineQueue,
    /// From its first pass to the end of its prompt, or where nothing is handed over to its first token; times at which it
    /// had to give way included.
    Prefill,
    /// Its blocks are held until the decode worker has room.
    Hold,
    /// Its KV is on its way, or there while the decode worker is in the middle of a pass.
    Transfer,
    /// At the decode worker, before its first pass there.
    DecodeQueue,
    /// From there (or from its first token) to its end; times at which it had to give way included.
    Decode,
}

/// A stage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stage {
    /// What it went through.
    pub kind: StageKind,
    /// When it began.
    pub start: SimTime,
    /// When it was over; `None` where the run ended before.
    pub end: Option<SimTime>,
    /// Where.
    pub worker: Option<WorkerName>,
}

/// A request from arrival to end.
#[derive(Debug, Clone, PartialEq)]
pub struct Life {
    /// Everything that was measured.
    pub record: RequestRecord,
    /// Stages in order, without a gap; empty ones left out.
    pub stages: Vec<Stage>,
    /// Whether it met the SLA, where it completed and there is one.
    pub met_sla: Option<bool>,
}

impl Life {
    /// The life of a request in a finished run.
    pub(super) fn of(run: &Run, record: &RequestRecord) -> Self {
        let mut stages = Stages { at: record.arrival, list: Vec::new(), over: record.terminal };
        let first = placed(run, record);
        stages.until(StageKind::RouterQueue, record.routed, None);
        match record.handoff {
            None => {
                stages.until(StageKind::EngineQueue, record.first_admit, first);
                stages.until(StageKind::Prefill, record.first_token, first);
                stages.until(StageKind::Decode, record.terminal, first);
            }
            Some(handoff) => {
                let second = record.decode_worker.map(|id| WorkerName { role: Role::Decode, id });
                // The same instant where blocks were reserved before prefill.
                let reserved = handoff.destination_reserved.zip(handoff.source_held).map(|(r, held)| r.max(held));
                stages.until(StageKind::EngineQueue, handoff.prefill_admit, first);
                stages.until(StageKind::Prefill, handoff.source_held, first);
                stages.until(StageKind::Hold, reserved, first);
                stages.until(StageKind::Transfer, handoff.destination_activated, second);
                stages.until(StageKind::DecodeQueue, handoff.decode_admit, second);
                stages.until(StageKind::Decode, record.terminal, second);
            }
        }
        Self { record: *record, stages: stages.list, met_sla: met_sla(run, record) }
    }

    /// Every instant at which something is known to have happened to the request, in no order.
    pub(super) fn instants(record: &RequestRecord) -> impl Iterator<Item = SimTime> {
        let handoff = record.handoff.unwrap_or_default();
        let own = [
            Some(record.arrival),
            record.routed,
            record.first_admit,
            record.first_token,
            record.last_token,
            record.terminal,
        ];
        let handed_over = [
            handoff.prefill_admit,
            handoff.source_held,
            handoff.destination_reserved,
            handoff.destination_activated,
            handoff.decode_admit,
            handoff.source_released,
        ];
        own.into_iter().chain(handed_over).flatten()
    }
}

struct Stages {
    at: SimTime,
    list: Vec<Stage>,
    /// End of the request.
    over: Option<SimTime>,
}

impl Stages {
    /// The next stage lasts until `end`; without one, until the end of the request, and is the last.
    fn until(&mut self, kind: StageKind, end: Option<SimTime>, worker: Option<WorkerName>) {
        if self.list.last().is_some_and(|last| last.end.is_none()) || self.over.is_some_and(|over| self.at >= over) {
            return;
        }
        let end = end.or(self.over);
        if end.is_none_or(|end| end > self.at) {
            self.list.push(Stage { kind, start: self.at, end, worker });
        }
        self.at = end.unwrap_or(self.at).max(self.at);
    }
}
