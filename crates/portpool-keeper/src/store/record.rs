//! What is recorded.

use std::{fmt, fs, io, str::FromStr, time::SystemTime};

use portpool_core::{PortRange, Token, Transport};

/// All records of a pool.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Records {
    /// Persistent blocks, by transport and first port; no two of a transport overlap.
    pub blocks: Vec<Block>,
    /// Exclusions, by transport and first port; no two of a transport overlap.
    pub exclusions: Vec<Exclusion>,
}

/// A persistent block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Block {
    /// TCP or UDP.
    pub transport: Transport,
    /// Its ports.
    pub range: PortRange,
    /// The group whose members may consume it, beside those with `CAP_NET_ADMIN`.
    pub group: Option<u32>,
    /// What the administrator said about it.
    pub note: Option<Note>,
    /// When it was made, to the second.
    pub created: SystemTime,
    /// Its token, and the boot that this token is good for.
    pub token: Option<(Boot, Token)>,
}

/// An administered exclusion: ports kept from automatic choice and from acquire.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exclusion {
    /// TCP or UDP.
    pub transport: Transport,
    /// Its ports.
    pub range: PortRange,
    /// What the administrator said about it.
    pub note: Option<Note>,
    /// When it was made, to the second.
    pub created: SystemTime,
}

/// One step of a commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// A new block.
    AddBlock(Block),
    /// The end of the block with exactly these ports.
    DeleteBlock(Transport, PortRange),
    /// Another token for the block with exactly these ports.
    RenameBlock(Transport, PortRange, Boot, Token),
    /// A new exclusion.
    AddExclusion(Exclusion),
    /// The end of the exclusion with exactly these ports.
    DeleteExclusion(Transport, PortRange),
}

/// A boot of the machine, as the kernel names it. Tokens of another boot are unknown.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Boot(String);

impl Boot {
    /// The one we are in.
    ///
    /// # Errors
    /// If `/proc` is not there.
    pub fn current() -> io::Result<Boot> {
        let id = fs::read_to_string("/proc/sys/kernel/random/boot_id")?;
        Ok(Boot(id.trim().to_owned()))
    }

    /// The boot of this name.
    pub fn new(id: impl Into<String>) -> Boot {
        Boot(id.into())
    }

    /// Its name.
    pub fn id(&self) -> &str {
        &self.0
    }
}

/// A line of text about a record: at most 256 bytes, no control characters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note(String);

impl Note {
    /// The text.
    pub fn text(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl FromStr for Note {
    type Err = NoteError;

    /// # Errors
    /// Text that is empty, too long, or could do things to a terminal.
    fn from_str(text: &str) -> Result<Note, NoteError> {
        match text {
            "" => Err(NoteError::Empty),
            text if text.len() > NOTE_LENGTH_MAX => Err(NoteError::TooLong(text.len())),
            text if text.chars().any(char::is_control) => Err(NoteError::Control),
            text => Ok(Note(text.to_owned())),
        }
    }
}

/// Why a text is no [`Note`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoteError {
    /// It says nothing.
    #[error("the note is empty: leave it out")]
    Empty,
    /// It is too long.
    #[error("a note of {0} bytes is too long: {NOTE_LENGTH_MAX} are the most")]
    TooLong(usize),
    /// It has a character that does something instead of saying something.
    #[error("a note is one line: no line breaks, tabs or other control characters")]
    Control,
}

/// Most bytes of a note.
pub const NOTE_LENGTH_MAX: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_note_is_one_line_of_text() {
        assert_eq!(
            "web, März".parse::<Note>().map(|note| note.to_string()),
            Ok("web, März".to_owned())
        );
        assert_eq!("".parse::<Note>(), Err(NoteError::Empty));
        assert_eq!("a\nb".parse::<Note>(), Err(NoteError::Control));
        let long = "x".repeat(NOTE_LENGTH_MAX + 1);
        assert_eq!(long.parse::<Note>(), Err(NoteError::TooLong(257)));
        assert!(long[1..].parse::<Note>().is_ok());
    }
}
