//! The timing tables at hand: those in the program and those in folders a user names.
//!
//! A table is found by what it is for, never by likeness: model, weight format, GPU, engine and parallelism must be right.
//! Only the engine's version may differ, with a warning, and a fine-tune counts as its model.

use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock, OnceLock};

use flate2::read::ZlibDecoder;
use serde::Deserialize;

use super::matching::{Wanted, newest_first};
use super::table_file::schema_of;
use super::{ForwardPassTable, MemoryParts, ModelShape, PerfError, TableKey, TableMeta};

/// Lines of an error that list tables.
const MOST_CANDIDATES: usize = 8;

/// How to go on without a table.
const CURE: &str = "give one of those below, estimate with `--on-missing-timing roofline`, or add a table of your own with \
                    `--perf-tables DIR`; `dynosim perf list` shows all tables";

/// A table in the program.
struct Packed {
    /// File name.
    file: &'static str,
    /// The parts a list shows, as JSON.
    head: &'static str,
    /// The whole file, zlib-compressed.
    table: &'static [u8],
}

/// Written by the build script from `assets/perf`.
static PACKED: &[Packed] = &include!(concat!(env!("OUT_DIR"), "/tables.rs"));

/// What a list of tables shows.
#[derive(Deserialize)]
struct Head {
    meta: TableMeta,
    model: ModelShape,
    memory: MemoryParts,
}

/// Where a table was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TableOrigin {
    /// In the program.
    Embedded,
    /// In a file of the user's.
    File(PathBuf),
}

/// A table that can be had. Tables of the program are unpacked when first asked for.
#[derive(Debug)]
pub struct TableEntry {
    /// What the table describes.
    pub meta: TableMeta,
    /// Sizes of the model.
    pub model: ModelShape,
    /// Where the memory of one GPU goes.
    pub memory: MemoryParts,
    /// Where it was found.
    pub origin: TableOrigin,
    packed: &'static [u8],
    table: OnceLock<Result<Arc<ForwardPassTable>, PerfError>>,
}

impl TableEntry {
    /// The name the table goes by, such as `llama-3.1-8b-fp8__h200_sxm__vllm__tp1`.
    pub fn key(&self) -> String {
        self.meta.key()
    }

    /// The table itself.
    ///
    /// # Errors
    /// When a table of the program is damaged, which its tests rule out.
    pub fn table(&self) -> Result<Arc<ForwardPassTable>, PerfError> {
        self.table.get_or_init(|| self.unpack().map(Arc::new)).clone()
    }

    fn unpack(&self) -> Result<ForwardPassTable, PerfError> {
        let name = self.key();
        let mut text = String::new();
        ZlibDecoder::new(self.packed).read_to_string(&mut text).map_err(|error| {
            PerfError::data(name.as_str(), "", format!("cannot be unpacked ({error})"), "install the program again")
        })?;
        Ok(ForwardPassTable::parse(&text, &name)?.embedded())
    }

    fn from_file(path: &Path, table: ForwardPassTable) -> Self {
        Self {
            meta: table.meta.clone(),
            model: table.model.clone(),
            memory: table.memory.clone(),
            origin: TableOrigin::File(path.to_owned()),
            packed: &[],
            table: OnceLock::from(Ok(Arc::new(table))),
        }
    }

    /// Model, weight format, GPU, engine with version, and parallelism: two tables alike in these are one and the same.
    fn identity(&self) -> (String, &str, [Option<u32>; 5]) {
        let TableMeta { tp, pp, attention_dp, moe_tp, moe_ep, .. } = self.meta;
        (
            self.key().to_lowercase(),
            &self.meta.backend_version,
            [Some(tp), Some(pp), Some(attention_dp), moe_tp, moe_ep],
        )
    }

    pub(super) fn is_embedded(&self) -> bool {
        self.origin == TableOrigin::Embedded
    }

    /// The entry as a line of an error.
    fn line(&self) -> String {
        let TableMeta { model, backend, backend_version, moe_tp, moe_ep, .. } = &self.meta;
        let experts = match (moe_tp, moe_ep) {
            (Some(moe_tp), Some(moe_ep)) => format!(", experts tp{moe_tp} ep{moe_ep}"),
            _ => String::new(),
        };
        format!("{} ({model}, {backend} {backend_version}{experts})", self.key())
    }
}

/// Timing tables by key; those of the user come first and replace those of the program that have the same key.
#[derive(Debug, Clone)]
pub struct TableLibrary {
    entries: Vec<Arc<TableEntry>>,
}

impl TableLibrary {
    /// The tables in the program.
    pub fn embedded() -> &'static Self {
        static EMBEDDED: LazyLock<TableLibrary> = LazyLock::new(|| {
            // The build script wrote the heads from JSON it had parsed; a test checks that none is lost.
            let entry = |packed: &Packed| {
                let Head { meta, model, memory } = serde_json::from_str(packed.head).ok()?;
                let origin = TableOrigin::Embedded;
                Some(Arc::new(TableEntry { meta, model, memory, origin, packed: packed.table, table: OnceLock::new() }))
            };
            TableLibrary { entries: PACKED.iter().filter_map(entry).collect() }
        });
        &EMBEDDED
    }

    /// File names of the tables in the program.
    pub fn embedded_files() -> impl Iterator<Item = &'static str> {
        PACKED.iter().map(|packed| packed.file)
    }

    /// Licence and origin of the tables in the program.
    pub fn notice() -> &'static str {
        include_str!("../../assets/perf/NOTICE")
    }

    /// The tables in the program and every `.json` file in `folders`, which may also name single files.
    ///
    /// # Errors
    /// When a folder cannot be read or holds no table, or a file is no valid table or has the key of another one. Names it.
    pub fn with_folders(folders: &[PathBuf]) -> Result<Self, PerfError> {
        let mut entries: Vec<Arc<TableEntry>> = Vec::new();
        for folder in folders {
            for path in table_files(folder)? {
                if let Some(entry) = read_table(&path)? {
                    let twin = entries.iter().find(|other| other.identity() == entry.identity());
                    if let Some(TableOrigin::File(other)) = twin.map(|twin| &twin.origin) {
                        let cause = format!("has the key {} like {}", entry.key(), other.display());
                        let cure = "take one of the two out, or tell them apart by `slug` or `backend_version`";
                        return Err(PerfError::data(path.display().to_string(), "meta", cause, cure));
                    }
                    entries.push(Arc::new(entry));
                }
            }
        }
        for entry in &Self::embedded().entries {
            if !entries.iter().any(|other| other.identity() == entry.identity()) {
                entries.push(entry.clone());
            }
        }
        Ok(Self { entries })
    }

    /// All tables: the user's by file, then the program's by name.
    pub fn entries(&self) -> impl Iterator<Item = &TableEntry> {
        self.entries.iter().map(Arc::as_ref)
    }

    /// The table with a name such as `llama-3.1-8b-fp8__h200_sxm__vllm__tp1`; case, folder and `.json` do not matter.
    ///
    /// # Errors
    /// When there is none; the error lists the names nearest to it.
    pub fn by_slug(&self, key: &str) -> Result<Arc<ForwardPassTable>, PerfError> {
        let name = key.trim().replace('\\', "/").to_lowercase();
        let name = name.rsplit('/').next().unwrap_or_default();
        let name = name.strip_suffix(".json").unwrap_or(name);
        let best = self.entries().filter(|entry| entry.key().to_lowercase() == name).min_by(|a, b| newest_first(a, b));
        if let Some(entry) = best {
            return entry.table();
        }
        let likeness = |entry: &TableEntry| strsim::jaro_winkler(&entry.key().to_lowercase(), name);
        let mut near: Vec<(f64, &TableEntry)> = self.entries().map(|entry| (likeness(entry), entry)).collect();
        near.sort_by(|a, b| b.0.total_cmp(&a.0));
        let lines = near.iter().take(MOST_CANDIDATES).map(|(_, entry)| entry.line()).collect();
        let cure = "give one of those below, or a table of your own with `--perf-tables DIR`; `dynosim perf list` shows all tables";
        Err(PerfError::no_match(format!("there is no timing table `{}`", key.trim()), lines, cure))
    }

    /// The table for a model on a GPU, and remarks on what differs from what was asked for.
    ///
    /// # Errors
    /// When there is none; the error says what is missing and lists tables of the same model, then of the same GPU.
    pub fn resolve(&self, key: &TableKey) -> Result<(Arc<ForwardPassTable>, Vec<String>), PerfError> {
        let wanted = Wanted::new(key, self);
        let mut left: Vec<&TableEntry> = self.entries().collect();
        for (index, (what, fits)) in wanted.conditions().iter().enumerate() {
            let next: Vec<&TableEntry> = left.iter().copied().filter(|entry| fits(entry)).collect();
            if next.is_empty() {
                return Err(self.missing(&wanted, index, what, &left));
            }
            left = next;
        }
        let best = left.into_iter().min_by(|a, b| wanted.compare(a, b));
        // There is one: the last list was not empty.
        let entry = best.ok_or_else(|| PerfError::no_match("there is no timing table", Vec::new(), CURE))?;
        Ok((entry.table()?, wanted.remarks(entry)))
    }

    /// The error when condition `index` leaves none of `left`.
    fn missing(&self, wanted: &Wanted<'_>, index: usize, what: &str, left: &[&TableEntry]) -> PerfError {
        let conditions = wanted.conditions();
        let met: String = conditions[1..index.max(1)].iter().map(|(met, _)| format!(", {met}")).collect();
        let model = if index == 0 { "no table".to_owned() } else { format!("no table of {}{met}", wanted.name.family) };
        let cause = format!("there is no timing table for {}: {model} has {what}", wanted.describe());
        let mut near: Vec<&TableEntry> = self.entries().filter(|entry| wanted.is_related(entry)).collect();
        if near.is_empty() {
            near = self.entries().collect();
        }
        near.sort_by_cached_key(|entry| {
            (!wanted.is_model(entry), conditions.iter().filter(|(_, fits)| !fits(entry)).count())
        });
        let lines = near.iter().take(MOST_CANDIDATES).map(|entry| entry.line()).collect();
        let other_format = index == 1 && wanted.key.gemm.is_none();
        let cure = match left.first().filter(|_| other_format) {
            Some(entry) => {
                let gemm = &entry.meta.quant.gemm;
                format!(
                    "if the weights are served in another format, say so, as in `\"aic_gemm_dtype\": \"{gemm}\"`; or {CURE}"
                )
            }
            None => CURE.to_owned(),
        };
        PerfError::no_match(cause, lines, cure)
    }
}

/// The `.json` files of a folder by name, or the file itself.
fn table_files(folder: &Path) -> Result<Vec<PathBuf>, PerfError> {
    if folder.is_file() {
        return Ok(vec![folder.to_owned()]);
    }
    let read = |error: std::io::Error| PerfError::read(folder, &error);
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).map_err(read)? {
        let path = entry.map_err(read)?.path();
        if path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("json")) && path.is_file() {
            files.push(path);
        }
    }
    files.sort();
    if files.is_empty() {
        let cure = "put tables into it (`.json` files), or leave the folder out";
        return Err(PerfError::data(folder.display().to_string(), "", "holds no timing tables", cure));
    }
    Ok(files)
}

/// The table in a file; none for the list that comes with a folder of tables.
fn read_table(path: &Path) -> Result<Option<TableEntry>, PerfError> {
    let text = fs::read_to_string(path).map_err(|error| PerfError::read(path, &error))?;
    let source = path.display().to_string();
    match ForwardPassTable::parse(&text, &source) {
        Ok(table) => Ok(Some(TableEntry::from_file(path, table))),
        Err(_) if schema_of(&text).is_some_and(|schema| schema.starts_with("forward-pass-table-index/")) => Ok(None),
        Err(error) => Err(error),
    }
}
