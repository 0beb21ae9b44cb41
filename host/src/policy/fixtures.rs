//! What the tests of this room share: plugins by hand, loaded, and changes to feed them.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, LazyLock};

use super::bindings::twohop::policy::types;
use super::cache::Cache;
use super::compile::{precompile, read_component};
pub(super) use super::guest::{Guest, world};
use super::{
    Activation, Digest, Engine, Grants, Loader, Meter, OnFault, Plugin, PluginError, Policy, Profile,
};
use crate::event::{Change, Column, Micros, Operation, Origin, Position, RowBuilder, Rows, Table, Value};

/// One engine for all tests: each reserves much address space.
pub(super) fn engine() -> &'static Engine {
    static ENGINE: LazyLock<Engine> = LazyLock::new(|| Engine::new().expect("the engine starts"));
    &ENGINE
}

fn large_engine() -> &'static Engine {
    static ENGINE: LazyLock<Engine> =
        LazyLock::new(|| Engine::of(Profile::Large, Meter::Clock).expect("the engine starts"));
    &ENGINE
}

/// One that counts instructions.
pub(super) fn counting_engine() -> &'static Engine {
    static ENGINE: LazyLock<Engine> = LazyLock::new(|| Engine::counting().expect("the engine starts"));
    &ENGINE
}

/// A table whose columns are keys or not.
pub(super) fn table(schema: &str, name: &str, columns: &[(&str, bool)]) -> Arc<Table> {
    let column =
        |(name, key): &(&str, bool)| Column { name: (*name).into(), type_name: "text".into(), key: *key };
    Arc::new(Table {
        source: "main".into(),
        schema: schema.into(),
        name: name.into(),
        columns: columns.iter().map(column).collect(),
    })
}

/// The table of most tests: `public.orders (name text primary key)`.
pub(super) fn orders() -> Arc<Table> {
    table("public", "orders", &[("name", true)])
}

pub(super) fn change(table: &Arc<Table>, operation: Operation, rows: Rows, values: &[Value<'_>]) -> Change {
    let mut builder = RowBuilder::default();
    for value in values {
        builder.push(*value);
    }
    builder.finish(
        Origin {
            table: table.clone(),
            operation,
            position: Position { commit: 0x16_B374_8000, index: 2 },
            last: true,
            transaction: 77,
            committed_at: Micros(1_700_000_000_000_000),
        },
        rows,
    )
}

/// An insert with the number in each column.
pub(super) fn insert(table: &Arc<Table>, number: i64) -> Change {
    change(table, Operation::Insert, Rows::New, &vec![Value::Integer(number); table.columns.len()])
}

/// An insert into the table of one column.
pub(super) fn named(table: &Arc<Table>, name: &str) -> Change {
    change(table, Operation::Insert, Rows::New, &[Value::Text(name)])
}

/// A subscription as a plugin asks for it.
pub(super) fn asked(table: &str, operations: &[u8], columns: &[&str]) -> types::Subscription {
    types::Subscription {
        source: String::new(),
        table: table.into(),
        operations: operations.into(),
        columns: columns.iter().map(|column| (*column).into()).collect(),
    }
}

impl Guest {
    /// A policy of this plugin alone.
    pub(super) fn policy(&self) -> Policy {
        load(&[("guest", &self.component())]).expect("the fixture is a plugin")
    }

    /// Why it cannot be loaded.
    pub(super) fn refusal(&self) -> String {
        refusal(&self.component())
    }
}

/// What a plugin of that name is activated as, by default.
pub(super) fn activation(name: &str, wasm: &[u8]) -> Activation {
    Activation {
        plugin: name.into(),
        generation: 1,
        digest: Digest::of(wasm),
        order: 0,
        settings: BTreeMap::new(),
        grants: Grants::default(),
        profile: Profile::Small,
        on_fault: OnFault::SetAside,
    }
}

/// Plugins by name and component, in that order, compiled here and loaded from the cache.
pub(super) fn load(plugins: &[(&str, &[u8])]) -> Result<Policy, PluginError> {
    let plugins = (0..)
        .zip(plugins)
        .map(|(order, (name, wasm))| load_as(Activation { order, ..activation(name, wasm) }, wasm));
    Ok(Policy::new(plugins.collect::<Result<Vec<_>, _>>()?).expect("the names are different"))
}

/// A plugin activated so, compiled here and loaded from the cache.
pub(super) fn load_as(activation: Activation, wasm: &[u8]) -> Result<Plugin, PluginError> {
    let engine = match activation.profile {
        Profile::Small => engine(),
        Profile::Large => large_engine(),
    };
    load_with(engine, activation, wasm)
}

/// As [`load_as`], into an engine that counts instructions.
pub(super) fn load_counting(activation: Activation, wasm: &[u8]) -> Result<Plugin, PluginError> {
    load_with(counting_engine(), activation, wasm)
}

fn load_with(seeded: &Engine, activation: Activation, wasm: &[u8]) -> Result<Plugin, PluginError> {
    let folder = tempfile::tempdir().expect("there is a temporary folder");
    let path = folder.path().join("plugin.wasm");
    std::fs::write(&path, wasm).expect("the folder is writable");
    let wasm = read_component(&path, activation.profile)?;
    let cache = folder.path().join("cache");
    if let Ok(code) = precompile(&wasm, seeded.meter()) {
        Cache::open(&cache).expect("it can be made").seed(seeded, &wasm, &code);
    }
    let small = match seeded.meter() {
        Meter::Clock => engine(),
        Meter::Fuel => counting_engine(),
    };
    let loader = Loader::new(small.clone(), &cache, Path::new("/nowhere/twohop"));
    loader.expect("the cache is there").load(&wasm, activation)
}

/// Why it cannot be loaded.
pub(super) fn refusal(wasm: &[u8]) -> String {
    load(&[("guest", wasm)]).expect_err("it is refused").to_string()
}
