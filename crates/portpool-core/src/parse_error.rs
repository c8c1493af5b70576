//! What every parser of this crate says about text it cannot read.

use std::{error, fmt};

/// Text that could not be read, and what would have been accepted.
///
/// ```
/// use portpool_core::Port;
///
/// let error = "70000".parse::<Port>().unwrap_err();
/// assert_eq!(
///     error.to_string(),
///     "cannot read \"70000\": expected a port from 1 to 65535, such as 8080",
/// );
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParseError {
    input: String,
    expected: &'static str,
}

impl ParseError {
    pub(crate) fn new(input: &str, expected: &'static str) -> ParseError {
        ParseError {
            input: shorten(input),
            expected,
        }
    }

    /// The text that was refused, cut after 80 characters.
    pub fn input(&self) -> &str {
        &self.input
    }

    /// What would have been accepted, with an example.
    pub fn expected(&self) -> &'static str {
        self.expected
    }
}

impl fmt::Display for ParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "cannot read {:?}: expected {}",
            self.input, self.expected
        )
    }
}

impl error::Error for ParseError {}

/// The number written in plain decimal digits; a sign, which `u16` itself would read, is not one.
pub(crate) fn decimal(text: &str) -> Option<u16> {
    let digits_only = text.bytes().all(|byte| byte.is_ascii_digit());
    digits_only.then(|| text.parse().ok()).flatten()
}

fn shorten(input: &str) -> String {
    match input.char_indices().nth(INPUT_CHARS_MAX) {
        Some((end, _)) => format!("{}...", &input[..end]),
        None => input.to_owned(),
    }
}

/// Enough to recognise the mistake, little enough for one line of a log.
const INPUT_CHARS_MAX: usize = 80;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_input_is_cut() {
        let error = ParseError::new(&"é".repeat(1000), "less");
        assert_eq!(error.input(), format!("{}...", "é".repeat(80)));
    }

    #[test]
    fn only_plain_digits_are_a_decimal() {
        assert_eq!(decimal("65535"), Some(65535));
        for text in ["", "+80", "-1", " 80", "65536", "0x50", "٣"] {
            assert_eq!(decimal(text), None, "{text:?}");
        }
    }
}
