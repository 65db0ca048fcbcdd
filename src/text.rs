//! What several modules do with text: reading files that people edit, and saying what is wrong with them.

/// Longest cause quoted in a message, in bytes; a hostile value must not fill the screen.
const MAX_CAUSE: usize = 300;

/// `text`, cut between characters if it is too long for a message.
pub(crate) fn shorten(mut text: String) -> String {
    if text.len() > MAX_CAUSE {
        let cut = (0..=MAX_CAUSE).rev().find(|i| text.is_char_boundary(*i)).unwrap_or(0);
        text.truncate(cut);
        text.push('…');
    }
    text
}

/// The known name that `given` was probably meant to be.
pub(crate) fn nearest<'a>(given: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    // Hyphens and underscores are the usual mix-up between flags and engine arguments.
    let plain = |name: &str| name.to_lowercase().replace('_', "-");
    let given = plain(given);
    known
        .into_iter()
        .map(|name| (strsim::jaro_winkler(&given, &plain(name)), name))
        .filter(|(score, _)| *score > 0.8)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, name)| name)
}

/// The text of a file without a byte-order mark, which is how some editors begin a file and JSON does not know.
pub(crate) fn without_mark(text: &str) -> &str {
    text.strip_prefix('\u{feff}').unwrap_or(text)
}

/// What a JSON parser found, without the place: it saw one line only, and its own line number would mislead.
pub(crate) fn json_cause(error: &serde_json::Error) -> String {
    let text = error.to_string();
    text.rsplit_once(" at line ").map_or(text.as_str(), |(cause, _)| cause).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_texts_are_cut_between_characters() {
        let text = shorten("ü".repeat(1_000));
        assert!(text.ends_with("ü…") && text.len() <= MAX_CAUSE + '…'.len_utf8());
        assert_eq!(shorten("ü".repeat(150)), "ü".repeat(150));
    }

    #[test]
    fn a_misspelt_key_finds_its_neighbour_and_nonsense_finds_none() {
        let known = ["num-workers", "num-prefill-workers", "router-mode"];
        assert_eq!(nearest("num_worker", known), Some("num-workers"));
        assert_eq!(nearest("qqqq", known), None);
    }
}
