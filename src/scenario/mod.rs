//! What a user configures: one JSON document, its defaults and its rules.
//!
//! A [`Scenario`] is what a user writes, in a file or as flags; every key is optional and nothing is checked beyond its
//! type. [`Scenario::resolve`] turns it into a [`Run`], in which every value has its final unit, every default is filled
//! in and nothing is left to check. [`Scenario::describe`] goes back: the document that spells a run out in full.
//!
//! | file | holds |
//! |---|---|
//! | `document` | the keys |
//! | `values` | values that are more than a number or a word |
//! | `load` | reading, relative paths, flags over a file |
//! | `resolve` | document to run: the rules between keys |
//! | `traffic` | the part of `resolve` that concerns requests and their timing |
//! | `trace` | what a user says about a trace: files, format, how to read them |
//! | `fields` | the engine arguments: names, types, ranges |
//! | `args` | reading them |
//! | `cost` | what GPUs are taken to cost |
//! | `engine` | engine arguments to [`EngineConfig`] |
//! | `timing` | the part of `engine` that chooses the timing model and estimates the KV capacity |
//! | `router` | how requests find a worker: modes, settings of the KV router, policy classes |
//! | `describe` | run to document |
//! | `intervention` | what is changed while a run goes on |
//! | `outputs` | which files a run writes |
//! | `planner` | the planner's configuration |
//! | `schema` | the JSON schema of the document |
//! | `error` | what is wrong, where, and what to do about it |
//! | `run` | the result |

mod args;
mod cost;
mod describe;
mod document;
mod engine;
mod error;
mod fields;
mod intervention;
mod load;
mod outputs;
pub mod planner;
mod resolve;
mod router;
pub mod run;
mod schema;
mod tiers;
mod timing;
mod trace;
mod traffic;
mod values;

pub use cost::{CostConfig, PoolRates};
pub use document::Scenario;
pub use error::{Place, ScenarioError};
pub use intervention::InterventionDocument;
pub use load::VERSION;
pub use outputs::Outputs;
pub use planner::{
    DiagnosticsConfig, PlannerConfig, PlannerMode, PredictorConfig, PredictorKind, RegressionConfig, Target, Thresholds,
};
pub use router::{Family, KvRouter, PolicyClass, PolicyProfile, QueuePolicy, Router, RouterMode, Ties};
pub use run::*;
pub use trace::{CsvColumns, Objection, TimeUnit, TraceFormat, TraceReading, TraceSource, TraceWindow};
pub use values::Document;
