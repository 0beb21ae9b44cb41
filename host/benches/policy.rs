//! What a policy costs: nanoseconds a change through the shipped `row-router`, by the size of the batch.
//!
//! In: the component, as the argument or `TARGET/plugins/row-router.wasm`. Out: a table, and last one line of JSON.
//!
//! - *component* is all of `Policy::evaluate`: finding the subscription, filling the batch, the call, the check of the
//!   answer, the typed routes (two a change), and dropping them.
//! - *native* is the same crate, called through the SDK as the component calls it: from the lists of a batch that was
//!   filled before to the lists of an answer, and dropping those. It has none of the host's part, no copy into another
//!   memory, and not the check that the batch's text is UTF-8.
//!
//! Both have the same inserts into a table of three columns. Counted is the processor's time of this one thread, so
//! that others on the machine do not count, and the figure is the median of many short rounds.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context;
use nix::time::{ClockId, clock_gettime};
use row_router::RowRouter;
use twohop::event::{Change, Column, Micros, Operation, Origin, Position, RowBuilder, Rows, Table, Value};
use twohop::policy::{
    Activation, COMPILE_SUBCOMMAND, Digest, Engine, Grants, Loader, OnFault, Policy, Profile, compile_plugin,
    read_component,
};
use twohop_plugin::testing::{Policy as NativePolicy, Sample};

const AIM_NS: f64 = 100.0;
const BATCHES: [usize; 3] = [1, 16, 256];
const ROUNDS_COUNT: usize = 1_001;
const CHANGES_PER_ROUND: usize = 2_048;
const TABLES: &str = "orders";
const STATUS: &str = "shipped";
const NOTE: &str = "leave it with the neighbors";

fn main() -> anyhow::Result<()> {
    let arguments: Vec<_> = std::env::args_os().skip(1).collect();
    if let [subcommand, profile, input, output] = arguments.as_slice()
        && subcommand == COMPILE_SUBCOMMAND
    {
        let profile = profile.to_string_lossy().parse()?;
        return Ok(compile_plugin(profile, Path::new(input), Path::new(output))?);
    }
    let program = std::env::current_exe()?;
    let named = arguments.iter().find(|argument| !argument.as_encoded_bytes().starts_with(b"--"));
    let path = match named {
        Some(path) => PathBuf::from(path),
        None => default_component(&program).context("the benchmark does not lie in a target folder")?,
    };
    anyhow::ensure!(
        path.exists(),
        "{} is not there: make it with `cargo xtask build-plugins`, or name a component",
        path.display()
    );
    let cache = tempfile::tempdir()?;
    let engine = Engine::new()?;
    let settings = [("tables".to_owned(), TABLES.to_owned())].into();
    let loader = Loader::new(engine, cache.path(), &program)?;
    let wasm = read_component(&path, Profile::Small)?;
    let activation = Activation {
        plugin: "row-router".into(),
        generation: 1,
        digest: Digest::of(&wasm),
        order: 0,
        settings,
        grants: Grants::default(),
        profile: Profile::Small,
        on_fault: OnFault::SetAside,
    };
    let mut policy = Policy::new([loader.load(&wasm, activation)?])?;
    let native = NativePolicy::<RowRouter>::configure([("tables", TABLES)]).map_err(anyhow::Error::msg)?;

    let mut figures = Vec::new();
    let mut met = false;
    println!("changes a batch   component, ns a change   native, ns a change");
    for count in BATCHES {
        let mut changes = changes(count);
        let component = measure(count, || {
            let evaluation = policy.evaluate(std::hint::black_box(&mut changes));
            std::hint::black_box(&evaluation).routes.len()
        })?;
        let batch = native.lower(&samples(count));
        let native = measure(count, || {
            let lists = native.direct_lowered(std::hint::black_box(&batch));
            std::hint::black_box(&lists).routes_count()
        })?;
        println!("{count:>15}   {component:>22.1}   {native:>19.1}");
        figures.push(format!("\"component_ns_{count}\":{component:.1},\"native_ns_{count}\":{native:.1}"));
        met = component <= AIM_NS;
    }
    let aim = format!("{{\"figure\":\"component_ns_256\",\"at_most\":{AIM_NS},\"met\":{met}}}");
    println!("{{\"bench\":\"policy\",\"figures\":{{{}}},\"aims\":[{aim}]}}", figures.join(","));
    Ok(())
}

/// `TARGET/release/deps/policy-HASH` → `TARGET/plugins/row-router.wasm`.
fn default_component(program: &Path) -> Option<PathBuf> {
    Some(program.ancestors().nth(3)?.join("plugins/row-router.wasm"))
}

/// The nanoseconds a change of a call with so many, which says how many routes it gave.
fn measure(changes: usize, mut call: impl FnMut() -> usize) -> anyhow::Result<f64> {
    let calls = CHANGES_PER_ROUND / changes;
    let mut rounds = Vec::with_capacity(ROUNDS_COUNT);
    for _ in 0..ROUNDS_COUNT {
        let start = processor_time_ns()?;
        for _ in 0..calls {
            anyhow::ensure!(call() == 2 * changes, "the router gives two routes a change");
        }
        rounds.push((processor_time_ns()? - start) / CHANGES_PER_ROUND as f64);
    }
    rounds.sort_by(f64::total_cmp);
    Ok(rounds[ROUNDS_COUNT / 2])
}

/// Of this thread.
fn processor_time_ns() -> anyhow::Result<f64> {
    let time = clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID)?;
    Ok(time.tv_sec() as f64 * 1e9 + time.tv_nsec() as f64)
}

fn id(number: usize) -> i64 {
    100_000 + number as i64
}

/// The changes as the kit of the SDK takes them.
fn samples(count: usize) -> Vec<Sample> {
    let sample = |number| {
        let row = twohop_plugin::row! { "id" => id(number), "status" => STATUS, "note" => NOTE };
        Sample::insert("orders", row).key(["id"])
    };
    (0..count).map(sample).collect()
}

/// Inserts into `public.orders (id int8 primary key, status text, note text)`.
fn changes(count: usize) -> Vec<Change> {
    let column =
        |name: &str, type_name: &str, key| Column { name: name.into(), type_name: type_name.into(), key };
    let table = Arc::new(Table {
        source: "main".into(),
        schema: "public".into(),
        name: "orders".into(),
        columns: [column("id", "int8", true), column("status", "text", false), column("note", "text", false)]
            .into(),
    });
    let change = |number: usize| {
        let mut builder = RowBuilder::default();
        builder.push(Value::Integer(id(number)));
        builder.push(Value::Text(STATUS));
        builder.push(Value::Text(NOTE));
        let origin = Origin {
            table: table.clone(),
            operation: Operation::Insert,
            position: Position { commit: 0x16_B374_8000 + number as u64, index: 0 },
            last: true,
            transaction: 700 + number as u64,
            committed_at: Micros(1_700_000_000_000_000),
        };
        builder.finish(origin, Rows::New)
    };
    (0..count).map(change).collect()
}
