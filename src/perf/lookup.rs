//! Names people type: compared without case and punctuation, and answered with the nearest known ones.

/// Known names shown when one is not found.
const SHOWN: usize = 8;

/// `name` without what people spell differently: capitals, spaces, hyphens, underscores, points.
pub(super) fn plain(name: &str) -> String {
    name.chars().filter(|c| c.is_alphanumeric()).flat_map(char::to_lowercase).collect()
}

/// The first few of `known`, nearest to `given` first.
pub(super) fn nearest<'a>(given: &str, known: impl IntoIterator<Item = &'a str>) -> Vec<&'a str> {
    let given = plain(given);
    let mut scored: Vec<_> = known.into_iter().map(|n| (strsim::jaro_winkler(&given, &plain(n)), n)).collect();
    scored.sort_by(|a, b| b.0.total_cmp(&a.0).then_with(|| a.1.cmp(b.1)));
    scored.into_iter().map(|(_, name)| name).take(SHOWN).collect()
}

/// What to do about an unknown `key` of a file that may hold `known` ones.
pub(super) fn key_cure(key: &str, known: &[&str]) -> String {
    let given = plain(key);
    match nearest(key, known.iter().copied()).first() {
        Some(name) if strsim::jaro_winkler(&given, &plain(name)) > 0.8 => format!("did you mean `{name}`?"),
        _ => format!("remove it; the keys are {}", known.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spelling_does_not_matter_and_the_nearest_comes_first() {
        assert_eq!(plain("NVIDIA H100-80GB_HBM3"), "nvidiah10080gbhbm3");
        assert_eq!(nearest("h10_sxm", ["b200_sxm", "h100_sxm", "l40s"])[0], "h100_sxm");
        assert_eq!(key_cure("memory_byte", &["name", "memory_bytes"]), "did you mean `memory_bytes`?");
        assert_eq!(key_cure("zzz", &["name", "memory_bytes"]), "remove it; the keys are name, memory_bytes");
    }
}
