//! What a policy costs: nanoseconds a change, by the size of the batch.
//!
//! In: the folder of the components that ship, as the argument or `TARGET/plugins`. Out: a table, and last one line of
//! JSON.
//!
//! - *component* is all of `Policy::evaluate` with `row-router`: finding the subscription, filling the batch, the call,
//!   the check of the answer, the typed routes (two a change), and dropping them.
//! - *native* is the same crate, called through the SDK as the component calls it: from the lists of a batch that was
//!   filled before to the lists of an answer, and dropping those. It has none of the host's part, no copy into another
//!   memory, and not the check that the batch's text is UTF-8.
//! - *stages* is `Policy::evaluate` with `mask-columns`, which hides one column of each change, and `row-router`, and
//!   then `Policy::plan` with `hybrid-fanout` for as many posts as there are changes.
//!
//! All have the same inserts into a table of three columns. Counted is the processor's time of this one thread, so
//! that others on the machine do not count, and the figure is the median of many short rounds.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context;
use nix::time::{ClockId, clock_gettime};
use row_router::RowRouter;
use twohop::event::{Change, Column, Micros, Operation, Origin, Position, RowBuilder, Rows, Table, Value};
use twohop::policy::{
    Activation, COMPILE_SUBCOMMAND, Digest, Engine, Grants, Loader, OnFault, Plugin, Policy, Post, Profile,
    compile_plugin, read_component,
};
use twohop_plugin::testing::{Policy as NativePolicy, Sample};

/// Figures with the most that each may be.
const AIMS: [(&str, f64); 3] =
    [("component_ns_1", 2_000.0), ("component_ns_256", 80.0), ("stages_ns_256", 250.0)];
const BATCHES: [usize; 3] = [1, 16, 256];
const ROUNDS_COUNT: usize = 1_001;
const CHANGES_PER_ROUND: usize = 2_048;
const TABLES: &str = "orders";
const STATUS: &str = "shipped";
const TWO_ROUTES: &str = "the router gives two routes a change";
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
    let folder = match named {
        Some(folder) => PathBuf::from(folder),
        None => default_folder(&program).context("the benchmark does not lie in a target folder")?,
    };
    let cache = tempfile::tempdir()?;
    let loader = Loader::new(Engine::new()?, cache.path(), &program)?;
    let load = |name: &str, settings: &[(&str, &str)]| load(&loader, &folder, name, settings);
    let router = || load("row-router", &[("tables", TABLES)]);

    let mut figures: Vec<(String, f64)> = Vec::new();
    let mut policy = Policy::new([router()?])?;
    let native = NativePolicy::<RowRouter>::configure([("tables", TABLES)]).map_err(anyhow::Error::msg)?;
    println!("changes a batch   component, ns a change   native, ns a change");
    for count in BATCHES {
        let component = measure_policy(&mut policy, count)?;
        let batch = native.lower(&samples(count));
        let native = measure(
            count,
            || (),
            |()| {
                let lists = native.direct_lowered(std::hint::black_box(&batch));
                anyhow::ensure!(std::hint::black_box(&lists).routes_count() == 2 * count, TWO_ROUTES);
                Ok(())
            },
        )?;
        println!("{count:>15}   {component:>22.1}   {native:>19.1}");
        figures
            .extend([(format!("component_ns_{count}"), component), (format!("native_ns_{count}"), native)]);
    }
    let masks = load("mask-columns", &[("columns", "orders.note")])?;
    let mut stages = Policy::new([masks, router()?, load("hybrid-fanout", &[])?])?;
    let count = BATCHES[BATCHES.len() - 1];
    let each = measure_stages(&mut stages, count)?;
    println!("filter, router and fan-out, {count} changes a batch: {each:.1} ns a change");
    figures.push((format!("stages_ns_{count}"), each));
    print_report(&figures);
    Ok(())
}

fn load(loader: &Loader, folder: &Path, name: &str, settings: &[(&str, &str)]) -> anyhow::Result<Plugin> {
    let path = folder.join(format!("{name}.wasm"));
    let wasm = read_component(&path, Profile::Small).with_context(|| {
        format!("{}: make it with `cargo xtask build-plugins`, or name another folder", path.display())
    })?;
    let activation = Activation {
        plugin: name.into(),
        generation: 1,
        digest: Digest::of(&wasm),
        order: 0,
        settings: settings.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect(),
        grants: Grants::default(),
        profile: Profile::Small,
        on_fault: OnFault::SetAside,
    };
    Ok(loader.load(&wasm, activation)?)
}

fn print_report(figures: &[(String, f64)]) {
    let aims = AIMS.iter().map(|(name, at_most)| {
        let met = figures.iter().any(|(figure, value)| figure == name && value <= at_most);
        format!("{{\"figure\":\"{name}\",\"at_most\":{at_most},\"met\":{met}}}")
    });
    let aims: Vec<_> = aims.collect();
    let figures: Vec<_> = figures.iter().map(|(name, value)| format!("\"{name}\":{value:.1}")).collect();
    println!("{{\"bench\":\"policy\",\"figures\":{{{}}},\"aims\":[{}]}}", figures.join(","), aims.join(","));
}

/// Of calls with so many changes.
fn measure_policy(policy: &mut Policy, count: usize) -> anyhow::Result<f64> {
    let mut changes = changes(count);
    measure(
        count,
        || (),
        |()| {
            let evaluation = policy.evaluate(std::hint::black_box(&mut changes));
            anyhow::ensure!(std::hint::black_box(&evaluation).routes.len() == 2 * count, TWO_ROUTES);
            Ok(())
        },
    )
}

/// As [`measure_policy`], with a plan for each change. The changes are new in each call, since the filter masks them.
fn measure_stages(policy: &mut Policy, count: usize) -> anyhow::Result<f64> {
    let fresh = changes(count);
    let items: Vec<_> = (0..count).map(|number| id(number).to_string()).collect();
    let posts: Vec<_> = items.iter().map(|item| post(item)).collect();
    measure(
        count,
        || fresh.clone(),
        |changes| {
            let evaluation = policy.evaluate(std::hint::black_box(changes));
            let planned = policy.plan(std::hint::black_box(&posts));
            anyhow::ensure!(std::hint::black_box(&evaluation).routes.len() == 2 * count, TWO_ROUTES);
            anyhow::ensure!(evaluation.troubles.is_empty() && planned.trouble.is_none(), "nothing fails");
            let note = changes[0].row().map(|row| row.value(2));
            anyhow::ensure!(note == Some(Value::Masked), "the filter hides the note");
            Ok(())
        },
    )
}

fn post(item: &str) -> Post<'_> {
    Post { author: "somebody", item, followers: 1_000, online: 10, active: 100, rate: 1, previous: None }
}

/// `TARGET/release/deps/policy-HASH` → `TARGET/plugins`.
fn default_folder(program: &Path) -> Option<PathBuf> {
    Some(program.ancestors().nth(3)?.join("plugins"))
}

/// The nanoseconds a change of calls with so many. What a call takes is prepared before its round, and not counted.
fn measure<Taken>(
    changes: usize,
    mut prepare: impl FnMut() -> Taken,
    mut call: impl FnMut(&mut Taken) -> anyhow::Result<()>,
) -> anyhow::Result<f64> {
    let calls = CHANGES_PER_ROUND / changes;
    let mut rounds = Vec::with_capacity(ROUNDS_COUNT);
    for _ in 0..ROUNDS_COUNT {
        let mut taken: Vec<_> = (0..calls).map(|_| prepare()).collect();
        let start = processor_time_ns()?;
        for taken in &mut taken {
            call(taken)?;
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
