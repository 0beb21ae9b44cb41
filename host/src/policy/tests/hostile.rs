//! A hostile plugin for each fault, and one for each way to lie in an answer. Each runs between two honest ones, whose
//! routes must be exact.
//!
//! A variant of an error that no plugin here shows does not compile, see [`hostile!`]. The same ones beside a whole
//! server: `tests/hostile.rs`. To add a lie: a line below, under the error that it must be found out as.

use super::super::answer::outcome_of_a_filter as verdicts;
use super::super::answer::outcome_of_a_router as routes;
use super::super::bindings::exports::twohop::policy::{filter, router};
use super::super::guest::ANSWER;
use super::super::inspect;
use super::super::instance::Instance;
use super::super::plugin_log::PluginLog;
use super::*;
use crate::event::Table;
use crate::limits::{ID_BYTES_MAX, PAYLOAD_BYTES_MAX, PLUGIN_LINES_COUNT_MAX, ROUTES_PER_CHANGE_MAX};
use crate::policy::fixtures::load_counting;

/// Tests of hostile plugins: each gives the error that it was found out as. Proves that there is one for each variant:
/// the match has no arm for a variant that is not listed.
macro_rules! hostile {
    ($name:ident($error:ident) { $($variant:ident { $($test:ident: $found:expr;)+ })+ }) => {
        fn $name(error: &$error) -> &'static str {
            match error {
                $($error::$variant { .. } => stringify!($variant)),+
            }
        }

        $($(
            #[test]
            fn $test() {
                let error: $error = $found;
                assert_eq!($name(&error), stringify!($variant), "{error}");
            }
        )+)+
    };
}

hostile!(fault(Fault) {
    Trap {
        a_trap: caused("T", "wasm trap: wasm `unreachable` instruction executed");
        a_panic_with_its_words: caused("P", "instruction executed; it said: a policy was hurt\\n by this");
        deep_recursion: caused("D", "wasm trap: call stack exhausted");
        a_huge_answer: caused("H", "fuel allocated for hostcalls has been exhausted");
        an_answer_that_leaves_the_memory: caused("O", "out of bounds");
        a_huge_log_line: caused("W", "fuel allocated for hostcalls has been exhausted");
        a_log_line_that_leaves_the_memory: caused("N", "out of bounds");
    }
    Time {
        an_endless_loop: caused("L", "ran longer than 1000 ms");
        a_flood_of_calls_to_the_host: caused("G", "ran longer than 1000 ms");
    }
    Instructions {
        an_endless_loop_where_instructions_are_counted: counted();
    }
    Memory {
        hunger_for_memory: caused("M", &format!(" bytes of memory, at most {PLUGIN_MEMORY_BYTES_MAX} are allowed"));
    }
    Table {
        hunger_for_tables: caused("E", "asked for tables of 10000");
    }
    Answer {
        an_answer_of_another_shape: caused("K", "answered wrongly: the list `kinds` has 256 entries instead of 1");
        an_answer_of_an_unknown_kind: caused("U", "answered wrongly: route 0 is of the unknown kind 99");
    }
    Verdict {
        a_verdict_that_is_none: Fault::Verdict(judged(|outcome| outcome.verdicts[1] = 9));
    }
    Plan {
        a_plan_that_is_none: Fault::Plan(planned(&[0, 9, 0]));
    }
    Refusal {
        a_refusal_without_a_reason: refused_by_a_gate();
    }
    Instance {
        a_start_that_traps: started(Guest { starting: "unreachable", ..Guest::default() });
    }
    Configure {
        another_configuration_than_before: configured_otherwise();
    }
    ChangeTooLarge {
        a_subscription_to_more_than_fits: too_large();
    }
});

hostile!(answer(AnswerError) {
    Length { lists_that_do_not_fit_each_other: told(|outcome| outcome.kinds.push(0)); }
    Change { a_route_for_a_change_that_is_not_there: told(|outcome| outcome.changes[0] = 3); }
    Descending { routes_out_of_order: told(|outcome| {
        repeat(outcome, 2);
        outcome.changes[1] = 0;
    }); }
    TooMany { too_many_routes_for_a_change: told(|outcome| repeat(outcome, ROUTES_PER_CHANGE_MAX + 1)); }
    Kind { a_route_of_an_unknown_kind: told(|outcome| outcome.kinds[0] = 9); }
    Options { an_unknown_option: told(|outcome| outcome.options[0] = 6); }
    Span {
        a_span_that_leaves_the_arena: told(|outcome| outcome.spans[1] = u64::MAX);
        a_name_that_is_not_text: told(|outcome| outcome.spans[1] = 21 | 1 << 32);
    }
    NotZero { a_number_that_is_not_used: told(|outcome| outcome.numbers[0] = 1); }
    Empty { a_retraction_without_an_author: told(|outcome| retract(outcome, 0)); }
    TooLong { an_author_with_too_long_a_name: told(|outcome| {
        outcome.arena = vec![b'a'; ID_BYTES_MAX + 1];
        retract(outcome, ID_BYTES_MAX as u64 + 1);
    }); }
    Channel { a_channel_without_a_name: told(|outcome| outcome.spans[0] = 0); }
    Event { an_event_that_breaks_the_wire: told(|outcome| outcome.arena[9] = b'\n'); }
    EventReserved { an_event_of_the_gateways_own: told(|outcome| {
        outcome.spans[1] = outcome.arena.len() as u64 | 5 << 32;
        outcome.arena.extend(b"reset");
    }); }
    PayloadTooLarge { a_payload_that_is_too_large: told(|outcome| {
        outcome.options[0] = 5;
        outcome.arena.resize(14 + PAYLOAD_BYTES_MAX + 1, 0);
        outcome.spans[2] = 14 | (PAYLOAD_BYTES_MAX as u64 + 1) << 32;
    }); }
    Json { json_that_is_none: told(|outcome| outcome.arena[15] = b'a'); }
    Reason { a_rejection_without_a_reason: told(|outcome| {
        (outcome.kinds[0], outcome.options[0]) = (8, 0);
        outcome.spans.fill(0);
    }); }
    Attributes { attributes_that_nobody_knows: told(|outcome| outcome.attributed_routes.push(0)); }
});

hostile!(verdict(VerdictError) {
    Length { fewer_verdicts_than_changes: judged(|outcome| outcome.verdicts.truncate(2)); }
    Verdict { an_unknown_verdict: judged(|outcome| outcome.verdicts[1] = 3); }
    ReasonSpan { a_reason_that_leaves_the_arena: judged(|outcome| outcome.reasons[0] = u64::MAX); }
    Reason { a_verdict_without_a_reason: judged(|outcome| outcome.reasons[0] = 0); }
    Change { a_mask_for_a_change_that_is_not_there: judged(|outcome| outcome.masked_changes[2] = 3); }
    Descending { masks_out_of_order: judged(|outcome| outcome.masked_changes[0] = 1); }
    ColumnSpan { a_column_that_leaves_the_arena: judged(|outcome| outcome.masked_columns[1] = u64::MAX); }
    Virtual { a_mask_for_what_the_host_says: judged(|outcome| hide(outcome, "$row")); }
    Key { a_mask_for_the_key: judged(|outcome| hide(outcome, "told")); }
});

hostile!(plan(PlanError) {
    Length { fewer_plans_than_posts: planned(&[0, 0]); }
    Number { an_unknown_plan: planned(&[0, 4, 0]); }
});

hostile!(span(SpanError) {
    Leaves { a_place_outside: span_of(told(|outcome| outcome.spans[2] = 22 | 1 << 32)); }
    Text { half_a_character: span_of(told(|outcome| outcome.spans[0] = 21 | 1 << 32)); }
});

/// The table that honest plugins and hostile ones read: the hostile ones do what the first column tells them.
fn rows(told: &str, body: &str) -> Vec<Change> {
    let table = told_table();
    let row = |told: &str, other: &str, body: &str| {
        let values = [Value::Text(told), Value::Text(other), Value::Text(body)];
        change(&table, Operation::Insert, Rows::New, &values)
    };
    vec![row("a", "x", "1"), row(told, "y", body), row("b", "z", "3")]
}

fn told_table() -> Arc<Table> {
    table("public", "orders", &[("told", true), ("other", false), ("body", false)])
}

/// A hostile plugin that reads these columns.
fn router(columns: &[&str]) -> Guest {
    Guest::of(&["router"], columns)
}

/// The hostile one, between two honest ones.
fn policy(hostile: &Guest) -> Policy {
    let honest = Guest::subscribed("*", &[], &["other"]).component();
    let hostile = hostile.component();
    load(&[("before", &honest), ("hostile", &hostile), ("behind", &honest)]).expect("all are plugins")
}

/// Judges three changes, of which the hostile one fails on the second. Whatever it does, the honest ones' routes are
/// exact, so are its own for the other two, and it goes on.
fn harm(policy: &mut Policy, told: &str, body: &str) -> Evaluation {
    let evaluation = policy.evaluate(&mut rows(told, body));
    assert_eq!(
        channels(&evaluation),
        [(0, "x"), (0, "a"), (0, "x"), (1, "y"), (1, "y"), (2, "z"), (2, "b"), (2, "z")]
    );
    let rejected = evaluation.rejected.iter().map(|rejection| (rejection.change, &*rejection.name));
    assert_eq!(rejected.collect::<Vec<_>>(), [(1, "hostile")]);
    assert_eq!((evaluation.failing, evaluation.pause), (None, None));
    let after = policy.evaluate(&mut rows("c", "")[1..2]);
    assert_eq!(channels(&after), [(0, "y"), (0, "c"), (0, "y")], "a new instance goes on");
    evaluation
}

fn cause(evaluation: Evaluation) -> Fault {
    match evaluation.rejected.into_iter().next().map(|rejection| rejection.cause) {
        Some(Cause::Fault(fault)) => fault,
        other => panic!("{other:?} is no fault"),
    }
}

fn first_fault(evaluation: Evaluation) -> Fault {
    evaluation.troubles.into_iter().next().and_then(|trouble| trouble.first_fault).expect("there is one")
}

/// Told to misbehave so, it is stopped, and this is what the dead letter says.
fn caused(told: &str, says: &str) -> Fault {
    let fault = cause(harm(&mut policy(&router(&["told"])), told, ""));
    assert!(fault.to_string().contains(says), "`{says}` is not in: {fault}");
    fault
}

/// An endless loop in a rehearsal, where no clock runs.
fn counted() -> Fault {
    let wasm = router(&["told"]).component();
    let plugin = load_counting(activation("hostile", &wasm), &wasm).expect("it is a plugin");
    let mut policy = Policy::new([plugin]).expect("it is one");
    cause(policy.evaluate(&mut rows("L", "")))
}

/// A router that lies in its answer to three changes.
fn told(lie: impl FnOnce(&mut router::Outcome)) -> AnswerError {
    let mut outcome = routes();
    // For the change that tells it to lie; as an answer to that one alone it would be wrong too.
    outcome.changes[0] = 1;
    lie(&mut outcome);
    let hostile = Guest { answer: router_image(&outcome), ..router(&["told"]) };
    match first_fault(harm(&mut policy(&hostile), "A", "")) {
        Fault::Answer(error) => error,
        other => panic!("{other} is no wrong answer"),
    }
}

/// A filter that lies: what it fails on reaches no router, all else does, unmasked.
fn judged(lie: impl FnOnce(&mut filter::Outcome)) -> VerdictError {
    let mut outcome = verdicts();
    lie(&mut outcome);
    let hostile = Guest { answer: filter_image(&outcome), ..Guest::of(&["filter"], &["told"]) };
    let mut policy = policy(&hostile);
    let mut changes = rows("A", "2");
    let evaluation = policy.evaluate(&mut changes);
    assert_eq!(channels(&evaluation), [(0, "x"), (0, "x"), (2, "z"), (2, "z")], "it fails closed");
    assert_eq!(evaluation.rejected.iter().map(|rejection| rejection.change).collect::<Vec<_>>(), [1]);
    let is_whole = |change: &Change| {
        change.row().is_some_and(|row| row.columns().all(|(_, value)| value != Value::Masked))
    };
    assert!(changes.iter().all(is_whole) && evaluation.dropped_count == 0, "a wrong answer hides nothing");
    match first_fault(evaluation) {
        Fault::Verdict(error) => error,
        other => panic!("{other} is no wrong verdict"),
    }
}

/// A fan-out that lies about three posts: the host plans them.
fn planned(answer: &[u8]) -> PlanError {
    let hostile = Guest { answer: image(&[list(answer, |byte| [byte])]), ..Guest::of(&["fanout"], &[]) };
    let mut policy = policy(&hostile);
    let posts = ["push", "A", "notify"].map(|author| Post {
        author,
        item: "1",
        followers: 3,
        online: 2,
        active: 1,
        rate: 0,
        previous: None,
    });
    let planned = policy.plan(&posts);
    assert_eq!(planned.plans, [Plan::HOSTS_OWN; 3]);
    match planned.trouble.and_then(|trouble| trouble.first_fault) {
        Some(Fault::Plan(error)) => error,
        other => panic!("{other:?} is no wrong plan"),
    }
}

fn span_of(error: AnswerError) -> SpanError {
    match error {
        AnswerError::Span { problem, .. } => problem,
        other => panic!("{other} is of no span"),
    }
}

fn refused_by_a_gate() -> Fault {
    let wasm = Guest::of(&["gate"], &[]).component();
    let gate = Gate::new(load_as(activation("gate", &wasm), &wasm).expect("it is a plugin")).expect("a gate");
    let connection = Connection { subject: None, claims: "{}", address: "::1" };
    let request =
        Request { channel: "invalid", scope: Scope::Channel, event: "", follows: false, facts: &[] };
    assert_eq!(gate.admit(connection, request), Err(Refusal::Forbidden("the gate failed".into())));
    gate.first_fault().expect("there is one")
}

/// What an instance of it fails with.
fn started(guest: Guest) -> Fault {
    let component = wasmtime::component::Component::new(engine().wasmtime(), guest.component());
    let exports = inspect::exports(engine(), &component.expect("it compiles")).expect("it is a plugin");
    let log = PluginLog::new("guest".into(), 1, PluginLines::default());
    Instance::new(&exports, Arc::new(log.into())).err().expect("it does not start")
}

/// No plugin can answer `configure` in two ways, since nothing tells it which instance it is: so the host is made to
/// remember another answer.
fn configured_otherwise() -> Fault {
    let mut policy = policy(&router(&["told"]));
    policy.plugins[1].forget_subscriptions();
    policy.evaluate(&mut rows("Q", ""));
    let evaluation = policy.evaluate(&mut rows("c", "")[1..2]);
    assert_eq!(channels(&evaluation), [(0, "y"), (0, "y")]);
    cause(evaluation)
}

fn too_large() -> Fault {
    let huge = "x".repeat(BATCH_BYTES_MAX + 1);
    cause(harm(&mut policy(&router(&["told", "body"])), "huge", &huge))
}

#[test]
fn a_flood_of_log_lines_hurts_nobody_and_is_cut() {
    let wasm = router(&["told"]).component();
    let folder = tempfile::tempdir().expect("there is a temporary folder");
    let loader = loader_of(folder.path(), &[&wasm]);
    let plugin = loader.load(&wasm, activation("hostile", &wasm)).expect("it is a plugin");
    let mut policy = Policy::new([plugin]).expect("it is one");
    let evaluation = policy.evaluate(&mut rows("F", ""));
    assert_eq!(channels(&evaluation), [(0, "a"), (1, "F"), (2, "b")]);
    assert_eq!(evaluation.troubles, []);
    let lines = loader.lines().after("hostile", 0);
    assert!((1..=PLUGIN_LINES_COUNT_MAX).contains(&lines.len()), "{} lines of 10,000", lines.len());
}

#[test]
fn what_fails_before_the_first_change_is_refused_with_the_reason() {
    let starting = |starting| Guest { starting, ..Guest::default() }.refusal();
    let configuring = |configuring| Guest { configuring, ..Guest::default() }.refusal();
    let (traps, loops) = ("unreachable", "(loop $ever (br $ever))");
    let hungry = "(drop (memory.grow (i32.const 60000)))";
    insta::assert_snapshot!(starting(traps), @"cannot be started: wasm trap: wasm `unreachable` instruction executed");
    insta::assert_snapshot!(starting(loops), @"cannot be started: ran longer than 1000 ms");
    insta::assert_snapshot!(starting(hungry), @"cannot be started: asked for 3938713600 bytes of memory, at most 67108864 are allowed");
    insta::assert_snapshot!(configuring(loops), @"fails when it is configured: ran longer than 1000 ms");
}

/// The one route, so often.
fn repeat(outcome: &mut router::Outcome, count: usize) {
    outcome.changes = vec![1; count];
    outcome.kinds = vec![0; count];
    outcome.options = vec![3; count];
    outcome.spans = outcome.spans.repeat(count);
    outcome.numbers = vec![0; count];
}

/// The one route becomes a retraction, of an author whose name has so many bytes.
fn retract(outcome: &mut router::Outcome, author_bytes: u64) {
    (outcome.kinds[0], outcome.options[0]) = (3, 0);
    outcome.spans = vec![author_bytes << 32, 1 << 32, 0, 0];
}

/// The first mask is for that column.
fn hide(outcome: &mut filter::Outcome, column: &str) {
    outcome.masked_columns[0] = outcome.arena.len() as u64 | (column.len() as u64) << 32;
    outcome.arena.extend(column.bytes());
}

type List = (usize, Vec<u8>);

fn list<T: Copy, const N: usize>(items: &[T], bytes: impl Fn(T) -> [u8; N]) -> List {
    (items.len(), items.iter().flat_map(|item| bytes(*item)).collect())
}

/// Lists as they lie in a plugin's memory from [`ANSWER`] on: first where each is, then what they hold.
fn image(lists: &[List]) -> Vec<u8> {
    let mut image = vec![0; lists.len() * 8];
    for (nth, (count, bytes)) in lists.iter().enumerate() {
        image.resize(image.len().next_multiple_of(8), 0);
        let place = [ANSWER as usize + image.len(), *count];
        let place = place.map(|number| u32::try_from(number).expect("small").to_le_bytes()).concat();
        image[nth * 8..nth * 8 + 8].copy_from_slice(&place);
        image.extend_from_slice(bytes);
    }
    image
}

fn router_image(outcome: &router::Outcome) -> Vec<u8> {
    image(&[
        list(&outcome.changes, u32::to_le_bytes),
        list(&outcome.kinds, u8::to_le_bytes),
        list(&outcome.options, u8::to_le_bytes),
        list(&outcome.spans, u64::to_le_bytes),
        list(&outcome.numbers, i64::to_le_bytes),
        list(&outcome.attributed_routes, u32::to_le_bytes),
        list(&outcome.attributes, u64::to_le_bytes),
        list(&outcome.arena, u8::to_le_bytes),
    ])
}

fn filter_image(outcome: &filter::Outcome) -> Vec<u8> {
    image(&[
        list(&outcome.verdicts, u8::to_le_bytes),
        list(&outcome.reasons, u64::to_le_bytes),
        list(&outcome.masked_changes, u32::to_le_bytes),
        list(&outcome.masked_columns, u64::to_le_bytes),
        list(&outcome.arena, u8::to_le_bytes),
    ])
}
