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

mod support;

use std::path::{Path, PathBuf};

use anyhow::Context;
use row_router::RowRouter;
use support::{NOTE, Rounds, STATUS, TWO_ROUTES, changes, id};
use twohop::event::Value;
use twohop::policy::{Engine, Loader, Plugin, Policy, Post, Profile, read_component};
use twohop_plugin::testing::{Policy as NativePolicy, Sample};

/// Figures with the most that each may be.
const AIMS: [(&str, f64); 3] =
    [("component_ns_1", 2_000.0), ("component_ns_256", 80.0), ("stages_ns_256", 250.0)];
const BATCHES: [usize; 3] = [1, 16, 256];
const ROUNDS: Rounds = Rounds { count: 1_001, changes: 2_048 };
const TABLES: &str = "orders";

fn main() -> anyhow::Result<()> {
    let arguments: Vec<_> = std::env::args_os().skip(1).collect();
    if support::compiles(&arguments)? {
        return Ok(());
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
        let component = ROUNDS.measure_policy(&mut policy, count)?;
        let batch = native.lower(&samples(count));
        let native = ROUNDS.measure(
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
    support::load(loader, &wasm, name, Profile::Small, settings)
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

/// Of filter and router, with a plan for each change. The changes are new in each call, since the filter masks them.
fn measure_stages(policy: &mut Policy, count: usize) -> anyhow::Result<f64> {
    let fresh = changes(count);
    let items: Vec<_> = (0..count).map(|number| id(number).to_string()).collect();
    let posts: Vec<_> = items.iter().map(|item| post(item)).collect();
    ROUNDS.measure(
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

/// The changes as the kit of the SDK takes them.
fn samples(count: usize) -> Vec<Sample> {
    let sample = |number| {
        let row = twohop_plugin::row! { "id" => id(number), "status" => STATUS, "note" => NOTE };
        Sample::insert("orders", row).key(["id"])
    };
    (0..count).map(sample).collect()
}
