//! `row-router` in Rust, JavaScript and Python: one table of what it must do, and each of them does it.

use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use twohop::event::{
    Change, Column, Micros, Operation, Origin, Position, Retention, RowBuilder, Rows, Table, Value,
};
use twohop::policy::{
    Activation, Digest, Engine, Grants, Loader, OnFault, Payload, Policy, Profile, Route, read_component,
};
use xtask::{place, process};

/// A change: schema and table, operation, key. The key before comes after a `<`; no key is a table without one.
type Sample<'a> = (&'a str, Operation, Option<&'a str>);

/// Settings, changes, and the routes: the index of the change, the channel, the event.
type Case<'a> = (&'a str, &'a [Sample<'a>], &'a [(usize, &'a str, &'a str)]);

use Operation::{Delete, Insert, Message, Schema, Snapshot, Truncate, Update};

const CASES: &[Case<'_>] = &[
    (
        "orders",
        &[
            ("public.orders", Snapshot, Some("7")),
            ("public.orders", Insert, Some("8")),
            ("public.orders", Update, Some("8")),
            ("public.orders", Update, Some("9<8")),
            ("public.orders", Delete, Some("9")),
            ("public.orders", Truncate, None),
        ],
        &[
            (0, "orders", "snapshot"),
            (0, "orders:7", "snapshot"),
            (1, "orders", "insert"),
            (1, "orders:8", "insert"),
            (2, "orders", "update"),
            (2, "orders:8", "update"),
            (3, "orders", "update"),
            (3, "orders:9", "update"),
            (4, "orders", "delete"),
            (4, "orders:9", "delete"),
            (5, "orders", "truncate"),
        ],
    ),
    (
        "orders",
        &[
            ("public.users", Insert, Some("1")),
            ("public.orders", Schema, None),
            ("public.orders", Message, None),
            ("public.orders", Insert, None),
        ],
        &[(3, "orders", "insert")],
    ),
    (
        " orders , audit.orders ,public.notes",
        &[
            ("audit.orders", Insert, Some("1")),
            ("public.orders", Insert, Some("1")),
            ("other.orders", Insert, Some("1")),
            ("public.notes", Insert, Some("1")),
            ("other.notes", Insert, Some("1")),
        ],
        &[
            (0, "audit.orders", "insert"),
            (0, "audit.orders:1", "insert"),
            (1, "orders", "insert"),
            (1, "orders:1", "insert"),
            (2, "orders", "insert"),
            (2, "orders:1", "insert"),
            (3, "notes", "insert"),
            (3, "notes:1", "insert"),
        ],
    ),
    (
        "public.a.b, a.b",
        &[("public.a.b", Insert, Some("1"))],
        &[(0, "public.a.b", "insert"), (0, "public.a.b:1", "insert")],
    ),
    (
        "Größe",
        &[
            ("public.Größe", Insert, Some("plain")),
            ("public.Größe", Insert, Some("ключ")),
            ("public.Größe", Insert, Some("")),
            ("public.Größe", Insert, Some("\u{feff}💡 a,b\\")),
        ],
        &[
            (0, "Größe", "insert"),
            (0, "Größe:plain", "insert"),
            (1, "Größe", "insert"),
            (1, "Größe:ключ", "insert"),
            (2, "Größe", "insert"),
            (2, "Größe:", "insert"),
            (3, "Größe", "insert"),
            (3, "Größe:\u{feff}💡 a\\,b\\\\", "insert"),
        ],
    ),
];

/// Settings, and what the refusal says.
const REFUSALS: &[(&[(&str, &str)], &str)] = &[
    (&[], "the setting `tables` is required"),
    (&[("table", "orders")], "the setting `tables` is required, and `table` is not known"),
    (
        &[("tables", "orders"), ("color", "red")],
        "the setting `color` is not known: this plugin knows `tables`, `retain`",
    ),
    (
        &[("tables", "orders"), ("retain", "users")],
        "the setting `retain` names `users`, which `tables` does not: write it the same in both",
    ),
    (&[("tables", "a,,b")], "the setting `tables` has an empty entry: write `a, b`"),
    (
        &[("tables", "orders, public.orders")],
        "the setting `tables` names `public.orders` and `orders`, which would share the channel `orders`: remove one \
         of them",
    ),
    (&[("tables", "*")], "the setting `tables` names `*`: name each table, as `table` or `schema.table`"),
    (
        &[("tables", "$clients")],
        "the setting `tables` names `$clients`: name each table, as `table` or `schema.table`",
    ),
    (&[("tables", ".orders")], "the setting `tables` names `.orders`: write `table` or `schema.table`"),
    (&[("tables", "public.")], "the setting `tables` names `public.`: write `table` or `schema.table`"),
    (
        &[("tables", "orders:1")],
        "the setting `tables` names `orders:1`: a name with `:` cannot be told from the channel of a row",
    ),
];

#[test]
fn the_router_in_rust_does_what_the_table_says() -> Result<()> {
    does_what_the_table_says("row-router", Profile::Small)
}

#[test]
fn the_router_in_javascript_does_what_the_table_says() -> Result<()> {
    does_what_the_table_says("row-router-javascript", Profile::Large)
}

#[test]
fn the_router_in_python_does_what_the_table_says() -> Result<()> {
    does_what_the_table_says("row-router-python", Profile::Large)
}

#[test]
fn the_module_of_javascript_hides_the_lists_as_its_tests_say() -> Result<()> {
    process::run(
        Command::new("node")
            .args(["--test", "--test-reporter=dot", "twohop.test.js"])
            .current_dir(example("javascript")),
    )
}

#[test]
fn the_module_of_python_hides_the_lists_as_its_tests_say() -> Result<()> {
    let mut python = Command::new("python3");
    python.args(["-B", "-m", "unittest", "--quiet", "test_twohop"]);
    process::run(python.current_dir(example("python")))
}

fn example(language: &str) -> PathBuf {
    place::root().join("examples/plugins").join(language)
}

fn does_what_the_table_says(plugin: &str, profile: Profile) -> Result<()> {
    let path = place::plugin(plugin).context("it is made by `cargo xtask build-plugins --all-languages`")?;
    let wasm = read_component(&path, profile)?;
    let cache = tempfile::tempdir()?;
    let loader = Loader::new(Engine::new()?, cache.path(), &place::host_binary()?)?;
    let load = |settings: &[(&str, &str)]| {
        let settings = settings.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        let activation = Activation {
            plugin: plugin.into(),
            generation: 1,
            digest: Digest::of(&wasm),
            order: 0,
            settings,
            grants: Grants::default(),
            profile,
            on_fault: OnFault::default(),
        };
        loader.load(&wasm, activation)
    };
    for (tables, samples, expected) in CASES {
        let mut policy = Policy::new([load(&[("tables", tables)])?])?;
        let mut changes: Vec<Change> = samples.iter().map(change).collect();
        // Twice, since a policy has to be a function of the changes alone.
        for _ in 0..2 {
            assert_eq!(routes(&mut policy, &mut changes)?, *expected, "{plugin}, tables = {tables:?}");
        }
    }
    for (settings, expected) in REFUSALS {
        let refusal = load(settings).err().with_context(|| format!("{plugin} takes {settings:?}"))?;
        assert_eq!(refusal.to_string(), format!("refuses its settings: {expected}"), "{plugin}");
    }
    let retaining = load(&[("tables", "orders, users"), ("retain", "orders")])?;
    let samples = [("public.orders", Insert), ("public.orders", Delete), ("public.users", Insert)];
    let mut changes: Vec<Change> =
        samples.iter().map(|(table, operation)| change(&(table, *operation, Some("1")))).collect();
    let mut policy = Policy::new([retaining])?;
    let evaluation = policy.evaluate(&mut changes);
    let kept: Vec<Retention> = evaluation
        .routes
        .iter()
        .filter_map(|directed| directed.to_channel().map(|to_channel| to_channel.retention))
        .collect();
    let [kept_only, value, forget] = [Retention::Kept, Retention::Value, Retention::Forget];
    assert_eq!(kept, [kept_only, value, kept_only, forget, kept_only, kept_only], "{plugin}");
    let mut policy = Policy::new([load(&[("tables", "orders")])?])?;
    let keys: Vec<String> = (0..1_000).map(|number| format!("{number:x}")).collect();
    let mut changes: Vec<Change> =
        keys.iter().map(|key| change(&("public.orders", Insert, Some(key)))).collect();
    let routes = routes(&mut policy, &mut changes)?;
    ensure!(routes.len() == 2 * keys.len(), "{plugin} has {} routes for a thousand changes", routes.len());
    for (index, key) in keys.iter().enumerate() {
        assert_eq!(routes[2 * index + 1], (index, &*format!("orders:{key}"), "insert"), "{plugin}");
    }
    Ok(())
}

/// Index, channel and event: compared with what the table has.
#[derive(Debug)]
struct Found(usize, String, String);

impl PartialEq<(usize, &str, &str)> for Found {
    fn eq(&self, (index, channel, event): &(usize, &str, &str)) -> bool {
        (self.0, &*self.1, &*self.2) == (*index, *channel, *event)
    }
}

fn routes(policy: &mut Policy, changes: &mut [Change]) -> Result<Vec<Found>> {
    let evaluation = policy.evaluate(changes);
    ensure!(evaluation.rejected.is_empty(), "set aside: {:?}", evaluation.rejected);
    ensure!(evaluation.troubles.is_empty(), "{:?}", evaluation.troubles);
    let found = evaluation.routes.iter().map(|directed| match directed.route() {
        Route::Channel { channel, event, payload, .. } => {
            ensure!(payload == Payload::Row, "the payload is {payload:?}");
            Ok(Found(directed.change(), channel.as_str().to_owned(), event.to_string()))
        }
        other => anyhow::bail!("row-router never answers {other:?}"),
    });
    found.collect()
}

/// A table with the columns `id`, the key if there is one, and `note`.
fn change((table, operation, key): &Sample<'_>) -> Change {
    let (schema, name) = table.split_once('.').expect("a schema and a table");
    let column = |name: &str, key| Column { name: name.into(), type_name: "text".into(), key };
    // A truncate has no key whether or not its table has one.
    let keyed = key.is_some() || !matches!(operation, Insert);
    let table = Arc::new(Table {
        source: "main".into(),
        schema: schema.into(),
        name: name.into(),
        columns: [column("id", keyed), column("note", false)].into(),
    });
    let (new, old) = key.map_or((Some("1"), None), |key| match key.split_once('<') {
        Some((new, old)) => (Some(new), Some(old)),
        None => (Some(key), None),
    });
    let rows = match (operation, old) {
        (Truncate | Schema, _) => Rows::Neither,
        (Delete, _) => Rows::Old,
        (_, Some(_)) => Rows::NewThenOld,
        (_, None) => Rows::New,
    };
    let keys = if rows == Rows::Neither { [None, None] } else { [new, old] };
    let mut builder = RowBuilder::default();
    for key in keys.into_iter().flatten() {
        builder.push(Value::Text(key));
        builder.push(Value::Null);
    }
    let origin = Origin {
        table,
        operation: *operation,
        position: Position { commit: 0x16_B374_8000, index: 0 },
        last: true,
        transaction: 77,
        committed_at: Micros(1_700_000_000_000_000),
    };
    builder.finish(origin, rows)
}
