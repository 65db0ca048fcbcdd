//! Which tables fit a key, which of them is best, and what a user should know of it.

use std::cmp::Ordering;

use super::aliases::{ModelName, Version, WeightFormat, backend_name, number_format, same_sizes, system_name};
use super::{TableEntry, TableLibrary, TableMeta};

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

/// A condition that a table must meet, and its name for errors.
pub(super) type Condition<'a> = (String, Box<dyn Fn(&TableEntry) -> bool + 'a>);

/// A key with its names understood.
pub(super) struct Wanted<'a> {
    pub key: &'a TableKey,
    pub name: ModelName,
    /// The key's model is a slug of the library.
    is_slug: bool,
    system: String,
    backend: String,
    gemm: Option<String>,
    version: Option<Version>,
}

impl<'a> Wanted<'a> {
    /// `key`, with its names looked up.
    pub fn new(key: &'a TableKey, library: &TableLibrary) -> Self {
        let by_slug = library.entries().find(|entry| entry.meta.slug == key.model.trim());
        let name = match by_slug {
            Some(entry) => ModelName {
                format: WeightFormat::of_gemm(&entry.meta.quant.gemm),
                guessed: false,
                ..ModelName::parse(&entry.meta.model)
            },
            None => ModelName::of_checkpoint(&key.model),
        };
        Self {
            key,
            name,
            is_slug: by_slug.is_some(),
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

    /// The key in words.
    pub fn describe(&self) -> String {
        let TableKey { model, tp, .. } = self.key;
        let format = self.format();
        format!("{model} ({} weights) / {} / {} / tp{tp}", format.gemm(), self.system, self.backend)
    }

    /// What a table must meet, the most telling first.
    pub fn conditions(&self) -> Vec<Condition<'_>> {
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

    /// Whether an entry is of the model, whatever its weight format.
    pub fn is_model(&self, entry: &TableEntry) -> bool {
        if self.is_slug {
            return entry.meta.slug == self.key.model.trim();
        }
        let family = ModelName::parse(&entry.meta.model).family;
        let wanted = self.name.family.as_str();
        family == wanted || same_sizes(wanted).is_some_and(|known| known == family)
    }

    fn is_format(&self, entry: &TableEntry) -> bool {
        if self.gemm.is_none() && self.is_same_id(entry) {
            return true;
        }
        let (format, wanted) = (WeightFormat::of_gemm(&entry.meta.quant.gemm), self.format());
        format == wanted || wanted.close_to(&format)
    }

    /// Whether the key gives the very id that the table does, which leaves nothing to interpret.
    fn is_same_id(&self, entry: &TableEntry) -> bool {
        entry.meta.model.eq_ignore_ascii_case(self.key.model.trim())
    }

    /// Whether an entry is worth mentioning when there is no table.
    pub fn is_related(&self, entry: &TableEntry) -> bool {
        self.is_model(entry) || system_name(&entry.meta.system) == self.system
    }

    /// Which of two tables that both fit is better, by weight format, version and KV cache; of equals, the user's. Without a
    /// version the user's comes before the newest.
    pub fn compare(&self, a: &TableEntry, b: &TableEntry) -> Ordering {
        let wanted = self.format();
        let other_format = |entry: &TableEntry| WeightFormat::of_gemm(&entry.meta.quant.gemm) != wanted;
        let other_cache = |entry: &TableEntry| entry.meta.quant.kv_cache != self.name.format.default_kv_cache();
        let by_version = match (&self.version, version(a), version(b)) {
            (Some(wanted), Some(x), Some(y)) => x.nearer(&y, wanted).then(a.is_embedded().cmp(&b.is_embedded())),
            _ => newest_first(a, b),
        };
        other_format(a).cmp(&other_format(b)).then(by_version).then(other_cache(a).cmp(&other_cache(b)))
    }

    /// What a user should know of the table that was chosen.
    pub fn remarks(&self, entry: &TableEntry) -> Vec<String> {
        let TableMeta { slug, quant, backend, backend_version, .. } = &entry.meta;
        let mut remarks = Vec::new();
        let family = ModelName::parse(&entry.meta.model).family;
        if family != self.name.family {
            remarks.push(format!("{} is timed as {family}, whose layers have the same sizes", self.key.model));
        }
        let format = WeightFormat::of_gemm(&quant.gemm);
        if self.name.guessed && self.gemm.is_none() && !self.is_same_id(entry) {
            remarks.push(format!(
                "the name {} does not say how its FP8 weights are scaled; {} is assumed, `aic_gemm_dtype` says otherwise",
                self.key.model,
                if format == WeightFormat::Fp8Block { "per block (fp8_block)" } else { "per tensor (fp8_static)" },
            ));
        }
        let wanted = self.format();
        if format != wanted && wanted.close_to(&format) {
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
        let usual = self.name.format.default_kv_cache();
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
pub(super) fn newest_first(a: &TableEntry, b: &TableEntry) -> Ordering {
    a.is_embedded().cmp(&b.is_embedded()).then_with(|| version(b).cmp(&version(a)))
}
