//! What a program sees where there is no pool. With one attached, other tests have their say.

use portpool::{OpenError, Pool, PoolKind, Refusal};

#[test]
fn opening_without_a_pool_says_that_none_is_attached() {
    match Pool::builder().kind(PoolKind::Kernel).open() {
        Ok(pool) => eprintln!("skipped: namespace {} has a pool", pool.netns_cookie()),
        Err(error) => {
            assert!(matches!(error, OpenError::NotAttached), "{error}");
            assert_eq!(error.refusal(), Some(Refusal::NotAttached));
            assert!(error.to_string().contains("`portpool attach`"), "{error}");
        }
    }
}
