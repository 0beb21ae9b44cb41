//! What a change costs.
//!
//! - *component* is all of `Policy::evaluate` with `row-router`: finding the subscription, filling the batch, the call,
//!   the check of the answer (two routes a change), and dropping it.
//! - *native* is the same crate, called through the SDK as the component calls it: from the lists of a batch that was
//!   filled before to the lists of an answer, and dropping those. It has none of the host's part, no copy into another
//!   memory, and not the check that the batch's text is UTF-8.
//! - *messages* is component, and then making the messages of its routes, the JSON of each row included, and dropping
//!   them: what of a change's way is left without stores.
//! - *stages* is `Policy::evaluate` with `mask-columns`, which hides one column of each change, and `row-router`, and
//!   then `Policy::plan` with `hybrid-fanout` for as many posts as there are changes.
//!
//! All have the same inserts into a table of three columns.

use row_router::RowRouter;
use twohop::effects;
use twohop::event::Value;
use twohop::policy::{Policy, Post};
use twohop_plugin::testing::{Policy as NativePolicy, Sample};

use crate::support::{NOTE, Rounds, STATUS, TWO_ROUTES, changes, id, routes_count};
use crate::{Components, Figures};

const BATCHES: [usize; 3] = [1, 16, 256];
const ROUNDS: Rounds = Rounds { count: 1_001, changes: 2_048 };
const TABLES: &str = "orders";

pub(crate) fn measure(components: &Components) -> anyhow::Result<Figures> {
    let mut figures = Figures::new();
    let router = || components.load("row-router", &[("tables", TABLES)]);
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
    let count = BATCHES[BATCHES.len() - 1];
    let each = measure_messages(&mut policy, count)?;
    println!("with its messages made, {count} changes a batch: {each:.1} ns a change");
    figures.push((format!("messages_ns_{count}"), each));
    let masks = components.load("mask-columns", &[("columns", "orders.note")])?;
    let mut stages = Policy::new([masks, router()?, components.load("hybrid-fanout", &[])?])?;
    let each = measure_stages(&mut stages, count)?;
    println!("filter, router and fan-out, {count} changes a batch: {each:.1} ns a change");
    figures.push((format!("stages_ns_{count}"), each));
    Ok(figures)
}

fn measure_messages(policy: &mut Policy, count: usize) -> anyhow::Result<f64> {
    let mut changes = changes(count);
    ROUNDS.measure(
        count,
        || (),
        |()| {
            let evaluation = policy.evaluate(std::hint::black_box(&mut changes));
            let messages = effects::messages(&changes, &evaluation.routes);
            anyhow::ensure!(std::hint::black_box(&messages).len() == 2 * count, TWO_ROUTES);
            Ok(())
        },
    )
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
            anyhow::ensure!(routes_count(std::hint::black_box(&evaluation)) == 2 * count, TWO_ROUTES);
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

/// The changes as the kit of the SDK takes them.
fn samples(count: usize) -> Vec<Sample> {
    let sample = |number| {
        let row = twohop_plugin::row! { "id" => id(number), "status" => STATUS, "note" => NOTE };
        Sample::insert("orders", row).key(["id"])
    };
    (0..count).map(sample).collect()
}
