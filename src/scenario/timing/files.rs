//! Files that engine arguments name: descriptions of models and GPUs, tables, planner arrays.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use crate::perf::{GpuSpec, ModelConfig, PerfError};

use super::super::args::Args;
use super::super::values::Document;
use super::{FRACTIONS, MODEL, MODEL_DETAILS, OTHERS};

impl Document {
    /// Makes relative paths within engine arguments start at `base`; names of models, GPUs and tables stay.
    pub(in crate::scenario) fn rebase_timing(&mut self, base: &Path) {
        let Some(args) = self.inline_mut() else { return };
        let always = |value: &mut Value| {
            if let Some(path) = value.as_str() {
                *value = Value::String(base.join(path).to_string_lossy().into_owned());
            }
        };
        let if_there = |value: &mut Value| {
            if value.as_str().is_some_and(|path| base.join(path).exists()) {
                always(value);
            }
        };
        args.get_mut("planner_profile_data").into_iter().for_each(always);
        args.get_mut("aic_model_path").into_iter().for_each(if_there);
        if let Some(timing) = args.get_mut("timing") {
            timing.get_mut("npz").into_iter().for_each(always);
            timing.get_mut("table").into_iter().for_each(if_there);
            for name in ["model", "gpu"] {
                timing.get_mut("roofline").and_then(|r| r.get_mut(name)).into_iter().for_each(if_there);
            }
        }
    }
}

impl Document {
    /// Makes the relative path of a GPU description start at `base`, given as the whole value or as `gpu`; names stay.
    pub(in crate::scenario) fn rebase_gpu(&mut self, base: &Path) {
        let here = |name: &str| {
            let path = base.join(name);
            path.is_file().then(|| path.to_string_lossy().into_owned())
        };
        if let Some(path) = self.text().and_then(here) {
            *self = Self::of_text(path);
        } else if let Some(Value::String(name)) = self.inline_mut().and_then(|map| map.get_mut("gpu"))
            && let Some(path) = here(name)
        {
            *name = path;
        }
    }
}

/// Where relative paths of engine arguments may start.
#[derive(Clone, Copy)]
pub(in crate::scenario) struct Files<'a> {
    bases: &'a [&'a Path],
}

impl<'a> Files<'a> {
    /// Files of these folders, the likeliest first.
    pub fn at(bases: &'a [&'a Path]) -> Self {
        Self { bases }
    }

    /// The file, where it exists; otherwise where it should.
    pub fn find(self, path: &str) -> PathBuf {
        let places = self.bases.iter().map(|base| base.join(path));
        places.clone().find(|place| place.exists()).or_else(|| places.into_iter().next()).unwrap_or_else(|| path.into())
    }

    /// A shipped model, or one read from `config.json` or the folder that holds it.
    pub fn model(self, name: &str) -> Result<ModelConfig, PerfError> {
        let mut path = self.find(name);
        if path.is_dir() {
            path.push("config.json");
        } else if !path.is_file() && !name.ends_with(".json") {
            return ModelConfig::known(name);
        }
        let text = fs::read_to_string(&path).map_err(|e| PerfError::read(&path, &e))?;
        ModelConfig::parse(&text, &path.to_string_lossy())
    }

    /// A shipped GPU, or one read from a description.
    pub fn gpu(self, name: &str) -> Result<GpuSpec, PerfError> {
        let path = self.find(name);
        if !path.is_file() && !name.ends_with(".json") {
            return GpuSpec::known(name);
        }
        let text = fs::read_to_string(&path).map_err(|e| PerfError::read(&path, &e))?;
        GpuSpec::parse(&text, &path.to_string_lossy())
    }
}

/// The arguments that led to the choice, with paths that work from anywhere the run does.
pub(super) fn recorded(args: &Args, files: Files) -> Map<String, Value> {
    let mut map = Map::new();
    for name in MODEL.into_iter().chain(MODEL_DETAILS).chain(OTHERS).chain(FRACTIONS) {
        if let Some(value) = args.get(name) {
            map.insert(name.to_owned(), value.clone());
        }
    }
    let fix = |value: &mut Value| {
        if let Some(path) = value.as_str().map(|text| files.find(text)).filter(|path| path.exists()) {
            *value = Value::String(path.to_string_lossy().into_owned());
        }
    };
    map.get_mut("planner_profile_data").into_iter().for_each(fix);
    map.get_mut("aic_model_path").into_iter().for_each(fix);
    if let Some(timing) = map.get_mut("timing") {
        for name in ["npz", "table"] {
            timing.get_mut(name).into_iter().for_each(fix);
        }
        for name in ["model", "gpu"] {
            timing.get_mut("roofline").and_then(|r| r.get_mut(name)).into_iter().for_each(fix);
        }
    }
    map
}

pub(super) fn file_name(path: &Path) -> String {
    path.file_name().map_or_else(|| path.display().to_string(), |name| name.to_string_lossy().into_owned())
}

/// The last part of a model's path or id.
pub(super) fn short(model: &str) -> &str {
    let model = model.trim_end_matches('/').trim_end_matches("/config.json");
    model.rsplit('/').next().unwrap_or(model)
}
