//! How many connections there are, and whose.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use super::limits::{CONNECTIONS_KEPT_FOR_ROOT, CONNECTIONS_MAX, CONNECTIONS_PER_UID_MAX};

/// The connections there are room for.
#[derive(Clone, Debug, Default)]
pub(super) struct Seats(Arc<Mutex<Taken>>);

#[derive(Debug, Default)]
struct Taken {
    all: u32,
    by_uid: HashMap<u32, u32>,
}

/// A connection that has its place; gives it back with this value.
#[derive(Debug)]
pub(super) struct Seat {
    seats: Seats,
    uid: u32,
}

impl Seats {
    /// A place for a connection of this user, if there is one.
    pub(super) fn take(&self, uid: u32) -> Option<Seat> {
        let mut taken = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let own = taken.by_uid.get(&uid).copied().unwrap_or(0);
        let is_full = match uid {
            0 => taken.all >= CONNECTIONS_MAX,
            _ => {
                taken.all >= CONNECTIONS_MAX - CONNECTIONS_KEPT_FOR_ROOT
                    || own >= CONNECTIONS_PER_UID_MAX
            }
        };
        if is_full {
            return None;
        }
        taken.all += 1;
        taken.by_uid.insert(uid, own + 1);
        drop(taken);
        let seats = self.clone();
        Some(Seat { seats, uid })
    }

    /// How many are taken.
    pub(super) fn taken(&self) -> u32 {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).all
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut taken = self.seats.0.lock().unwrap_or_else(PoisonError::into_inner);
        taken.all -= 1;
        match taken.by_uid.get_mut(&self.uid) {
            Some(own) if *own > 1 => *own -= 1,
            _ => drop(taken.by_uid.remove(&self.uid)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_user_takes_only_its_share_and_gives_it_back() {
        let seats = Seats::default();
        let own: Vec<_> = std::iter::from_fn(|| seats.take(1000)).collect();
        assert_eq!(own.len(), CONNECTIONS_PER_UID_MAX as usize);
        assert!(seats.take(1001).is_some());
        drop(own);
        assert_eq!(seats.taken(), 0);
        assert!(seats.0.lock().unwrap().by_uid.is_empty());
        assert!(seats.take(1000).is_some());
    }

    #[test]
    fn however_many_users_there_are_root_gets_in() {
        let seats = Seats::default();
        let others: Vec<_> = (1..10_000).map_while(|uid| seats.take(uid)).collect();
        assert_eq!(
            others.len(),
            (CONNECTIONS_MAX - CONNECTIONS_KEPT_FOR_ROOT) as usize
        );
        let roots: Vec<_> = std::iter::from_fn(|| seats.take(0)).collect();
        assert_eq!(roots.len(), CONNECTIONS_KEPT_FOR_ROOT as usize);
    }
}
