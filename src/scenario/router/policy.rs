//! The YAML file of policy classes.
//!
//! A profile names *families* and *buckets* of uncached prompt tokens, and gives each pair a class, which is a queue of its
//! own. The profile at the root is for every model that has none of its own.

use std::fs;
use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::super::error::{Place, ScenarioError};
use super::super::values::{kind_of, typed};
use super::{Family, PolicyClass, PolicyProfile, QueuePolicy};

/// Most classes of a profile.
const MAX_CLASSES: usize = 4_096;
const KEY: &str = "router-policy-config";

/// A profile as the file has it.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
struct ProfileDocument {
    default_policy_family: Option<String>,
    uncached_isl_buckets: Option<Vec<Value>>,
    policy_classes: Option<Vec<Value>>,
}

/// The whole file: the root profile's keys and profiles by model.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
struct FileDocument {
    #[serde(flatten)]
    root: ProfileDocument,
    models: Option<Map<String, Value>>,
}

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
struct BucketDocument {
    min_tokens: Option<u64>,
    bucket: Option<String>,
}

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
struct ClassDocument {
    name: Option<String>,
    policy_family: Option<String>,
    cache_bucket: Option<String>,
    queue_policy: Option<String>,
    quantum: Option<u64>,
    prefill_busy_threshold: Option<u64>,
    prefill_busy_threshold_frac: Option<f64>,
    request_queue_limit_per_worker: Option<u64>,
    raw_isl_token_queue_limit_per_worker: Option<u64>,
    cached_token_queue_limit_per_worker: Option<u64>,
    admission: Option<Value>,
}

/// Reads the file and picks the profile of `model`: its own, else the root one, else none.
pub(super) fn load(
    path: &Path,
    model: Option<&str>,
    warnings: &mut Vec<String>,
) -> Result<Option<PolicyProfile>, ScenarioError> {
    let text = fs::read_to_string(path).map_err(|e| {
        let cause = format!("cannot read {}: {e}", path.display());
        ScenarioError::new(KEY, cause, "check that the path names a readable YAML file")
    })?;
    parse(&text, model, warnings).map_err(|error| error.at(Place::File(path.to_path_buf())))
}

fn parse(text: &str, model: Option<&str>, warnings: &mut Vec<String>) -> Result<Option<PolicyProfile>, ScenarioError> {
    let value: Value = serde_saphyr::from_str(text).map_err(|e| {
        let first = e.to_string();
        let first = first.lines().next().unwrap_or_default().to_owned();
        ScenarioError::new(KEY, format!("not valid YAML: {first}"), "correct the YAML text")
    })?;
    let map = match value {
        Value::Object(map) => map,
        Value::Null => Map::new(),
        other => {
            let cause = format!("holds {}, expected keys and values", kind_of(&other));
            return Err(ScenarioError::new(KEY, cause, "give a profile, `models`, or both"));
        }
    };
    let file: FileDocument = typed(map, KEY)?;
    let mut chosen = None;
    let models = file.models.unwrap_or_default();
    for (name, value) in &models {
        let path = format!("{KEY}.models.{name}");
        let Value::Object(map) = value else {
            return Err(ScenarioError::new(path, format!("is {}", kind_of(value)), "give a profile"));
        };
        let profile = typed(map.clone(), &path).and_then(|document| profile(document, &path, warnings))?;
        if model == Some(name) {
            chosen = Some(profile);
        }
    }
    let root = &file.root;
    let has_root =
        root.default_policy_family.is_some() || root.uncached_isl_buckets.is_some() || root.policy_classes.is_some();
    if has_root {
        let root = profile(file.root, KEY, warnings)?;
        return Ok(Some(chosen.unwrap_or(root)));
    }
    if models.is_empty() {
        return Err(ScenarioError::new(KEY, "has no profile", "give a profile, `models`, or both"));
    }
    if chosen.is_none() {
        let model = model.map_or_else(|| "no `model-name` is given".to_owned(), |name| format!("none is for {name}"));
        warnings.push(format!("`{KEY}` has profiles for models only and {model}: it has no effect."));
    }
    Ok(chosen)
}

fn profile(document: ProfileDocument, path: &str, warnings: &mut Vec<String>) -> Result<PolicyProfile, ScenarioError> {
    let missing = |name: &str| {
        let cure = "give `default_policy_family`, `uncached_isl_buckets` and `policy_classes` together";
        ScenarioError::new(format!("{path}.{name}"), "is missing", cure)
    };
    let default = document.default_policy_family.ok_or_else(|| missing("default_policy_family"))?;
    let buckets = document.uncached_isl_buckets.ok_or_else(|| missing("uncached_isl_buckets"))?;
    let classes = document.policy_classes.ok_or_else(|| missing("policy_classes"))?;
    let buckets = read_buckets(&buckets, path)?;
    if classes.len() > MAX_CLASSES {
        let cause = format!("has {} classes, more than {MAX_CLASSES}", classes.len());
        return Err(ScenarioError::new(format!("{path}.policy_classes"), cause, "merge some"));
    }
    let mut families: Vec<(String, Vec<Option<usize>>)> = Vec::new();
    let mut read: Vec<PolicyClass> = Vec::new();
    for (index, value) in classes.into_iter().enumerate() {
        let path = format!("{path}.policy_classes[{index}]");
        let document: ClassDocument = typed(object(value, &path)?, &path)?;
        let (place, class) = read_class(document, &path, warnings)?;
        if read.iter().any(|other| other.name == class.name) {
            return Err(ScenarioError::new(format!("{path}.name"), "is taken already", "give each class its own name"));
        }
        if let Some((family, bucket)) = place {
            let Some(bucket) = buckets.iter().position(|(name, _)| *name == bucket) else {
                let cause = format!("is \"{bucket}\", which is no bucket");
                return Err(ScenarioError::new(format!("{path}.cache_bucket"), cause, "name one of the buckets"));
            };
            let at = families.iter().position(|(name, _)| *name == family).unwrap_or_else(|| {
                families.push((family, vec![None; buckets.len()]));
                families.len() - 1
            });
            if families[at].1[bucket].replace(index).is_some() {
                let cause = "has the family and the bucket of another class";
                return Err(ScenarioError::new(path, cause, "give each pair one class"));
            }
        }
        read.push(class);
    }
    let mut complete = Vec::new();
    for (name, classes) in families {
        let mut known = Vec::new();
        for ((bucket, _), class) in buckets.iter().zip(classes) {
            known.push(class.ok_or_else(|| {
                let cause = format!("has no class for family \"{name}\" and bucket \"{bucket}\"");
                ScenarioError::new(format!("{path}.policy_classes"), cause, "give each pair one class")
            })?);
        }
        if let Some(index) = read.iter().position(|class| class.explicit && class.name == name) {
            let cause = format!("is \"{name}\", which is a family too");
            return Err(ScenarioError::new(format!("{path}.policy_classes[{index}].name"), cause, "rename the class"));
        }
        complete.push(Family { name, classes: known });
    }
    let Some(default_family) = complete.iter().position(|family| family.name == default) else {
        let cause = format!("is \"{default}\", which no class belongs to");
        return Err(ScenarioError::new(format!("{path}.default_policy_family"), cause, "name a family"));
    };
    let buckets = buckets.into_iter().map(|(_, least)| least).collect();
    Ok(PolicyProfile { families: complete, default_family, buckets, classes: read })
}

fn object(value: Value, path: &str) -> Result<Map<String, Value>, ScenarioError> {
    match value {
        Value::Object(map) => Ok(map),
        other => Err(ScenarioError::new(path, format!("is {}", kind_of(&other)), "give keys and values")),
    }
}

/// Names consist of letters, digits, dot, dash and underscore.
fn named(text: String, key: String) -> Result<String, ScenarioError> {
    let fits = !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || "_.-".contains(c));
    if fits {
        return Ok(text);
    }
    Err(ScenarioError::new(key, format!("is \"{text}\""), "use letters, digits, dots, dashes and underscores"))
}

/// Names and least tokens.
fn read_buckets(values: &[Value], path: &str) -> Result<Vec<(String, u64)>, ScenarioError> {
    let mut buckets: Vec<(String, u64)> = Vec::new();
    for (index, value) in values.iter().enumerate() {
        let path = format!("{path}.uncached_isl_buckets[{index}]");
        let key = |name: &str| format!("{path}.{name}");
        let document: BucketDocument = typed(object(value.clone(), &path)?, &path)?;
        let (Some(least), Some(name)) = (document.min_tokens, document.bucket) else {
            return Err(ScenarioError::new(path, "is incomplete", "give `min_tokens` and `bucket`"));
        };
        let name = named(name, key("bucket"))?;
        if buckets.iter().any(|(other, _)| *other == name) {
            return Err(ScenarioError::new(key("bucket"), "is taken already", "give each bucket its own name"));
        }
        match buckets.last() {
            None if least != 0 => {
                return Err(ScenarioError::new(key("min_tokens"), format!("is {least}"), "begin with 0"));
            }
            Some((_, before)) if *before >= least => {
                let cause = format!("is {least}, not above the {before} before it");
                return Err(ScenarioError::new(key("min_tokens"), cause, "sort the buckets"));
            }
            _ => {}
        }
        buckets.push((name, least));
    }
    if buckets.is_empty() {
        let cure = "give at least {min_tokens: 0, bucket: all}";
        return Err(ScenarioError::new(format!("{path}.uncached_isl_buckets"), "is empty", cure));
    }
    Ok(buckets)
}

/// Family and bucket, unless the class is explicit, and the class.
fn read_class(
    document: ClassDocument,
    path: &str,
    warnings: &mut Vec<String>,
) -> Result<(Option<(String, String)>, PolicyClass), ScenarioError> {
    let key = |name: &str| format!("{path}.{name}");
    let name = document.name.ok_or_else(|| ScenarioError::new(key("name"), "is missing", "name the class"))?;
    let name = named(name, key("name"))?;
    let place = match (document.policy_family, document.cache_bucket) {
        (None, None) => None,
        (Some(family), Some(bucket)) => Some((named(family, key("policy_family"))?, bucket)),
        _ => {
            let cause = "has only one of `policy_family` and `cache_bucket`";
            return Err(ScenarioError::new(path, cause, "give both, or neither for an explicit class"));
        }
    };
    let word = document.queue_policy.as_deref().unwrap_or("fcfs");
    let queue_policy = match QueuePolicy::of(word) {
        Some(policy @ (QueuePolicy::Fcfs | QueuePolicy::Wspt)) => policy,
        _ => return Err(ScenarioError::new(key("queue_policy"), format!("is \"{word}\""), "use fcfs or wspt")),
    };
    let quantum = match document.quantum {
        None => return Err(ScenarioError::new(key("quantum"), "is missing", "give tokens per round, at least 1")),
        Some(0) => return Err(ScenarioError::new(key("quantum"), "is 0", "give at least 1")),
        Some(quantum) => quantum,
    };
    if let Some(share) = document.prefill_busy_threshold_frac.filter(|share| !share.is_finite() || *share < 0.0) {
        let cause = format!("is {share}");
        return Err(ScenarioError::new(key("prefill_busy_threshold_frac"), cause, "give a number of zero or more"));
    }
    if document.admission.is_some() {
        warnings.push(format!("`{}` has no effect in a simulation.", key("admission")));
    }
    let class = PolicyClass {
        name,
        explicit: place.is_none(),
        queue_policy,
        quantum,
        busy_above_tokens: document.prefill_busy_threshold,
        busy_above_share: document.prefill_busy_threshold_frac,
        request_limit: document.request_queue_limit_per_worker,
        token_limit: document.raw_isl_token_queue_limit_per_worker,
        cached_token_limit: document.cached_token_queue_limit_per_worker,
    };
    Ok((place, class))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PROFILE: &str = "default_policy_family: std
uncached_isl_buckets:
  - {min_tokens: 0, bucket: small}
  - {min_tokens: 1000, bucket: large}
policy_classes:
  - {name: a, policy_family: std, cache_bucket: small, queue_policy: fcfs, quantum: 1000}
  - {name: b, policy_family: std, cache_bucket: large, queue_policy: wspt, quantum: 500}
";

    fn problem(text: &str) -> String {
        parse(text, None, &mut Vec::new()).map_or_else(|e| e.to_string(), |_| String::new())
    }

    #[test]
    fn a_profile_gives_every_family_and_bucket_a_class() {
        let more = format!("{PROFILE}  - {{name: vip, quantum: 9, prefill_busy_threshold: 5}}\n");
        let profile = parse(&more, None, &mut Vec::new()).unwrap().unwrap();
        assert_eq!(profile.families, [Family { name: "std".to_owned(), classes: vec![0, 1] }]);
        assert_eq!((profile.buckets.as_slice(), profile.default_family), ([0, 1000].as_slice(), 0));
        let vip = &profile.classes[2];
        assert!(vip.explicit && vip.quantum == 9 && vip.busy_above_tokens == Some(5));
        assert_eq!(vip.queue_policy, QueuePolicy::Fcfs);
    }

    #[test]
    fn a_model_takes_its_own_profile_and_others_the_root_one() {
        let indented: String = PROFILE.lines().map(|line| format!("    {line}\n")).collect();
        let own = indented.replace("quantum: 500", "quantum: 7");
        let quantum =
            |text: &str, model| parse(text, model, &mut Vec::new()).unwrap().map(|profile| profile.classes[1].quantum);
        let both = format!("{PROFILE}models:\n  m:\n{own}");
        assert_eq!(
            (quantum(&both, Some("m")), quantum(&both, Some("x")), quantum(&both, None)),
            (Some(7), Some(500), Some(500))
        );
        let only = format!("models:\n  m:\n{own}");
        assert_eq!((quantum(&only, Some("m")), quantum(&only, None)), (Some(7), None));
    }

    #[test]
    fn mistakes_are_named_with_their_place() {
        for (text, expected) in [
            (PROFILE.replace("quantum: 500", "quantum: 0"), "`router-policy-config.policy_classes[1].quantum`: is 0"),
            (PROFILE.replace("quantum: 500", "quantun: 5"), "did you mean `quantum`?"),
            (PROFILE.replace("wspt", "lcfs"), "use fcfs or wspt"),
            (PROFILE.replace("min_tokens: 1000", "min_tokens: 0"), "sort the buckets"),
            (PROFILE.replace("min_tokens: 0", "min_tokens: 5"), "begin with 0"),
            (PROFILE.replace("family: std\nunc", "family: other\nunc"), "which no class belongs to"),
            (PROFILE.replace("name: b", "name: a"), "is taken already"),
            (PROFILE.replace("name: b", "name: 'b b'"), "use letters"),
            (PROFILE.replace(", cache_bucket: large", ""), "only one of `policy_family` and `cache_bucket`"),
            (PROFILE.replace("cache_bucket: large", "cache_bucket: small"), "give each pair one class"),
            (format!("{PROFILE}  - {{name: std, quantum: 1}}\n"), "which is a family too"),
            ("models: {}".to_owned(), "has no profile"),
            (String::new(), "has no profile"),
            ("- 1".to_owned(), "holds a list"),
            ("default_policy_family: a".to_owned(), "`router-policy-config.uncached_isl_buckets`: is missing"),
            ("{".to_owned(), "not valid YAML"),
        ] {
            let problem = problem(&text);
            assert!(problem.contains(expected), "{text}\n{problem}");
        }
    }
}
