//! Profiles of the planner's profiler (`planner_profile_data`): measured prefill and decode times as NumPy arrays.
//!
//! | array | shape | unit |
//! |---|---|---|
//! | `prefill_isl` | P | new tokens of the pass, all prompts together |
//! | `prefill_ttft_ms` | P | ms |
//! | `decode_active_kv_tokens` | K | KV tokens in use |
//! | `decode_context_length` | C | mean sequence length, tokens |
//! | `decode_itl` | K x C | ms |
//!
//! Prefill is piecewise linear, decode bilinear; outside the axes the edge segment goes on, as in the reference. Other
//! arrays are ignored. The reference takes float64 only and falls back to its polynomial on a bad file; here other plain
//! numbers are taken too and a bad file is an error.
//!
//! The prefix length does not enter, and a decode batch is implied by KV tokens and context, so that shared prefix blocks
//! make it too small. Forward-pass tables have neither limit.

use std::fs;
use std::io::{Cursor, Read};
use std::path::Path;

use zip::ZipArchive;
use zip::result::ZipError;

use super::PerfError;
use super::npy::Array;

/// Largest array member that is read, in bytes; a real profile has a few thousand numbers.
const LARGEST_MEMBER: u64 = 64 << 20;

/// Times of a planner profile. Immutable; answers are raw milliseconds, unclamped.
#[derive(Debug, Clone, PartialEq)]
pub struct NpzProfile {
    prefill_tokens: Vec<f64>,
    prefill_ms: Vec<f64>,
    decode_kv_tokens: Vec<f64>,
    decode_context: Vec<f64>,
    /// By KV tokens, then context.
    decode_ms: Vec<f64>,
}

impl NpzProfile {
    /// Reads a profile.
    ///
    /// # Errors
    /// When the file cannot be read, is no zip archive, or an array is missing, damaged, of a type other than plain
    /// numbers, of the wrong shape, not finite, or an axis has fewer than two entries or does not strictly increase. Names
    /// file and array.
    pub fn open(path: &Path) -> Result<Self, PerfError> {
        let bytes = fs::read(path).map_err(|error| PerfError::read(path, &error))?;
        Self::parse(&bytes, &path.display().to_string())
    }

    /// Reads a profile from the bytes of a file; `source` is its name, for errors.
    ///
    /// # Errors
    /// As [`NpzProfile::open`].
    pub fn parse(bytes: &[u8], source: &str) -> Result<Self, PerfError> {
        let archive = ZipArchive::new(Cursor::new(bytes)).map_err(|error| {
            let cure = "give an archive written by `numpy.savez` or `numpy.savez_compressed`";
            PerfError::data(source, "", format!("is not a readable zip archive ({error})"), cure)
        })?;
        let mut reader = Reader { source, archive };
        let prefill_tokens = reader.axis("prefill_isl")?;
        let prefill_ms = reader.values("prefill_ttft_ms", &[("prefill_isl", prefill_tokens.len())])?;
        let decode_kv_tokens = reader.axis("decode_active_kv_tokens")?;
        let decode_context = reader.axis("decode_context_length")?;
        let shape =
            [("decode_active_kv_tokens", decode_kv_tokens.len()), ("decode_context_length", decode_context.len())];
        let decode_ms = reader.values("decode_itl", &shape)?;
        Ok(Self { prefill_tokens, prefill_ms, decode_kv_tokens, decode_context, decode_ms })
    }

    /// Milliseconds to compute `new_tokens` prompt tokens, those of all prompts of the pass together.
    pub fn prefill_ms(&self, new_tokens: u64) -> f64 {
        let x = new_tokens as f64;
        let i = segment(&self.prefill_tokens, x);
        line(self.prefill_tokens[i], self.prefill_tokens[i + 1], self.prefill_ms[i], self.prefill_ms[i + 1], x)
    }

    /// Milliseconds of a decode step while `active_kv` KV tokens are in use and sequences are `context` tokens long on
    /// average.
    pub fn decode_ms(&self, active_kv: u64, context: u64) -> f64 {
        let (x, y) = (active_kv as f64, context as f64);
        let (i, j) = (segment(&self.decode_kv_tokens, x), segment(&self.decode_context, y));
        let width = self.decode_context.len();
        let (x1, x2) = (self.decode_kv_tokens[i], self.decode_kv_tokens[i + 1]);
        let column = |j: usize| line(x1, x2, self.decode_ms[i * width + j], self.decode_ms[(i + 1) * width + j], x);
        line(self.decode_context[j], self.decode_context[j + 1], column(j), column(j + 1), y)
    }

    /// [`Self::decode_ms`] for a number of steps that change little from one to the next.
    pub(super) fn decode_walk(&self) -> DecodeWalk<'_> {
        DecodeWalk { profile: self, cell: Cell::NOWHERE }
    }

    /// The cell around a number of KV tokens and a context.
    fn cell(&self, x: f64, y: f64) -> Cell {
        let (i, j) = (segment(&self.decode_kv_tokens, x), segment(&self.decode_context, y));
        let width = self.decode_context.len();
        let (x1, x2) = (self.decode_kv_tokens[i], self.decode_kv_tokens[i + 1]);
        let column = |j: usize| {
            let (below, above) = (self.decode_ms[i * width + j], self.decode_ms[(i + 1) * width + j]);
            ((above - below) / (x2 - x1), below)
        };
        Cell {
            kv_tokens: reach(&self.decode_kv_tokens, i),
            context: reach(&self.decode_context, j),
            origin: (x1, self.decode_context[j]),
            width: self.decode_context[j + 1] - self.decode_context[j],
            columns: [column(j), column(j + 1)],
        }
    }

    /// Whether a prefill lies within the axis.
    pub fn covers_prefill(&self, new_tokens: u64) -> bool {
        covers(&self.prefill_tokens, new_tokens)
    }

    /// Whether a decode lies within both axes.
    pub fn covers_decode(&self, active_kv: u64, context: u64) -> bool {
        covers(&self.decode_kv_tokens, active_kv) && covers(&self.decode_context, context)
    }
}

/// Decode steps near each other; most of them share a cell, whose slopes are computed once.
#[derive(Debug)]
pub(super) struct DecodeWalk<'a> {
    profile: &'a NpzProfile,
    cell: Cell,
}

impl DecodeWalk<'_> {
    /// [`NpzProfile::decode_ms`] to the last bit.
    #[inline]
    pub fn at(&mut self, active_kv: u64, context: u64) -> f64 {
        let (x, y) = (active_kv as f64, context as f64);
        if !self.cell.holds(x, y) {
            self.cell = self.profile.cell(x, y);
        }
        let Cell { origin, width, columns, .. } = self.cell;
        let [left, right] = columns.map(|(slope, below)| slope * (x - origin.0) + below);
        (right - left) / width * (y - origin.1) + left
    }
}

/// Between two knots of each axis.
#[derive(Debug, Clone, Copy)]
struct Cell {
    /// Coordinates it is for: from the first up to but without the second, endless at the ends of an axis.
    kv_tokens: (f64, f64),
    context: (f64, f64),
    /// Its first knots.
    origin: (f64, f64),
    /// Length along the contexts.
    width: f64,
    /// Slope along the KV tokens, and value at the first knot, at either context.
    columns: [(f64, f64); 2],
}

impl Cell {
    /// Holds nothing.
    const NOWHERE: Self =
        Self { kv_tokens: (0.0, 0.0), context: (0.0, 0.0), origin: (0.0, 0.0), width: 1.0, columns: [(0.0, 0.0); 2] };

    #[inline]
    fn holds(&self, x: f64, y: f64) -> bool {
        (self.kv_tokens.0 <= x) & (x < self.kv_tokens.1) & (self.context.0 <= y) & (y < self.context.1)
    }
}

/// Coordinates that the segment after knot `index` is for.
fn reach(axis: &[f64], index: usize) -> (f64, f64) {
    let from = if index == 0 { f64::NEG_INFINITY } else { axis[index] };
    let to = if index + 2 == axis.len() { f64::INFINITY } else { axis[index + 1] };
    (from, to)
}

/// Index of the knot at the left of `x`, of the first or last segment when `x` is outside.
fn segment(axis: &[f64], x: f64) -> usize {
    axis[1..axis.len() - 1].partition_point(|knot| *knot <= x)
}

/// The line through (`x1`, `y1`) and (`x2`, `y2`) at `x`, in the reference's order of operations.
fn line(x1: f64, x2: f64, y1: f64, y2: f64, x: f64) -> f64 {
    (y2 - y1) / (x2 - x1) * (x - x1) + y1
}

fn covers(axis: &[f64], x: u64) -> bool {
    (axis[0]..=axis[axis.len() - 1]).contains(&(x as f64))
}

/// Arrays of an archive, with errors that name file and array.
struct Reader<'a> {
    source: &'a str,
    archive: ZipArchive<Cursor<&'a [u8]>>,
}

impl Reader<'_> {
    fn error(&self, array: &str, cause: impl Into<String>, cure: impl Into<String>) -> PerfError {
        PerfError::data(self.source, array, cause, cure)
    }

    /// The bytes of the member that holds `array`.
    fn member(&mut self, array: &str) -> Result<Vec<u8>, PerfError> {
        let damaged = |error: &dyn std::fmt::Display| {
            PerfError::data(self.source, array, format!("is damaged ({error})"), "write the file again")
        };
        let mut bytes = Vec::new();
        match self.archive.by_name(&format!("{array}.npy")) {
            // The size in the archive's directory may lie, so reading stops by itself.
            Ok(member) => match member.take(LARGEST_MEMBER + 1).read_to_end(&mut bytes) {
                Ok(_) => {}
                Err(error) => return Err(damaged(&error)),
            },
            Err(ZipError::FileNotFound) => {
                let cure = "save it as an array of that name; `prefill_isl`, `prefill_ttft_ms`, `decode_active_kv_tokens`, \
                            `decode_context_length` and `decode_itl` are needed";
                return Err(PerfError::data(self.source, array, "is missing from the archive", cure));
            }
            Err(error) => return Err(damaged(&error)),
        }
        if bytes.len() as u64 > LARGEST_MEMBER {
            let cause = format!("is larger than {} MiB", LARGEST_MEMBER >> 20);
            return Err(self.error(array, cause, "thin the profile out"));
        }
        Ok(bytes)
    }

    fn array(&mut self, name: &str) -> Result<Array, PerfError> {
        let bytes = self.member(name)?;
        let array = Array::parse(&bytes).map_err(|error| self.error(name, error.cause, error.cure))?;
        match array.values.iter().position(|value| !value.is_finite()) {
            Some(index) => {
                let cause = format!("entry {index} is {}", array.values[index]);
                Err(self.error(name, cause, "give finite numbers"))
            }
            None => Ok(array),
        }
    }

    fn axis(&mut self, name: &str) -> Result<Vec<f64>, PerfError> {
        let array = self.array(name)?;
        let cure = "give a one-dimensional array of at least two strictly increasing numbers";
        if array.shape.len() != 1 {
            return Err(self.error(name, format!("has shape {}", shape_text(&array.shape)), cure));
        }
        let axis = array.values;
        if axis.len() < 2 {
            return Err(self.error(name, format!("has {} entries", axis.len()), cure));
        }
        match axis.windows(2).position(|pair| pair[0] >= pair[1]) {
            Some(index) => {
                let cause = format!("entry {} is {} after {}", index + 1, axis[index + 1], axis[index]);
                Err(self.error(name, cause, cure))
            }
            None => Ok(axis),
        }
    }

    /// An array over axes of the given names and lengths, row by row.
    fn values(&mut self, name: &str, axes: &[(&str, usize)]) -> Result<Vec<f64>, PerfError> {
        let array = self.array(name)?;
        let wanted: Vec<usize> = axes.iter().map(|(_, length)| *length).collect();
        if array.shape == wanted {
            return Ok(array.values);
        }
        let names: Vec<&str> = axes.iter().map(|(name, _)| *name).collect();
        let cause = format!("has shape {}", shape_text(&array.shape));
        let cure = format!("give shape {}, the lengths of {}", shape_text(&wanted), names.join(" and "));
        Err(self.error(name, cause, cure))
    }
}

/// A shape as NumPy writes it.
fn shape_text(shape: &[usize]) -> String {
    match shape {
        [length] => format!("({length},)"),
        _ => format!("({})", shape.iter().map(usize::to_string).collect::<Vec<_>>().join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_walk_gives_what_each_step_gives_alone() {
        let profile = NpzProfile {
            prefill_tokens: vec![1.0, 2.0],
            prefill_ms: vec![1.0, 2.0],
            decode_kv_tokens: vec![3.0, 700.0, 4_000.0, 4_100.0],
            decode_context: vec![100.0, 1_000.0, 3_000.0],
            decode_ms: vec![2.1, 3.7, 5.3, 4.9, 6.1, 9.7, 8.3, 12.9, 20.1, 8.4, 13.0, 19.0],
        };
        for (kv, context, kv_step) in [(0, 0, 0), (0, 90, 16), (650, 1, 1), (3_990, 2_500, 64), (9_000, 9_000, 3)] {
            let mut walk = profile.decode_walk();
            for step in 0..1_200 {
                let (kv, context) = (kv + step * kv_step, context + step);
                let (walked, alone) = (walk.at(kv, context), profile.decode_ms(kv, context));
                assert_eq!(walked.to_bits(), alone.to_bits(), "{kv} KV tokens, context {context}");
            }
        }
    }
}
