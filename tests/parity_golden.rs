//! Whole runs of the reference: trace formats, sessions, mixed and decode-heavy loads, synthetic loads, full hours.

#![allow(clippy::unwrap_used)]

mod support;

/// Files whose name starts with one of these need no large trace.
const GROUPS: [&str; 5] = ["small_", "mid_", "dec_", "synth_", "kv_"];

fn check(belongs: impl Fn(&str) -> bool) {
    support::check("golden", support::names("golden").into_iter().filter(|name| belongs(name)));
}

#[test]
fn trace_formats_and_sessions_agree_with_the_reference() {
    check(|name| name.starts_with("small_"));
}

#[test]
fn mixed_loads_agree_with_the_reference() {
    check(|name| name.starts_with("mid_"));
}

#[test]
fn decode_heavy_loads_agree_with_the_reference() {
    check(|name| name.starts_with("dec_"));
}

#[test]
fn synthetic_loads_agree_with_the_reference() {
    check(|name| name.starts_with("synth_"));
}

#[test]
fn routing_by_cached_prefixes_agrees_with_the_reference() {
    check(|name| name.starts_with("kv_"));
}

#[test]
fn full_hours_of_a_public_trace_agree_with_the_reference() {
    check(|name| !GROUPS.iter().any(|prefix| name.starts_with(prefix)));
}
