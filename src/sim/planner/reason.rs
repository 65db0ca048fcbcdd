//! Why a loop decided as it did, in the words of the reference.

/// Why the fast loop did what it did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LoadReason {
    /// One replica more.
    ScaleUp,
    /// Fewer replicas.
    ScaleDown,
    /// Fewer were wanted, but the slow loop's lower bound forbids it.
    CappedByThroughput,
    /// Fewer were possible, but the rest would be too near to its bounds.
    RefusedConsolidation,
    /// Nothing to do.
    NoChange,
    /// The loop is off.
    Disabled,
    /// No engine reported.
    NoFpmData,
    /// Workers are starting.
    ScalingInProgress,
    /// Not every ready worker reported.
    WorkerCountMismatch,
    /// Nothing can be estimated yet.
    InsufficientData,
}

impl LoadReason {
    /// The reference's word.
    pub fn name(self) -> &'static str {
        match self {
            Self::ScaleUp => "scale_up",
            Self::ScaleDown => "scale_down",
            Self::CappedByThroughput => "scale_down_capped_by_throughput",
            Self::RefusedConsolidation => "scale_down_refused_consolidation",
            Self::NoChange => "no_change",
            Self::Disabled => "disabled",
            Self::NoFpmData => "no_fpm_data",
            Self::ScalingInProgress => "scaling_in_progress",
            Self::WorkerCountMismatch => "worker_count_mismatch",
            Self::InsufficientData => "insufficient_data",
        }
    }

    /// What it means, for a sentence.
    pub fn words(self) -> &'static str {
        match self {
            Self::ScaleUp => "the load asks for more",
            Self::ScaleDown => "the load asks for less",
            Self::CappedByThroughput => "the predicted load forbids fewer",
            Self::RefusedConsolidation => "one fewer would come too near to a bound",
            Self::NoChange => "nothing asks for a change",
            Self::Disabled => "the load loop is off",
            Self::NoFpmData => "no engine has reported a forward pass",
            Self::ScalingInProgress => "workers are still starting",
            Self::WorkerCountMismatch => "not every ready worker has reported a forward pass yet",
            Self::InsufficientData => "too little has been observed to estimate anything",
        }
    }
}

/// Why the slow loop did what it did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ThroughputReason {
    /// Replicas for the predicted load.
    Scale,
    /// Fewest replicas for the predicted load; the fast loop decides.
    SetLowerBound,
    /// No traffic was observed.
    NoTrafficData,
    /// The predictor failed.
    PredictFailed,
    /// Nothing can be estimated yet.
    ModelNotReady,
    /// Nothing can be estimated for the other pool yet.
    PartnerNotReady,
}

impl ThroughputReason {
    /// The reference's word.
    pub fn name(self) -> &'static str {
        match self {
            Self::Scale => "scale",
            Self::SetLowerBound => "set_lower_bound",
            Self::NoTrafficData => "no_traffic_data",
            Self::PredictFailed => "predict_failed",
            Self::ModelNotReady => "model_not_ready",
            Self::PartnerNotReady => "partner_not_ready",
        }
    }
}
