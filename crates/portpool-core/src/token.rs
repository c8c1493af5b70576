//! The name of a reservation.

use std::{fmt, num::NonZeroU64, str::FromStr};

use crate::ParseError;

/// The 64-bit name of a reservation. Not a secret: knowing it gives no right to the ports.
///
/// ```
/// use portpool_core::Token;
///
/// let token: Token = "0x00000000c0ffee00".parse()?;
/// assert_eq!(token.value(), 0xc0ffee00);
/// assert_eq!(token.to_string(), "00000000c0ffee00");
/// # Ok::<(), portpool_core::ParseError>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Token(NonZeroU64);

impl Token {
    /// The token with this value, or nothing for 0, which names no reservation.
    pub const fn new(value: u64) -> Option<Token> {
        match NonZeroU64::new(value) {
            Some(value) => Some(Token(value)),
            None => None,
        }
    }

    /// The value, never 0.
    pub const fn value(self) -> u64 {
        self.0.get()
    }
}

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.value())
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Token {
    type Err = ParseError;

    /// # Errors
    /// Anything but 16 lower-case hexadecimal digits, with or without `0x` before them, and zero.
    fn from_str(text: &str) -> Result<Token, ParseError> {
        let token = parse_digits(text.strip_prefix("0x").unwrap_or(text)).and_then(Token::new);
        token.ok_or_else(|| ParseError::new(text, EXPECTED))
    }
}

fn parse_digits(digits: &str) -> Option<u64> {
    let lower_hex = digits
        .bytes()
        .all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    if !lower_hex || digits.len() != 16 {
        return None;
    }
    u64::from_str_radix(digits, 16).ok()
}

const EXPECTED: &str =
    "a token of 16 lower-case hexadecimal digits, not all zero, such as 00000000c0ffee00";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_reads_back_what_it_prints() {
        for value in [1, 0xc0ff_ee00, u64::MAX] {
            let token = Token::new(value).unwrap();
            assert_eq!(token.to_string().parse(), Ok(token));
            assert_eq!(format!("0x{token}").parse(), Ok(token));
            assert_eq!(format!("{token:?}"), token.to_string());
        }
    }

    #[test]
    fn zero_is_no_token() {
        assert_eq!(Token::new(0), None);
        assert!("0000000000000000".parse::<Token>().is_err());
    }

    #[test]
    fn other_texts_are_named_in_the_error() {
        for text in [
            "",
            "0x",
            "1",
            "+000000000000001",
            "C0FFEE0000000000",
            "00000000000000001",
        ] {
            assert_eq!(text.parse::<Token>().unwrap_err().input(), text);
        }
    }
}
