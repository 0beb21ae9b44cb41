//! What a policy costs: nanoseconds a change through the shipped `row-router`, by the size of the batch.
//!
//! In: the component, as the argument or `TARGET/plugins/row-router.wasm`. Out: a table, and last one line of JSON.
//! Measured is all of `Policy::evaluate`: finding the subscription, filling the batch, the call, the check of the
//! answer, and the typed routes (two a change), over a table of three columns, on one core. The figure is the fastest
//! tenth of many short rounds: what it costs while nothing else has the core.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use anyhow::Context;
use twohop::event::{Change, Column, Micros, Operation, Origin, Position, RowBuilder, Rows, Table, Value};
use twohop::policy::{COMPILE_SUBCOMMAND, Engine, PluginSource, Policy, compile_plugin};

const AIM_NS: f64 = 100.0;
const ROUNDS_COUNT: usize = 1_001;
const CHANGES_PER_ROUND: usize = 2_048;

fn main() -> anyhow::Result<()> {
    let arguments: Vec<_> = std::env::args_os().skip(1).collect();
    if let [subcommand, input, output] = arguments.as_slice()
        && subcommand == COMPILE_SUBCOMMAND
    {
        return Ok(compile_plugin(Path::new(input), Path::new(output))?);
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
    let settings = [("tables".to_owned(), "orders".to_owned())].into();
    let source = PluginSource { name: "row-router".into(), path, settings };
    let mut policy = Policy::load(&engine, vec![source], cache.path(), &program)?;

    let changes = changes(256);
    let mut figures = Vec::new();
    println!("changes a batch   ns a change");
    for count in [1, 16, 256] {
        let nanoseconds = measure(&mut policy, &changes[..count])?;
        println!("{count:>15}   {nanoseconds:>11.1}");
        figures.push(format!("\"component_ns_{count}\":{nanoseconds:.1}"));
        if count == 256 {
            let met = nanoseconds <= AIM_NS;
            let aim = format!("{{\"figure\":\"component_ns_256\",\"at_most\":{AIM_NS},\"met\":{met}}}");
            println!("{{\"bench\":\"policy\",\"figures\":{{{}}},\"aims\":[{aim}]}}", figures.join(","));
        }
    }
    Ok(())
}

/// `TARGET/release/deps/policy-HASH` → `TARGET/plugins/row-router.wasm`.
fn default_component(program: &Path) -> Option<PathBuf> {
    Some(program.ancestors().nth(3)?.join("plugins/row-router.wasm"))
}

fn measure(policy: &mut Policy, changes: &[Change]) -> anyhow::Result<f64> {
    let calls = CHANGES_PER_ROUND / changes.len();
    let mut rounds = Vec::with_capacity(ROUNDS_COUNT);
    for _ in 0..ROUNDS_COUNT {
        let start = Instant::now();
        for _ in 0..calls {
            let evaluation = policy.evaluate(std::hint::black_box(changes));
            anyhow::ensure!(
                evaluation.routes.len() == 2 * changes.len(),
                "the router gives two routes a change"
            );
            std::hint::black_box(evaluation);
        }
        rounds.push(start.elapsed().as_secs_f64() * 1e9 / CHANGES_PER_ROUND as f64);
    }
    rounds.sort_by(f64::total_cmp);
    Ok(rounds[ROUNDS_COUNT / 10])
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
        builder.push(Value::Integer(100_000 + number as i64));
        builder.push(Value::Text("shipped"));
        builder.push(Value::Text("leave it with the neighbors"));
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
