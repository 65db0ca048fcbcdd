//! The compressed log: a line about the report, then one per noted tick, all that the reference's recorder keeps.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::Path;

use flate2::{Compression, GzBuilder};
use serde_json::{Value, json};

use crate::report::html::number;

use super::page::Page;
use super::snapshot::{clock, snapshot};

/// Writes the log of `page`, which is at `html`. The time of writing is the simulated one, so that equal runs give equal
/// bytes.
pub(super) fn write(out: &mut dyn Write, page: &Page, html: &Path) -> io::Result<()> {
    let mut packed = GzBuilder::new().write(out, Compression::default());
    let (day, time) = clock(page.last_at_s());
    let about = json!({
        "schema": "planner_diagnostics_snapshot_log_v1",
        "kind": "metadata",
        "generated_at_utc": format!("{day}T{time}+00:00"),
        "num_snapshots": page.ticks.len(),
        "html_report_path": html.to_string_lossy(),
        "ttft_ms": number(Some(page.planner.ttft_ms)),
        "itl_ms": number(Some(page.planner.itl_ms)),
    });
    line(&mut packed, &about)?;
    for (decision, sight) in &page.ticks {
        line(&mut packed, &snapshot(page.planner, decision, sight))?;
    }
    packed.finish()?;
    Ok(())
}

/// One object, its keys sorted.
fn line(out: &mut impl Write, record: &Value) -> io::Result<()> {
    let sorted: BTreeMap<&String, &Value> = record.as_object().into_iter().flatten().collect();
    // In one piece: the compressor clears a buffer at every write.
    let mut text = serde_json::to_vec(&sorted)?;
    text.push(b'\n');
    out.write_all(&text)
}
