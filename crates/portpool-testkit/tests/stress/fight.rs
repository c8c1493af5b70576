//! Sixty-four processes, some of them killed at any moment.

use std::{
    fs,
    os::unix::{fs::PermissionsExt, process::CommandExt},
    path::Path,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use portpool_testkit::{Actor, Census, Chance, Size, in_arena};

use crate::checker::check;

const FIGHTERS: u32 = 64;
const FIRST: u16 = 20_000;
const PORTS: u16 = 512;

#[test]
fn no_port_ever_has_two_owners_and_none_is_lost() {
    in_arena!(|arena| {
        let seed = Chance::seed();
        println!("seed {seed}");
        let mut chance = Chance::new(seed);
        let place = arena.run().path().parent().expect("parent").join("fight");
        let mut left = Size::fight_time();
        // Logs are checked and thrown away a minute at a time.
        while !left.is_zero() {
            let time = left.min(Duration::from_secs(60));
            left -= time;
            let totals = fight(&place, &mut chance, time);
            let tenures = check(&place.join("logs"));
            println!("{totals}, {tenures} tenures checked");
            assert!(tenures > 1_000, "hardly a fight");
            fs::remove_dir_all(&place).expect("remove the logs");
            Census::await_nothing(arena);
        }
        let mut user = Actor::start(env!("CARGO_BIN_EXE_portpool-actor"));
        user.ask_all(&["socket o tcp4", &format!("acquire o {FIRST} {PORTS} 7")])
            .expect("the pool still grants");
    });
}

/// Has them fight, and kills and replaces one at a time. What the survivors and the killer report.
fn fight(place: &Path, chance: &mut Chance, time: Duration) -> String {
    for directory in [place.to_owned(), place.join("logs"), place.join("mail")] {
        fs::create_dir(&directory).expect("mkdir");
        fs::set_permissions(&directory, fs::Permissions::from_mode(0o777)).expect("chmod");
    }
    let end = Instant::now() + time;
    let mut killed = 0;
    let mut log = 0;
    let mut start = |number: u32, chance: &mut Chance| {
        log += 1;
        start(place, number, log, chance, end)
    };
    let mut fighters: Vec<Child> = (0..FIGHTERS).map(|number| start(number, chance)).collect();
    while end.saturating_duration_since(Instant::now()) > Duration::from_millis(500) {
        #[expect(clippy::disallowed_methods, reason = "lets them fight for a while")]
        thread::sleep(Duration::from_millis(u64::from(chance.below(100))));
        let number = chance.below(FIGHTERS);
        let fighter = &mut fighters[number as usize];
        fighter.kill().expect("kill");
        fighter.wait().expect("wait");
        *fighter = start(number, chance);
        killed += 1;
    }
    let mut totals = [0u64; 4];
    for fighter in fighters {
        let output = fighter.wait_with_output().expect("wait");
        assert!(
            output.status.success(),
            "a fighter failed: {}",
            output.status
        );
        let report = String::from_utf8_lossy(&output.stdout).into_owned();
        let numbers = report
            .split_whitespace()
            .map(|word| word.parse::<u64>().expect("a number"));
        totals
            .iter_mut()
            .zip(numbers)
            .for_each(|(total, number)| *total += number);
    }
    let [operations, got, bound, conflicts] = totals;
    format!(
        "{operations} operations of survivors: {got} blocks, {bound} binds, {conflicts} refusals; {killed} killed"
    )
}

fn start(place: &Path, number: u32, log: u32, chance: &mut Chance, end: Instant) -> Child {
    let left = end.saturating_duration_since(Instant::now()).as_millis();
    let seed = chance.number() >> 1;
    let mut command = Command::new(env!("CARGO_BIN_EXE_portpool-fighter"));
    command
        .args(
            [
                seed,
                u64::from(number),
                u64::from(FIGHTERS),
                u64::from(FIRST),
                u64::from(PORTS),
            ]
            .map(|n| n.to_string()),
        )
        .arg(left.to_string())
        .arg(place.join(format!("logs/{log}")))
        .arg(place.join("mail"))
        .stdout(Stdio::piped());
    // A quarter has no privilege: its reservations are charged.
    if number.is_multiple_of(4) {
        command.uid(60_000 + number % 16).gid(60_000);
    }
    command.spawn().expect("start a fighter")
}
