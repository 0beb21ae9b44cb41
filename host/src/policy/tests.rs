//! The room as a whole, against plugins that misbehave.

use std::sync::Arc;

use proptest::prelude::*;

use super::answer::Answer;
use super::bindings::exports::twohop::policy::router::Outcome;
use super::fixtures::{Guest, change, engine, load, named, orders, refusal, table};
use super::*;
use crate::event::{Change, Operation, Retention, Rows, Value};
use crate::limits::{
    BATCH_BYTES_MAX, BATCH_COUNT_MAX, PAYLOAD_BYTES_MAX, PLUGIN_BYTES_MAX, PLUGIN_MEMORY_BYTES_MAX,
    ROUTES_PER_CHANGE_MAX,
};

fn inserts(names: impl IntoIterator<Item = impl AsRef<str>>) -> Vec<Change> {
    let table = orders();
    names.into_iter().map(|name| named(&table, name.as_ref())).collect()
}

/// The channels of the routes with the indexes of their changes.
fn channels(evaluation: &Evaluation) -> Vec<(usize, &str)> {
    evaluation
        .routes
        .iter()
        .map(|directed| match &directed.route {
            Route::Channel { channel, .. } => (directed.change, channel.as_str()),
        })
        .collect()
}

fn causes(evaluation: &Evaluation) -> Vec<(usize, String)> {
    evaluation.rejected.iter().map(|rejection| (rejection.change, rejection.cause.to_string())).collect()
}

mod judging {
    use super::*;

    #[test]
    fn every_change_goes_where_the_plugin_says() {
        let mut policy = Guest::default().policy();
        let evaluation = policy.evaluate(&inserts(["a", "b", "a"]));
        assert_eq!(channels(&evaluation), [(0, "a"), (1, "b"), (2, "a")]);
        assert_eq!(evaluation.rejected, []);
        assert_eq!(evaluation.faults_count, 0);
        let Route::Channel { event, payload, retention, .. } = &evaluation.routes[0].route;
        assert_eq!((&**event, payload, *retention), ("", &Payload::Row, Retention::Kept));
    }

    #[test]
    fn changes_that_nobody_subscribed_to_never_reach_a_plugin() {
        let mut policy = Guest::subscribed("orders", &[Operation::Insert as u8], &["name"]).policy();
        let other = table("public", "customers", &[("name", true)]);
        let mut changes = inserts(["a", "b"]);
        changes.insert(1, named(&other, "T would trap"));
        changes.push(change(&orders(), Operation::Delete, Rows::Old, &[Value::Text("T would trap")]));
        let evaluation = policy.evaluate(&changes);
        assert_eq!(channels(&evaluation), [(0, "a"), (2, "b")]);
        assert_eq!(evaluation.faults_count, 0);
        assert_eq!(policy.evaluate(&[]), Evaluation::default());
    }

    #[test]
    fn more_changes_than_a_call_takes_are_handed_over_in_several() {
        let mut policy = Guest::default().policy();
        let names: Vec<_> = (0..2 * BATCH_COUNT_MAX + 7).map(|number| format!("c{number}")).collect();
        let evaluation = policy.evaluate(&inserts(&names));
        let expected: Vec<_> = names.iter().map(String::as_str).enumerate().collect();
        assert_eq!(channels(&evaluation), expected);
    }

    #[test]
    fn a_change_too_large_for_a_call_is_set_aside_and_its_neighbors_pass() {
        let mut policy = Guest::subscribed("*", &[], &["name", "body"]).policy();
        let table = table("public", "orders", &[("name", true), ("body", false)]);
        let huge = "x".repeat(BATCH_BYTES_MAX + 1);
        let third = "x".repeat(BATCH_BYTES_MAX / 3);
        let bodies = ["", &huge, &third, &third, &third, ""];
        let change =
            |body| change(&table, Operation::Insert, Rows::New, &[Value::Text("c"), Value::Text(body)]);
        let changes: Vec<_> = bodies.into_iter().map(change).collect();
        let evaluation = policy.evaluate(&changes);
        assert_eq!(channels(&evaluation), [(0, "c"), (2, "c"), (3, "c"), (4, "c"), (5, "c")]);
        assert_eq!(evaluation.rejected.len(), 1);
        let Rejection { change, cause, .. } = &evaluation.rejected[0];
        assert_eq!(*change, 1);
        assert!(matches!(cause, Cause::Fault(Fault::ChangeTooLarge(bytes)) if *bytes > BATCH_BYTES_MAX));
    }

    #[test]
    fn routes_of_several_plugins_come_by_change_and_then_by_plugin() {
        let wasm = Guest::default().component();
        let only_b = Guest::subscribed("b", &[], &["name"]).component();
        let mut policy = load(&[("first", &wasm), ("b", &only_b), ("last", &wasm)]).expect("all are plugins");
        let (a, b) = (table("s", "a", &[("name", true)]), table("s", "b", &[("name", true)]));
        let evaluation = policy.evaluate(&[named(&a, "x"), named(&b, "R no"), named(&b, "y")]);
        let order: Vec<_> =
            evaluation.routes.iter().map(|directed| (directed.change, directed.plugin)).collect();
        assert_eq!(order, [(0, 0), (0, 2), (2, 0), (2, 1), (2, 2)]);
        let rejected: Vec<_> =
            evaluation.rejected.iter().map(|rejection| (rejection.change, &*rejection.name)).collect();
        assert_eq!(rejected, [(1, "first"), (1, "b"), (1, "last")]);
    }

    #[test]
    fn a_rejection_is_a_dead_letter_with_the_plugins_reason() {
        let mut policy = Guest::default().policy();
        let evaluation = policy.evaluate(&inserts(["a", "R: no\nsuch order", "b"]));
        assert_eq!(channels(&evaluation), [(0, "a"), (2, "b")]);
        assert_eq!(causes(&evaluation), [(1, "rejected: R: no\\nsuch order".to_owned())]);
        assert_eq!(evaluation.faults_count, 0);
    }

    #[test]
    fn the_same_changes_give_the_same_evaluation() {
        let changes = inserts((0..300).map(|n| if n % 50 == 7 { format!("T{n}") } else { format!("c{n}") }));
        let mut policy = Guest::default().policy();
        let first = policy.evaluate(&changes);
        assert_eq!(first, policy.evaluate(&changes));
        assert_eq!(first, Guest::default().policy().evaluate(&changes));
    }
}

mod faults {
    use super::*;

    /// One change that hurts, alone: its cause.
    fn cause_of(name: &str) -> String {
        let mut policy = Guest::default().policy();
        let evaluation = policy.evaluate(&inserts([name]));
        assert_eq!(evaluation.routes, []);
        assert_eq!(evaluation.faults_count, 2, "it is tried twice");
        let after = policy.evaluate(&inserts(["a"]));
        assert_eq!(channels(&after), [(0, "a")], "a new instance goes on");
        causes(&evaluation).pop().expect("it is rejected").1
    }

    #[test]
    fn a_trap_on_one_of_256_changes_is_found_and_the_rest_stands() {
        for hurting in [0, 1, 100, 255] {
            let name = |number| if number == hurting { "T".to_owned() } else { format!("c{number}") };
            let names: Vec<_> = (0..256).map(name).collect();
            let evaluation = Guest::default().policy().evaluate(&inserts(&names));
            let expected: Vec<_> = names
                .iter()
                .map(String::as_str)
                .enumerate()
                .filter(|(number, _)| *number != hurting)
                .collect();
            assert_eq!(channels(&evaluation), expected);
            let trap = "wasm trap: wasm `unreachable` instruction executed";
            assert_eq!(causes(&evaluation), [(hurting, trap.to_owned())]);
            // Twice all of them, then one half of each halving: 128, 64, ... 1.
            assert_eq!(evaluation.faults_count, 2 + 8);
        }
    }

    #[test]
    fn several_changes_that_hurt_are_all_found() {
        let names = ["T", "a", "U", "b", "c", "K", "T", "R no", "d"];
        let evaluation = Guest::default().policy().evaluate(&inserts(names));
        assert_eq!(channels(&evaluation), [(1, "a"), (3, "b"), (4, "c"), (8, "d")]);
        let rejected: Vec<_> = evaluation.rejected.iter().map(|rejection| rejection.change).collect();
        assert_eq!(rejected, [0, 2, 5, 6, 7]);
    }

    #[test]
    fn an_endless_loop_is_stopped() {
        assert_eq!(cause_of("L"), "ran longer than 1000 ms");
    }

    #[test]
    fn a_hungry_plugin_is_stopped() {
        let cause = cause_of("M");
        assert!(cause.starts_with("asked for "), "{cause}");
        assert!(
            cause.ends_with(&format!(" bytes of memory, at most {PLUGIN_MEMORY_BYTES_MAX} are allowed")),
            "{cause}"
        );
    }

    #[test]
    fn deep_recursion_is_a_trap() {
        assert_eq!(cause_of("D"), "wasm trap: call stack exhausted");
    }

    #[test]
    fn what_a_plugin_said_before_it_trapped_is_in_the_cause() {
        assert_eq!(
            cause_of("P"),
            "wasm trap: wasm `unreachable` instruction executed; it said: a policy was hurt\\n by this"
        );
    }

    #[test]
    fn a_huge_answer_is_not_taken() {
        let cause = cause_of("H");
        assert!(cause.contains("fuel allocated for hostcalls has been exhausted"), "{cause}");
    }

    #[test]
    fn an_answer_that_leaves_the_memory_is_not_taken() {
        let cause = cause_of("O");
        assert!(cause.contains("out of bounds"), "{cause}");
    }

    #[test]
    fn an_answer_of_another_shape_is_a_fault() {
        assert_eq!(cause_of("U"), "answered wrongly: route 0 is of the unknown kind 99");
        assert_eq!(cause_of("K"), "answered wrongly: the list `kinds` has 256 entries instead of 1");
    }

    #[test]
    fn a_flood_of_log_lines_hurts_nobody() {
        let evaluation = Guest::default().policy().evaluate(&inserts(["F"]));
        assert_eq!(channels(&evaluation), [(0, "F")]);
    }

    #[test]
    fn a_plugin_whose_memory_went_bad_starts_afresh_and_nothing_is_set_aside() {
        let mut policy = Guest::default().policy();
        assert_eq!(channels(&policy.evaluate(&inserts(["Q"]))), [(0, "Q")]);
        let evaluation = policy.evaluate(&inserts(["a"]));
        assert_eq!(channels(&evaluation), [(0, "a")]);
        assert_eq!(evaluation.rejected, []);
        assert_eq!(evaluation.faults_count, 1);
    }

    #[test]
    fn a_bad_neighbor_harms_only_itself() {
        let wasm = Guest::default().component();
        let mut policy = load(&[("a", &wasm), ("b", &wasm)]).expect("both are plugins");
        let evaluation = policy.evaluate(&inserts(["Q", "x"]));
        assert_eq!(evaluation.routes.len(), 4);
        let evaluation = policy.evaluate(&inserts(["y"]));
        assert_eq!(channels(&evaluation), [(0, "y"), (0, "y")]);
        assert_eq!(evaluation.faults_count, 2, "each has a memory of its own");
    }
}

mod loading {
    use super::*;

    #[test]
    fn what_is_no_component_is_refused_with_what_to_do() {
        insta::assert_snapshot!(refusal(b"(module)"), @"");
        insta::assert_snapshot!(refusal(b""), @"");
        insta::assert_snapshot!(refusal(&Guest::default().module()), @"");
        insta::assert_snapshot!(refusal(&vec![0; PLUGIN_BYTES_MAX + 1]), @"");
        insta::assert_snapshot!(refusal(b"\0asm\x0d\0\x01\0"), @"");
    }

    #[test]
    fn a_file_that_is_not_there_is_named() {
        let source =
            PluginSource { name: "gone".into(), path: "/nowhere/gone.wasm".into(), settings: [].into() };
        let folder = tempfile::tempdir().expect("there is a temporary folder");
        let error = Policy::load(engine(), vec![source], folder.path(), Path::new("/nowhere/twohop"));
        insta::assert_snapshot!(error.expect_err("it is not there"), @"");
    }

    #[test]
    fn a_component_that_is_not_valid_does_not_compile() {
        let wasm = Guest::default().component();
        let cut = &wasm[..wasm.len() - 10];
        let error = super::super::compile::precompile(cut).expect_err("it is cut").to_string();
        assert!(error.starts_with("does not compile: "), "{error}");
    }

    const WITH_CLOCK: &str = "import wasi:clocks/wall-clock@0.2.0; import twohop:policy/log@1.0.0; \
                              export twohop:policy/plugin@1.0.0; export twohop:policy/router@1.0.0;";
    const READS_CLOCK: (&str, &str) = (
        "(memory (export \"memory\") 100)",
        "(import \"wasi:clocks/wall-clock@0.2.0\" \"now\" (func (result i64))) (memory (export \"memory\") 100)",
    );

    #[test]
    fn a_component_that_wants_wasi_is_refused() {
        let guest = Guest { world: WITH_CLOCK, replaced: &[READS_CLOCK], ..Guest::default() };
        insta::assert_snapshot!(guest.refusal(), @"");
    }

    #[test]
    fn a_component_that_wants_what_is_not_there_is_refused() {
        let replaced = &[READS_CLOCK, ("wasi:clocks", "acme:clocks")];
        let guest = Guest { world: WITH_CLOCK, replaced, ..Guest::default() };
        insta::assert_snapshot!(guest.refusal(), @"");
    }

    #[test]
    fn a_component_of_another_major_version_is_refused() {
        let guest = Guest { replaced: &[("@1.0.0", "@2.1.0")], ..Guest::default() };
        insta::assert_snapshot!(guest.refusal(), @"");
    }

    #[test]
    fn a_component_of_a_later_minor_version_is_a_plugin() {
        let guest = Guest { replaced: &[("@1.0.0", "@1.3.0")], ..Guest::default() };
        let evaluation = guest.policy().evaluate(&inserts(["a"]));
        assert_eq!(channels(&evaluation), [(0, "a")]);
    }

    #[test]
    fn a_component_without_a_stage_or_without_the_plugin_is_refused() {
        let log = "import twohop:policy/log@1.0.0;";
        let no_stage = Guest {
            world: "import twohop:policy/log@1.0.0; export twohop:policy/plugin@1.0.0;",
            ..Guest::default()
        };
        let no_plugin = Guest {
            world: "import twohop:policy/log@1.0.0; export twohop:policy/router@1.0.0;",
            ..Guest::default()
        };
        let nothing = Guest { world: log, ..Guest::default() };
        insta::assert_snapshot!(no_stage.refusal(), @"");
        insta::assert_snapshot!(no_plugin.refusal(), @"");
        insta::assert_snapshot!(nothing.refusal(), @"");
    }

    #[test]
    fn a_stage_that_this_host_does_not_run_is_refused_not_ignored() {
        let guest = Guest {
            world: "import twohop:policy/log@1.0.0; export twohop:policy/plugin@1.0.0; \
                    export twohop:policy/router@1.0.0; export twohop:policy/fanout@1.0.0;",
            exports: "(func (export \"twohop:policy/fanout@1.0.0#decide\") (param i32 i32 i32 i32 i32 i32 i32 i32 \
                      i32 i32 i32 i32 i32 i32 i32 i32) (result i32) unreachable)",
            ..Guest::default()
        };
        insta::assert_snapshot!(guest.refusal(), @"");
    }

    #[test]
    fn a_component_with_other_types_is_refused() {
        let guest =
            Guest { replaced: &[("    numbers: list<s64>,", "    figures: list<s64>,")], ..Guest::default() };
        insta::assert_snapshot!(guest.refusal(), @"");
    }

    #[test]
    fn a_plugin_that_refuses_its_settings_or_fails_says_so() {
        let refusing =
            Guest { configured: Err("the setting `tables`\nis missing".into()), ..Guest::default() };
        insta::assert_snapshot!(refusing.refusal(), @"");
        let trapping = Guest { configuring: "unreachable", ..Guest::default() };
        insta::assert_snapshot!(trapping.refusal(), @"");
        let hungry = Guest { configuring: "(drop (memory.grow (i32.const 60000)))", ..Guest::default() };
        insta::assert_snapshot!(hungry.refusal(), @"");
    }

    #[test]
    fn a_plugin_that_is_too_large_from_the_start_is_refused() {
        let guest = Guest {
            replaced: &[("(memory (export \"memory\") 100)", "(memory (export \"memory\") 2000)")],
            ..Guest::default()
        };
        insta::assert_snapshot!(guest.refusal(), @"");
    }

    #[test]
    fn a_subscription_that_makes_no_sense_is_refused() {
        insta::assert_snapshot!(Guest::subscribed("$clients", &[], &[]).refusal(), @"");
        insta::assert_snapshot!(Guest::subscribed("orders", &[], &["a", "$keys"]).refusal(), @"");
        let many = Guest { configured: Ok(vec![("t".into(), vec![], vec![]); 257]), ..Guest::default() };
        insta::assert_snapshot!(many.refusal(), @"");
    }

    #[test]
    fn plugins_have_names_of_their_own() {
        let wasm = Guest::default().component();
        insta::assert_snapshot!(load(&[("a", &wasm), ("a", &wasm)]).expect_err("one name"), @"");
    }
}

mod answers {
    use super::*;

    /// One route for the first of two changes, which each test spoils.
    fn outcome() -> Outcome {
        let arena = b"orders:1insert{\"a\":1}\xFF".to_vec();
        let span = |start: u64, length: u64| start | length << 32;
        Outcome {
            changes: vec![0],
            kinds: vec![0],
            options: vec![3],
            spans: vec![span(0, 8), span(8, 6), span(14, 7), 0],
            numbers: vec![0],
            attributed_routes: vec![],
            attributes: vec![],
            arena,
        }
    }

    fn check(outcome: &Outcome) -> Result<Answer, AnswerError> {
        Answer::check(outcome, 2, &mut names::Names::default())
    }

    fn spoiled(spoil: impl FnOnce(&mut Outcome)) -> AnswerError {
        let mut outcome = outcome();
        spoil(&mut outcome);
        check(&outcome).expect_err("it is spoiled")
    }

    #[test]
    fn every_part_of_a_route_is_read() {
        let answer = check(&outcome()).expect("it is right");
        let route = Route::Channel {
            channel: crate::event::Channel::new("orders:1").expect("it is one"),
            event: "insert".into(),
            payload: Payload::Json("{\"a\":1}".into()),
            retention: Retention::Kept,
        };
        assert_eq!(answer.routes, [(0, route)]);
        for (options, payload, retention) in [
            (0, Payload::Row, Retention::Kept),
            (2, Payload::Nothing, Retention::Kept),
            (4 | 1 << 3, Payload::Text("{\"a\":1}".into()), Retention::LiveOnly),
            (5, Payload::Bytes("{\"a\":1}".into()), Retention::Kept),
        ] {
            let mut outcome = outcome();
            outcome.options = vec![options];
            if options < 3 {
                outcome.spans[2] = 0;
            }
            let answer = check(&outcome).expect("it is right");
            let Route::Channel { payload: read, retention: kept, .. } = &answer.routes[0].1;
            assert_eq!((read, *kept), (&payload, retention));
        }
    }

    #[test]
    fn lists_that_do_not_fit_each_other_are_refused() {
        let length = |list, length, expected| AnswerError::Length { list, length, expected };
        assert_eq!(spoiled(|o| o.kinds.push(0)), length("kinds", 2, 1));
        assert_eq!(spoiled(|o| o.options.clear()), length("options", 0, 1));
        assert_eq!(spoiled(|o| o.spans.truncate(3)), length("spans", 3, 4));
        assert_eq!(spoiled(|o| o.numbers.push(0)), length("numbers", 2, 1));
        assert_eq!(spoiled(|o| o.changes.clear()), length("kinds", 1, 0));
        assert_eq!(spoiled(|o| o.attributed_routes.push(0)), AnswerError::Attributes(1));
        assert_eq!(spoiled(|o| o.attributes.push(0)), AnswerError::Attributes(1));
    }

    #[test]
    fn routes_for_changes_that_are_not_there_or_out_of_order_are_refused() {
        assert_eq!(spoiled(|o| o.changes[0] = 2), AnswerError::Change { route: 0, change: 2, changes: 2 });
        let twice = |first, second| {
            spoiled(|o| {
                o.changes = vec![first, second];
                o.kinds.push(0);
                o.options.push(3);
                o.spans.extend_from_within(..);
                o.numbers.push(0);
            })
        };
        assert_eq!(twice(1, 0), AnswerError::Descending(1));
    }

    #[test]
    fn a_change_has_a_bounded_number_of_routes() {
        let many = |count: usize| {
            let mut outcome = outcome();
            outcome.changes = vec![1; count];
            outcome.kinds = vec![0; count];
            outcome.options = vec![3; count];
            outcome.spans = outcome.spans.repeat(count);
            outcome.numbers = vec![0; count];
            check(&outcome)
        };
        assert!(many(ROUTES_PER_CHANGE_MAX).is_ok());
        assert_eq!(many(ROUTES_PER_CHANGE_MAX + 1), Err(AnswerError::TooMany(1)));
    }

    #[test]
    fn spans_stay_in_the_arena_and_text_is_text() {
        let span = |what| AnswerError::Span { route: 0, what };
        assert_eq!(spoiled(|o| o.spans[0] = 22 | 1 << 32), span("channel"));
        assert_eq!(spoiled(|o| o.spans[0] = 23), span("channel"));
        assert_eq!(spoiled(|o| o.spans[1] = u64::MAX), span("event"));
        assert_eq!(spoiled(|o| o.spans[2] = 0xFFFF_FFFF | 1 << 32), span("payload"));
        assert_eq!(spoiled(|o| o.spans[1] = 21 | 1 << 32), AnswerError::Text { route: 0, what: "event" });
        assert_eq!(spoiled(|o| o.spans[3] = 1), AnswerError::NotZero { route: 0, what: "unused spans" });
        assert_eq!(spoiled(|o| o.options[0] = 0), AnswerError::NotZero { route: 0, what: "payload's span" });
        assert_eq!(spoiled(|o| o.numbers[0] = 1), AnswerError::NotZero { route: 0, what: "number" });
        let half = |o: &mut Outcome| {
            o.arena = "äö".repeat(8).into_bytes();
            o.spans[0] = 1 | 4 << 32;
        };
        assert_eq!(spoiled(half), AnswerError::Text { route: 0, what: "channel" });
    }

    #[test]
    fn names_and_payloads_keep_to_their_rules() {
        let problem = crate::event::ChannelError::Empty;
        assert_eq!(spoiled(|o| o.spans[0] = 0), AnswerError::Channel { route: 0, problem });
        assert_eq!(spoiled(|o| o.arena[9] = b'\n'), AnswerError::Event(0));
        assert_eq!(spoiled(|o| o.arena[15] = b'a'), AnswerError::Json(0));
        assert_eq!(spoiled(|o| o.spans[2] = 0), AnswerError::Json(0));
        let large = |o: &mut Outcome| {
            o.options[0] = 5;
            o.arena.resize(14 + PAYLOAD_BYTES_MAX + 1, 0);
            o.spans[2] = 14 | (PAYLOAD_BYTES_MAX as u64 + 1) << 32;
        };
        let bytes = PAYLOAD_BYTES_MAX + 1;
        assert_eq!(spoiled(large), AnswerError::PayloadTooLarge { route: 0, bytes });
    }

    #[test]
    fn what_this_host_does_not_do_is_refused_by_name() {
        let not_yet = |what| AnswerError::NotYet { route: 0, what };
        assert_eq!(spoiled(|o| o.kinds[0] = 1), not_yet("an audience"));
        assert_eq!(spoiled(|o| o.kinds[0] = 7), not_yet("a topic"));
        assert_eq!(spoiled(|o| o.kinds[0] = 9), AnswerError::Kind { route: 0, kind: 9 });
        assert_eq!(spoiled(|o| o.options[0] = 3 | 2 << 3), not_yet("a channel's value"));
        assert_eq!(spoiled(|o| o.options[0] = 3 | 3 << 3), not_yet("to forget a channel's value"));
        assert_eq!(spoiled(|o| o.options[0] = 3 | 1 << 5), AnswerError::Options { route: 0, options: 35 });
        assert_eq!(spoiled(|o| o.options[0] = 6), AnswerError::Options { route: 0, options: 6 });
        let envelope = |o: &mut Outcome| {
            o.options[0] = 1;
            o.spans[2] = 0;
        };
        assert_eq!(spoiled(envelope), not_yet("Debezium's envelope"));
    }

    #[test]
    fn a_rejected_change_has_no_routes_before_or_after() {
        let mut outcome = outcome();
        outcome.changes = vec![0, 1, 1, 1];
        outcome.kinds = vec![0, 0, 8, 0];
        outcome.options = vec![3, 3, 0, 3];
        outcome.spans = outcome.spans.repeat(4);
        outcome.spans[8..12].copy_from_slice(&[8 | 6 << 32, 0, 0, 0]);
        outcome.numbers = vec![0; 4];
        let answer = check(&outcome).expect("it is right");
        let of: Vec<_> = answer.routes.iter().map(|(change, _)| *change).collect();
        assert_eq!(of, [0]);
        assert_eq!(answer.rejected, [(1, Arc::from("insert"))]);
        outcome.spans[8] = 0;
        assert_eq!(check(&outcome), Err(AnswerError::Reason(2)));
    }

    prop_compose! {
        fn lies()(routes in 0..6_usize)(
            changes in prop::collection::vec(0..4_u32, routes),
            kinds in prop::collection::vec(prop_oneof![Just(0), Just(8), any::<u8>()], routes),
            options in prop::collection::vec(prop_oneof![0..6_u8, any::<u8>()], routes),
            spans in prop::collection::vec(
                prop_oneof![Just(0), (0..40_u64, 0..40_u64).prop_map(|(s, l)| s | l << 32), any::<u64>()],
                routes * 4,
            ),
            numbers in prop::collection::vec(prop_oneof![9 => Just(0), 1 => any::<i64>()], routes),
            attributed_routes in prop_oneof![9 => Just(vec![]), 1 => Just(vec![0])],
            arena in prop_oneof![".{0,40}".prop_map(String::into_bytes), prop::collection::vec(any::<u8>(), 0..40)],
        ) -> Outcome {
            Outcome { changes, kinds, options, spans, numbers, attributed_routes, attributes: vec![], arena }
        }
    }

    proptest! {
        #[test]
        fn random_answers_are_errors_or_routes_but_never_panics(outcome in lies(), extra in any::<Option<bool>>()) {
            let mut outcome = outcome;
            match extra {
                Some(true) => outcome.spans.push(0),
                Some(false) => drop(outcome.kinds.pop()),
                None => {}
            }
            if let Ok(answer) = check(&outcome) {
                prop_assert!(answer.routes.len() <= outcome.kinds.len());
                prop_assert!(answer.routes.is_sorted_by_key(|(change, _)| *change));
                prop_assert!(answer.routes.iter().all(|(change, _)| *change < 2));
            }
        }
    }
}
