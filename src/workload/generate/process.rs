//! The arrival processes that a document can ask for.

use std::fmt;
use std::str::FromStr;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserializer, Error, MapAccess, Visitor};
use serde::{Deserialize, Serialize};

use super::error::SpecError;

/// An arrival process. Rates are sessions per second; `cv` is the coefficient of variation of the gaps measured at the
/// rate of the moment: 0 evenly spaced, 1 (unless given) as a Poisson process, above 1 in clumps (Gamma gaps).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "process", rename_all = "snake_case", deny_unknown_fields)]
pub enum Process {
    /// Equal gaps. Short: `constant:RATE`.
    Constant {
        /// Sessions per second.
        rate_per_s: f64,
    },
    /// Independent arrivals: exponential gaps. Short: `poisson:RATE`.
    Poisson {
        /// Sessions per second.
        rate_per_s: f64,
    },
    /// Gamma gaps. Short: `gamma:RATE:CV`.
    Gamma {
        /// Sessions per second.
        rate_per_s: f64,
        /// Coefficient of variation of the gaps, 0.01 to 100.
        cv: f64,
    },
    /// Weibull gaps. Short: `weibull:RATE:CV`.
    Weibull {
        /// Sessions per second.
        rate_per_s: f64,
        /// Coefficient of variation of the gaps, 0.03 to 100; give this or `shape`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        cv: Option<f64>,
        /// Shape parameter, 0.15 to 50; below 1 in bursts.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        shape: Option<f64>,
    },
    /// Markov-modulated Poisson process: a rate that jumps between states. It begins in the first one, stays in each for
    /// an exponentially distributed time, and goes to any of the others alike. Short: `mmpp:RATE:STAY:RATE:STAY`.
    Mmpp {
        /// The states, at least one with a rate above zero.
        states: Vec<State>,
        /// Coefficient of variation of the gaps.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        cv: Option<f64>,
    },
    /// A sine wave: `rate_per_s * (1 + amplitude * cos(2 pi (t - peak_s) / period_s))`.
    Diurnal {
        /// Mean sessions per second.
        rate_per_s: f64,
        /// Height of the wave relative to the mean, 0 to 1.
        amplitude: f64,
        /// Seconds per wave; a day unless given.
        #[serde(default = "day")]
        period_s: f64,
        /// Time of the peak, seconds; half a period unless given.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        peak_s: Option<f64>,
        /// Coefficient of variation of the gaps.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        cv: Option<f64>,
    },
    /// A straight line from one rate to another, then level. Short: `ramp:FROM:TO:OVER`.
    Ramp {
        /// Sessions per second at the beginning.
        from_per_s: f64,
        /// Sessions per second at the end.
        to_per_s: f64,
        /// Seconds from one to the other.
        over_s: f64,
        /// Coefficient of variation of the gaps.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        cv: Option<f64>,
    },
    /// A level rate, multiplied for a while, once or again and again. Short: `spike:RATE:FACTOR:AT:FOR`.
    Spike {
        /// Sessions per second outside spikes.
        rate_per_s: f64,
        /// Factor on the rate within a spike; 0 is an outage.
        factor: f64,
        /// Begin of the first spike, seconds.
        at_s: f64,
        /// Length of a spike, seconds.
        for_s: f64,
        /// From the begin of one spike to the next, seconds, at least `for_s`; only one spike unless given.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        every_s: Option<f64>,
        /// Coefficient of variation of the gaps.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        cv: Option<f64>,
    },
}

/// A state of a modulated process.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct State {
    /// Sessions per second.
    pub rate_per_s: f64,
    /// Mean stay in seconds, at least 0.001.
    pub mean_s: f64,
}

fn day() -> f64 {
    86_400.0
}

/// Largest rate, sessions per second: one per nanosecond.
const MAX_RATE: f64 = 1e9;
impl Process {
    /// Checks the parameters.
    pub(super) fn check(&self) -> Result<(), SpecError> {
        let within = |key: &str, value: f64, low: f64, high: f64| match (low..=high).contains(&value) {
            true => Ok(()),
            false => {
                let cause = format!("is {value}");
                Err(SpecError::new(format!("arrivals.{key}"), cause, format!("give a number from {low} to {high}")))
            }
        };
        let rate = |key: &str, value: f64| within(key, value, 1e-9, MAX_RATE);
        let spread = |cv: &Option<f64>| within("cv", cv.unwrap_or(1.0), 0.0, 100.0);
        let seconds = |key: &str, value: f64| within(key, value, 1e-3, 1e12);
        match self {
            Self::Constant { rate_per_s } | Self::Poisson { rate_per_s } => rate("rate_per_s", *rate_per_s),
            Self::Gamma { rate_per_s, cv } => {
                rate("rate_per_s", *rate_per_s)?;
                within("cv", *cv, 0.01, 100.0)
            }
            Self::Weibull { rate_per_s, cv, shape } => {
                rate("rate_per_s", *rate_per_s)?;
                match (cv, shape) {
                    (Some(cv), None) => within("cv", *cv, 0.03, 100.0),
                    (None, Some(shape)) => within("shape", *shape, 0.15, 50.0),
                    _ => Err(SpecError::new("arrivals", "Weibull gaps have one parameter", "give `cv` or `shape`")),
                }
            }
            Self::Mmpp { states, cv } => {
                spread(cv)?;
                if states.is_empty() || states.len() > 64 {
                    let cause = format!("has {} entries", states.len());
                    return Err(SpecError::new("arrivals.states", cause, "give 1 to 64"));
                }
                for (index, state) in states.iter().enumerate() {
                    within(&format!("states[{index}].rate_per_s"), state.rate_per_s, 0.0, MAX_RATE)?;
                    seconds(&format!("states[{index}].mean_s"), state.mean_s)?;
                }
                match states.iter().any(|state| state.rate_per_s >= 1e-9) {
                    true => Ok(()),
                    false => Err(SpecError::new("arrivals.states", "have no rate above 0", "give one of them a rate")),
                }
            }
            Self::Diurnal { rate_per_s, amplitude, period_s, peak_s, cv } => {
                rate("rate_per_s", *rate_per_s)?;
                within("amplitude", *amplitude, 0.0, 1.0)?;
                seconds("period_s", *period_s)?;
                within("peak_s", peak_s.unwrap_or(0.0), 0.0, 1e12)?;
                spread(cv)
            }
            Self::Ramp { from_per_s, to_per_s, over_s, cv } => {
                within("from_per_s", *from_per_s, 0.0, MAX_RATE)?;
                within("to_per_s", *to_per_s, 0.0, MAX_RATE)?;
                seconds("over_s", *over_s)?;
                spread(cv)?;
                match from_per_s.max(*to_per_s) >= 1e-9 {
                    true => Ok(()),
                    false => Err(SpecError::new("arrivals", "both rates are 0", "give one of them a rate")),
                }
            }
            Self::Spike { rate_per_s, factor, at_s, for_s, every_s, cv } => {
                rate("rate_per_s", *rate_per_s)?;
                within("factor", *factor, 0.0, 1e9)?;
                within("at_s", *at_s, 0.0, 1e12)?;
                seconds("for_s", *for_s)?;
                within("every_s", every_s.unwrap_or(*for_s), *for_s, 1e12)?;
                if *factor == 0.0 && every_s.is_some_and(|every| every <= *for_s) {
                    return Err(SpecError::new("arrivals.every_s", "leaves no time between outages", "make it longer"));
                }
                spread(cv)
            }
        }
    }

    /// Sessions per second, if it is always the same.
    pub(super) fn level_rate(&self) -> Option<f64> {
        match self {
            Self::Constant { rate_per_s }
            | Self::Poisson { rate_per_s }
            | Self::Gamma { rate_per_s, .. }
            | Self::Weibull { rate_per_s, .. } => Some(*rate_per_s),
            Self::Mmpp { .. } | Self::Diurnal { .. } | Self::Ramp { .. } | Self::Spike { .. } => None,
        }
    }
}

impl FromStr for Process {
    type Err = String;

    /// Reads the short form, or a JSON object.
    fn from_str(text: &str) -> Result<Self, String> {
        let text = text.trim();
        if text.starts_with('{') {
            return serde_json::from_str(text).map_err(|e| e.to_string());
        }
        let (name, rest) = text.split_once(':').unwrap_or((text, ""));
        let number = |part: &str| match part.trim().parse::<f64>() {
            Ok(number) if number.is_finite() => Ok(number),
            _ => Err(format!("\"{part}\" is no number")),
        };
        let numbers = rest.split(':').filter(|part| !part.is_empty()).map(number).collect::<Result<Vec<f64>, _>>()?;
        let process = match (name, numbers.as_slice()) {
            ("constant", [rate]) => Self::Constant { rate_per_s: *rate },
            ("poisson", [rate]) => Self::Poisson { rate_per_s: *rate },
            ("gamma", [rate, cv]) => Self::Gamma { rate_per_s: *rate, cv: *cv },
            ("weibull", [rate, cv]) => Self::Weibull { rate_per_s: *rate, cv: Some(*cv), shape: None },
            ("mmpp", stays) if !stays.is_empty() && stays.len().is_multiple_of(2) => {
                let state = |pair: &[f64]| match pair {
                    [rate_per_s, mean_s] => Some(State { rate_per_s: *rate_per_s, mean_s: *mean_s }),
                    _ => None,
                };
                Self::Mmpp { states: stays.chunks(2).filter_map(state).collect(), cv: None }
            }
            ("diurnal", [rate, amplitude, period]) => {
                let (rate_per_s, amplitude, period_s) = (*rate, *amplitude, *period);
                Self::Diurnal { rate_per_s, amplitude, period_s, peak_s: None, cv: None }
            }
            ("ramp", [from, to, over]) => Self::Ramp { from_per_s: *from, to_per_s: *to, over_s: *over, cv: None },
            ("spike", [rate, factor, at, length]) => {
                let (rate_per_s, factor, at_s, for_s) = (*rate, *factor, *at, *length);
                Self::Spike { rate_per_s, factor, at_s, for_s, every_s: None, cv: None }
            }
            _ => return Err(format!("\"{text}\" is no arrival process; {SHORT}")),
        };
        Ok(process)
    }
}

/// The short forms, for messages.
const SHORT: &str = "give constant:RATE, poisson:RATE, gamma:RATE:CV, weibull:RATE:CV, mmpp:RATE:STAY:RATE:STAY, \
                     diurnal:RATE:AMPLITUDE:PERIOD, ramp:FROM:TO:OVER or spike:RATE:FACTOR:AT:FOR";

/// Reads an object or the short form.
pub(super) fn read<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Process, D::Error> {
    struct Either;

    impl<'de> Visitor<'de> for Either {
        type Value = Process;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an arrival process such as {\"process\": \"poisson\", \"rate_per_s\": 2}")
        }

        fn visit_str<E: Error>(self, text: &str) -> Result<Process, E> {
            text.parse().map_err(E::custom)
        }

        fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Process, A::Error> {
            Process::deserialize(MapAccessDeserializer::new(map))
        }
    }

    deserializer.deserialize_any(Either)
}

/// The schema of what [`read`] takes.
pub(super) fn schema(generator: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "description": "An arrival process, or the short form of one.",
        "anyOf": [{ "type": "string" }, Process::json_schema(generator)],
    })
}
