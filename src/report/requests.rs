//! One row per request that ended, as JSON Lines.
//!
//! Keys, their order and the rules for `null` are the reference's: what does not apply to a run is `null`, not absent.
//! In single-worker runs no worker is named; in aggregated runs the worker is the "decode" worker and all hand-off
//! fields are `null`; in disaggregated runs reuse is that of the prefill worker, and route overlaps are 0 because round
//! robin does not look at caches.

use std::io::{self, Write};
use std::path::Path;

use serde::{Serialize, Serializer};

use crate::sim::metrics::{FinalStatus, Outcome, RequestRecord};
use crate::time::SimTime;
use crate::workload::{Release, Workload};

use super::file::{WriteError, write_atomically};
use super::summary::{token_span, tpot_ms, ttst_nanos};

/// Names of sessions, kept when the workload itself goes to the simulation.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SessionNames(Vec<Box<str>>);

impl SessionNames {
    /// Names of a workload's sessions; none for flat and for unnamed synthetic loads.
    pub fn of(workload: &Workload) -> Self {
        match &workload.release {
            Release::Sessions { sessions, named: true, .. } => {
                Self(sessions.iter().map(|session| session.name.clone()).collect())
            }
            Release::Graph(graph) => Self(graph.sessions.clone()),
            Release::Sessions { .. } | Release::Flat => Self::default(),
        }
    }

    /// Name and turn of a request, when both are known.
    fn of_record(&self, record: &RequestRecord) -> Option<(&str, u32)> {
        let (session, turn) = record.session_turn?;
        Some((self.0.get(session as usize)?, turn))
    }

    /// A request in words, for messages.
    pub(super) fn describe(&self, record: &RequestRecord) -> String {
        match self.of_record(record) {
            Some((name, turn)) => format!("request {}, turn {turn} of session {name}", record.request),
            None => format!("request {}", record.request),
        }
    }
}

/// Writes the rows to a file that is complete or absent.
///
/// # Errors
/// When the file cannot be written.
pub fn write_requests(path: &Path, outcome: &Outcome, sessions: &SessionNames) -> Result<(), WriteError> {
    write_atomically(path, |out| write_rows(out, outcome, sessions))
}

/// Writes the rows, sorted by arrival, then request index.
///
/// # Errors
/// When `out` refuses them.
pub fn write_rows(out: &mut dyn Write, outcome: &Outcome, sessions: &SessionNames) -> io::Result<()> {
    let mut ended: Vec<&RequestRecord> =
        outcome.records.iter().filter(|r| r.status != FinalStatus::Unfinished).collect();
    ended.sort_unstable_by_key(|record| (record.arrival, record.request));
    for record in ended {
        serde_json::to_writer(&mut *out, &Row::of(record, sessions))?;
        out.write_all(b"\n")?;
    }
    Ok(())
}

/// A row; field order is key order.
#[derive(Serialize)]
struct Row<'a> {
    session_id: Option<&'a str>,
    turn_index: Option<u32>,
    uuid: Uuid,
    arrival_time_ms: f64,
    first_admit_ms: Option<f64>,
    terminal_time_ms: Option<f64>,
    first_token_ms: Option<f64>,
    last_token_ms: Option<f64>,
    ttft_ms: Option<f64>,
    ttst_ms: Option<f64>,
    e2e_latency_ms: Option<f64>,
    itl_ms: Option<f64>,
    input_length: u32,
    requested_output_length: u32,
    output_length: u32,
    reused_input_tokens: u32,
    prefill_worker_idx: Option<u32>,
    decode_worker_idx: Option<u32>,
    prefill_admit_ms: Option<f64>,
    source_held_ms: Option<f64>,
    destination_reserved_ms: Option<f64>,
    destination_activated_ms: Option<f64>,
    decode_admit_ms: Option<f64>,
    source_released_ms: Option<f64>,
    decode_reused_input_tokens: Option<u32>,
    prefill_route_overlap_tokens: Option<u32>,
    decode_route_overlap_tokens: Option<u32>,
    terminal_status: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    onboarded_g2_tokens: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    onboarded_g3_tokens: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    onboarded_g4_tokens: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    onboard_wait_ms: Option<f64>,
}

impl<'a> Row<'a> {
    fn of(record: &RequestRecord, sessions: &'a SessionNames) -> Self {
        let ms = |time: Option<SimTime>| time.map(SimTime::as_ms);
        let session = sessions.of_record(record);
        let tokens = token_span(record);
        let disaggregated = record.handoff.is_some();
        // With vLLM a decode worker is chosen once prefill is done, with SGLang before; whether or not it then accepts.
        let chose_decode = disaggregated
            && (record.prefill_worker.is_none()
                || record.handoff.is_some_and(|h| h.source_held.or(h.destination_reserved).is_some()));
        let since_arrival = |time: SimTime| time.since(record.arrival).as_ms();
        let handoff = record.handoff.unwrap_or_default();
        Self {
            session_id: session.map(|(name, _)| name),
            turn_index: session.map(|(_, turn)| turn),
            uuid: Uuid(record.request),
            arrival_time_ms: record.arrival.as_ms(),
            first_admit_ms: ms(record.first_admit),
            terminal_time_ms: ms(record.terminal),
            first_token_ms: ms(tokens.map(|(first, _)| first)),
            last_token_ms: ms(tokens.map(|(_, last)| last)),
            ttft_ms: tokens.map(|(first, _)| since_arrival(first)),
            ttst_ms: ttst_nanos(record).map(|ns| ns as f64 / 1e6),
            e2e_latency_ms: tokens.map(|(_, last)| since_arrival(last)),
            itl_ms: tpot_ms(record),
            input_length: record.input_tokens,
            requested_output_length: record.requested_output_tokens,
            output_length: record.output_tokens,
            reused_input_tokens: record.reused_tokens,
            prefill_worker_idx: record.prefill_worker,
            decode_worker_idx: record.decode_worker,
            prefill_admit_ms: ms(handoff.prefill_admit),
            source_held_ms: ms(handoff.source_held),
            destination_reserved_ms: ms(handoff.destination_reserved),
            destination_activated_ms: ms(handoff.destination_activated),
            decode_admit_ms: ms(handoff.decode_admit),
            source_released_ms: ms(handoff.source_released),
            decode_reused_input_tokens: handoff.decode_reused_tokens,
            prefill_route_overlap_tokens: record.prefill_worker.map(|_| handoff.prefill_route_overlap_tokens),
            decode_route_overlap_tokens: chose_decode.then_some(handoff.decode_route_overlap_tokens),
            terminal_status: match record.status {
                FinalStatus::Completed => "completed",
                FinalStatus::Rejected => "rejected",
                FinalStatus::Failed => "failed",
                FinalStatus::Unfinished => "unfinished",
            },
            onboarded_g2_tokens: record.tiers.map(|tiers| tiers.tokens[0]),
            onboarded_g3_tokens: record.tiers.map(|tiers| tiers.tokens[1]),
            onboarded_g4_tokens: record.tiers.map(|tiers| tiers.tokens[2]),
            onboard_wait_ms: record.tiers.map(|tiers| tiers.wait.as_ms()),
        }
    }
}

/// An id derived from the request index, so that equal runs give equal bytes: the index plus one as a 128-bit number in
/// the usual grouping. The reference numbers simple synthetic loads the same way and draws the others at random.
pub(super) struct Uuid(pub u32);

impl Serialize for Uuid {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let number = u64::from(self.0) + 1;
        serializer.collect_str(&format_args!("00000000-0000-0000-0000-{number:012x}"))
    }
}
