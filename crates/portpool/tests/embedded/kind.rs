//! Which kind of pool is opened, and why.

use std::process::Command;

use portpool::{OpenError, Pool, PoolKind};

use crate::kit::{Other, command, pool, role, tell};

#[test]
fn the_environment_chooses_the_pool_unless_the_program_does() {
    let test = "kind::the_environment_chooses_the_pool_unless_the_program_does";
    match role().as_deref() {
        Some("open") => {
            return match Pool::open() {
                Ok(pool) => tell(format!("{}: {}", pool.kind(), pool.choice().reason)),
                Err(error) => tell(error),
            };
        }
        Some(_) => return tell(pool().choice().reason),
        None => {}
    }
    let answer = |value: &str, role: &str| {
        let mut again: Command = command(test, role);
        let mut other = Other::spawn({
            again.env("PORTPOOL_POOL", value);
            again
        });
        let answer = other.hear();
        other.finish();
        answer
    };
    assert_eq!(
        answer("embedded", "open"),
        "embedded: PORTPOOL_POOL asks for it"
    );
    assert_eq!(
        answer("both", "open"),
        "PORTPOOL_POOL is \"both\": set it to kernel, embedded or auto"
    );
    assert_eq!(answer("both", "builder"), "the program asked for it");
    assert_eq!(answer("auto", "open"), answer("", "open"));
}

#[test]
fn without_a_kernel_pool_the_embedded_one_is_opened_and_says_why() {
    let kernel = Pool::builder().kind(PoolKind::Kernel).open();
    let automatic = Pool::builder().kind(PoolKind::Automatic).open();
    let automatic = automatic.expect("open");
    match kernel {
        Ok(_) => assert_eq!(automatic.kind(), PoolKind::Kernel),
        Err(OpenError::NotAttached) => {
            assert_eq!(automatic.kind(), PoolKind::Embedded);
            let reason = automatic.choice().reason;
            assert!(reason.starts_with("no pool is attached"), "{reason}");
        }
        Err(error) => panic!("{error}"),
    }
}
