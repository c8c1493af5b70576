//! Fuzz targets: each has seeds, and a test that runs it without libFuzzer.

use std::path::Path;

use anyhow::Result;

use crate::fuzz::targets;

/// Targets that lack something.
///
/// # Errors
///
/// Fails if their folder cannot be read.
pub(crate) fn complaints(root: &Path, texts: &[(String, String)]) -> Result<Vec<String>> {
    Ok(targets(root)?
        .iter()
        .flat_map(|name| target_complaints(name, texts))
        .collect())
}

fn target_complaints(name: &str, texts: &[(String, String)]) -> Vec<String> {
    let place = format!("fuzz/fuzz_targets/{name}.rs");
    let seeds = format!("fuzz/seeds/{name}/");
    let mut complaints = Vec::new();
    if !texts.iter().any(|(path, _)| path.starts_with(&seeds)) {
        complaints.push(format!("{place}: no seeds in {seeds}"));
    }
    let calls = ["exercise", "exercise_slow"].map(|call| format!("{call}({name:?}, "));
    let is_tested = |text: &String| calls.iter().any(|call| text.contains(call));
    let mut sources = texts.iter().filter(|(path, _)| path.starts_with("crates/"));
    if !sources.any(|(_, text)| is_tested(text)) {
        complaints.push(format!("{place}: no test calls {}...)", calls[0]));
    }
    complaints
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_without_seeds_or_a_test_is_named() {
        let file = |path: &str, text: &str| (path.to_owned(), text.to_owned());
        let seed = file("fuzz/seeds/one/a", "");
        let test = file("crates/a/src/lib.rs", "exercise_slow(\"one\", super::one);");
        let count = |texts: &[_]| target_complaints("one", texts).len();
        assert_eq!(count(&[seed.clone(), test.clone()]), 0);
        assert_eq!(count(&[seed]), 1);
        assert_eq!(count(&[test]), 1);
    }
}
