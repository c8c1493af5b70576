//! `docs/rules.md`: every rule of portpool has a number and at least one test.

use std::collections::BTreeSet;

/// Where the rules are.
pub(crate) const FILE: &str = "docs/rules.md";

/// Rows without a number of their own or without a test that exists.
pub(crate) fn complaints(text: &str, functions: &BTreeSet<&str>) -> Vec<String> {
    let mut complaints = Vec::new();
    let mut numbers = BTreeSet::new();
    for (index, line) in text.lines().enumerate() {
        let Some(row) = cells(line) else { continue };
        let mut complain = |what: String| {
            complaints.push(format!("{FILE}:{}: {what}", index + 1));
        };
        let [number, rule, tests] = row[..] else {
            complain("expected | number | rule | test |".to_owned());
            continue;
        };
        match number.parse::<u32>() {
            Ok(number) if numbers.insert(number) => {}
            Ok(number) => complain(format!("there is a rule {number} already")),
            Err(_) => complain(format!("{number:?} is no number")),
        }
        if rule.is_empty() {
            complain(format!("rule {number} says nothing"));
        }
        if in_backticks(tests).next().is_none() {
            complain(format!("rule {number} names no test in backticks"));
        }
        for test in in_backticks(tests).filter(|it| !functions.contains(it)) {
            complain(format!("rule {number}: no function {test} in any crate"));
        }
    }
    if numbers.is_empty() {
        complaints.push(format!("{FILE}: has no rules"));
    }
    complaints
}

/// The cells of a row; nothing for other lines, the head of a table and the rule below it.
fn cells(line: &str) -> Option<Vec<&str>> {
    let inner = line.trim().strip_prefix('|')?.strip_suffix('|')?;
    let cells: Vec<&str> = inner.split('|').map(str::trim).collect();
    let is_head = cells[0] == "number" || cells[0].contains("--");
    (!is_head).then_some(cells)
}

fn in_backticks(cell: &str) -> impl Iterator<Item = &str> {
    cell.split('`').skip(1).step_by(2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_with_numbers_and_tests_pass() {
        assert_eq!(
            judge("| 1 | a | `one` |\n| 2 | b | `one`, `two` |"),
            [""; 0]
        );
    }

    #[test]
    fn a_test_that_does_not_exist_is_named() {
        let complaints = judge("| 7 | a | `three` |");
        assert!(complaints[0].contains("rule 7: no function three"));
        assert_eq!(complaints.len(), 1);
    }

    #[test]
    fn a_rule_without_a_test_is_refused() {
        assert_eq!(judge("| 7 | a | one |").len(), 1);
    }

    #[test]
    fn a_number_is_given_once() {
        assert_eq!(judge("| 7 | a | `one` |\n| 7 | b | `two` |").len(), 1);
    }

    #[test]
    fn a_table_without_rows_is_refused() {
        assert_eq!(judge("").len(), 1);
    }

    fn judge(rows: &str) -> Vec<String> {
        let text = format!("| number | rule | test |\n| --- | --- | --- |\n{rows}\n");
        complaints(&text, &BTreeSet::from(["one", "two"]))
    }
}
