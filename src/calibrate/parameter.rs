//! The corrections that can be fitted, and the coordinates in which they are looked for.

use super::error::CalibrateError;
use super::replay::Knobs;

/// A correction that can be fitted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Parameter {
    /// Factor on prefill times.
    PrefillScale,
    /// Factor on decode times.
    DecodeScale,
    /// Host time of every pass.
    PerPassOverhead,
    /// KV blocks of a scheduler.
    NumGpuBlocks,
}

/// Largest factor either way on times, and on KV blocks.
const LARGEST_FACTOR: f64 = 50.0;
/// Longest host time of a pass, milliseconds.
const LONGEST_OVERHEAD_MS: f64 = 1_000.0;
/// The host time that weighs as much as a factor of e, milliseconds.
const OVERHEAD_UNIT_MS: f64 = 10.0;
/// Significant digits of a fitted correction.
const DIGITS: i32 = 5;

impl Parameter {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::PrefillScale, Self::DecodeScale, Self::PerPassOverhead, Self::NumGpuBlocks];

    /// Its key in a correction file.
    pub fn name(self) -> &'static str {
        match self {
            Self::PrefillScale => "prefill_scale",
            Self::DecodeScale => "decode_scale",
            Self::PerPassOverhead => "per_pass_overhead_ms",
            Self::NumGpuBlocks => "num_gpu_blocks",
        }
    }

    /// Reads a list of names separated by commas.
    ///
    /// # Errors
    /// When a name is not one of a parameter, or comes twice.
    pub fn parse_list(text: &str) -> Result<Vec<Self>, CalibrateError> {
        let mut list = Vec::new();
        for name in text.split(',').map(str::trim) {
            let Some(parameter) = Self::ALL.into_iter().find(|parameter| parameter.name() == name) else {
                let cure = format!("use {}, or none", Self::ALL.map(Self::name).join(", "));
                return Err(CalibrateError::setting("fit", format!("has \"{name}\" among its names"), cure));
            };
            if list.contains(&parameter) {
                return Err(CalibrateError::setting("fit", format!("names `{name}` twice"), "name it once"));
            }
            list.push(parameter);
        }
        Ok(list)
    }

    /// Its value; `None` for KV blocks that are left as they are.
    pub fn value(self, knobs: &Knobs) -> Option<f64> {
        match self {
            Self::PrefillScale => Some(knobs.correction.prefill_scale),
            Self::DecodeScale => Some(knobs.correction.decode_scale),
            Self::PerPassOverhead => Some(knobs.correction.per_pass_overhead_ms),
            Self::NumGpuBlocks => knobs.num_gpu_blocks.map(f64::from),
        }
    }

    /// Lowest and highest coordinate.
    fn bounds(self) -> (f64, f64) {
        match self {
            Self::PerPassOverhead => (0.0, LONGEST_OVERHEAD_MS / OVERHEAD_UNIT_MS),
            Self::PrefillScale | Self::DecodeScale | Self::NumGpuBlocks => (-LARGEST_FACTOR.ln(), LARGEST_FACTOR.ln()),
        }
    }
}

/// Where corrections begin, and what limits them.
#[derive(Debug, Clone, Copy)]
pub(super) struct Origin {
    /// Corrections before the fit.
    pub knobs: Knobs,
    /// KV blocks before the fit.
    pub blocks: u32,
    /// Fewest KV blocks that hold the longest request.
    pub fewest: u32,
}

impl Origin {
    /// Coordinate of a parameter: 0 is no correction, and steps of equal size matter about equally.
    pub fn coordinate(&self, parameter: Parameter, knobs: &Knobs) -> f64 {
        match parameter {
            Parameter::PrefillScale => knobs.correction.prefill_scale.ln(),
            Parameter::DecodeScale => knobs.correction.decode_scale.ln(),
            Parameter::PerPassOverhead => knobs.correction.per_pass_overhead_ms / OVERHEAD_UNIT_MS,
            Parameter::NumGpuBlocks => {
                knobs.num_gpu_blocks.map_or(0.0, |n| (f64::from(n) / f64::from(self.blocks)).ln())
            }
        }
    }

    /// Moves a parameter to a coordinate, or to the nearest that it can have. Returns how far that is.
    pub fn set(&self, parameter: Parameter, knobs: &mut Knobs, coordinate: f64) -> f64 {
        let (low, high) = parameter.bounds();
        let at = coordinate.clamp(low, high);
        match parameter {
            Parameter::PrefillScale => knobs.correction.prefill_scale = rounded(at.exp()),
            Parameter::DecodeScale => knobs.correction.decode_scale = rounded(at.exp()),
            Parameter::PerPassOverhead => knobs.correction.per_pass_overhead_ms = rounded(at * OVERHEAD_UNIT_MS),
            Parameter::NumGpuBlocks => {
                let count = (f64::from(self.blocks) * at.exp()).round().clamp(1.0, f64::from(u32::MAX));
                knobs.num_gpu_blocks = Some((count as u32).max(self.fewest));
            }
        }
        (coordinate - at).abs()
    }
}

/// Points of a search.
///
/// Their coordinates are those of [`Origin`], but for the decode scale where the host time is looked for too: there the
/// coordinate is that of a typical decode pass with its host time. A little more of the one and less of the other look
/// almost the same, and a search that moves along the axes would hardly find its way through such a narrow valley.
#[derive(Debug, Clone)]
pub(super) struct Space {
    pub origin: Origin,
    pub parameters: Vec<Parameter>,
    /// Host time unit as a share of a typical decode pass, where that matters.
    share: Option<f64>,
}

impl Space {
    /// `pass_ms`: a typical decode pass without corrections, milliseconds.
    pub fn new(origin: Origin, parameters: Vec<Parameter>, pass_ms: Option<f64>) -> Self {
        let both = [Parameter::DecodeScale, Parameter::PerPassOverhead].iter().all(|p| parameters.contains(p));
        let share = pass_ms.filter(|ms| both && ms.is_finite() && *ms > 0.0).map(|ms| OVERHEAD_UNIT_MS / ms);
        Self { origin, parameters, share }
    }

    fn index(&self, parameter: Parameter) -> Option<usize> {
        self.parameters.iter().position(|other| *other == parameter)
    }

    /// Decode and host time coordinates, where they are looked for together.
    fn pair(&self) -> Option<(usize, usize, f64)> {
        Some((self.index(Parameter::DecodeScale)?, self.index(Parameter::PerPassOverhead)?, self.share?))
    }

    /// The point of given corrections.
    pub fn point(&self, knobs: &Knobs) -> Vec<f64> {
        let mut point: Vec<f64> = self.parameters.iter().map(|p| self.origin.coordinate(*p, knobs)).collect();
        if let Some((decode, host, share)) = self.pair() {
            point[decode] = (point[decode].exp() + point[host] * share).ln();
        }
        point
    }

    /// The corrections of a point, how far it lies beyond what they can be, squared, and the square of their size.
    pub fn knobs(&self, point: &[f64]) -> (Knobs, f64, f64) {
        let mut at = point.to_vec();
        if let Some((decode, host, share)) = self.pair() {
            let (low, _) = Parameter::DecodeScale.bounds();
            let scale = point[decode].exp() - point[host].max(0.0) * share;
            at[decode] = if scale > low.exp() { scale.ln() } else { low - (low.exp() - scale) };
        }
        let mut knobs = self.origin.knobs;
        let (mut beyond, mut size) = (0.0, 0.0);
        for (parameter, coordinate) in self.parameters.iter().zip(&at) {
            let far = self.origin.set(*parameter, &mut knobs, *coordinate);
            beyond += far * far;
            let inside = self.origin.coordinate(*parameter, &knobs);
            size += inside * inside;
        }
        (knobs, beyond, size)
    }
}

/// Rounds to a number of digits that a person can read; the figures of a report are those of the rounded value.
fn rounded(value: f64) -> f64 {
    if value == 0.0 || !value.is_finite() {
        return value;
    }
    let places = (DIGITS - 1 - value.abs().log10().floor() as i32).max(0);
    let unit = 10f64.powi(places);
    (value * unit).round() / unit
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::perf::Correction;

    fn origin() -> Origin {
        let knobs = Knobs { correction: Correction::default(), num_gpu_blocks: None };
        Origin { knobs, blocks: 1_000, fewest: 700 }
    }

    #[test]
    fn fitted_values_have_a_few_digits() {
        assert_eq!(rounded(1.234_567_8), 1.2346);
        assert_eq!(rounded(0.012_345_678), 0.012_346);
        assert_eq!(rounded(123_456.7), 123_457.0);
        assert_eq!(rounded(0.0), 0.0);
    }

    #[test]
    fn a_point_goes_to_its_corrections_and_back() {
        let space = Space::new(origin(), Parameter::ALL.to_vec(), Some(20.0));
        let (knobs, beyond, size) = space.knobs(&[0.5, 0.3, 0.4, -0.2]);
        assert_eq!((beyond, knobs.num_gpu_blocks), (0.0, Some(819)));
        // A pass of 20 ms and e^0.3 of it, of which 4 ms are the host's.
        assert!((knobs.correction.decode_scale - (0.3f64.exp() - 0.2)).abs() < 1e-4);
        assert!((knobs.correction.per_pass_overhead_ms - 4.0).abs() < 1e-9);
        assert!(size > 0.4);
        for (found, given) in space.point(&knobs).iter().zip([0.5, 0.3, 0.4, -0.2]) {
            assert!((found - given).abs() < 1e-3, "{found} for {given}");
        }
        assert_eq!(space.point(&origin().knobs), [0.0; 4]);
    }

    #[test]
    fn no_point_leads_beyond_the_bounds() {
        let space = Space::new(origin(), Parameter::ALL.to_vec(), Some(20.0));
        for point in [[-9.0, -9.0, -9.0, -9.0], [9.0, 9.0, 900.0, 99.0], [0.0, -1.0, 8.0, 0.0]] {
            let (knobs, beyond, _) = space.knobs(&point);
            assert!(beyond > 0.0, "{point:?}");
            let Knobs { correction, num_gpu_blocks } = knobs;
            for scale in [correction.prefill_scale, correction.decode_scale] {
                assert!((0.019..=50.1).contains(&scale), "{scale} at {point:?}");
            }
            assert!((0.0..=1_000.0).contains(&correction.per_pass_overhead_ms));
            assert!((700..=50_000).contains(&num_gpu_blocks.unwrap()));
        }
    }

    #[test]
    fn names_of_parameters_are_read_strictly() {
        let list = Parameter::parse_list("decode_scale, num_gpu_blocks").unwrap();
        assert_eq!(list, [Parameter::DecodeScale, Parameter::NumGpuBlocks]);
        assert!(Parameter::parse_list("decode").unwrap_err().to_string().contains("\"decode\" among its names"));
        assert!(Parameter::parse_list("decode_scale,decode_scale").unwrap_err().to_string().contains("twice"));
    }
}
