//! Amounts that are drawn: tokens, turns, milliseconds.

use std::fmt;
use std::path::Path;
use std::str::FromStr;

use rand::Rng;
use rand_distr::{Distribution, Exp1, LogNormal, Normal, StandardUniform};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserializer, Error, MapAccess, Visitor};
use serde::{Deserialize, Serialize, Serializer};

use crate::workload::WorkloadError;
use crate::workload::model::MAX_TOKENS;

use super::error::SpecError;
use super::samples;

/// How an amount is drawn. In a document: a number, an object such as `{"dist": "uniform", "min": 10, "max": 20}`, or
/// the short form `"uniform:10:20"`.
#[derive(Debug, Clone, PartialEq)]
pub struct Dist(pub Shape);

/// The distributions.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "dist", rename_all = "snake_case", deny_unknown_fields)]
pub enum Shape {
    /// Always the same. Short: the number.
    Fixed {
        /// The amount.
        value: f64,
    },
    /// Anything between two bounds alike. Short: `uniform:MIN:MAX`.
    Uniform {
        /// Smallest amount.
        min: f64,
        /// Largest amount.
        max: f64,
    },
    /// Many short, few very long: the exponential of a normal distribution. Short: `lognormal:MEDIAN:SIGMA`.
    Lognormal {
        /// Half of the amounts are below; give this or `mean`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        median: Option<f64>,
        /// Mean before the bounds; `median * exp(sigma^2 / 2)`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        mean: Option<f64>,
        /// Standard deviation of the logarithm, 0 to 10.
        sigma: f64,
        /// Smaller draws become this.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        min: Option<f64>,
        /// Larger draws become this.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        max: Option<f64>,
    },
    /// The bell curve. Short: `normal:MEAN:STD`.
    Normal {
        /// Mean before the bounds.
        mean: f64,
        /// Standard deviation before the bounds.
        std: f64,
        /// Smaller draws become this; 0 unless given.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        min: Option<f64>,
        /// Larger draws become this.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        max: Option<f64>,
    },
    /// Waits without memory. Short: `exponential:MEAN`.
    Exponential {
        /// Mean before the bounds.
        mean: f64,
        /// Smaller draws become this.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        min: Option<f64>,
        /// Larger draws become this.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        max: Option<f64>,
    },
    /// Counts from 1 on, each one more with the same probability. Short: `geometric:MEAN`.
    Geometric {
        /// Mean before the bound, at least 1.
        mean: f64,
        /// Larger draws become this.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        max: Option<f64>,
    },
    /// One of a few amounts. Short: `choice:A:B:C`, all equally likely.
    Choice {
        /// The amounts.
        values: Vec<f64>,
        /// How often each is drawn relative to the others; all alike unless given.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        weights: Vec<f64>,
    },
    /// Any line of a file alike. Short: `empirical:FILE:COLUMN`.
    Empirical {
        /// CSV file, or any trace.
        file: String,
        /// Column of a CSV file by name or number from 1; `input` or `output` of a trace.
        column: String,
        /// Smaller draws become this.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        min: Option<f64>,
        /// Larger draws become this.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        max: Option<f64>,
    },
}

/// Largest amount that makes sense anywhere (a thousand years in milliseconds).
const MOST: f64 = 3.2e13;

impl Dist {
    /// Always `value`.
    pub fn fixed(value: f64) -> Self {
        Self(Shape::Fixed { value })
    }

    /// Whether only one amount can come out, and which.
    pub fn constant(&self) -> Option<f64> {
        match &self.0 {
            Shape::Fixed { value } => Some(*value),
            _ => None,
        }
    }

    /// Checks the parameters; `key` is where they stand.
    pub(super) fn check(&self, key: &str) -> Result<(), SpecError> {
        let amount = |name: &str, value: f64| match (0.0..=MOST).contains(&value) {
            true => Ok(()),
            false => Err(SpecError::new(join(key, name), format!("is {value}"), "give a number from 0 to 3.2e13")),
        };
        let bounds = |min: Option<f64>, max: Option<f64>| {
            amount("min", min.unwrap_or(0.0))?;
            amount("max", max.unwrap_or(0.0))?;
            match (min, max) {
                (Some(min), Some(max)) if min > max => {
                    Err(SpecError::new(join(key, "max"), format!("is {max}, below min {min}"), "swap the two"))
                }
                _ => Ok(()),
            }
        };
        match &self.0 {
            Shape::Fixed { value } => amount("", *value),
            Shape::Uniform { min, max } => bounds(Some(*min), Some(*max)),
            Shape::Lognormal { median, mean, sigma, min, max } => {
                bounds(*min, *max)?;
                let (name, center) = match (median, mean) {
                    (Some(median), None) => ("median", *median),
                    (None, Some(mean)) => ("mean", *mean),
                    _ => {
                        let cause = "a log-normal distribution has either a median or a mean";
                        return Err(SpecError::new(key, cause, "give `median` or `mean`, and `sigma`"));
                    }
                };
                amount(name, center)?;
                if center <= 0.0 {
                    return Err(SpecError::new(join(key, name), format!("is {center}"), "give a number above 0"));
                }
                if !(0.0..=10.0).contains(sigma) {
                    return Err(SpecError::new(
                        join(key, "sigma"),
                        format!("is {sigma}"),
                        "give a number from 0 to 10",
                    ));
                }
                Ok(())
            }
            Shape::Normal { mean, std, min, max } => {
                bounds(*min, *max)?;
                amount("mean", *mean)?;
                amount("std", *std)
            }
            Shape::Exponential { mean, min, max } => {
                bounds(*min, *max)?;
                amount("mean", *mean)
            }
            Shape::Geometric { mean, max } => {
                bounds(None, *max)?;
                amount("mean", *mean)?;
                if *mean < 1.0 || max.is_some_and(|m| m < 1.0) {
                    let name = if *mean < 1.0 { "mean" } else { "max" };
                    return Err(SpecError::new(join(key, name), "is less than 1", "counts begin at 1"));
                }
                Ok(())
            }
            Shape::Choice { values, weights } => check_choice(key, values, weights, amount),
            Shape::Empirical { file, min, max, .. } => {
                if file.is_empty() {
                    return Err(SpecError::new(join(key, "file"), "is empty", "give a path"));
                }
                bounds(*min, *max)
            }
        }
    }

    /// Makes relative paths start at `folder`.
    pub(super) fn rebase(&mut self, folder: &Path) {
        if let Shape::Empirical { file, .. } = &mut self.0 {
            rebase(file, folder);
        }
    }

    /// Ready to draw; reads the file of an empirical distribution.
    pub(super) fn sampler(&self, key: &'static str) -> Result<Sampler, WorkloadError> {
        let wrong = |cause: String| WorkloadError::setting(key, cause, "choose other parameters");
        let (kind, min, max) = match &self.0 {
            Shape::Fixed { value } => (Kind::Fixed(*value), Some(*value), None),
            Shape::Uniform { min, max } => (Kind::Uniform { from: *min, span: max - min }, Some(*min), Some(*max)),
            Shape::Lognormal { median, mean, sigma, min, max } => {
                let mu = match (median, mean) {
                    (Some(median), _) => median.ln(),
                    (None, mean) => mean.unwrap_or(1.0).ln() - sigma * sigma / 2.0,
                };
                (Kind::Lognormal(LogNormal::new(mu, *sigma).map_err(|e| wrong(e.to_string()))?), *min, *max)
            }
            Shape::Normal { mean, std, min, max } => {
                (Kind::Normal(Normal::new(*mean, *std).map_err(|e| wrong(e.to_string()))?), *min, *max)
            }
            Shape::Exponential { mean, min, max } => (Kind::Exponential(*mean), *min, *max),
            Shape::Geometric { mean, max } => (Kind::Geometric((-1.0 / mean).ln_1p()), None, *max),
            Shape::Choice { values, weights } => {
                let smallest = values.iter().copied().fold(f64::INFINITY, f64::min);
                (Kind::Choice(table(values, weights)), Some(smallest), None)
            }
            Shape::Empirical { file, column, min, max } => {
                let [values] = samples::read(Path::new(file), [(key, column)])?;
                let smallest = values.iter().copied().fold(f64::INFINITY, f64::min);
                (Kind::Empirical(values), min.or(Some(smallest)), *max)
            }
        };
        Ok(Sampler { kind, least: min, floor: min.unwrap_or(0.0), most: max.unwrap_or(MOST) })
    }
}

fn check_choice(
    key: &str,
    values: &[f64],
    weights: &[f64],
    amount: impl Fn(&str, f64) -> Result<(), SpecError>,
) -> Result<(), SpecError> {
    values.iter().try_for_each(|value| amount("values", *value))?;
    if values.is_empty() {
        return Err(SpecError::new(join(key, "values"), "is empty", "give at least one amount"));
    }
    if !weights.is_empty() && weights.len() != values.len() {
        let cause = format!("has {} entries for {} values", weights.len(), values.len());
        return Err(SpecError::new(join(key, "weights"), cause, "give one weight per value, or none"));
    }
    let sum: f64 = weights.iter().sum();
    let usable = weights.is_empty() || weights.iter().all(|w| *w >= 0.0) && sum > 0.0 && sum.is_finite();
    if !usable {
        return Err(SpecError::new(
            join(key, "weights"),
            "are not all weights",
            "give numbers of 0 or more, not all 0",
        ));
    }
    Ok(())
}

/// The values with the sum of weights up to each, which ends at 1.
fn table(values: &[f64], weights: &[f64]) -> Vec<(f64, f64)> {
    let weight = |index: usize| if weights.is_empty() { 1.0 } else { weights.get(index).copied().unwrap_or(0.0) };
    let total: f64 = (0..values.len()).map(weight).sum();
    let mut sum = 0.0;
    let step = |(index, value): (usize, &f64)| {
        sum += weight(index);
        (*value, sum / total)
    };
    values.iter().enumerate().map(step).collect()
}

/// The entry of a [`table`] for a uniform draw below 1.
pub(super) fn pick(cumulative: impl ExactSizeIterator<Item = f64>, u: f64) -> usize {
    let last = cumulative.len().saturating_sub(1);
    cumulative.enumerate().find(|(_, up_to)| u < *up_to).map_or(last, |(index, _)| index)
}

/// Key and name of a part, the name left out when the whole is meant.
fn join(key: &str, name: &str) -> String {
    if name.is_empty() { key.to_owned() } else { format!("{key}.{name}") }
}

/// Makes a relative path start at `folder`.
pub(super) fn rebase(file: &mut String, folder: &Path) {
    if !file.is_empty() {
        *file = folder.join(&*file).to_string_lossy().into_owned();
    }
}

/// A distribution ready to draw from.
#[derive(Debug, Clone)]
pub(super) struct Sampler {
    kind: Kind,
    /// Smallest amount, if the distribution says so.
    least: Option<f64>,
    floor: f64,
    most: f64,
}

#[derive(Debug, Clone)]
enum Kind {
    Fixed(f64),
    Uniform {
        from: f64,
        span: f64,
    },
    Lognormal(LogNormal<f64>),
    Normal(Normal<f64>),
    Exponential(f64),
    /// Logarithm of the probability of one more.
    Geometric(f64),
    Choice(Vec<(f64, f64)>),
    Empirical(Vec<f64>),
}

impl Sampler {
    /// The next amount, zero or more.
    pub fn amount(&self, rng: &mut impl Rng) -> f64 {
        let drawn = match &self.kind {
            Kind::Fixed(value) => *value,
            Kind::Uniform { from, span } => from + span * rng.sample::<f64, _>(StandardUniform),
            Kind::Lognormal(d) => d.sample(rng),
            Kind::Normal(d) => d.sample(rng),
            Kind::Exponential(mean) => mean * rng.sample::<f64, _>(Exp1),
            // By inversion: one draw, whatever the mean. A mean of one divides by minus infinity.
            Kind::Geometric(log) => ((1.0 - rng.random::<f64>()).ln() / log).floor().max(0.0) + 1.0,
            Kind::Choice(table) => {
                let index = pick(table.iter().map(|(_, up_to)| *up_to), rng.random());
                table.get(index).map_or(0.0, |(value, _)| *value)
            }
            Kind::Empirical(values) => {
                let index = rng.random_range(0..values.len().max(1) as u64);
                values.get(index as usize).copied().unwrap_or(0.0)
            }
        };
        // What is not a number (0 times infinity) becomes the smallest amount.
        drawn.max(self.floor).min(self.most)
    }

    /// The next amount as tokens: rounded, and at least one unless the distribution itself includes 0.
    pub fn tokens(&self, rng: &mut impl Rng) -> u32 {
        let least = if self.least.is_some_and(|least| least < 0.5) { 0 } else { 1 };
        (self.amount(rng).round() as u32).clamp(least, MAX_TOKENS)
    }

    /// The next amount as a count: rounded.
    pub fn count(&self, rng: &mut impl Rng) -> u64 {
        self.amount(rng).round() as u64
    }
}

impl FromStr for Dist {
    type Err = String;

    /// Reads a number, the short form, or a JSON object.
    fn from_str(text: &str) -> Result<Self, String> {
        let text = text.trim();
        if text.starts_with('{') {
            return serde_json::from_str(text).map_err(|e| e.to_string());
        }
        let number = |part: &str| match part.trim().parse::<f64>() {
            Ok(number) if number.is_finite() => Ok(number),
            _ => Err(format!("\"{part}\" is no number")),
        };
        let Some((name, rest)) = text.split_once(':') else {
            return number(text).map(Self::fixed).map_err(|e| format!("{e}; {SHORT}"));
        };
        let numbers = || rest.split(':').map(number).collect::<Result<Vec<f64>, _>>();
        let shape = match name.trim() {
            "fixed" => match numbers()?.as_slice() {
                [value] => Some(Shape::Fixed { value: *value }),
                _ => None,
            },
            "uniform" => match numbers()?.as_slice() {
                [min, max] => Some(Shape::Uniform { min: *min, max: *max }),
                _ => None,
            },
            "lognormal" => match numbers()?.as_slice() {
                [median, sigma] => {
                    Some(Shape::Lognormal { median: Some(*median), mean: None, sigma: *sigma, min: None, max: None })
                }
                _ => None,
            },
            "normal" => match numbers()?.as_slice() {
                [mean, std] => Some(Shape::Normal { mean: *mean, std: *std, min: None, max: None }),
                _ => None,
            },
            "exponential" => match numbers()?.as_slice() {
                [mean] => Some(Shape::Exponential { mean: *mean, min: None, max: None }),
                _ => None,
            },
            "geometric" => match numbers()?.as_slice() {
                [mean] => Some(Shape::Geometric { mean: *mean, max: None }),
                _ => None,
            },
            "choice" => Some(Shape::Choice { values: numbers()?, weights: Vec::new() }),
            "empirical" => rest.rsplit_once(':').map(|(file, column)| {
                let (file, column) = (file.to_owned(), column.to_owned());
                Shape::Empirical { file, column, min: None, max: None }
            }),
            _ => None,
        };
        shape.map(Self).ok_or_else(|| format!("\"{text}\" is no distribution; {SHORT}"))
    }
}

/// The short forms, for messages.
const SHORT: &str = "give a number, uniform:MIN:MAX, lognormal:MEDIAN:SIGMA, normal:MEAN:STD, exponential:MEAN, \
                     geometric:MEAN, choice:A:B or empirical:FILE:COLUMN";

impl Serialize for Dist {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match &self.0 {
            // A whole number is written as one.
            Shape::Fixed { value } if value.fract() == 0.0 && value.abs() < 1e15 => {
                serializer.serialize_i64(*value as i64)
            }
            Shape::Fixed { value } => serializer.serialize_f64(*value),
            shape => shape.serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for Dist {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(DistVisitor)
    }
}

struct DistVisitor;

impl<'de> Visitor<'de> for DistVisitor {
    type Value = Dist;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a number or a distribution such as {\"dist\": \"uniform\", \"min\": 1, \"max\": 9}")
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Dist, E> {
        Ok(Dist::fixed(value))
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Dist, E> {
        Ok(Dist::fixed(value as f64))
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Dist, E> {
        Ok(Dist::fixed(value as f64))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Dist, E> {
        text.parse().map_err(E::custom)
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Dist, A::Error> {
        Shape::deserialize(MapAccessDeserializer::new(map)).map(Dist)
    }
}

impl JsonSchema for Dist {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Dist".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "A number, a distribution, or the short form of one.",
            "anyOf": [{ "type": "number", "minimum": 0 }, { "type": "string" }, Shape::json_schema(generator)],
        })
    }
}
