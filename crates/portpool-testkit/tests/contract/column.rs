//! Which pool a case runs against, and what each case expects of the embedded one.
//!
//! A case is written once. `case!` runs it in an arena with the kernel pool and, unless
//! the table says that it does not apply, in one without, through the library.

use std::{
    collections::BTreeSet,
    env,
    io::{self, Write},
    ops::Deref,
    process::Command,
    sync::LazyLock,
};

use portpool::{Pool, PoolKind};
use portpool_testkit::{Arena, Errno, for_each_pool, test_name};

/// Runs the body of the test function it stands in, for each pool, with that pool there.
macro_rules! case {
    ($body:expr) => {{
        fn here() {}
        $crate::column::run(std::any::type_name_of_val(&here), |stage| {
            stage.attach_if_kernel();
            let body: fn(&$crate::column::Stage<'_>) = $body;
            body(stage);
        })
    }};
}

/// Like `case!`, with no kernel pool attached yet.
macro_rules! bare_case {
    ($body:expr) => {{
        fn here() {}
        let body: fn(&$crate::column::Stage<'_>) = $body;
        $crate::column::run(std::any::type_name_of_val(&here), body)
    }};
}

/// What a case expects of the embedded pool.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Embedded {
    /// The same as of the kernel pool.
    Same,
    /// A stranger is refused with `EADDRINUSE` instead of `EACCES`, else the same.
    InUse,
    /// Something else, which the case says too.
    Differs(&'static str),
    /// Nothing, and why.
    Absent(&'static str),
}

/// The arena of a case.
pub(crate) struct Stage<'a>(&'a Arena);

impl Stage<'_> {
    /// The pool of this column.
    pub(crate) fn pool(&self) -> Pool {
        if is_embedded() {
            EMBEDDED.clone()
        } else {
            self.0.pool()
        }
    }

    /// Attaches the kernel pool if this is its column.
    pub(crate) fn attach_if_kernel(&self) {
        if !is_embedded() {
            self.0.attach();
        }
    }
}

impl Deref for Stage<'_> {
    type Target = Arena;

    fn deref(&self) -> &Arena {
        self.0
    }
}

/// Whether the case runs against the embedded pool.
pub(crate) fn is_embedded() -> bool {
    env::var("PORTPOOL_POOL").as_deref() == Ok("embedded")
}

/// What a bind of somebody without a right to the port is refused with.
pub(crate) fn reserved_errno() -> Errno {
    match is_embedded() {
        true => Errno::ADDRINUSE,
        false => Errno::ACCES,
    }
}

/// Runs a case in each column it has an expectation for.
pub(crate) fn run(test: &str, body: impl FnOnce(&Stage<'_>)) {
    let name = test_name(test);
    let row = COLUMNS.iter().find(|(case, _)| *case == name);
    let (_, expected) = row.unwrap_or_else(|| panic!("{name} is not in the table of columns"));
    let kinds: &[PoolKind] = match expected {
        Embedded::Absent(_) => &[PoolKind::Kernel],
        _ => &[PoolKind::Kernel, PoolKind::Embedded],
    };
    for_each_pool(test, kinds, |arena| body(&Stage(arena)));
}

impl Embedded {
    /// What is to be said of it in the documentation.
    fn sentence(self) -> Option<&'static str> {
        match self {
            Embedded::Same => None,
            Embedded::InUse => Some("same, a stranger gets EADDRINUSE instead of EACCES"),
            Embedded::Differs(sentence) | Embedded::Absent(sentence) => Some(sentence),
        }
    }
}

#[test]
fn the_documentation_names_every_difference_of_the_contract() {
    let section = include_str!("../../../../docs/embedded-pool.md");
    let section = section.split("### The contract in two columns").nth(1);
    let section = section.and_then(|it| it.split("\n## ").next());
    let lines = section.expect("a section on the contract").lines();
    let documented: BTreeSet<&str> = lines.filter_map(|it| it.strip_prefix("- ")).collect();
    let expected = COLUMNS.iter().filter_map(|(_, it)| it.sentence());
    assert_eq!(documented, expected.collect());
}

/// Prints the table, and sees to it that it has exactly the cases there are.
#[test]
fn each_case_says_what_it_expects_of_either_pool() {
    let listed = Command::new(env::current_exe().expect("own path"))
        .arg("--list")
        .output()
        .expect("list the tests");
    let listed = String::from_utf8(listed.stdout).expect("names");
    let mut cases: Vec<&str> = listed
        .lines()
        .filter_map(|line| line.strip_suffix(": test"))
        .filter(|name| !name.starts_with("column::"))
        .collect();
    cases.sort_unstable();
    let names: Vec<&str> = COLUMNS.iter().map(|(name, _)| *name).collect();
    assert_eq!(names, cases, "one row a case, in order");

    let mut table = String::new();
    for (name, expected) in COLUMNS {
        let prefix = match expected {
            Embedded::Absent(_) => "does not apply: ",
            _ => "",
        };
        let sentence = expected.sentence().unwrap_or("same");
        table.push_str(&format!("{name:<88}{prefix}{sentence}\n"));
    }
    // Past the capture of tests: this is a report.
    let mut out = io::stdout().lock();
    writeln!(
        out,
        "\nThe contract, and where the embedded pool's column differs:\n{table}"
    )
    .and_then(|()| out.flush())
    .expect("print the table");
}

pub(crate) static EMBEDDED: LazyLock<Pool> = LazyLock::new(|| {
    let pool = Pool::builder().kind(PoolKind::Embedded).open();
    pool.expect("open the embedded pool")
});

use Embedded::{Absent, Differs, InUse, Same};

const NO_ADMIN: Embedded = Absent(
    "it has no persistent blocks, exclusions, windows or lends, which are for all processes of the machine",
);
const NO_CODES: Embedded =
    Absent("only the kernel pool has control codes, the library's requests have no such values");
const NO_TREE: Embedded =
    Absent("scope tree is refused, unmodified programs get their ports from the supervisor");
const NO_MAPS: Embedded = Absent("it has no maps, and shows each user only their own");
const BY_RELEASE: Embedded =
    Differs("a reservation ends by its release, the end of its owner socket is not seen");
const NO_CONNECT: Embedded =
    Absent("connect(2) gets a port of the kernel's choice, Reservation::connect one of the block");

const COLUMNS: &[(&str, Embedded)] = &[
    ("acquire::a_block_has_ports_and_ends_at_65535", NO_CODES),
    ("acquire::a_block_is_granted_whole_or_not_at_all", Same),
    (
        "acquire::a_block_with_a_taken_port_is_refused_as_in_use",
        Same,
    ),
    (
        "acquire::a_specific_free_block_is_granted_as_asked",
        BY_RELEASE,
    ),
    (
        "acquire::a_wildcard_block_lies_within_the_ranges_of_the_pool",
        Same,
    ),
    ("acquire::a_wildcard_that_fits_nowhere_finds_no_room", Same),
    (
        "acquire::no_token_is_used_twice",
        Differs("the library draws the token"),
    ),
    (
        "acquire::one_socket_may_own_several_reservations",
        BY_RELEASE,
    ),
    (
        "acquire::only_plain_tcp_and_udp_sockets_take_control_codes",
        Same,
    ),
    ("acquire::reserving_needs_no_privilege", Same),
    ("acquire::tcp_and_udp_are_reserved_independently", InUse),
    ("associate::a_bound_socket_cannot_be_associated", Same),
    ("associate::a_malformed_token_is_refused", NO_CODES),
    (
        "associate::a_token_is_for_sockets_of_its_own_transport",
        Same,
    ),
    (
        "associate::an_associated_socket_binds_ports_of_its_block_and_no_others",
        Same,
    ),
    (
        "associate::an_association_does_not_go_with_the_socket",
        Differs(
            "elsewhere the socket is like any other: port 0 and connect get the kernel's choice, a port of the block EADDRINUSE",
        ),
    ),
    ("associate::an_unknown_token_is_invalid", Same),
    (
        "associate::associating_consumes_nothing_before_the_bind",
        Same,
    ),
    (
        "associate::binding_to_port_zero_takes_the_lowest_free_port_of_the_block",
        Same,
    ),
    (
        "associate::connecting_an_associated_socket_takes_a_port_of_the_block",
        NO_CONNECT,
    ),
    (
        "associate::only_the_process_that_acquired_may_associate",
        InUse,
    ),
    ("associate::the_last_association_counts", Same),
    (
        "associate::the_owner_socket_may_consume_its_own_block",
        InUse,
    ),
    ("associate::within_a_block_a_taken_port_is_in_use", Same),
    (
        "both::a_busy_port_of_one_transport_leaves_nothing_of_the_other",
        Same,
    ),
    (
        "both::a_wildcard_of_both_finds_the_numbers_free_in_both",
        Same,
    ),
    ("both::both_transports_get_the_same_numbers", InUse),
    ("consume::a_bound_socket_can_be_handed_to_a_child", InUse),
    (
        "consume::a_listener_takes_over_a_port_with_connections_of_a_past_one",
        Same,
    ),
    (
        "consume::a_raw_sendto_or_listen_of_an_associated_socket_gets_a_port_nobody_reserved",
        Same,
    ),
    (
        "consume::a_socket_that_cannot_come_from_the_block_says_why",
        Same,
    ),
    (
        "consume::connect_send_to_and_listen_bind_within_the_block_first",
        Same,
    ),
    (
        "consume::dropping_or_releasing_a_reservation_frees_its_ports",
        InUse,
    ),
    (
        "consume::listeners_and_datagram_sockets_come_from_the_block",
        Same,
    ),
    (
        "errno::every_refusal_answers_with_the_errno_of_the_table",
        NO_CODES,
    ),
    (
        "errno::privileged_ports_need_the_capability_in_the_namespace_of_the_pool",
        Same,
    ),
    (
        "exclude::an_exclusion_outlives_attach_and_its_port_shows_it",
        NO_ADMIN,
    ),
    (
        "exclude::ending_an_exclusion_needs_every_port_of_it_and_gives_them_back",
        NO_ADMIN,
    ),
    (
        "exclude::excluded_ports_are_bound_as_ever_and_never_reserved",
        NO_ADMIN,
    ),
    (
        "exclude::what_is_in_use_or_reserved_is_not_excluded",
        NO_ADMIN,
    ),
    (
        "family::a_block_acquired_in_one_family_is_consumed_in_both",
        BY_RELEASE,
    ),
    (
        "family::a_block_is_reserved_in_both_families_at_once",
        InUse,
    ),
    (
        "family::a_dual_stack_socket_and_a_v6only_socket_use_up_their_port",
        Same,
    ),
    (
        "family::connecting_takes_a_port_of_the_block_in_both_families",
        NO_CONNECT,
    ),
    (
        "input::control_codes_without_a_pool_are_unknown_options",
        NO_CODES,
    ),
    ("input::each_field_of_a_request_is_checked", NO_CODES),
    (
        "input::malformed_control_codes_are_refused_and_leave_no_trace",
        NO_CODES,
    ),
    (
        "input::options_of_others_pass_through_whatever_their_length",
        NO_CODES,
    ),
    (
        "input::random_control_codes_grant_nothing_but_what_they_validly_ask",
        NO_CODES,
    ),
    (
        "lend::a_lend_lets_the_tree_bind_plainly_until_it_is_dropped",
        NO_ADMIN,
    ),
    (
        "lend::only_a_persistent_block_that_is_there_is_lent",
        NO_ADMIN,
    ),
    ("lend::only_who_may_consume_it_may_lend_it", NO_ADMIN),
    (
        "lend::several_lends_go_on_side_by_side_and_each_ends_by_itself",
        NO_ADMIN,
    ),
    (
        "lend::the_end_of_the_lender_is_the_end_of_the_lend",
        NO_ADMIN,
    ),
    ("persistent::a_malformed_request_changes_nothing", NO_ADMIN),
    (
        "persistent::a_persistent_block_is_made_found_and_deleted_by_exactly_its_ports",
        NO_ADMIN,
    ),
    (
        "persistent::a_restored_block_guards_ports_in_use_and_leaves_their_sockets_alone",
        NO_ADMIN,
    ),
    (
        "persistent::an_associated_socket_gives_no_right_to_whoever_is_handed_it",
        NO_ADMIN,
    ),
    (
        "persistent::attach_keeps_it_and_detach_tells_that_it_ends",
        NO_ADMIN,
    ),
    (
        "persistent::deleting_it_leaves_consumers_their_ports_and_makes_the_token_unknown",
        NO_ADMIN,
    ),
    ("persistent::it_is_charged_to_nobody_but_the_pool", NO_ADMIN),
    (
        "persistent::members_of_its_group_consume_it_and_others_do_not",
        NO_ADMIN,
    ),
    (
        "persistent::ports_of_automatic_choice_and_privileged_ones_follow_the_rules_of_acquire",
        NO_ADMIN,
    ),
    (
        "persistent::processes_with_the_privilege_consume_it_together",
        NO_ADMIN,
    ),
    ("persistent::release_and_close_do_not_end_it", NO_ADMIN),
    (
        "persistent::tokens_are_of_one_namespace_for_both_kinds",
        NO_ADMIN,
    ),
    (
        "persistent::what_is_taken_is_not_made_persistent_and_what_is_persistent_is_taken",
        NO_ADMIN,
    ),
    ("persistent::wildcard_blocks_pass_it_by", NO_ADMIN),
    (
        "persistent::without_the_privilege_it_is_neither_made_nor_deleted_nor_consumed_but_found",
        NO_ADMIN,
    ),
    (
        "plain::a_plain_bind_into_a_block_is_refused_with_eacces",
        InUse,
    ),
    ("plain::a_stranger_cannot_bind_a_reserved_port", InUse),
    ("plain::automatic_choice_never_gives_a_reserved_port", Same),
    ("plain::ports_beside_a_block_are_untouched", Same),
    (
        "plain::the_owner_process_itself_needs_an_association",
        InUse,
    ),
    (
        "release::a_block_is_free_at_the_last_close_of_its_owner_socket",
        Differs("it is free with its release or the end of the process, not with the owner socket"),
    ),
    (
        "release::a_block_is_released_on_any_socket_of_its_transport",
        InUse,
    ),
    ("release::a_block_is_released_once", Same),
    ("release::a_block_survives_the_end_of_a_child", InUse),
    (
        "release::a_closed_socket_ends_all_its_reservations",
        BY_RELEASE,
    ),
    (
        "release::an_association_with_a_released_block_finds_no_port",
        Differs(
            "connect(2) gets a port of the kernel's choice, binds find none as in the kernel pool",
        ),
    ),
    (
        "release::bound_sockets_keep_their_ports_after_a_release",
        Same,
    ),
    (
        "release::bound_sockets_keep_their_ports_after_the_end_of_the_owner_socket",
        BY_RELEASE,
    ),
    ("release::only_the_process_that_acquired_may_release", InUse),
    ("tree::a_descendant_of_another_uid_keeps_the_right", NO_TREE),
    ("tree::a_root_has_at_most_32_trees", NO_TREE),
    ("tree::a_root_is_named_by_its_pid_and_its_start", NO_TREE),
    ("tree::a_tree_is_64_generations_deep", NO_TREE),
    ("tree::an_ancestor_can_be_named_as_the_root", NO_TREE),
    (
        "tree::descendants_of_the_root_bind_plainly_and_strangers_do_not",
        NO_TREE,
    ),
    (
        "tree::only_an_ancestor_with_the_same_uids_and_user_namespace_can_be_the_root",
        NO_TREE,
    ),
    (
        "tree::port_zero_is_served_from_the_block_for_the_root_itself_only",
        NO_TREE,
    ),
    (
        "tree::port_zero_is_served_neither_for_udp_nor_without_a_tree",
        NO_TREE,
    ),
    ("tree::the_right_of_a_tree_ends_with_the_release", NO_TREE),
    (
        "unreadable::a_process_that_cannot_find_the_maps_reserves_all_the_same",
        NO_MAPS,
    ),
    (
        "unreadable::a_process_that_may_not_read_the_maps_reserves_all_the_same",
        NO_MAPS,
    ),
    ("unreadable::everybody_may_look", NO_MAPS),
    (
        "wildcard::a_port_that_automatic_choice_could_pick_is_refused",
        Differs("it is granted if asked for exactly"),
    ),
    (
        "wildcard::a_wildcard_avoids_recently_used_ports_while_there_are_others",
        Differs("recently used are those that this process released"),
    ),
    (
        "wildcard::a_wildcard_avoids_the_ports_that_services_are_named_for",
        Differs("not if they are within what was asked"),
    ),
    (
        "wildcard::a_wildcard_block_is_aligned_and_within_what_was_asked",
        Differs("every port can be within what is asked, ephemeral ones too"),
    ),
    (
        "wildcard::a_wildcard_finds_the_last_free_block_of_a_fragmented_pool",
        Same,
    ),
    (
        "wildcard::a_wildcard_gives_no_privileged_port_unasked",
        Absent("its own ranges are fixed and have no privileged ports"),
    ),
    (
        "wildcard::a_wildcard_succeeds_whatever_the_range_of_automatic_choice",
        Differs(
            "where every port of its ranges is ephemeral it says so, and gives them if asked for",
        ),
    ),
    (
        "wildcard::attach_and_detach_leave_the_reserved_ports_of_others_alone",
        Absent("nothing is attached"),
    ),
    ("window::a_window_does_not_stand_in_for_the_sweep", NO_ADMIN),
    (
        "window::a_window_does_not_stand_in_for_the_sysctl",
        NO_ADMIN,
    ),
    ("window::a_window_ends_with_the_pool", NO_ADMIN),
    (
        "window::a_window_is_for_the_process_that_started_then_and_its_user_now",
        NO_ADMIN,
    ),
    (
        "window::a_window_is_opened_for_a_process_in_a_pid_namespace_below",
        NO_ADMIN,
    ),
    ("window::a_window_that_has_closed_grants_nothing", NO_ADMIN),
    ("window::nobody_else_gets_through_a_window", NO_ADMIN),
    ("window::only_the_administrator_opens_a_window", NO_ADMIN),
    (
        "window::the_process_of_a_window_claims_exactly_its_block_once",
        NO_ADMIN,
    ),
    (
        "window::windows_are_bounded_and_closed_ones_make_room",
        NO_ADMIN,
    ),
];
