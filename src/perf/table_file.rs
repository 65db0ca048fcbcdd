//! Files of timing tables, checked before anything is computed from them.

use serde::Deserialize;

use crate::text::without_mark;

use super::grid::{Axis, Curve, Grid};
use super::{ForwardPassTable, MemoryParts, ModelShape, PerfError, TableMeta};

/// The format that is read here.
const SCHEMA: &str = "forward-pass-table/1";

/// What to do about a file that is no such table.
const CURE: &str = "see docs/forward-pass-table.md for the format, or take the file out";

/// Reads a table; `source` is the name of its file, for errors.
pub(super) fn parse(text: &str, source: &str) -> Result<ForwardPassTable, PerfError> {
    let document = Document::parse(text, source)?;
    let file = Fields { source };
    file.check_meta(&document.meta)?;
    document.model.check(source, "model.")?;
    file.check_memory(&document.memory)?;
    let Document { meta, model, memory, linear, logits, prefill_attention, decode_attention, .. } = document;
    let base = prefill_attention.base_ms;
    file.check_value("prefill_attention.base_ms", base)?;
    let (seq, batch) = (prefill_attention.seq, prefill_attention.batch);
    let prefill = file.grid("prefill_attention", ("seq", seq), ("batch", batch), prefill_attention.ms)?;
    let (batch, seq) = (decode_attention.batch, decode_attention.seq);
    let decode = file.grid("decode_attention", ("batch", batch), ("seq", seq), decode_attention.ms)?;
    Ok(ForwardPassTable {
        meta,
        model,
        memory,
        file: Some(source.to_owned()),
        linear: file.curve("linear", "tokens", linear.tokens, linear.ms)?,
        logits: file.curve("logits", "rows", logits.rows, logits.ms)?,
        logits_in_prefill: logits.in_prefill,
        prefill_base_ms: base,
        prefill_attention: prefill,
        decode_attention: decode,
    })
}

/// The file as it is written.
#[derive(Deserialize)]
struct Document {
    schema: String,
    meta: TableMeta,
    model: ModelShape,
    memory: MemoryParts,
    linear: Linear,
    logits: Logits,
    prefill_attention: PrefillAttention,
    decode_attention: DecodeAttention,
}

#[derive(Deserialize)]
struct Linear {
    tokens: Vec<f64>,
    ms: Vec<f64>,
}

#[derive(Deserialize)]
struct Logits {
    in_prefill: bool,
    rows: Vec<f64>,
    ms: Vec<f64>,
}

#[derive(Deserialize)]
struct PrefillAttention {
    base_ms: f64,
    seq: Vec<f64>,
    batch: Vec<f64>,
    ms: Vec<Vec<f64>>,
}

#[derive(Deserialize)]
struct DecodeAttention {
    batch: Vec<f64>,
    seq: Vec<f64>,
    ms: Vec<Vec<f64>>,
}

impl Document {
    fn parse(text: &str, source: &str) -> Result<Self, PerfError> {
        let schema_error = |schema: &str| {
            let cause = format!("is \"{schema}\", but only \"{SCHEMA}\" can be read");
            PerfError::data(source, "schema", cause, CURE)
        };
        let text = without_mark(text);
        let mut reader = serde_json::Deserializer::from_str(text);
        let document: Self = match serde_path_to_error::deserialize(&mut reader) {
            Ok(document) => document,
            Err(error) => {
                // Fields of another format are beside the point.
                return Err(match schema_of(text) {
                    Some(schema) if schema != SCHEMA => schema_error(&schema),
                    _ => json_error(source, &error),
                });
            }
        };
        if document.schema != SCHEMA {
            return Err(schema_error(&document.schema));
        }
        match reader.end() {
            Ok(()) => Ok(document),
            Err(error) => Err(PerfError::data(source, "", error.to_string(), CURE)),
        }
    }
}

/// The `schema` of a JSON document, if it is one and has one.
pub(super) fn schema_of(text: &str) -> Option<String> {
    #[derive(Deserialize)]
    struct Probe {
        schema: String,
    }
    serde_json::from_str::<Probe>(text).ok().map(|probe| probe.schema)
}

fn json_error(source: &str, error: &serde_path_to_error::Error<serde_json::Error>) -> PerfError {
    let path = error.path().to_string();
    let field = if path == "." { "" } else { &path };
    PerfError::data(source, field, error.inner().to_string(), CURE)
}

/// Whether `value` can be a duration.
fn is_time(value: f64) -> bool {
    value.is_finite() && value >= 0.0
}

/// Checks of a file's fields, with errors that name file and field.
struct Fields<'a> {
    source: &'a str,
}

impl Fields<'_> {
    fn error(&self, field: impl Into<String>, cause: impl Into<String>, cure: &str) -> PerfError {
        PerfError::data(self.source, field, cause, cure)
    }

    fn check_meta(&self, meta: &TableMeta) -> Result<(), PerfError> {
        let names = [
            ("meta.model", &meta.model),
            ("meta.slug", &meta.slug),
            ("meta.system", &meta.system),
            ("meta.backend", &meta.backend),
            ("meta.backend_version", &meta.backend_version),
            ("meta.quant.gemm", &meta.quant.gemm),
            ("meta.quant.kv_cache", &meta.quant.kv_cache),
            ("meta.source.package", &meta.source.package),
        ];
        if let Some((field, _)) = names.iter().find(|(_, name)| name.trim().is_empty()) {
            return Err(self.error(*field, "is empty", "give a name"));
        }
        if meta.time_unit != "ms" {
            return Err(self.error("meta.time_unit", format!("is \"{}\"", meta.time_unit), "give times in \"ms\""));
        }
        let sizes = [
            ("meta.tp", Some(meta.tp)),
            ("meta.pp", Some(meta.pp)),
            ("meta.attention_dp", Some(meta.attention_dp)),
            ("meta.moe_tp", meta.moe_tp),
            ("meta.moe_ep", meta.moe_ep),
        ];
        match sizes.iter().find(|(_, size)| *size == Some(0)) {
            Some((field, _)) => Err(self.error(*field, "is 0", "give a number of GPUs of at least 1")),
            None => Ok(()),
        }
    }

    fn check_memory(&self, memory: &MemoryParts) -> Result<(), PerfError> {
        for (field, value) in [
            ("memory.gpu_capacity_bytes", memory.gpu_capacity_bytes),
            ("memory.kv_bytes_per_token", memory.kv_bytes_per_token),
        ] {
            if value == 0 {
                return Err(self.error(field, "is 0", "give a number of bytes of at least 1"));
            }
        }
        if (0.0..=1.0).contains(&memory.fraction) {
            return Ok(());
        }
        Err(self.error("memory.fraction", format!("is {}", memory.fraction), "give a number from 0 to 1"))
    }

    fn check_value(&self, field: &str, value: f64) -> Result<(), PerfError> {
        if is_time(value) {
            return Ok(());
        }
        Err(self.error(field, format!("is {value}"), "give a finite number of milliseconds, zero or more"))
    }

    fn axis(&self, part: &str, name: &str, knots: Vec<f64>) -> Result<Axis, PerfError> {
        let cure = "give at least two numbers, zero or more, each larger than the one before";
        let shown = knots.clone();
        Axis::new(knots).map_err(|index| match index {
            None => self.error(format!("{part}.{name}"), format!("has {} entries", shown.len()), cure),
            Some(0) => self.error(format!("{part}.{name}[0]"), format!("is {}", shown[0]), cure),
            Some(index) => {
                let cause = format!("is {} after {}", shown[index], shown[index - 1]);
                self.error(format!("{part}.{name}[{index}]"), cause, cure)
            }
        })
    }

    /// A row of `expected` values, appended to `values`.
    fn row(&self, field: &str, row: &[f64], expected: (&str, usize), values: &mut Vec<f64>) -> Result<(), PerfError> {
        let (axis, length) = expected;
        if row.len() != length {
            let cause = format!("has {} entries, but `{axis}` has {length}", row.len());
            return Err(self.error(field, cause, "give one value for each knot"));
        }
        if let Some(index) = row.iter().position(|value| !is_time(*value)) {
            self.check_value(&format!("{field}[{index}]"), row[index])?;
        }
        values.extend_from_slice(row);
        Ok(())
    }

    fn curve(&self, part: &str, name: &str, knots: Vec<f64>, ms: Vec<f64>) -> Result<Curve, PerfError> {
        let axis = self.axis(part, name, knots)?;
        let mut values = Vec::with_capacity(axis.len());
        self.row(&format!("{part}.ms"), &ms, (name, axis.len()), &mut values)?;
        Ok(Curve::new(axis, values))
    }

    fn grid(
        &self,
        part: &str,
        rows: (&str, Vec<f64>),
        columns: (&str, Vec<f64>),
        ms: Vec<Vec<f64>>,
    ) -> Result<Grid, PerfError> {
        let row_axis = self.axis(part, rows.0, rows.1)?;
        let column_axis = self.axis(part, columns.0, columns.1)?;
        if ms.len() != row_axis.len() {
            let cause = format!("has {} rows, but `{}` has {} entries", ms.len(), rows.0, row_axis.len());
            return Err(self.error(format!("{part}.ms"), cause, "give one row for each knot"));
        }
        let mut values = Vec::with_capacity(row_axis.len() * column_axis.len());
        for (index, row) in ms.iter().enumerate() {
            self.row(&format!("{part}.ms[{index}]"), row, (columns.0, column_axis.len()), &mut values)?;
        }
        Ok(Grid::new(row_axis, column_axis, values))
    }
}
