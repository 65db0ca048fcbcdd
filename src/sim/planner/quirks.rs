//! Which quirks of the reference's planner are corrected.

/// Corrections of the reference's planner; all off keeps every quirk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PlannerQuirks {
    /// The next prompt is as long as those seen; in the reference passes without prompts count as prompts of length 0.
    pub prompts_only: bool,
    /// The ITL of an aggregated engine is estimated with the prompt tokens of its own pass; in the reference with those of
    /// an average pass, which lets idle engines look busy.
    pub own_prefill: bool,
    /// No pass takes less than no time when extrapolated; in the reference a fit may, which gives absurd capacities.
    pub positive_intercept: bool,
    /// The last hit rate stays where nobody was admitted; in the reference it falls to 0.
    pub keep_hit_rate: bool,
    /// A decision is compared with ready and starting workers; in the reference with ready ones, so that a decision to
    /// keep them leaves starting ones alone.
    pub count_starting: bool,
    /// A worker without a record yet does not void a decision; in the reference it does.
    pub await_no_record: bool,
}
