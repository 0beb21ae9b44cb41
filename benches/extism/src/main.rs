//! What a change costs in an Extism plugin that does what `row-router` does, JSON in and out.
//!
//! In: the path of the guest's module (`guest/`, built for wasm32-unknown-unknown). Out: one line of JSON,
//! `{"extism_ns_256": N}`: nanoseconds of this thread a change at batch 256, the median of many rounds.
//!
//! Counted is what a host does with it: writing the batch as JSON, the call, reading the routes. The changes are those
//! of `host/benches/support`, three columns each, and so is the counting.

use std::borrow::Cow;

use anyhow::Context;
use extism::{Manifest, Plugin, Wasm};
use nix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};

const BATCH: usize = 256;
const ROUNDS_COUNT: usize = 501;

#[derive(Serialize)]
struct Change {
    table: &'static str,
    operation: &'static str,
    key: String,
    row: Row,
}

#[derive(Serialize)]
struct Row {
    id: i64,
    status: &'static str,
    note: &'static str,
}

#[derive(Deserialize)]
struct Route<'a> {
    change: usize,
    #[serde(borrow)]
    channel: Cow<'a, str>,
    #[serde(borrow)]
    event: Cow<'a, str>,
    #[serde(borrow)]
    payload: Cow<'a, str>,
}

fn main() -> anyhow::Result<()> {
    let module = std::env::args_os().nth(1).context("name the guest's module")?;
    let module = std::fs::read(module).context("the guest's module cannot be read")?;
    let mut plugin = Plugin::new(Manifest::new([Wasm::data(module)]), [], false)?;
    let changes: Vec<Change> = (0..BATCH)
        .map(|number| {
            let id = 100_000 + i64::try_from(number).expect("small");
            let row = Row { id, status: "shipped", note: "leave it with the neighbors" };
            Change { table: "orders", operation: "insert", key: id.to_string(), row }
        })
        .collect();
    let mut rounds = Vec::with_capacity(ROUNDS_COUNT);
    for _ in 0..ROUNDS_COUNT {
        let start = processor_time_ns()?;
        let batch = serde_json::to_string(std::hint::black_box(&changes))?;
        let answer: &str = plugin.call("direct", batch)?;
        let routes: Vec<Route> = serde_json::from_str(answer)?;
        anyhow::ensure!(routes.len() == 2 * BATCH, "the router gives two routes a change");
        std::hint::black_box(&routes);
        rounds.push((processor_time_ns()? - start) / BATCH as f64);
        let last = &routes[2 * BATCH - 1];
        anyhow::ensure!(
            last.change == BATCH - 1
                && last.channel == "orders:100255"
                && last.event == "insert"
                && last.payload == "row",
            "the last route is that of the last change"
        );
    }
    rounds.sort_by(f64::total_cmp);
    println!("{{\"extism_ns_{BATCH}\":{:.1}}}", rounds[ROUNDS_COUNT / 2]);
    Ok(())
}

/// Of this thread.
fn processor_time_ns() -> anyhow::Result<f64> {
    let time = clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID)?;
    Ok(time.tv_sec() as f64 * 1e9 + time.tv_nsec() as f64)
}
