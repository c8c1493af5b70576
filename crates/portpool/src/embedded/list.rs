//! The file that this process's list is in. Where that is in memory, as the runtime directory of a user is, a block is
//! listed by a few stores to it; elsewhere by a write.

use std::{
    fs::File,
    io,
    os::{
        fd::{AsFd, OwnedFd},
        unix::fs::FileExt,
    },
};

use rustix::fs::{FallocateFlags, fallocate, fstatfs};

use super::listing::{
    BLOCK_WORD, HEAD_SIZE, Listed, Lister, PLACE_SIZE, PLACE_WORDS, SUM_WORD, WORD_SIZE, head,
    words,
};
use crate::sys::SharedWords;

/// A list, written place by place: a block that is listed stays where it is.
#[derive(Debug)]
pub(crate) struct List {
    file: File,
    way: Way,
    /// Places up to this one have been used.
    used_count: usize,
    free: Vec<usize>,
}

/// How the file is written to.
#[derive(Debug)]
enum Way {
    /// All of its `size` bytes are mapped.
    Stores {
        words: SharedWords,
        size: usize,
    },
    Writes,
}

impl List {
    /// Begins a list in an empty file that is open for reading and writing.
    pub(crate) fn begin(file: OwnedFd, lister: &Lister) -> io::Result<List> {
        let file = File::from(file);
        let way = match is_in_memory(&file) {
            true => map(&file, SIZE_MIN).unwrap_or(Way::Writes),
            false => Way::Writes,
        };
        file.write_all_at(&head(lister), 0)?;
        Ok(List {
            file,
            way,
            used_count: 0,
            free: Vec::new(),
        })
    }

    /// Lists a block, and says in which place.
    pub(crate) fn enter(&mut self, listed: &Listed) -> io::Result<usize> {
        let place = self.free.last().copied().unwrap_or(self.used_count);
        self.make_room(place)?;
        let content = words(listed);
        match &self.way {
            Way::Stores { words, .. } => {
                // The place is free, which whoever reads it sees until the last of these.
                for (index, word) in (first_word(place)..).zip(content) {
                    words.store(index, word);
                }
            }
            Way::Writes => {
                let mut bytes = [0; PLACE_SIZE];
                for (bytes, word) in bytes.chunks_exact_mut(WORD_SIZE).zip(content) {
                    bytes.copy_from_slice(&word.to_ne_bytes());
                }
                self.file.write_all_at(&bytes, offset(place))?;
            }
        }
        if self.free.pop().is_none() {
            self.used_count += 1;
        }
        Ok(place)
    }

    /// Takes a block off the list.
    pub(crate) fn strike(&mut self, place: usize) -> io::Result<()> {
        match &self.way {
            Way::Stores { words, .. } => {
                words.store(first_word(place) + BLOCK_WORD, 0);
                // Who reads the old words and then a new block of the same ports must not take them
                // for one.
                words.store(first_word(place) + SUM_WORD, 0);
            }
            Way::Writes => self.file.write_all_at(&[0; PLACE_SIZE], offset(place))?,
        }
        self.free.push(place);
        Ok(())
    }

    /// Makes the file larger if it ends before this place.
    fn make_room(&mut self, place: usize) -> io::Result<()> {
        let Way::Stores { size, .. } = self.way else {
            return Ok(());
        };
        if HEAD_SIZE + (place + 1) * PLACE_SIZE > size {
            self.way = map(&self.file, size * 2)?;
        }
        Ok(())
    }
}

/// Maps a file with memory for all of it, without which a store would end this process.
fn map(file: &File, size: usize) -> io::Result<Way> {
    fallocate(file, FallocateFlags::empty(), 0, size as u64)?;
    let words = SharedWords::map(file.as_fd(), size / WORD_SIZE)?;
    Ok(Way::Stores { words, size })
}

/// Whether the file has no disk beneath it. A disk can fail, be full in spite of what was set apart on it or
/// become read-only, and each of these ends who stores to a mapping; a write has an answer.
fn is_in_memory(file: &File) -> bool {
    fstatfs(file).is_ok_and(|system| system.f_type == libc::TMPFS_MAGIC as libc::__fsword_t)
}

fn first_word(place: usize) -> usize {
    HEAD_SIZE / WORD_SIZE + place * PLACE_WORDS
}

fn offset(place: usize) -> u64 {
    (HEAD_SIZE + place * PLACE_SIZE) as u64
}

/// A page.
const SIZE_MIN: usize = 4096;

#[cfg(test)]
mod tests {
    use std::{os::unix::fs::FileExt, thread};

    use portpool_core::{Token, Transport};
    use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, memfd_create};

    use super::*;
    use crate::embedded::listing::{Content, read};

    /// A list in memory, another that is written as one on disk is, and each as others see it.
    fn lists() -> [(List, File); 2] {
        [(); 2].map(|()| begin()).map(|(list, file)| {
            assert!(matches!(list.way, Way::Stores { .. }));
            (list, file)
        })
    }

    fn begin() -> (List, File) {
        let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
        let file = memfd_create("portpool-list", flags).expect("a file in memory");
        let seen = File::from(file.try_clone().expect("another descriptor"));
        let lister = Lister {
            pid: 7,
            start: 8,
            pid_namespace: 9,
            uid: 10,
            command: "test".to_owned(),
        };
        (List::begin(file, &lister).expect("begin"), seen)
    }

    fn block(number: u64) -> Listed {
        Listed {
            namespace: 5,
            token: Token::new(number + 1).expect("not 0"),
            transport: Transport::Tcp,
            range: "20000-20003".parse().expect("a range"),
            born: number,
        }
    }

    fn bytes(file: &File) -> Vec<u8> {
        let mut bytes = vec![0; file.metadata().expect("size").len() as usize];
        file.read_exact_at(&mut bytes, 0).expect("read");
        bytes
    }

    /// The blocks by number; none if the list was read while it was written.
    fn seen(file: &File) -> Option<Vec<u64>> {
        match read(&bytes(file)) {
            Content::Whole(found) => Some(
                found
                    .iter()
                    .map(|(namespace, record)| {
                        assert_eq!((*namespace, record.token.value()), (5, record.born + 1));
                        record.born
                    })
                    .collect(),
            ),
            Content::Torn => None,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn blocks_come_and_go_where_they_are_in_memory_and_on_disk() {
        let [in_memory, mut on_disk] = lists();
        on_disk.0.way = Way::Writes;
        for (mut list, file) in [in_memory, on_disk] {
            assert_eq!(seen(&file), Some(vec![]));
            let places = [0, 1, 2].map(|number| list.enter(&block(number)).expect("enter"));
            assert_eq!(seen(&file), Some(vec![0, 1, 2]));
            list.strike(places[1]).expect("strike");
            assert_eq!(seen(&file), Some(vec![0, 2]));
            assert_eq!(list.enter(&block(3)).expect("enter"), places[1]);
            assert_eq!(seen(&file), Some(vec![0, 3, 2]));
            // More than a page of them.
            for number in 4..2000 {
                list.enter(&block(number)).expect("enter");
            }
            let all = seen(&file).expect("nobody writes");
            assert_eq!((all.len(), all[..3].to_vec()), (1999, vec![0, 3, 2]));
        }
    }

    #[test]
    fn a_list_that_cannot_grow_keeps_what_it_has() {
        let (mut list, file) = begin();
        fcntl_add_seals(&file, SealFlags::GROW).expect("seal");
        let entered = (0..1000).take_while(|number| list.enter(&block(*number)).is_ok());
        let count = entered.count();
        assert_eq!(count, (SIZE_MIN - HEAD_SIZE) / PLACE_SIZE);
        assert_eq!(seen(&file).expect("nobody writes").len(), count);
        list.strike(0).expect("strike");
        assert_eq!(list.enter(&block(5000)).expect("enter"), 0);
        assert_eq!(seen(&file).expect("nobody writes")[0], 5000);
    }

    #[test]
    fn who_reads_beside_the_writer_sees_whole_blocks_only() {
        let [in_memory, mut on_disk] = lists();
        on_disk.0.way = Way::Writes;
        for (mut list, file) in [in_memory, on_disk] {
            list.enter(&block(0)).expect("enter");
            let writer = thread::spawn(move || {
                // The same ports each time, so that a reader may take one block for the next.
                for number in 1..20_000 {
                    let place = list.enter(&block(number)).expect("enter");
                    list.strike(place).expect("strike");
                }
            });
            let mut last = 0;
            while !writer.is_finished() {
                let Some(found) = seen(&file) else { continue };
                assert_eq!(found[0], 0, "a block that stays is never missed");
                for number in &found[1..] {
                    assert!(*number >= last, "block {number} after {last}");
                    last = *number;
                }
            }
            writer.join().expect("the writer");
        }
    }
}
