//! Packs the timing tables of `assets/perf` into the program: every table compressed by itself, and what a list of tables
//! shows in plain text, so that only the table in use is ever unpacked.

use std::error::Error;
use std::fmt::Write as _;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::{env, fs};

use flate2::Compression;
use flate2::write::ZlibEncoder;
use serde_json::{Map, Value};

const FOLDER: &str = "assets/perf";

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed={FOLDER}");
    let out = PathBuf::from(env::var("OUT_DIR")?);
    let mut files: Vec<PathBuf> =
        fs::read_dir(FOLDER)?.map(|entry| Ok(entry?.path())).collect::<Result<_, Box<dyn Error>>>()?;
    files.retain(|path| path.extension().is_some_and(|extension| extension == "json"));
    files.sort();
    let mut list = String::from("[\n");
    for path in files {
        pack(&path, &out, &mut list).map_err(|error| format!("{}: {error}", path.display()))?;
    }
    list.push(']');
    fs::write(out.join("tables.rs"), list)?;
    Ok(())
}

/// Compresses the table at `path` and adds it to `list`.
fn pack(path: &Path, out: &Path, list: &mut String) -> Result<(), Box<dyn Error>> {
    let name = path.file_name().and_then(|name| name.to_str()).ok_or("the name is not text")?;
    let text = fs::read_to_string(path)?;
    let mut table: Map<String, Value> = serde_json::from_str(&text)?;
    table.retain(|key, _| ["meta", "model", "memory"].contains(&key.as_str()));
    let head = serde_json::to_string(&table)?;
    let packed = out.join(format!("{name}.z"));
    let mut encoder = ZlibEncoder::new(fs::File::create(&packed)?, Compression::best());
    encoder.write_all(text.as_bytes())?;
    encoder.finish()?;
    writeln!(list, "    Packed {{ file: {name:?}, head: {head:?}, table: include_bytes!({packed:?}) }},")?;
    Ok(())
}
