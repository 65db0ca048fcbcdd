//! GPUs: how fast they compute, how fast their memory and links are, and which document says so.
//!
//! Shipped descriptions are the files of `assets/gpus/`; a user's file has the same format (`docs/gpus.md`).

use serde_json::{Map, Value};

use crate::text::without_mark;

use super::PerfError;
use super::lookup::{key_cure, nearest, plain};

/// A GPU as its data sheet describes it.
#[derive(Debug, Clone, PartialEq)]
pub struct GpuSpec {
    /// Name, such as `h100_sxm`.
    pub name: String,
    /// Other names it goes by.
    pub aliases: Vec<String>,
    /// Memory, in bytes.
    pub memory_bytes: u64,
    /// Memory bandwidth, in bytes per second.
    pub memory_bytes_per_s: f64,
    /// Dense bfloat16 operations per second with 32-bit accumulation; a multiply-add counts as two.
    pub bf16_flops: f64,
    /// Dense FP8 operations per second, where the GPU has FP8 units.
    pub fp8_flops: Option<f64>,
    /// Dense FP4 operations per second, where the GPU has FP4 units. No timing uses it yet.
    pub fp4_flops: Option<f64>,
    /// Bandwidth to other GPUs of the node over a link of their own (NVLink, Infinity Fabric), in one direction, in bytes
    /// per second.
    pub intra_node_bytes_per_s: Option<f64>,
    /// Bandwidth to other nodes, in one direction, in bytes per second and GPU.
    pub inter_node_bytes_per_s: Option<f64>,
    /// Bandwidth over PCIe, in one direction, in bytes per second.
    pub pcie_bytes_per_s: Option<f64>,
    /// Power without load, in watts.
    pub idle_watts: Option<f64>,
    /// Power while it computes, in watts.
    pub busy_watts: Option<f64>,
    /// Power limit of the board, in watts.
    pub peak_watts: Option<f64>,
    /// What it costs to rent one.
    pub price: Option<Price>,
    /// The documents the figures come from; empty for a user's own.
    pub source: Vec<Source>,
    /// What to know about the figures.
    pub note: Option<String>,
}

/// A document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// Its title.
    pub title: String,
    /// Who published it.
    pub vendor: String,
    /// Where to find it.
    pub url: String,
    /// Day on which it said so (`YYYY-MM-DD`), for what changes.
    pub date: Option<String>,
}

/// What it costs to rent a GPU.
#[derive(Debug, Clone, PartialEq)]
pub struct Price {
    /// US dollars per GPU and hour, host included.
    pub usd_per_hour: f64,
    /// The document that says so; nothing for a user's own.
    pub source: Option<Source>,
}

/// Keys of a description.
const KEYS: [&str; 16] = [
    "name",
    "aliases",
    "memory_bytes",
    "memory_bytes_per_s",
    "bf16_flops",
    "fp8_flops",
    "fp4_flops",
    "intra_node_bytes_per_s",
    "inter_node_bytes_per_s",
    "pcie_bytes_per_s",
    "idle_watts",
    "busy_watts",
    "peak_watts",
    "price",
    "source",
    "note",
];
const SOURCE_KEYS: [&str; 4] = ["title", "vendor", "url", "date"];
const PRICE_KEYS: [&str; 2] = ["usd_per_hour", "source"];

/// Units of a quantity and the values that are not a mistake of units.
#[derive(Clone, Copy)]
struct Quantity {
    unit: &'static str,
    least: f64,
    most: f64,
}

const MEMORY: Quantity = Quantity { unit: "bytes", least: 1e9, most: 1e14 };
const MEMORY_RATE: Quantity = Quantity { unit: "bytes per second", least: 1e10, most: 1e15 };
const COMPUTE: Quantity = Quantity { unit: "operations per second", least: 1e11, most: 1e19 };
const LINK: Quantity = Quantity { unit: "bytes per second", least: 1e8, most: 1e14 };
const POWER: Quantity = Quantity { unit: "watts", least: 0.0, most: 1e5 };
const MONEY: Quantity = Quantity { unit: "US dollars per hour", least: 0.0, most: 1e4 };

/// The files of `assets/gpus/`, alphabetically.
macro_rules! shipped {
    ($($name:literal),* $(,)?) => {
        [$(($name, include_str!(concat!("../../assets/gpus/", $name, ".json")))),*]
    };
}

const SHIPPED: [(&str, &str); 12] = shipped![
    "a100_sxm",
    "a100_sxm_40gb",
    "b200_sxm",
    "gb200",
    "h100_pcie",
    "h100_sxm",
    "h200_sxm",
    "l40s",
    "mi300x",
    "rtx_4090",
    "rtx_pro_6000_server",
    "rtx_pro_6000_workstation",
];

impl GpuSpec {
    /// Names of the shipped GPUs, alphabetically.
    pub fn known_names() -> impl Iterator<Item = &'static str> {
        SHIPPED.iter().map(|(name, _)| *name)
    }

    /// The shipped GPU called `name`: the file's name or an alias, whatever the case and punctuation.
    ///
    /// # Errors
    /// Lists the nearest names when there is none.
    pub fn known(name: &str) -> Result<Self, PerfError> {
        let wanted = plain(name);
        for (known, text) in SHIPPED {
            // Most names are spelt as the file is; only others need the aliases.
            if plain(known) == wanted {
                return Self::parse(text, &format!("{known}.json"));
            }
        }
        for (known, text) in SHIPPED {
            let gpu = Self::parse(text, &format!("{known}.json"))?;
            if gpu.aliases.iter().any(|alias| plain(alias) == wanted) {
                return Ok(gpu);
            }
        }
        let candidates = nearest(name, Self::known_names()).into_iter().map(str::to_owned).collect();
        let cure = "give one of these names, or the path of a description (docs/gpus.md)";
        Err(PerfError::no_match(format!("no GPU is called \"{name}\""), candidates, cure))
    }

    /// Reads a description; `source` names it in errors.
    ///
    /// # Errors
    /// Names the key that is unknown, missing, of the wrong type, or outside what its unit makes plausible.
    pub fn parse(text: &str, source: &str) -> Result<Self, PerfError> {
        let value: Value = serde_json::from_str(without_mark(text))
            .map_err(|e| PerfError::data(source, "", format!("is not JSON: {e}"), "see docs/gpus.md for the format"))?;
        let object = Object::new(&value, source, "", &KEYS)?;
        let gpu = Self {
            name: object.text("name")?.ok_or_else(|| object.missing("name"))?,
            aliases: object.list("aliases")?.iter().map(|(at, v)| object.as_text(at, v)).collect::<Result<_, _>>()?,
            memory_bytes: object.whole("memory_bytes", MEMORY)?,
            memory_bytes_per_s: object.required("memory_bytes_per_s", MEMORY_RATE)?,
            bf16_flops: object.required("bf16_flops", COMPUTE)?,
            fp8_flops: object.number("fp8_flops", COMPUTE)?,
            fp4_flops: object.number("fp4_flops", COMPUTE)?,
            intra_node_bytes_per_s: object.number("intra_node_bytes_per_s", LINK)?,
            inter_node_bytes_per_s: object.number("inter_node_bytes_per_s", LINK)?,
            pcie_bytes_per_s: object.number("pcie_bytes_per_s", LINK)?,
            idle_watts: object.number("idle_watts", POWER)?,
            busy_watts: object.number("busy_watts", POWER)?,
            peak_watts: object.number("peak_watts", POWER)?,
            price: object.get("price").map(|value| price(value, source)).transpose()?,
            source: object.list("source")?.iter().map(|(at, v)| document(v, source, at)).collect::<Result<_, _>>()?,
            note: object.text("note")?,
        };
        let ascending =
            [("idle_watts", gpu.idle_watts), ("busy_watts", gpu.busy_watts), ("peak_watts", gpu.peak_watts)];
        let given: Vec<(&str, f64)> = ascending.iter().filter_map(|(key, watts)| Some((*key, (*watts)?))).collect();
        match given.windows(2).find(|pair| pair[0].1 > pair[1].1) {
            Some(pair) => {
                let ((key, watts), (above, most)) = (pair[0], pair[1]);
                let cause = format!("is {watts}, more than {above}, {most}");
                Err(PerfError::data(source, key, cause, format!("give at most {above}")))
            }
            None => Ok(gpu),
        }
    }

    /// Bandwidth to another GPU of the node, in one direction, in bytes per second: over the link made for it, else PCIe.
    pub fn peer_bytes_per_s(&self) -> Option<f64> {
        self.intra_node_bytes_per_s.or(self.pcie_bytes_per_s)
    }
}

fn document(value: &Value, file: &str, at: &str) -> Result<Source, PerfError> {
    let object = Object::new(value, file, at, &SOURCE_KEYS)?;
    let text = |key: &str| object.text(key)?.ok_or_else(|| object.missing(key));
    Ok(Source { title: text("title")?, vendor: text("vendor")?, url: text("url")?, date: object.text("date")? })
}

fn price(value: &Value, file: &str) -> Result<Price, PerfError> {
    let object = Object::new(value, file, "price", &PRICE_KEYS)?;
    let source = object.get("source").map(|value| document(value, file, "price.source")).transpose()?;
    Ok(Price { usd_per_hour: object.required("usd_per_hour", MONEY)?, source })
}

/// An object with known keys; `null` is the same as absent.
struct Object<'a> {
    map: &'a Map<String, Value>,
    source: &'a str,
    /// Path of the object; empty for the document.
    at: &'a str,
}

impl<'a> Object<'a> {
    fn new(value: &'a Value, source: &'a str, at: &'a str, keys: &[&str]) -> Result<Self, PerfError> {
        let Value::Object(map) = value else {
            return Err(PerfError::data(source, at, "is not an object", "see docs/gpus.md for the format"));
        };
        let object = Self { map, source, at };
        match map.keys().find(|key| !keys.contains(&key.as_str())) {
            Some(key) => Err(PerfError::data(source, object.path(key), "unknown key", key_cure(key, keys))),
            None => Ok(object),
        }
    }

    fn path(&self, key: &str) -> String {
        if self.at.is_empty() { key.to_owned() } else { format!("{}.{key}", self.at) }
    }

    fn error(&self, key: &str, cause: impl Into<String>, cure: impl Into<String>) -> PerfError {
        PerfError::data(self.source, self.path(key), cause, cure)
    }

    fn missing(&self, key: &str) -> PerfError {
        self.error(key, "is missing", "add it; docs/gpus.md says what it means")
    }

    fn get(&self, key: &str) -> Option<&'a Value> {
        self.map.get(key).filter(|value| !value.is_null())
    }

    fn as_text(&self, key: &str, value: &Value) -> Result<String, PerfError> {
        match value.as_str().map(str::trim).filter(|text| !text.is_empty()) {
            Some(text) => Ok(text.to_owned()),
            None => Err(self.error(key, format!("is {value}"), "give a text")),
        }
    }

    fn text(&self, key: &str) -> Result<Option<String>, PerfError> {
        self.get(key).map(|value| self.as_text(key, value)).transpose()
    }

    /// Entries of a list with their paths; empty if absent.
    fn list(&self, key: &str) -> Result<Vec<(String, &'a Value)>, PerfError> {
        match self.get(key) {
            None => Ok(Vec::new()),
            Some(Value::Array(list)) => Ok(list.iter().enumerate().map(|(i, v)| (format!("{key}[{i}]"), v)).collect()),
            Some(other) => Err(self.error(key, format!("is {other}"), "give a list")),
        }
    }

    fn number(&self, key: &str, quantity: Quantity) -> Result<Option<f64>, PerfError> {
        let Some(value) = self.get(key) else { return Ok(None) };
        let Quantity { unit, least, most } = quantity;
        match value.as_f64() {
            Some(number) if (least..=most).contains(&number) => Ok(Some(number)),
            _ => Err(self.error(key, format!("is {value}"), format!("give {unit}, from {least:e} to {most:e}"))),
        }
    }

    fn required(&self, key: &str, quantity: Quantity) -> Result<f64, PerfError> {
        self.number(key, quantity)?.ok_or_else(|| self.missing(key))
    }

    /// A whole number, which may be written as `8e10`.
    fn whole(&self, key: &str, quantity: Quantity) -> Result<u64, PerfError> {
        let number = self.required(key, quantity)?;
        if number.fract() != 0.0 {
            return Err(self.error(key, format!("is {number}"), format!("give a whole number of {}", quantity.unit)));
        }
        Ok(number as u64)
    }
}
