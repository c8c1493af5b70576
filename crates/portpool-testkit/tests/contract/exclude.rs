//! Exclusions: section 7 of the specification, its cases 16 and 61.

use portpool::{AdminError, Pool, Refusal, Scope, Transport};

use crate::kit::{
    any, associated, attach_ranges, bind_port, connect, exactly, grant, peer, range, refusal, tcp,
    udp,
};

/// Cases 16 and 61, what the kernel decides of them.
#[test]
fn excluded_ports_are_bound_as_ever_and_never_reserved() {
    bare_case!(|arena| {
        let pool = attach_ranges(arena, "20000-20009");
        exclude(&pool, Transport::Tcp, "20002-20009");
        for _ in 0..2 {
            let plain = tcp();
            bind_port(&plain, 20_003).expect("an explicit bind");
            plain.listen(1).expect("listen");
            connect(&tcp(), 20_003).expect("connect");
        }
        let owner = tcp();
        for overlapping in ["20002", "20009-20010", "20001-20002", "20000-20009"] {
            let want = exactly(overlapping);
            assert_eq!(
                refusal(&pool, &owner, &want),
                Refusal::InUse,
                "{overlapping}"
            );
            let token = pool.new_persistent_token().expect("token");
            let persist = pool.install_persistent(Transport::Tcp, range(overlapping), token, None);
            assert_eq!(refused(persist), Refusal::InUse, "{overlapping}");
            let restore = pool.restore_persistent(Transport::Tcp, range(overlapping), token, None);
            assert_eq!(refused(restore), Refusal::InUse, "{overlapping}");
        }
        // The two ports left are what wildcards find.
        for _ in 0..2 {
            let block = pool.acquire_on(&owner, &any(1), Scope::Associated);
            assert!(block.expect("acquire").range.first().number() < 20_002);
        }
        assert_eq!(refusal(&pool, &owner, &any(1)), Refusal::NoRoom);
        let other = udp();
        grant(&pool, &other, "20000-20009");
    });
}

#[test]
fn what_is_in_use_or_reserved_is_not_excluded() {
    bare_case!(|arena| {
        let pool = attach_ranges(arena, "20000-20999");
        let bound = tcp();
        bind_port(&bound, 20_100).expect("bind");
        let try_exclude = |ports: &str| refused(pool.exclude(Transport::Tcp, range(ports)));
        assert_eq!(try_exclude("20000-20100"), Refusal::InUse);
        let owner = tcp();
        let block = grant(&pool, &owner, "20200-20203");
        assert_eq!(try_exclude("20203-20300"), Refusal::InUse);
        exclude(
            &pool,
            Transport::Tcp,
            "20201-20299".replace("20201", "20204").as_str(),
        );
        // Nor what is excluded, wholly or in part, and what was refused left nothing.
        for again in ["20204-20299", "20299-20400", "20210", "20000-20999"] {
            assert_eq!(try_exclude(again), Refusal::InUse, "{again}");
        }
        let excluded = pool.excluded(Transport::Tcp).expect("look");
        assert_eq!(excluded.to_string(), "20204-20299");
        // On record, it is put back whoever uses it, but over no reservation.
        let restored = pool.restore_exclusion(Transport::Tcp, range("20000-20100"));
        restored.expect("restore over a bound port");
        let restored = pool.restore_exclusion(Transport::Tcp, range("20203"));
        assert_eq!(refused(restored), Refusal::InUse);
        let consumer = associated(&pool, "tcp4", block.token);
        assert_eq!(bind_port(&consumer, 0), Ok(20_200));
    });
}

#[test]
fn ending_an_exclusion_needs_every_port_of_it_and_gives_them_back() {
    bare_case!(|arena| {
        let pool = attach_ranges(arena, "20000-20999");
        exclude(&pool, Transport::Tcp, "20000-20009");
        exclude(&pool, Transport::Tcp, "20010-20200");
        let end = |ports: &str| pool.unexclude(Transport::Tcp, range(ports));
        assert_eq!(refused(end("20000-20201")), Refusal::NoSuchBlock);
        assert_eq!(refused(end("19999-20000")), Refusal::NoSuchBlock);
        let other = pool.unexclude(Transport::Udp, range("20000-20009"));
        assert_eq!(refused(other), Refusal::NoSuchBlock);
        end("20005-20014").expect("across two of them");
        let excluded = pool.excluded(Transport::Tcp).expect("look");
        assert_eq!(excluded.to_string(), "20000-20004,20015-20200");
        grant(&pool, &tcp(), "20005-20014");
        assert_eq!(refused(end("20000-20014")), Refusal::NoSuchBlock);
        end("20000-20004").expect("the rest");
        end("20015-20200").expect("the rest");
        assert!(pool.excluded(Transport::Tcp).expect("look").is_empty());
        let port = portpool::Port::new(20_000).expect("a port");
        assert!(!pool.port(Transport::Tcp, port).expect("look").excluded);
    });
}

/// Automatic choice is for the sysctl to keep away: an exclusion neither helps nor hinders it.
#[test]
fn an_exclusion_outlives_attach_and_its_port_shows_it() {
    bare_case!(|arena| {
        let pool = attach_ranges(arena, "20000-20999");
        exclude(&pool, Transport::Udp, "20000-20009");
        arena.attach();
        let (_listener, port) = peer();
        connect(&tcp(), port).expect("connect");
        let number = portpool::Port::new(20_003).expect("a port");
        assert!(pool.port(Transport::Udp, number).expect("look").excluded);
        assert!(!pool.port(Transport::Tcp, number).expect("look").excluded);
        assert_eq!(refusal(&pool, &udp(), &exactly("20003")), Refusal::InUse);
    });
}

fn exclude(pool: &Pool, transport: Transport, ports: &str) {
    pool.exclude(transport, range(ports))
        .unwrap_or_else(|error| panic!("{error}"));
}

fn refused(answer: Result<(), AdminError>) -> Refusal {
    let error = answer.expect_err("granted");
    error
        .refusal()
        .unwrap_or_else(|| panic!("failed, not refused: {error}"))
}
