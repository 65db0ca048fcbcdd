//! One line of a captured request trace: a record, or an envelope `{"event": record}` around one.

use std::borrow::Cow;
use std::path::Path;

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::workload::WorkloadError;
use crate::workload::scan;

const SCHEMA: &str = "dynamo.request.trace.v1";

/// What a line says.
pub(super) enum Event<'a> {
    /// A request ended.
    Request(RequestEnd<'a>),
    /// A tool ended.
    Tool(Tool),
    /// Nothing that a replay needs.
    Nothing,
}

/// A request that ended.
pub(super) struct RequestEnd<'a> {
    pub id: Cow<'a, str>,
    /// When it was received and when it ended, milliseconds since 1970.
    pub start_ms: u64,
    pub end_ms: u64,
    pub output_tokens: u64,
    pub block_size: u32,
    pub input_tokens: u64,
    /// Hashes of the prompt's blocks, each with everything before it.
    pub hashes: Vec<u64>,
    /// Session and the session it belongs to, of requests by agents.
    pub agent: Option<(Cow<'a, str>, Option<Cow<'a, str>>)>,
}

/// A tool that ended, with what is known about whom it concerns.
pub(super) struct Tool {
    pub id: String,
    pub session: Option<String>,
    pub links: Option<ToolLinks>,
}

/// Which request called a tool, which one took its result, and which session it was, if it was an agent.
#[derive(Deserialize)]
pub(super) struct ToolLinks {
    pub source_request_id: String,
    #[serde(default)]
    pub consumer_request_id: Option<String>,
    #[serde(default)]
    pub child_session_id: Option<String>,
    pub execution_mode: String,
}

/// A record, or an envelope that has only the first field.
#[derive(Deserialize)]
struct Record<'a> {
    #[serde(borrow)]
    event: Option<&'a RawValue>,
    #[serde(borrow)]
    schema: Option<Cow<'a, str>>,
    #[serde(borrow)]
    event_type: Option<Cow<'a, str>>,
    event_time_unix_ms: Option<u64>,
    #[serde(borrow)]
    agent_context: Option<AgentContext<'a>>,
    #[serde(borrow)]
    request: Option<&'a RawValue>,
    #[serde(borrow)]
    tool: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct AgentContext<'a> {
    #[serde(borrow)]
    session_id: Cow<'a, str>,
    #[serde(borrow)]
    parent_session_id: Option<Cow<'a, str>>,
}

#[derive(Deserialize)]
struct Request<'a> {
    #[serde(borrow)]
    request_id: Cow<'a, str>,
    request_received_ms: u64,
    output_tokens: u64,
    total_time_ms: Option<f64>,
    #[serde(borrow)]
    replay: Replay<'a>,
}

#[derive(Deserialize)]
struct Replay<'a> {
    trace_block_size: u32,
    input_length: u64,
    #[serde(borrow)]
    input_sequence_hashes: &'a RawValue,
}

#[derive(Deserialize)]
struct ToolEnd {
    tool_call_id: String,
    claude: Option<ToolLinks>,
}

/// Parses a line.
pub(super) fn parse<'a>(path: &Path, line: usize, content: &'a str) -> Result<Event<'a>, WorkloadError> {
    let text = content.trim();
    if !text.starts_with('{') {
        // Other values are passed over as long as they are JSON.
        typed::<&RawValue>(path, line, text)?;
        return Ok(Event::Nothing);
    }
    let mut record: Record<'a> = typed(path, line, text)?;
    if let Some(event) = record.event {
        if !event.get().starts_with('{') {
            return Ok(Event::Nothing);
        }
        record = typed(path, line, event.get())?;
    }
    let error = |field, cause: String, cure: &str| WorkloadError::field(path, line, field, cause, cure);
    let missing = |field| error(field, "missing".to_owned(), "every record has one");
    match record.schema.as_deref() {
        Some(SCHEMA) => {}
        Some(other) => {
            let cause = format!("is \"{}\"", other.escape_debug());
            return Err(error("schema", cause, "this program reads dynamo.request.trace.v1"));
        }
        None => return Err(missing("schema")),
    }
    let Some(event_time_ms) = record.event_time_unix_ms else { return Err(missing("event_time_unix_ms")) };
    let Some(event_type) = record.event_type.as_deref() else { return Err(missing("event_type")) };
    match event_type {
        "request_end" => request(path, line, record, event_time_ms),
        "tool_end" | "tool_error" => {
            let session = record.agent_context.map(|context| context.session_id.into_owned());
            let Some(tool) = record.tool else { return Ok(Event::Nothing) };
            let ToolEnd { tool_call_id, claude } = typed(path, line, tool.get())?;
            Ok(Event::Tool(Tool { id: tool_call_id, session, links: claude }))
        }
        "tool_start" | "request_payload" => Ok(Event::Nothing),
        other => {
            let cause = format!("is \"{}\"", other.escape_debug());
            Err(error("event_type", cause, "use request_end, tool_start, tool_end, tool_error or request_payload"))
        }
    }
}

fn typed<'a, T: Deserialize<'a>>(path: &Path, line: usize, text: &'a str) -> Result<T, WorkloadError> {
    serde_json::from_str(text).map_err(|_| WorkloadError::typed::<T>(path, line, text))
}

fn request<'a>(path: &Path, line: usize, record: Record<'a>, event_time_ms: u64) -> Result<Event<'a>, WorkloadError> {
    let Some(request) = record.request else {
        let cure = "a request_end record describes its request";
        return Err(WorkloadError::field(path, line, "request", "missing", cure));
    };
    let request: Request<'a> = typed(path, line, request.get())?;
    let start_ms = request.request_received_ms;
    let end_ms = match request.total_time_ms {
        // A time that does not fit ends as late as possible.
        Some(total) => start_ms.saturating_add(total.max(0.0).round() as u64),
        None => event_time_ms.max(start_ms),
    };
    let Replay { trace_block_size: block_size, input_length: input_tokens, input_sequence_hashes } = request.replay;
    let mut hashes = Vec::new();
    if !scan::list_of(input_sequence_hashes.get(), &mut hashes) {
        hashes = typed(path, line, input_sequence_hashes.get())?;
    }
    if block_size == 0 {
        let cure = "give the number of tokens per hash";
        return Err(WorkloadError::field(path, line, "trace_block_size", "is 0", cure));
    }
    let needed = input_tokens.div_ceil(u64::from(block_size));
    if hashes.len() as u64 != needed {
        let cause = format!("{} hashes are listed for {input_tokens} tokens in blocks of {block_size}", hashes.len());
        let cure = format!("a prompt of that length has {needed}");
        return Err(WorkloadError::field(path, line, "input_sequence_hashes", cause, cure));
    }
    let agent = record.agent_context.map(|context| (context.session_id, context.parent_session_id));
    let (id, output_tokens) = (request.request_id, request.output_tokens);
    Ok(Event::Request(RequestEnd { id, start_ms, end_ms, output_tokens, block_size, input_tokens, hashes, agent }))
}
