//! What the tests of this room share: a plugin by hand that misbehaves on demand, and changes to feed it.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, LazyLock};

use wit_component::{ComponentEncoder, StringEncoding};
use wit_parser::Resolve;

use super::bindings::twohop::policy::types;
use super::cache::Cache;
use super::compile::{precompile, read_component};
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

/// A subscription of a [`Guest`]: table, operations, columns.
pub(super) type Asked = (String, Vec<u8>, Vec<String>);

/// A subscription as a plugin asks for it.
pub(super) fn asked(table: &str, operations: &[u8], columns: &[&str]) -> types::Subscription {
    types::Subscription {
        source: String::new(),
        table: table.into(),
        operations: operations.into(),
        columns: columns.iter().map(|column| (*column).into()).collect(),
    }
}

/// A plugin by hand, see `guest/`. It can be all stages; its world says which it is.
pub(super) struct Guest {
    /// What `configure` answers.
    pub(super) configured: Result<Vec<Asked>, String>,
    /// WebAssembly text that runs in `configure`.
    pub(super) configuring: &'static str,
    /// The world that it says it has.
    pub(super) world: String,
    /// Replaced everywhere, in the interface too: from, to.
    pub(super) replaced: &'static [(&'static str, &'static str)],
}

impl Default for Guest {
    fn default() -> Self {
        Self {
            configured: Ok(vec![("*".into(), vec![], vec!["name".into()])]),
            configuring: "",
            world: world(&["plugin", "router"]),
            replaced: &[],
        }
    }
}

impl Guest {
    /// With this one subscription.
    pub(super) fn subscribed(table: &str, operations: &[u8], columns: &[&str]) -> Self {
        let columns = columns.iter().map(|column| (*column).to_owned()).collect();
        Self { configured: Ok(vec![(table.into(), operations.into(), columns)]), ..Self::default() }
    }

    /// Of these stages, subscribed to every table, with these columns.
    pub(super) fn of(stages: &[&str], columns: &[&str]) -> Self {
        Self { world: world(&[&["plugin"], stages].concat()), ..Self::subscribed("*", &[], columns) }
    }

    /// The core module.
    pub(super) fn module(&self) -> Vec<u8> {
        let stages = [
            include_str!("guest/filter.wat"),
            include_str!("guest/fanout.wat"),
            include_str!("guest/gate.wat"),
        ];
        let text = include_str!("guest/router.wat")
            .replace("{DATA}", &escaped(&configured_image(&self.configured)))
            .replace("{CONFIGURE}", self.configuring)
            .replace("{STAGES}", &stages.concat());
        wat::parse_str(self.replace(text)).expect("the fixture is WebAssembly text")
    }

    /// The component.
    pub(super) fn component(&self) -> Vec<u8> {
        let interface = self.replace(include_str!("../../../wit/policy.wit").to_owned());
        let world = self.replace(format!("package test:guest; world guest {{ {} }}", self.world));
        encode(self.module(), &[&interface, &self.replace(CLOCKS.to_owned()), &world])
    }

    /// A policy of this plugin alone.
    pub(super) fn policy(&self) -> Policy {
        load(&[("guest", &self.component())]).expect("the fixture is a plugin")
    }

    /// Why it cannot be loaded.
    pub(super) fn refusal(&self) -> String {
        refusal(&self.component())
    }

    fn replace(&self, text: String) -> String {
        self.replaced.iter().fold(text, |text, (from, to)| text.replace(from, to))
    }
}

/// The world of a plugin that exports these interfaces.
pub(super) fn world(exports: &[&str]) -> String {
    let exports = exports.iter().map(|interface| format!("export twohop:policy/{interface}@1.0.0; "));
    format!("import twohop:policy/log@1.0.0; {}", exports.collect::<String>())
}

const CLOCKS: &str = "package wasi:clocks@0.2.0; interface wall-clock { now: func() -> u64; }";

/// A component from a module and packages of interfaces, of which the last has its world.
pub(super) fn encode(mut module: Vec<u8>, packages: &[&str]) -> Vec<u8> {
    let mut resolve = Resolve::default();
    let mut last = None;
    for (number, package) in packages.iter().enumerate() {
        last = Some(resolve.push_str(format!("{number}.wit"), package).expect("the fixture is an interface"));
    }
    let world = resolve.select_world(last.as_slice(), None).expect("the last has one world");
    wit_component::embed_component_metadata(&mut module, &resolve, world, StringEncoding::UTF8)
        .expect("the world can be embedded");
    let mut encoder = ComponentEncoder::default();
    encoder.module(&module).expect("the module has a world").validate(true);
    encoder.encode().expect("the module fits its world")
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

/// `result<list<subscription>, string>` as it lies in memory from 0x8000.
fn configured_image(configured: &Result<Vec<Asked>, String>) -> Vec<u8> {
    const BASE: usize = 0x8000;
    let mut image = vec![0; 12];
    let put = |image: &mut Vec<u8>, bytes: &[u8]| {
        image.resize(image.len().next_multiple_of(4), 0);
        let at = BASE + image.len();
        image.extend_from_slice(bytes);
        [at, bytes.len()].map(|number| u32::try_from(number).expect("small").to_le_bytes()).concat()
    };
    let (number, tail) = match configured {
        Err(refusal) => (1, put(&mut image, refusal.as_bytes())),
        Ok(asked) => {
            let mut records = Vec::new();
            for (table, operations, columns) in asked {
                records.extend(put(&mut image, b""));
                records.extend(put(&mut image, table.as_bytes()));
                records.extend(put(&mut image, operations));
                let names: Vec<u8> =
                    columns.iter().flat_map(|column| put(&mut image, column.as_bytes())).collect();
                let mut list = put(&mut image, &names);
                list[4..].copy_from_slice(&u32::try_from(columns.len()).expect("small").to_le_bytes());
                records.extend(list);
            }
            let mut list = put(&mut image, &records);
            list[4..].copy_from_slice(&u32::try_from(asked.len()).expect("small").to_le_bytes());
            (0, list)
        }
    };
    image[0] = number;
    image[4..12].copy_from_slice(&tail);
    assert!(image.len() < 0x8000, "what configure answers has its place");
    image
}

fn escaped(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("\\{byte:02x}")).collect()
}
