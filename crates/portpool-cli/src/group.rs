//! Groups as options name them.

use std::fs;

use crate::exit::{Code, Failure};

/// The number of a group, given as such or by its name in /etc/group.
pub(crate) fn number(group: &str) -> Result<u32, Failure> {
    let found = match group.parse() {
        // What system calls take for no group.
        Ok(u32::MAX) => None,
        Ok(number) => Some(number),
        Err(_) => {
            let groups = fs::read_to_string("/etc/group");
            let groups = groups.map_err(|error| Failure::failed("read /etc/group", error))?;
            number_in(&groups, group)
        }
    };
    found.ok_or_else(|| {
        let text = format!(
            "--group {group}: no such group in /etc/group: give its number if it is elsewhere"
        );
        Failure::new(Code::Failed, text)
    })
}

fn number_in(groups: &str, name: &str) -> Option<u32> {
    groups.lines().find_map(|line| {
        let mut fields = line.split(':');
        let is_it = fields.next() == Some(name);
        let number = fields.nth(1)?.parse().ok()?;
        is_it.then_some(number)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_is_found_by_its_whole_name() {
        let groups = "root:x:0:\nportpool-x:x:7:\nbroken\nportpool:x:999:alice,bob\n";
        assert_eq!(number_in(groups, "portpool"), Some(999));
        assert_eq!(number_in(groups, "port"), None);
    }

    #[test]
    fn a_group_has_a_name_or_a_number() {
        assert_eq!(number("root").ok(), Some(0));
        assert_eq!(number("54321").ok(), Some(54_321));
        for text in ["4294967295", "no such group", "-1", ""] {
            assert!(number(text).is_err(), "{text}");
        }
    }
}
