//! Every hand-checkable run of the reference, request by request.

#![allow(clippy::unwrap_used)]

mod support;

/// Files whose name starts with one of these have a test of their own.
const GROUPS: [&str; 3] = ["disagg_", "scaling_", "speculative_"];

fn check(belongs: impl Fn(&str) -> bool) {
    support::check("micro", support::names("micro").into_iter().filter(|name| belongs(name)));
}

#[test]
fn one_pool_of_workers_agrees_with_the_reference() {
    check(|name| !GROUPS.iter().any(|prefix| name.starts_with(prefix)));
}

#[test]
fn prefill_and_decode_pools_agree_with_the_reference() {
    check(|name| name.starts_with("disagg_"));
}

#[test]
fn scripted_scaling_agrees_with_the_reference() {
    check(|name| name.starts_with("scaling_"));
}

#[test]
fn speculative_decoding_agrees_with_the_reference() {
    check(|name| name.starts_with("speculative_"));
}
