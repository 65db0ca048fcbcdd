//! The timing tables at hand: those in the program and those in folders a user names.
//!
//! A table is found by what it is for, never by likeness: model, weight format, GPU, engine and parallelism must be right.
//! Only the engine's version may differ, with a warning, and a fine-tune counts as its model.

use std::cmp::Ordering;
use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock, OnceLock};

use flate2::read::ZlibDecoder;
use serde::Deserialize;

use super::aliases::{ModelName, Version, WeightFormat, backend_name, number_format, same_sizes, system_name};
use super::table::schema_of;
use super::{ForwardPassTable, MemoryParts, ModelShape, PerfError, TableMeta};

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

    fn is_embedded(&self) -> bool {
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

/// What a table is wanted for. Names are forgiving, numbers must match.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TableKey {
    /// Hugging Face id, local path, or slug such as `llama-3.1-8b-fp8` (`aic_model_path`).
    pub model: String,
    /// GPU (`aic_system`).
    pub system: String,
    /// Serving engine (`aic_backend`).
    pub backend: String,
    /// Its version (`aic_backend_version`); the newest there is unless given.
    pub backend_version: Option<String>,
    /// Tensor-parallel size (`aic_tp_size`).
    pub tp: u32,
    /// Tensor-parallel size of the experts (`aic_moe_tp_size`).
    pub moe_tp: Option<u32>,
    /// Expert-parallel size (`aic_moe_ep_size`).
    pub moe_ep: Option<u32>,
    /// Number format of matrix products (`aic_gemm_dtype`), by AIConfigurator's name; like those below, none or `auto` leave
    /// the choice to the model.
    pub gemm: Option<String>,
    /// Number format of experts (`aic_moe_dtype`).
    pub moe: Option<String>,
    /// Number format of attention (`aic_fmha_dtype`).
    pub attention: Option<String>,
    /// Number format of the KV cache (`aic_kv_cache_dtype`).
    pub kv_cache: Option<String>,
    /// Number format of the all-reduce (`aic_comm_dtype`).
    pub comm: Option<String>,
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

/// A condition that a table must meet, and its name for errors.
type Condition<'a> = (String, Box<dyn Fn(&TableEntry) -> bool + 'a>);

/// A key with its names understood.
struct Wanted<'a> {
    key: &'a TableKey,
    name: ModelName,
    /// The key's model is a slug of the library.
    is_slug: bool,
    system: String,
    backend: String,
    gemm: Option<String>,
    version: Option<Version>,
}

impl<'a> Wanted<'a> {
    fn new(key: &'a TableKey, library: &TableLibrary) -> Self {
        let is_slug = library.entries().any(|entry| entry.meta.slug == key.model.trim());
        Self {
            key,
            name: ModelName::of_checkpoint(&key.model),
            is_slug,
            system: system_name(&key.system),
            backend: backend_name(&key.backend),
            gemm: format_of(&key.gemm),
            version: key.backend_version.as_deref().and_then(Version::parse),
        }
    }

    /// How the weights are multiplied, as far as the key says.
    fn format(&self) -> WeightFormat {
        self.gemm.as_deref().map_or_else(|| self.name.format.clone(), WeightFormat::of_gemm)
    }

    fn describe(&self) -> String {
        let TableKey { model, tp, .. } = self.key;
        let format = self.format();
        format!("{model} ({} weights) / {} / {} / tp{tp}", format.gemm(), self.system, self.backend)
    }

    /// What a table must meet, the most telling first.
    fn conditions(&self) -> Vec<Condition<'_>> {
        let key = self.key;
        let mut conditions: Vec<Condition<'_>> = vec![
            ("this model".to_owned(), Box::new(|entry| self.is_model(entry))),
            (format!("{} weights", self.format().gemm()), Box::new(|entry| self.is_format(entry))),
            (format!("system {}", self.system), Box::new(|entry| system_name(&entry.meta.system) == self.system)),
            (format!("backend {}", self.backend), Box::new(|entry| backend_name(&entry.meta.backend) == self.backend)),
            (format!("tp {}", key.tp), Box::new(|entry| entry.meta.tp == key.tp && entry.meta.pp == 1)),
        ];
        // Without experts these sizes mean nothing.
        for (name, wanted, size) in [
            ("moe tp", key.moe_tp, (|meta| meta.moe_tp) as fn(&TableMeta) -> Option<u32>),
            ("moe ep", key.moe_ep, |meta| meta.moe_ep),
        ] {
            if let Some(wanted) = wanted {
                let fits = move |entry: &TableEntry| entry.model.experts.is_none() || size(&entry.meta) == Some(wanted);
                conditions.push((format!("{name} {wanted}"), Box::new(fits)));
            }
        }
        for (name, wanted, format) in [
            ("expert", &key.moe, (|meta| meta.quant.moe.as_deref()) as fn(&TableMeta) -> Option<&str>),
            ("attention", &key.attention, |meta| Some(&meta.quant.attention)),
            ("KV cache", &key.kv_cache, |meta| Some(&meta.quant.kv_cache)),
            ("all-reduce", &key.comm, |meta| Some(&meta.quant.comm)),
        ] {
            if let Some(wanted) = format_of(wanted) {
                let condition = format!("{wanted} {name}");
                let fits = move |entry: &TableEntry| {
                    let dense = name == "expert" && entry.model.experts.is_none();
                    dense || format(&entry.meta).is_some_and(|format| format == wanted)
                };
                conditions.push((condition, Box::new(fits)));
            }
        }
        conditions
    }

    fn is_model(&self, entry: &TableEntry) -> bool {
        if self.is_slug {
            return entry.meta.slug == self.key.model.trim();
        }
        let family = ModelName::parse(&entry.meta.model).family;
        let wanted = self.name.family.as_str();
        family == wanted || same_sizes(wanted).is_some_and(|known| known == family)
    }

    fn is_format(&self, entry: &TableEntry) -> bool {
        if self.gemm.is_none() && (self.is_slug || entry.meta.model.eq_ignore_ascii_case(self.key.model.trim())) {
            return true;
        }
        let (format, wanted) = (WeightFormat::of_gemm(&entry.meta.quant.gemm), self.format());
        format == wanted || wanted.close_to(&format)
    }

    /// Whether an entry is worth mentioning when there is no table.
    fn is_related(&self, entry: &TableEntry) -> bool {
        self.is_model(entry) || system_name(&entry.meta.system) == self.system
    }

    /// Which of two tables that both fit is better: by weight format, the user's, by version, by KV cache.
    fn compare(&self, a: &TableEntry, b: &TableEntry) -> Ordering {
        let wanted = self.format();
        let exact = |entry: &TableEntry| WeightFormat::of_gemm(&entry.meta.quant.gemm) != wanted;
        let by_format = exact(a).cmp(&exact(b));
        let by_version = match (&self.version, version(a), version(b)) {
            (Some(wanted), Some(a), Some(b)) => a.nearer(&b, wanted).then(Ordering::Equal),
            _ => newest_first(a, b),
        };
        let own = a.is_embedded().cmp(&b.is_embedded());
        let by_origin_and_version = if self.version.is_some() { by_version.then(own) } else { own.then(by_version) };
        let other_cache = |entry: &TableEntry| entry.meta.quant.kv_cache != self.name.format.default_kv_cache();
        by_format.then(by_origin_and_version).then(other_cache(a).cmp(&other_cache(b)))
    }

    /// What a user should know of the table that was chosen.
    fn remarks(&self, entry: &TableEntry) -> Vec<String> {
        let TableMeta { slug, quant, backend, backend_version, .. } = &entry.meta;
        let mut remarks = Vec::new();
        let family = ModelName::parse(&entry.meta.model).family;
        if !self.is_slug && family != self.name.family {
            remarks.push(format!("{} is timed as {family}, whose layers have the same sizes", self.key.model));
        }
        let format = WeightFormat::of_gemm(&quant.gemm);
        if self.name.guessed && self.gemm.is_none() && !self.is_slug {
            remarks.push(format!(
                "the name {} does not say how its FP8 weights are scaled; {} is assumed, `aic_gemm_dtype` says otherwise",
                self.key.model,
                if format == WeightFormat::Fp8Block { "per block (fp8_block)" } else { "per tensor (fp8_static)" },
            ));
        }
        let wanted = self.format();
        if !self.is_slug && format != wanted && wanted.close_to(&format) {
            let (table, asked) = (format.gemm(), wanted.gemm());
            remarks.push(format!(
                "the timing table {slug} is for {table} weights, not {asked}; scaling activations is timed accordingly"
            ));
        }
        if format == WeightFormat::Fp8Block {
            remarks.push(format!(
                "the timing table {slug} is for block-scaled FP8 weights; it holds a launch time of about 59 microseconds for \
                 each matrix product, so its decode steps take two to three times those of per-tensor FP8"
            ));
        }
        let usual = if self.is_slug { format.default_kv_cache() } else { self.name.format.default_kv_cache() };
        if quant.kv_cache != usual && format_of(&self.key.kv_cache).is_none() {
            remarks.push(format!(
                "the timing table {slug} has a {} KV cache where {} alone means {usual}; `aic_kv_cache_dtype` says which it is",
                quant.kv_cache, self.key.model,
            ));
        }
        if let Some(asked) = self.key.backend_version.as_deref().filter(|asked| !is_newest(asked)) {
            let relation = match (self.version, version(entry)) {
                (Some(wanted), Some(found)) => match found.cmp(&wanted) {
                    Ordering::Equal => None,
                    Ordering::Less => Some("the nearest older one is used"),
                    Ordering::Greater => Some("there is no older one"),
                },
                _ if asked.trim() == backend_version => None,
                _ => Some("the newest one is used"),
            };
            if let Some(relation) = relation {
                remarks.push(format!("the timing table is for {backend} {backend_version}, not {asked}; {relation}"));
            }
        }
        remarks
    }
}

/// A number format that was given and is not `auto`.
fn format_of(given: &Option<String>) -> Option<String> {
    given.as_deref().and_then(number_format)
}

fn version(entry: &TableEntry) -> Option<Version> {
    Version::parse(&entry.meta.backend_version)
}

/// Words for the newest version.
fn is_newest(asked: &str) -> bool {
    matches!(asked.trim().to_lowercase().as_str(), "" | "current" | "latest" | "auto")
}

/// The user's tables first, then by version, newest first.
fn newest_first(a: &TableEntry, b: &TableEntry) -> Ordering {
    a.is_embedded().cmp(&b.is_embedded()).then_with(|| version(b).cmp(&version(a)))
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
