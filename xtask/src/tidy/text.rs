//! What no file may contain, whatever its language.

use std::path::Path;

/// Complaints about one file.
pub(crate) fn complaints(path: &str, text: &str) -> Vec<String> {
    let mut complaints = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let place = format!("{path}:{}", index + 1);
        if line.contains(UNFINISHED) {
            complaints.push(format!("{place}: {UNFINISHED} is for unfinished work"));
        }
        if let Some(folder) = DEVELOPER_FOLDERS.iter().find(|it| names(line, it)) {
            complaints.push(format!(
                "{place}: a path below {folder} exists on one machine only"
            ));
        }
    }
    let line_count = text.lines().count();
    if is_source(path) && line_count > LINE_COUNT_MAX && exception(path).is_none() {
        complaints.push(format!(
            "{path}: {line_count} lines; divide it, or list it in LONG_FILES with the reason \
             (limit: {LINE_COUNT_MAX})"
        ));
    }
    complaints
}

/// Entries of the list of long files that no long file needs.
pub(crate) fn stale_exceptions(root: &Path) -> Vec<String> {
    let is_long = |path: &str| {
        std::fs::read_to_string(root.join(path))
            .is_ok_and(|text| text.lines().count() > LINE_COUNT_MAX)
    };
    LONG_FILES
        .iter()
        .filter(|(path, _)| !is_long(path))
        .map(|(path, _)| format!("{path}: is not long; take it out of LONG_FILES"))
        .collect()
}

fn exception(path: &str) -> Option<&'static str> {
    let (_, reason) = LONG_FILES.iter().find(|(listed, _)| *listed == path)?;
    Some(reason)
}

fn is_source(path: &str) -> bool {
    [".rs", ".c", ".h"].iter().any(|end| path.ends_with(end))
}

/// Whether the line has a path that starts with the folder, not one that passes through a folder
/// of that name.
fn names(line: &str, folder: &str) -> bool {
    line.match_indices(folder).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        !before.is_some_and(|it| it.is_alphanumeric() || "._-}*".contains(it))
    })
}

const LINE_COUNT_MAX: usize = 600;

/// Files that read better in one piece than below the limit, and why.
const LONG_FILES: &[(&str, &str)] = &[];

// Put together here, or this file would be the first complaint.
const UNFINISHED: &str = concat!("FIX", "ME");
const DEVELOPER_FOLDERS: &[&str] = &[
    concat!("/", "work/"),
    concat!("/", "home/"),
    concat!("/", "root/"),
    concat!("/", "Users/"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_of_one_machine_is_refused() {
        for folder in DEVELOPER_FOLDERS {
            for line in [format!("cd {folder}me"), format!("'file://{folder}me'")] {
                assert_eq!(complaints("a.md", &line).len(), 1, "{line}");
            }
        }
    }

    #[test]
    fn a_folder_of_that_name_elsewhere_is_fine() {
        for line in [
            "/proc/1/root/etc",
            "https://example.org/home/",
            "$ROOT/root.rs",
        ] {
            assert_eq!(complaints("a.md", line), [""; 0], "{line}");
        }
    }

    #[test]
    fn a_source_over_the_limit_is_refused_and_a_text_is_not() {
        let text = "\n".repeat(LINE_COUNT_MAX + 1);
        assert_eq!(complaints("a.rs", &text).len(), 1);
        assert_eq!(complaints("a.h", &text).len(), 1);
        assert_eq!(complaints("a.md", &text), [""; 0]);
        assert_eq!(complaints("a.rs", &text[1..]), [""; 0]);
    }
}
