//! Router keys to settings: defaults, the rules between keys, and back.

use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};

use crate::time::SimDuration;

use super::super::args::Args;
use super::super::document::Scenario;
use super::super::error::ScenarioError;
use super::super::fields::check;
use super::super::run::Topology;
use super::fields::ROUTER;
use super::{KvRouter, QueuePolicy, Router, RouterMode, Ties, policy};

/// Settings that change nothing here.
fn is_idle(name: &str) -> bool {
    ROUTER.iter().any(|field| field.name == name && field.about.starts_with("No effect"))
}

impl Scenario {
    /// How requests find a worker.
    pub(in crate::scenario) fn router(
        &self,
        base: &Path,
        topology: &Topology,
        warnings: &mut Vec<String>,
    ) -> Result<Router, ScenarioError> {
        if self.model_name.as_deref().is_some_and(|name| name.trim().is_empty()) {
            return Err(ScenarioError::new("model-name", "is empty", "give a name or leave it out"));
        }
        // Checked in every mode, so that a mistake does not come to light with another one only.
        let mut kv = self.kv_router(base, warnings)?;
        let mode = self.router_mode.as_deref().unwrap_or("round_robin").replace('-', "_");
        let mode = match mode.as_str() {
            "round_robin" => RouterMode::RoundRobin,
            "random" => RouterMode::Random,
            "least_loaded" => RouterMode::LeastLoaded,
            "power_of_two" => RouterMode::PowerOfTwo,
            "session_affinity" => RouterMode::SessionAffinity,
            "kv_router" => {
                let entry = match topology {
                    Topology::Aggregated { workers, engine } => {
                        if workers.saturating_mul(engine.dp_size) < 2 {
                            let cause = "is kv_router, but there is only one worker to choose";
                            let cure = "give more workers (`num-workers`), or use round_robin";
                            return Err(ScenarioError::new("router-mode", cause, cure));
                        }
                        engine
                    }
                    Topology::Disaggregated { prefill, .. } => prefill,
                };
                kv.queue_policy = entry.router_queue_policy.unwrap_or(kv.queue_policy);
                RouterMode::Kv(Box::new(kv))
            }
            other => {
                let cure = "use round_robin, kv_router, random, least_loaded, power_of_two or session_affinity";
                return Err(ScenarioError::new("router-mode", format!("is \"{other}\""), cure));
            }
        };
        if !matches!(mode, RouterMode::Kv(_)) {
            self.warn_of_kv_keys(&mode, warnings);
        }
        let ties = match self.router_ties.as_deref().map(|word| word.replace('_', "-")).as_deref() {
            None | Some("random") => Ties::Random,
            Some("lowest-id") => Ties::LowestId,
            Some(other) => {
                return Err(ScenarioError::new("router-ties", format!("is \"{other}\""), "use random or lowest-id"));
            }
        };
        let delay = |key: &str, ms: Option<f64>| {
            SimDuration::from_ms(ms.unwrap_or(0.0))
                .map_err(|e| ScenarioError::new(key, e.to_string(), "give milliseconds of zero or more"))
        };
        Ok(Router {
            mode,
            seed: self.router_seed.or(self.seed).unwrap_or(42),
            ties,
            kv_event_delay: delay("router-kv-event-delay-ms", self.router_kv_event_delay_ms)?,
            load_delay: delay("router-load-delay-ms", self.router_load_delay_ms)?,
        })
    }

    fn warn_of_kv_keys(&self, mode: &RouterMode, warnings: &mut Vec<String>) {
        let given = [
            ("router-config", self.router_config.is_some()),
            ("router-policy-config", self.router_policy_config.is_some()),
            ("router-kv-event-delay-ms", self.router_kv_event_delay_ms.is_some_and(|ms| ms != 0.0)),
            (
                "router-load-delay-ms",
                self.router_load_delay_ms.is_some_and(|ms| ms != 0.0)
                    && !matches!(mode, RouterMode::LeastLoaded | RouterMode::PowerOfTwo),
            ),
        ];
        for (key, _) in given.iter().filter(|(_, given)| *given) {
            warnings.push(format!("`{key}` has no effect with `router-mode` {}.", mode.word()));
        }
    }

    fn kv_router(&self, base: &Path, warnings: &mut Vec<String>) -> Result<KvRouter, ScenarioError> {
        let key = "router-config";
        let mut kv = match &self.router_config {
            None => KvRouter::default(),
            Some(document) => {
                let loaded = document.object(key, base)?;
                settings(&loaded.map, key, warnings).map_err(|e| loaded.blame(e))?
            }
        };
        let file = |key: &str, text: &str| match text {
            "" => Err(ScenarioError::new(key, "is empty", "give the path of a YAML file")),
            text => Ok(base.join(text)),
        };
        if let Some(path) = &self.router_policy_config {
            kv.policy_file = Some(file("router-policy-config", path)?);
        } else if let Some(path) = kv.policy_file.take() {
            kv.policy_file = Some(file("router-config.router_policy_config", &path.to_string_lossy())?);
        }
        kv.model_name.clone_from(&self.model_name);
        if let Some(path) = &kv.policy_file {
            kv.policy = policy::load(path, kv.model_name.as_deref(), warnings)?;
        }
        Ok(kv)
    }
}

/// `router-config`, checked.
fn settings(map: &Map<String, Value>, path: &str, warnings: &mut Vec<String>) -> Result<KvRouter, ScenarioError> {
    check(map, ROUTER, path)?;
    let args = Args::new(map, path);
    check_together(&args)?;
    for name in map.keys().filter(|name| is_idle(name)) {
        if args.get(name).is_some() {
            warnings.push(format!("`{path}.{name}` has no effect in a simulation."));
        }
    }
    let default = KvRouter::default();
    let mut kv = KvRouter {
        overlap_score_credit: args.number("overlap_score_credit").unwrap_or(default.overlap_score_credit),
        overlap_score_credit_decay: args
            .number("overlap_score_credit_decay")
            .unwrap_or(default.overlap_score_credit_decay),
        prefill_load_scale: args.number("prefill_load_scale").unwrap_or(default.prefill_load_scale),
        decode_active_request_weight: args
            .number("decode_active_request_weight")
            .unwrap_or(default.decode_active_request_weight),
        temperature: args.number("router_temperature").unwrap_or(default.temperature),
        track_active_blocks: args.flag("router_track_active_blocks").unwrap_or(default.track_active_blocks),
        assume_kv_reuse: args.flag("router_assume_kv_reuse").unwrap_or(default.assume_kv_reuse),
        track_prefill_tokens: args.flag("router_track_prefill_tokens").unwrap_or(default.track_prefill_tokens),
        queue_threshold: args.number("router_queue_threshold"),
        queue_policy: args.text("router_queue_policy").and_then(QueuePolicy::of).unwrap_or(default.queue_policy),
        policy_file: args.text("router_policy_config").map(PathBuf::from),
        ..default
    };
    if let Some(weight) = args.number("overlap_score_weight") {
        kv.prefill_load_scale = weight;
        if weight == 0.0 {
            kv.overlap_score_credit = 0.0;
        }
    }
    Ok(kv)
}

/// Rules between settings, those without effect included: what the reference refuses is a mistake here too.
fn check_together(args: &Args) -> Result<(), ScenarioError> {
    let on = |name: &str, default: bool| args.flag(name).unwrap_or(default);
    if on("router_track_output_blocks", false) && !on("router_track_active_blocks", true) {
        let cause = "is true, but `router_track_active_blocks` is false";
        return Err(args.error("router_track_output_blocks", cause, "give both or none"));
    }
    if args.says("router_prefill_load_model", "aic") {
        if !on("router_track_prefill_tokens", true) {
            let cause = "is aic, but `router_track_prefill_tokens` is false";
            return Err(args.error("router_prefill_load_model", cause, "give none"));
        }
        let (key, cure) = (args.key("router_prefill_load_model"), "use none");
        return Err(ScenarioError::not_yet(key, "the timing model of the router's prefill estimate", cure));
    }
    if on("use_remote_indexer", false) && on("serve_indexer", false) {
        return Err(args.error("serve_indexer", "is true together with `use_remote_indexer`", "keep one of them"));
    }
    if on("serve_indexer", false) && args.number("overlap_score_credit") == Some(0.0) {
        let cause = "is true, but `overlap_score_credit` is 0";
        return Err(args.error("serve_indexer", cause, "give a credit above 0"));
    }
    if args.get("router_predicted_ttl_secs").is_some() && !on("use_kv_events", true) {
        let cause = "is given, but `use_kv_events` is false";
        return Err(args.error("router_predicted_ttl_secs", cause, "leave it out"));
    }
    let keyed = args.says("router_tracking_hash", "keyed-xxh3-v1");
    for name in ["router_tracking_key_file", "router_tracking_key_id"] {
        if args.get(name).is_some() && !keyed {
            let cause = "is given, but `router_tracking_hash` is not keyed-xxh3-v1";
            return Err(args.error(name, cause, "leave it out"));
        }
    }
    if keyed && args.get("router_tracking_key_file").is_none() {
        let cause = "is keyed-xxh3-v1 without `router_tracking_key_file`";
        return Err(args.error("router_tracking_hash", cause, "use public-xxh3-v1; the hash has no effect here"));
    }
    if on("durable_kv_events", false) {
        return Err(args.error("durable_kv_events", "is true, which nothing supports", "give false"));
    }
    Ok(())
}

/// The keys that spell a router out.
pub(in crate::scenario) fn describe(router: &Router, document: &mut Scenario) -> Result<(), ScenarioError> {
    document.router_mode = Some(router.mode.word().to_owned());
    document.router_seed = Some(router.seed);
    document.router_ties = Some(router.ties.word().to_owned());
    document.router_kv_event_delay_ms = Some(router.kv_event_delay.as_ms());
    document.router_load_delay_ms = Some(router.load_delay.as_ms());
    let RouterMode::Kv(kv) = &router.mode else { return Ok(()) };
    let settings = json!({
        "overlap_score_credit": kv.overlap_score_credit,
        "overlap_score_credit_decay": kv.overlap_score_credit_decay,
        "prefill_load_scale": kv.prefill_load_scale,
        "decode_active_request_weight": kv.decode_active_request_weight,
        "router_temperature": kv.temperature,
        "router_track_active_blocks": kv.track_active_blocks,
        "router_assume_kv_reuse": kv.assume_kv_reuse,
        "router_track_prefill_tokens": kv.track_prefill_tokens,
        "router_queue_threshold": kv.queue_threshold,
        "router_queue_policy": kv.queue_policy.word(),
    });
    if let Value::Object(map) = settings {
        document.router_config = Some(map.into());
    }
    document.model_name.clone_from(&kv.model_name);
    if let Some(path) = &kv.policy_file {
        let Some(text) = path.to_str() else {
            let cause = format!("{} is not valid Unicode", path.display());
            return Err(ScenarioError::new("router-policy-config", cause, "rename the file"));
        };
        document.router_policy_config = Some(text.to_owned());
    }
    Ok(())
}
