//! Grants in a world of a few variables that writes down what was done to it, in order.

use std::{collections::BTreeSet, sync::atomic::AtomicBool};

use portpool_core::{PortCount, Transports};
use tempfile::TempDir;

use super::{
    super::limits::{GRANT_REFILL_TIME, GRANTS_AT_ONCE_PER_UID},
    *,
};

/// What was done, in words.
#[derive(Default)]
struct Fake {
    state: Mutex<State>,
    is_broken: AtomicBool,
}

#[derive(Default)]
struct State {
    done: Vec<String>,
    entries: RangeSet,
    windows: BTreeSet<PortRange>,
    blocks: RangeSet,
    in_use: RangeSet,
    excluded: RangeSet,
    /// Claimed while its entry is about to be taken out.
    claimed_late: RangeSet,
    now: u64,
}

impl World for Arc<Fake> {
    fn ephemeral(&self) -> Result<PortRange, String> {
        Ok(range("40000-49999"))
    }

    fn ports_per_uid(&self) -> Result<u32, String> {
        Ok(1_024)
    }

    fn is_kept(&self, range: PortRange) -> Result<bool, String> {
        Ok(!range.overlaps(self.ephemeral()?))
    }

    fn make_grantable(&self, range: PortRange) -> Result<(), String> {
        self.step(format!("enter {range}"))?;
        let mut state = self.state.lock().unwrap();
        state.entries = state.entries.union(&range.into());
        Ok(())
    }

    fn let_go(&self, range: PortRange) -> Result<bool, String> {
        self.step(format!("take out {range}"))?;
        let mut state = self.state.lock().unwrap();
        let claimed = std::mem::take(&mut state.claimed_late);
        state.blocks = state.blocks.union(&claimed);
        let gone = RangeSet::from(range).difference(&claimed);
        state.entries = state.entries.difference(&gone);
        Ok(claimed.is_empty())
    }

    fn made_grantable(&self) -> Result<RangeSet, String> {
        Ok(self.state.lock().unwrap().entries.clone())
    }

    fn look(&self, _: Transports, range: PortRange) -> Result<Found, String> {
        let state = self.state.lock().unwrap();
        let meets = |set: &RangeSet| !set.intersection(&range.into()).is_empty();
        Ok(match () {
            () if meets(&state.excluded) => Found::Excluded("excluded".to_owned()),
            () if meets(&state.in_use) || meets(&state.blocks) => Found::Taken("in use".to_owned()),
            () => Found::Free,
        })
    }

    fn taken(&self, _: Transports) -> Result<RangeSet, String> {
        let state = self.state.lock().unwrap();
        Ok(state.blocks.union(&state.excluded))
    }

    fn open_window(
        &self,
        _: Transports,
        range: PortRange,
        _: Caller,
        _: u64,
    ) -> Result<(), String> {
        self.step(format!("open {range}"))?;
        self.state.lock().unwrap().windows.insert(range);
        Ok(())
    }

    fn close_window(&self, _: Transports, range: PortRange) -> Result<(), String> {
        self.step(format!("close {range}"))?;
        self.state.lock().unwrap().windows.remove(&range);
        Ok(())
    }

    fn blocks(&self) -> Result<RangeSet, String> {
        Ok(self.state.lock().unwrap().blocks.clone())
    }

    fn now(&self) -> u64 {
        self.state.lock().unwrap().now
    }

    fn chance(&self) -> u64 {
        7
    }
}

trait Acts {
    fn step(&self, what: String) -> Result<(), String>;
    fn change(&self, change: impl FnOnce(&mut State));
    fn done(&self) -> Vec<String>;
}

impl Acts for Arc<Fake> {
    fn step(&self, what: String) -> Result<(), String> {
        if self.is_broken.load(std::sync::atomic::Ordering::Relaxed) {
            return Err("broken".to_owned());
        }
        self.state.lock().unwrap().done.push(what);
        Ok(())
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.state.lock().unwrap());
    }

    fn done(&self) -> Vec<String> {
        std::mem::take(&mut self.state.lock().unwrap().done)
    }
}

struct Scene {
    folder: TempDir,
    world: Arc<Fake>,
    grants: Grants<Arc<Fake>>,
}

fn scene() -> Scene {
    let folder = TempDir::new().unwrap();
    let world = Arc::new(Fake::default());
    let grants = Grants::restore(Arc::clone(&world), folder.path().join("grants")).unwrap();
    Scene {
        folder,
        world,
        grants,
    }
}

impl Scene {
    fn acquire(&self, request: &Request) -> Result<Granted<Arc<Fake>>, Fault> {
        self.grants
            .acquire(applicant(1000), request, |_| Woken::Gone)
    }

    fn window(&self, text: &str) -> Held<Arc<Fake>> {
        match self.acquire(&exactly(text)) {
            Ok(Granted::Window(held)) => held,
            Ok(Granted::Open(_)) => panic!("{text} needed no window"),
            Err(fault) => panic!("{text}: {fault}"),
        }
    }

    /// The next keeper, after this one was killed.
    fn next_keeper(&self) -> Grants<Arc<Fake>> {
        Grants::restore(Arc::clone(&self.world), self.folder.path().join("grants")).unwrap()
    }
}

fn range(text: &str) -> PortRange {
    text.parse().unwrap()
}

fn exactly(text: &str) -> Request {
    Request {
        transports: Transports::Tcp,
        want: Want::Exactly(range(text)),
        wait: Duration::ZERO,
    }
}

fn applicant(uid: u32) -> Applicant {
    Applicant {
        caller: Caller {
            uid,
            pid: 1,
            start_ticks: 1,
        },
        is_administrator: false,
    }
}

#[test]
fn automatic_choice_is_kept_away_before_a_window_opens_and_let_back_after_it_closed() {
    let scene = scene();
    let held = scene.window("40000-40003");
    assert_eq!(
        scene.world.done(),
        ["enter 40000-40003", "open 40000-40003"]
    );
    drop(held);
    assert_eq!(
        scene.world.done(),
        ["close 40000-40003", "take out 40000-40003"]
    );
    assert_eq!(scene.grants.counts(), (0, 0));
}

#[test]
fn what_was_claimed_stays_kept_until_its_block_ends() {
    let scene = scene();
    let held = scene.window("40000-40003");
    scene
        .world
        .change(|it| it.blocks = range("40000-40003").into());
    drop(held);
    scene.grants.sweep();
    assert_eq!(scene.world.done().last().unwrap(), "close 40000-40003");
    assert_eq!(scene.grants.counts(), (0, 1));
    scene.world.change(|it| it.blocks = RangeSet::new());
    scene.grants.sweep();
    assert_eq!(scene.world.done(), ["take out 40000-40003"]);
    assert_eq!(scene.grants.counts(), (0, 0));
}

#[test]
fn what_is_claimed_in_the_last_moment_stays_kept() {
    let scene = scene();
    let held = scene.window("40000-40003");
    scene
        .world
        .change(|it| it.claimed_late = range("40000-40003").into());
    drop(held);
    assert_eq!(scene.grants.counts(), (0, 1));
    assert_eq!(
        scene.world.made_grantable().unwrap(),
        range("40000-40003").into()
    );
    scene.world.change(|it| it.blocks = RangeSet::new());
    scene.grants.sweep();
    assert_eq!(scene.world.made_grantable().unwrap(), RangeSet::new());
}

#[test]
fn a_window_lapses_at_its_deadline_while_the_connection_stays() {
    let scene = scene();
    let held = scene.window("40000");
    scene.world.change(|it| it.now = held.deadline() - 1);
    scene.grants.sweep();
    assert_eq!(scene.grants.counts(), (0, 1));
    assert_eq!(scene.grants.next_deadline(), Some(held.deadline()));
    scene.world.change(|it| it.now = held.deadline());
    scene.grants.sweep();
    assert_eq!(scene.world.done().last().unwrap(), "take out 40000");
    drop(held);
    assert!(scene.world.done().is_empty());
}

#[test]
fn ports_that_automatic_choice_cannot_pick_need_no_window() {
    let scene = scene();
    assert!(matches!(
        scene.acquire(&exactly("8080")),
        Ok(Granted::Open(_))
    ));
    scene.world.change(|it| it.in_use = range("8080").into());
    let fault = scene.acquire(&exactly("8080")).err().unwrap();
    assert_eq!(fault.refusal(), Some(Refusal::InUse));
    assert!(scene.world.done().is_empty());
}

#[test]
fn a_request_waits_while_ports_are_in_use_and_leaves_nothing_when_it_ends() {
    let scene = scene();
    scene.world.change(|it| it.in_use = range("40001").into());
    let refused = scene.acquire(&exactly("40000-40003")).err().unwrap();
    assert_eq!(refused.refusal(), Some(Refusal::InUse));
    assert_eq!(
        scene.world.done(),
        ["enter 40000-40003", "take out 40000-40003"]
    );

    let patient = Request {
        wait: Duration::from_secs(60),
        ..exactly("40000-40003")
    };
    let gone = scene.acquire(&patient).err().unwrap();
    assert!(matches!(gone, Fault::TimedOut(_)), "{gone}");
    assert_eq!(
        scene.world.done(),
        ["enter 40000-40003", "take out 40000-40003"]
    );

    let world = Arc::clone(&scene.world);
    let mut tries = 0;
    let granted = scene.grants.acquire(applicant(1000), &patient, |_| {
        tries += 1;
        // Meanwhile nobody gets these as an ephemeral port.
        assert_eq!(world.made_grantable().unwrap(), range("40000-40003").into());
        if tries == 3 {
            world.change(|it| it.in_use = RangeSet::new());
        }
        Woken::Again
    });
    assert!(matches!(granted, Ok(Granted::Window(_))));
    // Swept again right before the window opens, and not for every look.
    let done = ["enter 40000-40003", "enter 40000-40003", "open 40000-40003"];
    assert_eq!(scene.world.done(), done);

    let brief = Request {
        wait: Duration::from_millis(1),
        ..exactly("8080")
    };
    scene.world.change(|it| it.in_use = range("8080").into());
    let late = scene.grants.acquire(applicant(1000), &brief, |time| {
        assert!(time <= brief.wait);
        Woken::Again
    });
    assert!(matches!(late.err(), Some(Fault::TimedOut(_))));
}

#[test]
fn two_requests_never_get_the_same_port() {
    let scene = scene();
    let held = scene.window("40000-40003");
    let refused = scene.acquire(&exactly("40003-40004")).err().unwrap();
    assert_eq!(refused.refusal(), Some(Refusal::InUse));
    assert!(refused.to_string().contains("40000-40003"), "{refused}");
    drop(held);
    drop(scene.window("40003-40004"));
}

#[test]
fn a_block_that_has_just_ended_is_had_again_at_once() {
    let scene = scene();
    let held = scene.window("40000-40003");
    scene
        .world
        .change(|it| it.blocks = range("40000-40003").into());
    drop(held);
    let again = |expected_pauses: u32| {
        let mut pauses = 0;
        let request = exactly("40002-40003");
        let answer = scene.grants.acquire(applicant(1001), &request, |_| {
            pauses += 1;
            Woken::Again
        });
        assert_eq!(pauses, expected_pauses);
        answer
    };
    assert_eq!(again(0).err().unwrap().refusal(), Some(Refusal::InUse));
    scene.world.change(|it| it.blocks = RangeSet::new());
    assert!(again(1).is_ok());
}

#[test]
fn excluded_ports_are_refused_at_once_however_long_one_would_wait() {
    let scene = scene();
    scene.world.change(|it| it.excluded = range("40001").into());
    let patient = Request {
        wait: Duration::from_secs(60),
        ..exactly("40000-40003")
    };
    let refused = scene.acquire(&patient).err().unwrap();
    assert_eq!(refused.refusal(), Some(Refusal::InUse));
    assert_eq!(scene.world.made_grantable().unwrap(), RangeSet::new());
}

#[test]
fn any_ports_are_placed_where_nothing_is_known_to_be() {
    let scene = scene();
    scene
        .world
        .change(|it| it.blocks = range("40000-40005").into());
    let any = Request {
        transports: Transports::Both,
        want: Want::Any(Wildcard {
            within: Some(range("40000-40008")),
            ..Wildcard::new(PortCount::new(2).unwrap())
        }),
        wait: Duration::ZERO,
    };
    let Ok(Granted::Window(held)) = scene.acquire(&any) else {
        panic!("granted");
    };
    assert!(range("40006-40008").covers(held.range()));
    let second = scene.acquire(&any).err().unwrap();
    assert_eq!(second.refusal(), Some(Refusal::NoRoom));
}

#[test]
fn the_next_keeper_ends_what_was_not_claimed_and_keeps_what_was() {
    let scene = scene();
    let (one, other) = (scene.window("40000-40003"), scene.window("41000"));
    scene.world.change(|it| {
        it.done.clear();
        it.blocks = range("41000").into();
    });
    let next = scene.next_keeper();
    let done = ["close 40000-40003", "take out 40000-40003", "close 41000"];
    assert_eq!(scene.world.done(), done);
    assert_eq!(next.counts(), (0, 1));
    scene.world.change(|it| it.blocks = RangeSet::new());
    next.sweep();
    assert_eq!(scene.world.made_grantable().unwrap(), RangeSet::new());
    drop((one, other));
}

#[test]
fn what_the_kernel_would_not_grant_is_refused_before_anything_is_looked_at() {
    let scene = scene();
    let large = exactly("1000-2024");
    scene.world.change(|it| it.in_use = range("2024").into());
    let Err(refused) = scene.acquire(&large) else {
        panic!("1025 ports were granted");
    };
    assert_eq!(refused.refusal(), Some(Refusal::UidLimit));
    let administrator = Applicant {
        is_administrator: true,
        ..applicant(0)
    };
    let Err(refused) = scene.grants.acquire(administrator, &large, |_| Woken::Gone) else {
        panic!("a port that is in use was granted");
    };
    assert_eq!(refused.refusal(), Some(Refusal::InUse));
    let both = Request {
        transports: Transports::Both,
        ..exactly("1000-1512")
    };
    assert!(scene.acquire(&both).is_err());
    assert!(scene.acquire(&exactly("1000-2023")).is_ok());
}

/// Outside the ephemeral range nothing is entered for those that wait, and they are as many.
#[test]
fn one_user_has_only_so_many_requests_that_wait_whatever_the_ports() {
    let scene = scene();
    scene.world.change(|it| it.in_use = range("5000").into());
    let wait = Request {
        wait: Duration::from_secs(3600),
        ..exactly("5000")
    };
    // Each asks for the next one while it waits itself.
    fn depth(scene: &Scene, wait: &Request, applicant: Applicant, level: usize) -> (usize, Fault) {
        let mut deepest = None;
        let answer = scene.grants.acquire(applicant, wait, |_| {
            if level < 20 {
                deepest = Some(depth(scene, wait, applicant, level + 1));
            }
            Woken::Gone
        });
        let Err(fault) = answer else {
            panic!("a port that is in use was granted");
        };
        deepest.unwrap_or((level, fault))
    }
    let (level, fault) = depth(&scene, &wait, applicant(1000), 0);
    assert_eq!(level, 8);
    assert!(matches!(fault, Fault::TooMany(_)), "{fault}");
    // Their places are free again, and an administrator's are not counted.
    assert_eq!(depth(&scene, &wait, applicant(1000), 0).0, 8);
    let administrator = Applicant {
        is_administrator: true,
        ..applicant(1001)
    };
    assert_eq!(depth(&scene, &wait, administrator, 0).0, 20);
}

/// What is not claimed costs nothing but the look at all sockets.
#[test]
fn one_user_has_the_sockets_looked_at_only_so_often() {
    let scene = scene();
    for _ in 0..GRANTS_AT_ONCE_PER_UID {
        drop(scene.window("40000"));
    }
    scene.world.done();
    let spent = scene.acquire(&exactly("40000")).err().unwrap();
    assert!(matches!(spent, Fault::TooMany(_)), "{spent}");
    assert!(spent.to_string().contains("uid 1000"), "{spent}");
    assert!(scene.world.done().is_empty());
    assert_eq!(scene.grants.counts(), (0, 0));
    // What needs no look is not counted, and neither are others.
    assert!(scene.acquire(&exactly("8080")).is_ok());
    let others = |applicant| {
        let answer = scene
            .grants
            .acquire(applicant, &exactly("40000"), |_| Woken::Gone);
        assert!(matches!(answer, Ok(Granted::Window(_))));
    };
    others(applicant(1001));
    let administrator = Applicant {
        is_administrator: true,
        ..applicant(1002)
    };
    (0..=GRANTS_AT_ONCE_PER_UID).for_each(|_| others(administrator));
    // It comes back with time, one by one, and who waits waits for it.
    let refill = u64::try_from(GRANT_REFILL_TIME.as_nanos()).unwrap();
    scene.world.change(|it| it.now += refill);
    drop(scene.window("40000"));
    assert!(scene.acquire(&exactly("40000")).is_err());
    let patient = Request {
        wait: Duration::from_secs(60),
        ..exactly("40000")
    };
    let mut pauses = 0;
    let granted = scene.grants.acquire(applicant(1000), &patient, |_| {
        pauses += 1;
        scene.world.change(|it| it.now += refill / 2);
        Woken::Again
    });
    assert!(matches!(granted, Ok(Granted::Window(_))));
    assert_eq!(pauses, 2);
}

#[test]
fn a_keeper_that_stops_takes_out_what_has_ended_and_keeps_what_lives() {
    let scene = scene();
    let held = [scene.window("40000-40003"), scene.window("41000")];
    scene.world.change(|it| {
        it.blocks = "40000-40003,41000".parse().unwrap();
    });
    drop(held);
    assert_eq!(scene.grants.counts(), (0, 2));
    scene.world.change(|it| it.blocks = range("41000").into());
    scene.grants.close();
    assert_eq!(scene.world.made_grantable().unwrap(), range("41000").into());
}

#[test]
fn ports_that_nobody_noted_go_back_or_stay_with_their_block() {
    let scene = scene();
    scene.world.change(|it| {
        it.entries = "40000-40003,41000-41003".parse().unwrap();
        it.blocks = range("41000-41003").into();
    });
    std::fs::write(scene.folder.path().join("grants"), "torn").unwrap();
    let next = scene.next_keeper();
    assert_eq!(scene.world.done(), ["take out 40000-40003"]);
    assert_eq!(next.counts(), (0, 1));
}

#[test]
fn ports_that_cannot_be_given_back_now_are_given_back_later() {
    let scene = scene();
    let held = scene.window("40000");
    scene
        .world
        .is_broken
        .store(true, std::sync::atomic::Ordering::Relaxed);
    drop(held);
    assert_eq!(scene.grants.counts(), (0, 1));
    scene
        .world
        .is_broken
        .store(false, std::sync::atomic::Ordering::Relaxed);
    scene.grants.sweep();
    assert_eq!(scene.grants.counts(), (0, 0));
    assert_eq!(scene.world.done().last().unwrap(), "take out 40000");
}
