//! Two threads that act at the same instant, many times.

use std::{
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    thread,
};

/// In each round both sides are given what `prepare` made and act at once; then `judge` looks at
/// what they got. A barrier is a spin, so that they leave it within nanoseconds of each other.
pub(crate) fn duel<T: Send + Sync, L, R: Send>(
    rounds: u32,
    mut prepare: impl FnMut(u32) -> T,
    left: impl Fn(&T) -> L,
    right: impl Fn(&T) -> R + Sync,
    mut judge: impl FnMut(u32, T, L, R),
) {
    let stage: Mutex<Option<std::sync::Arc<T>>> = Mutex::new(None);
    let answer: Mutex<Option<R>> = Mutex::new(None);
    let barrier = Barrier::default();
    thread::scope(|scope| {
        scope.spawn(|| {
            for _ in 0..rounds {
                barrier.meet();
                let object = lock(&stage).clone().expect("prepared");
                barrier.meet();
                let got = right(&object);
                drop(object);
                *lock(&answer) = Some(got);
                barrier.meet();
            }
        });
        for round in 0..rounds {
            let object = std::sync::Arc::new(prepare(round));
            *lock(&stage) = Some(std::sync::Arc::clone(&object));
            barrier.meet();
            barrier.meet();
            let got = left(&object);
            barrier.meet();
            *lock(&stage) = None;
            let other = lock(&answer).take().expect("an answer");
            let object = std::sync::Arc::into_inner(object).expect("the only one left");
            judge(round, object, got, other);
        }
    });
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A barrier for two.
#[derive(Default)]
struct Barrier(AtomicU64);

impl Barrier {
    fn meet(&self) {
        let mine = self.0.fetch_add(1, Ordering::SeqCst);
        let both = mine / 2 * 2 + 2;
        let mut spins = 0u32;
        while self.0.load(Ordering::SeqCst) < both {
            spins += 1;
            // The other may be waiting for this very processor.
            if spins > 2_000 {
                thread::yield_now();
            } else {
                std::hint::spin_loop();
            }
        }
    }
}
