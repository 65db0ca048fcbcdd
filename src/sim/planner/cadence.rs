//! When the planner ticks, and what is due at a tick.

use crate::scenario::PlannerConfig;

/// Rounding allowed for in sums of intervals.
const SLACK: f64 = 1e-9;

/// A tick to come.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Tick {
    /// When, seconds.
    pub at_s: f64,
    /// The same on the planner's own clock, which may differ in the last bits.
    clock_s: f64,
    /// Whether the fast loop is due, and with it a look at forward-pass metrics.
    pub run_load: bool,
    /// Whether the slow loop is due.
    pub run_throughput: bool,
    /// Whether forward-pass metrics are shown.
    pub need_fpm: bool,
    /// Whether traffic is taken out of its accumulator.
    pub need_traffic: bool,
}

/// Which parts are due by their own count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Due {
    pub predict: bool,
    pub throughput: bool,
    pub load: bool,
}

/// Counts intervals.
#[derive(Debug, Clone)]
pub(super) struct Cadence {
    step_s: f64,
    load_s: f64,
    throughput_s: f64,
    load: bool,
    throughput: bool,
    sla: bool,
    last_s: f64,
    clock_s: f64,
    last_load_s: f64,
    last_throughput_s: f64,
    /// When each part ran last.
    predicted_s: f64,
    proposed_s: f64,
    loaded_s: f64,
}

impl Cadence {
    pub fn new(config: &PlannerConfig) -> Self {
        Self {
            step_s: config.tick_s,
            load_s: config.load_interval_s,
            throughput_s: config.throughput_interval_s,
            load: config.load_scaling,
            throughput: config.throughput_scaling,
            sla: !config.target.is_easy(),
            last_s: 0.0,
            clock_s: 0.0,
            last_load_s: 0.0,
            last_throughput_s: 0.0,
            predicted_s: 0.0,
            proposed_s: 0.0,
            loaded_s: 0.0,
        }
    }

    /// The tick after the last one.
    pub fn next(&self) -> Tick {
        let clock_s = self.clock_s + self.step_s;
        let due = self.due(clock_s);
        let run_load = clock_s - self.last_load_s >= self.load_s - SLACK;
        let run_throughput = self.throughput && clock_s - self.last_throughput_s >= self.throughput_s - SLACK;
        // Without the slow loop the fast one takes traffic, for hit rates and accept lengths.
        let load_takes_traffic = self.sla && !self.throughput && due.load;
        Tick {
            at_s: self.last_s + self.step_s,
            clock_s,
            run_load,
            run_throughput,
            need_fpm: due.load || (self.sla && run_load),
            need_traffic: due.predict || due.throughput || load_takes_traffic,
        }
    }

    /// A tick begins.
    pub fn begin(&mut self, tick: &Tick) -> Due {
        let ahead = tick.at_s - self.clock_s;
        if ahead > 0.0 {
            self.clock_s += ahead;
        }
        self.last_s = tick.at_s;
        if tick.run_load {
            self.last_load_s = self.clock_s;
        }
        if tick.run_throughput {
            self.last_throughput_s = self.clock_s;
        }
        self.due(tick.clock_s)
    }

    /// Whether the parts' own intervals are over, without allowance for rounding.
    fn due(&self, now_s: f64) -> Due {
        let over = |since: f64, interval: f64| now_s - since >= interval;
        Due {
            predict: self.throughput && over(self.predicted_s, self.throughput_s),
            throughput: self.throughput && over(self.proposed_s, self.throughput_s),
            load: self.load && over(self.loaded_s, self.load_s),
        }
    }

    pub fn predicted(&mut self, tick: &Tick) {
        self.predicted_s = tick.clock_s;
    }

    pub fn proposed(&mut self, tick: &Tick) {
        self.proposed_s = tick.clock_s;
    }

    pub fn loaded(&mut self, tick: &Tick) {
        self.loaded_s = tick.clock_s;
    }
}
