//! A Rust file as its tokens: comments and literals are gone, so words in them mean nothing.

use anyhow::{Result, anyhow};
use proc_macro2::{Delimiter, TokenStream, TokenTree};

/// A Rust file.
pub(crate) struct Source {
    /// From the root of the checkout.
    pub(crate) path: String,
    tokens: Vec<Token>,
}

struct Token {
    /// An identifier, a punctuation character or an opening delimiter.
    text: String,
    line: usize,
}

impl Source {
    /// Splits a file into tokens.
    ///
    /// # Errors
    ///
    /// Fails if the text is not made of Rust tokens.
    pub(crate) fn parse(path: &str, text: &str) -> Result<Self> {
        let stream: TokenStream = text
            .parse()
            .map_err(|error| anyhow!("{path}: not Rust: {error}"))?;
        let mut tokens = Vec::new();
        flatten(stream, &mut tokens);
        Ok(Self {
            path: path.to_owned(),
            tokens,
        })
    }

    /// The lines where these tokens follow each other.
    pub(crate) fn lines_of(&self, wanted: &[&str]) -> Vec<usize> {
        self.tokens
            .windows(wanted.len())
            .filter(|window| window.iter().map(|token| &token.text).eq(wanted))
            .map(|window| window[0].line)
            .collect()
    }

    /// The names of all functions, those that macros write included.
    pub(crate) fn functions(&self) -> impl Iterator<Item = &str> {
        self.tokens
            .windows(2)
            .filter(|pair| pair[0].text == "fn")
            .map(|pair| pair[1].text.as_str())
    }

    /// Macros that mark unfinished work.
    pub(crate) fn unfinished(&self) -> Vec<String> {
        let mut complaints = Vec::new();
        for name in ["todo", "unimplemented", "dbg"] {
            for line in self.lines_of(&[name, "!"]) {
                complaints.push(format!(
                    "{}:{line}: {name}! is for unfinished work",
                    self.path
                ));
            }
        }
        complaints
    }
}

fn flatten(stream: TokenStream, tokens: &mut Vec<Token>) {
    for tree in stream {
        let line = tree.span().start().line;
        let text = match &tree {
            TokenTree::Ident(name) => name.to_string(),
            TokenTree::Punct(mark) => mark.as_char().to_string(),
            TokenTree::Literal(_) => continue,
            TokenTree::Group(group) => match group.delimiter() {
                Delimiter::Parenthesis => "(".to_owned(),
                Delimiter::Brace => "{".to_owned(),
                Delimiter::Bracket => "[".to_owned(),
                Delimiter::None => String::new(),
            },
        };
        tokens.push(Token { text, line });
        if let TokenTree::Group(group) = tree {
            flatten(group.stream(), tokens);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_in_comments_and_literals_are_no_tokens() {
        let source = source("// unsafe\n/* unsafe */\nconst A: &str = \"unsafe { }\";\n");
        assert_eq!(source.lines_of(&["unsafe"]), [0; 0]);
    }

    #[test]
    fn tokens_are_found_on_their_line() {
        let source = source("\nfn a() {\n    unsafe { b() }\n}\n");
        assert_eq!(source.lines_of(&["unsafe"]), [3]);
    }

    #[test]
    fn functions_inside_macros_are_known() {
        let source = source("fn a() {}\nproptest! { #[test] fn b(n in 0..3) {} }\n");
        assert_eq!(source.functions().collect::<Vec<_>>(), ["a", "b"]);
    }

    #[test]
    fn unfinished_work_is_named() {
        let source = source("fn a() { dbg!(3); }\nfn todo() {}\n");
        assert_eq!(source.unfinished().len(), 1);
    }

    fn source(text: &str) -> Source {
        Source::parse("a.rs", text).unwrap()
    }
}
