//! Bytes to messages: what has arrived, cut at each NUL. No I/O.

use crate::MESSAGE_SIZE_MAX;

/// The bytes of a connection that no message was made of yet. Never more than one message and its NUL.
#[derive(Clone, Debug, Default)]
pub struct Frames {
    bytes: Vec<u8>,
    /// So many bytes at the front have no NUL among them.
    scanned: usize,
}

/// A message has no end within [`MESSAGE_SIZE_MAX`] bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooLarge;

impl Frames {
    /// Takes up to [`room`](Frames::room) bytes that have arrived.
    ///
    /// # Errors
    /// [`TooLarge`] if there is no room for them; then nothing was taken.
    pub fn push(&mut self, arrived: &[u8]) -> Result<(), TooLarge> {
        if arrived.len() > self.room() {
            return Err(TooLarge);
        }
        self.bytes.extend_from_slice(arrived);
        Ok(())
    }

    /// The next whole message, without its NUL.
    ///
    /// # Errors
    /// [`TooLarge`] if what is here can no longer become a message.
    pub fn pop(&mut self) -> Result<Option<Vec<u8>>, TooLarge> {
        let rest = &self.bytes[self.scanned..];
        let Some(at) = rest.iter().position(|byte| *byte == 0) else {
            self.scanned = self.bytes.len();
            return match self.room() {
                0 => Err(TooLarge),
                _ => Ok(None),
            };
        };
        let end = self.scanned + at;
        let after = self.bytes.split_off(end + 1);
        let mut message = std::mem::replace(&mut self.bytes, after);
        message.truncate(end);
        self.scanned = 0;
        Ok(Some(message))
    }

    /// How many bytes may be pushed.
    pub fn room(&self) -> usize {
        MESSAGE_SIZE_MAX + 1 - self.bytes.len()
    }

    /// Whether there is a part of a message.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_message_of_the_largest_size_passes_and_one_byte_more_does_not() {
        let mut frames = Frames::default();
        frames.push(&[b'a'; MESSAGE_SIZE_MAX]).unwrap();
        assert_eq!(frames.pop(), Ok(None));
        frames.push(&[0]).unwrap();
        assert_eq!(frames.pop().unwrap().unwrap().len(), MESSAGE_SIZE_MAX);
        frames.push(&[b'a'; MESSAGE_SIZE_MAX + 1]).unwrap();
        assert_eq!(frames.pop(), Err(TooLarge));
        assert_eq!(frames.push(b"a"), Err(TooLarge));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn messages_come_out_as_they_went_in_however_they_are_cut(
            messages in prop::collection::vec(prop::collection::vec(1_u8.., 0..300), 0..20),
            cuts in prop::collection::vec(1_usize..700, 1..50),
        ) {
            let mut wire = Vec::new();
            for message in &messages {
                wire.extend_from_slice(message);
                wire.push(0);
            }
            let mut frames = Frames::default();
            let mut cuts = cuts.into_iter().cycle();
            let mut rest = &wire[..];
            let mut out = Vec::new();
            loop {
                while let Some(message) = frames.pop().unwrap() {
                    out.push(message);
                }
                if rest.is_empty() {
                    break;
                }
                let size = cuts.next().unwrap().min(rest.len()).min(frames.room());
                frames.push(&rest[..size]).unwrap();
                rest = &rest[size..];
            }
            prop_assert!(frames.is_empty());
            prop_assert_eq!(out, messages);
        }

        #[test]
        fn whatever_arrives_never_more_than_one_message_is_kept(
            arrivals in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..9_000), 0..12),
        ) {
            let mut frames = Frames::default();
            for arrived in arrivals {
                let is_taken = frames.push(&arrived).is_ok();
                prop_assert!(frames.bytes.len() <= MESSAGE_SIZE_MAX + 1);
                while let Ok(Some(message)) = frames.pop() {
                    prop_assert!(!message.contains(&0) && message.len() <= MESSAGE_SIZE_MAX);
                }
                if !is_taken {
                    break;
                }
            }
        }
    }
}
