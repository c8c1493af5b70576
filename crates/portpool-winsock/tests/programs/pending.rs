//! Operations that wait for the keeper.

use crate::toolchain::{GCC, c_source, succeed};

mod as_root {
    use portpool_testkit::{Size, in_arena};

    use super::*;
    use crate::keeper::with_keeper;

    fn run(part: &str) {
        // Optimised, as a program is that would spin for ever on what it read once.
        let options = ["-O2", "-Wall", "-Wextra", "-Werror"];
        let program = GCC.build(&c_source("pending.c"), &options);
        let rounds = Size::asked().pick(8, 400);
        let mut command = program.command();
        command.env("ROUND_COUNT", rounds.to_string());
        succeed(command.arg(part));
    }

    #[test]
    fn an_operation_that_asks_the_keeper_is_pending_until_it_answers() {
        in_arena!(|arena| with_keeper(arena, || run("event")));
    }

    #[test]
    fn a_routine_of_a_pending_operation_runs_on_its_thread_when_that_waits_alertably() {
        in_arena!(|arena| with_keeper(arena, || run("routine")));
    }

    #[test]
    fn what_cancels_a_pending_operation_leaves_nothing_reserved() {
        in_arena!(|arena| with_keeper(arena, || run("cancel")));
    }

    #[test]
    fn a_call_that_is_not_overlapped_blocks_whatever_the_socket_is_set_to() {
        in_arena!(|arena| with_keeper(arena, || run("synchronous")));
    }

    #[test]
    fn a_provider_keeps_a_copy_of_the_thread_id() {
        in_arena!(|arena| with_keeper(arena, || run("provider")));
    }

    #[test]
    fn sockets_close_under_pending_operations_of_many_threads() {
        in_arena!(|arena| with_keeper(arena, || run("stress")));
    }

    #[test]
    fn a_forked_child_has_no_pending_operations_and_leaves_its_parents_alone() {
        in_arena!(|arena| with_keeper(arena, || run("fork")));
    }

    #[test]
    fn a_program_that_spins_on_the_state_sees_the_operation_end() {
        in_arena!(|arena| with_keeper(arena, || run("spin")));
    }

    #[test]
    fn without_a_keeper_ports_of_automatic_choice_are_refused_at_once() {
        in_arena!(|_| run("nobody"));
    }
}
