//! Who waits for whom among the requests of agent sessions.
//!
//! The turns of a session follow each other. The first turn of a child session waits for the request of the parent
//! session that started it: the last one that began no later. The parent's first request that begins no earlier than the
//! child's end waits for the child's request that ended last. Where a tool event names the requests at both ends of a
//! child session, these count instead.

use std::collections::HashMap;

use crate::workload::WorkloadError;
use crate::workload::graph::Links;

use super::record::{Tool, ToolLinks};
use super::{Capture, Place, Request};

/// A session's requests in the order of their start.
#[derive(Default)]
struct Session {
    requests: Vec<u32>,
    parent: Option<Box<str>>,
}

/// Finds the links between `requests`, which are sorted by start, end and id; `at` makes errors.
pub(super) fn find(
    capture: &Capture,
    requests: &[&Request],
    at: impl Fn(Place, &'static str, String, &str) -> WorkloadError,
) -> Result<Links, WorkloadError> {
    let by_id: HashMap<&str, u32> = (0..).zip(requests).map(|(index, request)| (&*request.id, index)).collect();
    let mut order: Vec<&str> = Vec::new();
    let mut sessions: HashMap<&str, Session> = HashMap::new();
    for (index, request) in (0..).zip(requests) {
        let Some((name, parent)) = &request.agent else { continue };
        let session = sessions.entry(name).or_insert_with(|| {
            order.push(name);
            Session::default()
        });
        session.requests.push(index);
        match (&session.parent, parent) {
            (Some(known), Some(parent)) if known != parent => {
                let cause = format!("session `{name}` belongs to `{known}` and to `{parent}`");
                return Err(at(request.place, "parent_session_id", cause, "a session belongs to one other"));
            }
            (None, Some(parent)) => session.parent = Some(parent.clone()),
            _ => {}
        }
    }

    let tools = named_links(capture, requests, &by_id, &at)?;
    let mut waits: Vec<Vec<u32>> = vec![Vec::new(); requests.len()];
    let mut wait = |who: u32, whom: u32| {
        if let Some(list) = waits.get_mut(who as usize) {
            list.push(whom);
        }
    };
    let request = |index: u32| requests.get(index as usize);
    for name in order {
        let Some(session) = sessions.get(name) else { continue };
        for (before, after) in session.requests.iter().zip(session.requests.iter().skip(1)) {
            wait(*after, *before);
        }
        let parent = session.parent.as_ref().and_then(|parent| sessions.get(&**parent));
        let (Some(parent), Some(first)) = (parent, session.requests.first()) else { continue };
        // The last of those that end together.
        let last = session.requests.iter().copied().max_by_key(|index| request(*index).map(|r| r.end_ms));
        let (Some(start), Some(last)) = (request(*first).map(|r| r.start_ms), last) else { continue };
        let end = request(last).map_or(start, |r| r.end_ms);
        let starts = |index: &u32| request(*index).map_or(0, |r| r.start_ms);
        let (launch, join) = match tools.get(name) {
            Some((tool, source, consumer)) => {
                if request(*source).is_none_or(|r| r.session() != session.parent.as_deref()) {
                    let parent = session.parent.as_deref().unwrap_or_default();
                    let cause =
                        format!("the request that called it is not in session `{parent}`, to which `{name}` belongs");
                    return Err(at(*tool, "source_request_id", cause, "name a request of the parent session"));
                }
                (Some(*source), *consumer)
            }
            None => {
                let begun = parent.requests.partition_point(|index| starts(index) <= start);
                let joined = parent.requests.partition_point(|index| starts(index) < end);
                let launch = begun.checked_sub(1).and_then(|at| parent.requests.get(at));
                (launch.copied(), parent.requests.get(joined).copied())
            }
        };
        if let Some(launch) = launch {
            wait(*first, launch);
        }
        if let Some(join) = join {
            wait(join, last);
        }
    }
    let mut links = Links::default();
    for (mut list, request) in waits.into_iter().zip(requests) {
        list.sort_unstable();
        list.dedup();
        if links.push(list).is_none() {
            let cause = "the trace has too many dependencies".to_owned();
            return Err(at(request.place, "request_id", cause, "split the trace"));
        }
    }
    if let Some(request) = links.cycle().and_then(request) {
        let cause = format!("`{}` would wait for itself by way of others", request.id);
        return Err(at(request.place, "request_id", cause, "check the sessions, their parents and the tool events"));
    }
    Ok(links)
}

/// Child sessions whose both ends a tool event names: where it stands, the request that called the tool, the one that
/// took the result.
type NamedLinks<'a> = HashMap<&'a str, (Place, u32, Option<u32>)>;

fn named_links<'a>(
    capture: &'a Capture,
    requests: &[&Request],
    by_id: &HashMap<&str, u32>,
    at: &impl Fn(Place, &'static str, String, &str) -> WorkloadError,
) -> Result<NamedLinks<'a>, WorkloadError> {
    let mut named = NamedLinks::new();
    for (place, Tool { id, session, links }) in &capture.tools {
        let Some(ToolLinks { source_request_id, consumer_request_id, child_session_id, execution_mode }) = links else {
            continue;
        };
        if !matches!(execution_mode.as_str(), "blocking" | "background") {
            let cause = format!("of tool `{id}` is \"{}\"", execution_mode.escape_debug());
            return Err(at(*place, "execution_mode", cause, "use blocking or background"));
        }
        let find = |field, name: &str| match by_id.get(name) {
            None => Err(at(*place, field, format!("of tool `{id}`: there is no request `{name}`"), "check the ids")),
            Some(index) if requests.get(*index as usize).is_none_or(|r| r.session() != session.as_deref()) => {
                let cause = format!("of tool `{id}`: request `{name}` belongs to another session");
                Err(at(*place, field, cause, "name requests of the tool's own session"))
            }
            Some(index) => Ok(*index),
        };
        let source = find("source_request_id", source_request_id)?;
        let consumer = match consumer_request_id {
            Some(name) => Some(find("consumer_request_id", name)?),
            None => None,
        };
        if let Some(child) = child_session_id
            && named.insert(child, (*place, source, consumer)).is_some()
        {
            let cause = format!("another tool event names session `{child}`, too");
            return Err(at(*place, "child_session_id", cause, "keep one of the two"));
        }
    }
    Ok(named)
}
