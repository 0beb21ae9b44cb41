//! The room as a whole, against plugins that misbehave; and what others need to test with it.

use std::path::Path;
use std::sync::Arc;

use super::cache::Cache;
use super::compile::precompile;
use super::fixtures::{
    Guest, activation, change, engine, load, load_as, named, orders, refusal, table, world,
};
use super::*;
use crate::event::{LetterId, Offset, Operation, Replay, Retention, Rows, Table, Value};
use crate::limits::{
    BATCH_BYTES_MAX, BATCH_COUNT_MAX, LARGE_PLUGIN_MEMORY_BYTES_MAX, PLUGIN_BYTES_MAX,
    PLUGIN_MEMORY_BYTES_MAX,
};

mod comparing;
mod fanning_out;
mod filtering;
mod frozen;
mod gating;
mod hostile;
mod rehearsing;

/// A router that sends each change to the channel that this column names. A name that begins with `T` traps.
pub(crate) fn router_by(column: &str) -> Vec<u8> {
    router_of("*", column)
}

/// One that subscribed to this table alone.
pub(crate) fn router_of(table: &str, column: &str) -> Vec<u8> {
    Guest::subscribed(table, &[], &[column]).component()
}

/// A gate that lets everybody to `allowed`, until a time that is past; forbids what begins with `f`; traps at `T`; and
/// else asks who it is.
pub(crate) fn a_gate() -> Gate {
    let wasm = Guest::of(&["gate"], &[]).component();
    Gate::new(load_as(activation("gate", &wasm), &wasm).expect("it is a plugin")).expect("it has a gate")
}

/// A loader that has compiled these components, and cannot compile others.
pub(crate) fn loader_of(folder: &Path, components: &[&[u8]]) -> Loader {
    let cache = Cache::open(folder).expect("it can be made");
    for wasm in components {
        cache.seed(engine(), wasm, &precompile(wasm, Meter::Clock).expect("it compiles"));
    }
    Loader::new(engine().clone(), folder, Path::new("/nowhere/twohop")).expect("the cache is there")
}

fn inserts(names: impl IntoIterator<Item = impl AsRef<str>>) -> Vec<Change> {
    let table = orders();
    names.into_iter().map(|name| named(&table, name.as_ref())).collect()
}

/// The channels of the routes with the indexes of their changes.
fn channels(evaluation: &Evaluation) -> Vec<(usize, &str)> {
    let read = |directed| {
        let directed: Directed<'_> = directed;
        (directed.change(), directed.channel_name().expect("it is for a channel"))
    };
    evaluation.routes.iter().map(read).collect()
}

fn faults_count(evaluation: &Evaluation) -> usize {
    evaluation.troubles.iter().map(|trouble| trouble.faults_count).sum()
}

fn causes(evaluation: &Evaluation) -> Vec<(usize, String)> {
    evaluation.rejected.iter().map(|rejection| (rejection.change, rejection.cause.to_string())).collect()
}

mod judging {
    use super::*;

    #[test]
    fn every_change_goes_where_the_plugin_says() {
        let mut policy = Guest::default().policy();
        let evaluation = policy.evaluate(&mut inserts(["a", "b", "a"]));
        assert_eq!(channels(&evaluation), [(0, "a"), (1, "b"), (2, "a")]);
        assert_eq!(evaluation.rejected, []);
        assert_eq!(faults_count(&evaluation), 0);
        let first = evaluation.routes.iter().next().and_then(|directed| directed.to_channel());
        let ToChannel { event, payload, retention, .. } = first.expect("it is for a channel");
        assert_eq!((event, payload, retention), ("", Payload::Row, Retention::Kept));
    }

    #[test]
    fn changes_that_nobody_subscribed_to_never_reach_a_plugin() {
        let mut policy = Guest::subscribed("orders", &[Operation::Insert as u8], &["name"]).policy();
        let other = table("public", "customers", &[("name", true)]);
        let mut changes = inserts(["a", "b"]);
        changes.insert(1, named(&other, "T would trap"));
        changes.push(change(&orders(), Operation::Delete, Rows::Old, &[Value::Text("T would trap")]));
        let evaluation = policy.evaluate(&mut changes);
        assert_eq!(channels(&evaluation), [(0, "a"), (2, "b")]);
        assert_eq!(faults_count(&evaluation), 0);
        assert_eq!(policy.evaluate(&mut []), Evaluation::default());
    }

    #[test]
    fn a_plugin_that_subscribed_to_what_clients_say_gets_each_column_of_it() {
        let columns = ["channel", "subject", "event", "id", "body", "form"];
        let values = ["room:7", "ann", "said", "a1", "hello", "text"];
        let clients = table("", "$client", &columns.map(|column| (column, false)));
        let message = || change(&clients, Operation::Message, Rows::New, &values.map(Value::Text));
        for (column, expected) in columns.into_iter().zip(values) {
            let mut policy = Guest::subscribed("$client", &[Operation::Message as u8], &[column]).policy();
            let mut changes = inserts(["a"]);
            changes.push(message());
            assert_eq!(channels(&policy.evaluate(&mut changes)), [(1, expected)], "{column}");
        }
        let mut policy = Guest::subscribed("*", &[], &["body"]).policy();
        assert_eq!(channels(&policy.evaluate(&mut [message()])), [], "`*` is for no virtual table");
    }

    #[test]
    fn a_plugin_that_subscribed_to_changes_of_columns_is_told_of_them() {
        let mut policy = Guest::subscribed("orders", &[Operation::Schema as u8], &["$table"]).policy();
        let schema = |table| change(&table, Operation::Schema, Rows::Neither, &[]);
        let other = table("public", "customers", &[("name", true)]);
        let mut changes = inserts(["a"]);
        changes.extend([schema(other), schema(table("public", "orders", &[("title", true)]))]);
        let evaluation = policy.evaluate(&mut changes);
        assert_eq!(channels(&evaluation), [(2, "orders")]);
        assert_eq!(faults_count(&evaluation), 0);
    }

    #[test]
    fn that_a_column_is_gone_which_a_plugin_subscribed_to_is_counted_and_among_its_lines() {
        let folder = tempfile::tempdir().expect("a folder can be made");
        let wasm = Guest::subscribed("orders", &[Operation::Insert as u8], &["name"]).component();
        let loader = loader_of(folder.path(), &[&wasm]);
        let (lines, loaded) = (loader.lines(), loader.load(&wasm, activation("guest", &wasm)));
        let mut policy = Policy::new([loaded.expect("it is a plugin")]).expect("it is one");
        let missing = |policy: &mut Policy, table: &Arc<Table>| {
            let mut count = 0;
            policy.evaluate(&mut [change(table, Operation::Schema, Rows::Neither, &[])]);
            policy.take_work(|_, work| count += work.missing_columns_count);
            count
        };
        assert_eq!(missing(&mut policy, &orders()), 0);
        let altered = table("public", "orders", &[("title", true)]);
        assert_eq!([missing(&mut policy, &altered), missing(&mut policy, &altered)], [1, 0]);
        let kept = lines.after("guest", 0);
        let kept: Vec<_> = kept.iter().map(|line| (line.level, &*line.text)).collect();
        let [(LineLevel::Warn, text)] = kept[..] else { panic!("{kept:?}") };
        assert!(text.contains("column `name`") && text.contains("table `public.orders`"), "{text}");
    }

    #[test]
    fn more_changes_than_a_call_takes_are_handed_over_in_several() {
        let mut policy = Guest::default().policy();
        let names: Vec<_> = (0..2 * BATCH_COUNT_MAX + 7).map(|number| format!("c{number}")).collect();
        let evaluation = policy.evaluate(&mut inserts(&names));
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
        let mut changes: Vec<_> = bodies.into_iter().map(change).collect();
        let evaluation = policy.evaluate(&mut changes);
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
        let evaluation = policy.evaluate(&mut [named(&a, "x"), named(&b, "R no"), named(&b, "y")]);
        let order: Vec<_> =
            evaluation.routes.iter().map(|directed| (directed.change(), directed.plugin())).collect();
        assert_eq!(order, [(0, 0), (0, 2), (2, 0), (2, 1), (2, 2)]);
        let rejected: Vec<_> =
            evaluation.rejected.iter().map(|rejection| (rejection.change, &*rejection.name)).collect();
        assert_eq!(rejected, [(1, "first"), (1, "b"), (1, "last")]);
    }

    #[test]
    fn a_replay_goes_to_the_router_that_it_is_for_or_to_all() {
        let wasm = Guest::default().component();
        let mut policy = load(&[("one", &wasm), ("two", &wasm)]).expect("both are plugins");
        let mut changes = inserts(["a", "b", "c"]);
        let routers = [Some("two"), None, Some("gone")];
        for (change, router) in changes.iter_mut().zip(routers) {
            change.replay =
                Some(Replay { letter: LetterId(1), first: Offset(0), router: router.map(Arc::from) });
        }
        let evaluation = policy.evaluate(&mut changes);
        let order: Vec<_> =
            evaluation.routes.iter().map(|directed| (directed.change(), directed.plugin())).collect();
        assert_eq!(order, [(0, 1), (1, 0), (1, 1)]);
    }

    #[test]
    fn a_rejection_is_a_dead_letter_with_the_plugins_reason() {
        let mut policy = Guest::default().policy();
        let evaluation = policy.evaluate(&mut inserts(["a", "R: no\nsuch order", "b"]));
        assert_eq!(channels(&evaluation), [(0, "a"), (2, "b")]);
        assert_eq!(causes(&evaluation), [(1, "rejected: R: no\\nsuch order".to_owned())]);
        assert_eq!(faults_count(&evaluation), 0);
    }

    #[test]
    fn the_same_changes_give_the_same_evaluation() {
        let mut changes =
            inserts((0..300).map(|n| if n % 50 == 7 { format!("T{n}") } else { format!("c{n}") }));
        let mut policy = Guest::default().policy();
        let first = policy.evaluate(&mut changes);
        assert_eq!(first, policy.evaluate(&mut changes));
        assert_eq!(first, Guest::default().policy().evaluate(&mut changes));
    }
}

mod faults {
    use super::*;

    #[test]
    fn a_trap_on_one_of_256_changes_is_found_and_the_rest_stands() {
        for hurting in [0, 1, 100, 255] {
            let name = |number| if number == hurting { "T".to_owned() } else { format!("c{number}") };
            let names: Vec<_> = (0..256).map(name).collect();
            let evaluation = Guest::default().policy().evaluate(&mut inserts(&names));
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
            assert_eq!(faults_count(&evaluation), 2 + 8);
        }
    }

    #[test]
    fn several_changes_that_hurt_are_all_found() {
        let names = ["T", "a", "U", "b", "c", "K", "T", "R no", "d"];
        let evaluation = Guest::default().policy().evaluate(&mut inserts(names));
        assert_eq!(channels(&evaluation), [(1, "a"), (3, "b"), (4, "c"), (8, "d")]);
        let rejected: Vec<_> = evaluation.rejected.iter().map(|rejection| rejection.change).collect();
        assert_eq!(rejected, [0, 2, 5, 6, 7]);
    }

    #[test]
    fn a_plugin_of_the_large_profile_may_have_more_and_is_stopped_too() {
        let mut wasm = Guest::default().component();
        // A custom section: its number, its length in five digits to the base of 128, an empty name.
        wasm.extend([0, 0x81, 0x80, 0x80, 0x04, 0]);
        wasm.extend(vec![0; PLUGIN_BYTES_MAX]);
        assert!(matches!(load(&[("guest", &wasm)]), Err(PluginError::TooLarge(Profile::Small))));
        let activation = Activation { profile: Profile::Large, ..activation("guest", &wasm) };
        let plugin = load_as(activation, &wasm).expect("it is a plugin");
        let mut policy = Policy::new([plugin]).expect("it is one");
        let evaluation = policy.evaluate(&mut inserts(["a", "M", "b"]));
        assert_eq!(channels(&evaluation), [(0, "a"), (2, "b")]);
        let cause = evaluation.rejected[0].cause.to_string();
        let bound = format!(" bytes of memory, at most {LARGE_PLUGIN_MEMORY_BYTES_MAX} are allowed");
        assert!(cause.ends_with(&bound), "{cause}");
    }

    #[test]
    fn a_plugin_whose_memory_went_bad_starts_afresh_and_nothing_is_set_aside() {
        let mut policy = Guest::default().policy();
        assert_eq!(channels(&policy.evaluate(&mut inserts(["Q"]))), [(0, "Q")]);
        let evaluation = policy.evaluate(&mut inserts(["a"]));
        assert_eq!(channels(&evaluation), [(0, "a")]);
        assert_eq!(evaluation.rejected, []);
        assert_eq!(faults_count(&evaluation), 1);
    }

    #[test]
    fn a_bad_neighbor_harms_only_itself() {
        let wasm = Guest::default().component();
        let mut policy = load(&[("a", &wasm), ("b", &wasm)]).expect("both are plugins");
        let evaluation = policy.evaluate(&mut inserts(["Q", "x"]));
        assert_eq!(evaluation.routes.len(), 4);
        let evaluation = policy.evaluate(&mut inserts(["y"]));
        assert_eq!(channels(&evaluation), [(0, "y"), (0, "y")]);
        assert_eq!(faults_count(&evaluation), 2, "each has a memory of its own");
    }
}

mod loading {
    use super::*;

    #[test]
    fn what_is_no_component_is_refused_with_what_to_do() {
        insta::assert_snapshot!(refusal(b"(module)"), @"is not WebAssembly: a plugin is the .wasm file that `twohop plugin build` makes");
        insta::assert_snapshot!(refusal(b""), @"is not WebAssembly: a plugin is the .wasm file that `twohop plugin build` makes");
        insta::assert_snapshot!(refusal(&Guest::default().module()), @"is a core module, not a component: `twohop plugin build` makes the component of it, as does `wasm-tools component new`");
        insta::assert_snapshot!(refusal(&vec![0; PLUGIN_BYTES_MAX + 1]), @r#"has more than 8388608 bytes, the limit for a plugin: build it in release mode, stripped; one that brings a runtime, as JavaScript and Python do, needs `profile = "large"`"#);
        insta::assert_snapshot!(refusal(b"\0asm\x0d\0\x01\0"), @"does not export twohop:policy/plugin: use `export!` of the SDK, or the world of wit/policy.wit");
    }

    #[test]
    fn a_file_that_is_not_there_is_named() {
        let error = read_component(std::path::Path::new("/nowhere/gone.wasm"), Profile::Small);
        insta::assert_snapshot!(error.expect_err("it is not there"), @"cannot be read: No such file or directory (os error 2)");
    }

    #[test]
    fn a_component_that_is_not_valid_does_not_compile() {
        let wasm = Guest::default().component();
        let cut = &wasm[..wasm.len() - 10];
        let error = super::super::compile::precompile(cut, Meter::Clock).expect_err("it is cut").to_string();
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
        let guest = Guest { world: WITH_CLOCK.into(), replaced: &[READS_CLOCK], ..Guest::default() };
        insta::assert_snapshot!(guest.refusal(), @"imports `wasi:clocks/wall-clock@0.2.0`, but plugins get nothing of WASI: build it for wasm32-unknown-unknown, as `twohop plugin build` does, or as docs/plugins/languages.md says for other languages");
    }

    #[test]
    fn a_component_that_wants_what_is_not_there_is_refused() {
        let replaced = &[READS_CLOCK, ("wasi:clocks", "acme:clocks")];
        let guest = Guest { world: WITH_CLOCK.into(), replaced, ..Guest::default() };
        insta::assert_snapshot!(guest.refusal(), @"imports `acme:clocks/wall-clock@0.2.0`, which this host does not have: only twohop:policy/log and twohop:policy/types are there");
    }

    #[test]
    fn a_component_of_another_major_version_is_refused() {
        let guest = Guest { replaced: &[("@1.0.0", "@2.1.0")], ..Guest::default() };
        insta::assert_snapshot!(guest.refusal(), @"has `twohop:policy/log@2.1.0`, but this host speaks version 1 of twohop:policy: build it with the SDK of this version");
    }

    #[test]
    fn a_component_of_a_later_minor_version_is_a_plugin() {
        let guest = Guest { replaced: &[("@1.0.0", "@1.3.0")], ..Guest::default() };
        let evaluation = guest.policy().evaluate(&mut inserts(["a"]));
        assert_eq!(channels(&evaluation), [(0, "a")]);
    }

    #[test]
    fn a_component_without_a_stage_or_without_the_plugin_is_refused() {
        let no_stage = Guest { world: world(&["plugin"]), ..Guest::default() };
        let no_plugin = Guest { world: world(&["router"]), ..Guest::default() };
        let nothing = Guest { world: world(&[]), ..Guest::default() };
        insta::assert_snapshot!(no_stage.refusal(), @"exports no stage: implement at least one of `Filter`, `Router`, `Fanout` and `Gate`, and name it in `export!`");
        insta::assert_snapshot!(no_plugin.refusal(), @"does not export twohop:policy/plugin: use `export!` of the SDK, or the world of wit/policy.wit");
        insta::assert_snapshot!(nothing.refusal(), @"does not export twohop:policy/plugin: use `export!` of the SDK, or the world of wit/policy.wit");
    }

    #[test]
    fn a_component_with_any_stage_is_a_plugin() {
        for stages in [&["filter"][..], &["fanout"], &["gate"], &["filter", "router", "fanout", "gate"]] {
            let wasm = Guest::of(stages, &["name"]).component();
            let plugin = load_as(activation("p", &wasm), &wasm).expect("it is a plugin");
            let has: Vec<_> = Stage::ALL.into_iter().filter(|stage| plugin.has(*stage)).collect();
            assert_eq!(has.iter().map(|stage| stage.name()).collect::<Vec<_>>(), stages);
        }
    }

    #[test]
    fn an_export_that_this_host_does_not_know_is_refused_not_ignored() {
        let replaced = &[
            ("interface fanout {", "interface sorter {"),
            ("policy/fanout", "policy/sorter"),
            ("export fanout", "export sorter"),
        ];
        let guest = Guest { replaced, world: world(&["plugin", "router", "sorter"]), ..Guest::default() };
        insta::assert_snapshot!(guest.refusal(), @"exports `twohop:policy/sorter@1.0.0`, which this host does not know: it knows plugin, filter, router, fanout and gate, so build it with the SDK of this version");
    }

    #[test]
    fn there_is_one_fanout_and_one_gate() {
        for stage in ["fanout", "gate"] {
            let wasm = Guest::of(&[stage], &[]).component();
            let load = |name: &str| load_as(activation(name, &wasm), &wasm).expect("it is a plugin");
            let error = Policy::new(["a", "b"].map(load)).expect_err("two are too many").to_string();
            assert_eq!(
                error,
                format!(
                    "`a` and `b` both have a {stage}, of which there can be only one: remove one of them"
                )
            );
            let mut policy = Policy::new([load("a")]).expect("one is fine");
            assert!(policy.put(load("a")).expect("it replaces itself").is_some());
        }
    }

    #[test]
    fn a_component_with_other_types_is_refused() {
        let guest =
            Guest { replaced: &[("    numbers: list<s64>,", "    figures: list<s64>,")], ..Guest::default() };
        insta::assert_snapshot!(guest.refusal(), @"cannot be started: it does not fit wit/policy.wit: failed to convert function to given type: type mismatch with results: expected record field named numbers, found figures");
    }

    #[test]
    fn a_plugin_that_refuses_its_settings_or_fails_says_so() {
        let refusing =
            Guest { configured: Err("the setting `tables`\nis missing".into()), ..Guest::default() };
        insta::assert_snapshot!(refusing.refusal(), @r"refuses its settings: the setting `tables`\nis missing");
        let trapping = Guest { configuring: "unreachable", ..Guest::default() };
        insta::assert_snapshot!(trapping.refusal(), @"fails when it is configured: wasm trap: wasm `unreachable` instruction executed");
        let hungry = Guest { configuring: "(drop (memory.grow (i32.const 60000)))", ..Guest::default() };
        insta::assert_snapshot!(hungry.refusal(), @"fails when it is configured: asked for 3938713600 bytes of memory, at most 67108864 are allowed");
    }

    #[test]
    fn a_plugin_that_is_too_large_from_the_start_is_refused() {
        let guest = Guest {
            replaced: &[("(memory (export \"memory\") 100)", "(memory (export \"memory\") 2000)")],
            ..Guest::default()
        };
        let refusal = guest.refusal();
        assert!(refusal.contains("cannot be loaded within the limits of a plugin: "), "{refusal}");
        assert!(refusal.contains("exceeds the limit of"), "{refusal}");
    }

    #[test]
    fn a_subscription_that_makes_no_sense_is_refused() {
        insta::assert_snapshot!(Guest::subscribed("$clients", &[], &[]).refusal(), @"asks for what cannot be, in subscription 0 (`$clients`): there is no such virtual table: there are $client, $notify and $logical");
        insta::assert_snapshot!(Guest::subscribed("orders", &[], &["a", "$keys"]).refusal(), @"asks for what cannot be, in subscription 0 (`orders`): there is no virtual column `$keys`: there are $source $schema $table $key $row $old $transaction $position $index $last $replay");
        let many = Guest { configured: Ok(vec![("t".into(), vec![], vec![]); 257]), ..Guest::default() };
        insta::assert_snapshot!(many.refusal(), @"subscribes 257 times, at most 256 are allowed");
    }

    #[test]
    fn plugins_have_names_of_their_own() {
        let wasm = Guest::default().component();
        let twice = [(); 2].map(|()| load_as(activation("a", &wasm), &wasm).expect("it is a plugin"));
        insta::assert_snapshot!(Policy::new(twice).expect_err("one name"), @"two plugins are named `a`: rename one");
    }
}
