//! What plugins cost that have nothing to do: memory, and the time of changes that are for others.
//!
//! - *memory* is what the process has resident for each of a hundred plugins, each with an instance that has judged a
//!   full batch once: its code, its memory, its tables.
//! - *time* is what a change costs more when two hundred plugins are active that subscribed to other tables, beside the
//!   one that gets it; as the pipeline asks, with the look at what each plugin has done.

use twohop::policy::Policy;

use crate::support::{Rounds, TWO_ROUTES, changes, resident_mib, routes_count};
use crate::{Components, Figures};

const IDLE_COUNT: usize = 100;
const ACTIVE_COUNT: usize = 200;
const BATCH: usize = 256;
const ROUNDS: Rounds = Rounds { count: 101, changes: 2_048 };
/// Both are measured in turn so often, and the least of each counts: what disturbs only ever adds.
const TURNS: usize = 9;

pub(crate) fn measure(components: &Components) -> anyhow::Result<Figures> {
    let mib = measure_memory(components)?;
    println!("an idle plugin: {mib:.2} MiB");
    let extra = measure_time(components)?;
    println!("{ACTIVE_COUNT} plugins active beside: {extra:.1} ns a change more");
    Ok(vec![("idle_plugin_mib".to_owned(), mib), (format!("active_{ACTIVE_COUNT}_extra_ns"), extra)])
}

fn measure_memory(components: &Components) -> anyhow::Result<f64> {
    let load = |nth: usize| components.load_as(&format!("idle-{nth}"), "row-router", &[("tables", "orders")]);
    let mut changes = changes(BATCH);
    // What is there once, however many plugins there are.
    let mut first = Policy::new([load(0)?])?;
    anyhow::ensure!(routes_count(&first.evaluate(&mut changes)) == 2 * BATCH, TWO_ROUTES);
    let before = resident_mib()?;
    let mut policy = Policy::new((1..=IDLE_COUNT).map(load).collect::<Result<Vec<_>, _>>()?)?;
    let evaluation = policy.evaluate(&mut changes);
    anyhow::ensure!(routes_count(&evaluation) == 2 * BATCH * IDLE_COUNT, TWO_ROUTES);
    drop(evaluation);
    let grown = resident_mib()? - before;
    drop(policy);
    Ok(grown / IDLE_COUNT as f64)
}

fn measure_time(components: &Components) -> anyhow::Result<f64> {
    let router = || components.load("row-router", &[("tables", "orders")]);
    let other = |nth: usize| {
        components.load_as(&format!("other-{nth}"), "row-router", &[("tables", &*format!("table_{nth}"))])
    };
    let mut alone = Policy::new([router()?])?;
    let mut crowded = Policy::new([router()?])?;
    for nth in 0..ACTIVE_COUNT {
        crowded.put(other(nth)?)?;
    }
    let mut least = [f64::INFINITY; 2];
    for _ in 0..TURNS {
        for (least, policy) in least.iter_mut().zip([&mut alone, &mut crowded]) {
            *least = least.min(measure_work(policy)?);
        }
    }
    Ok(least[1] - least[0])
}

fn measure_work(policy: &mut Policy) -> anyhow::Result<f64> {
    let mut changes = changes(BATCH);
    ROUNDS.measure(
        BATCH,
        || (),
        |()| {
            let evaluation = policy.evaluate(std::hint::black_box(&mut changes));
            let mut working = 0;
            policy.take_work(|_, _| working += 1);
            anyhow::ensure!(working == 1, "one plugin alone gets the changes");
            anyhow::ensure!(routes_count(std::hint::black_box(&evaluation)) == 2 * BATCH, TWO_ROUTES);
            Ok(())
        },
    )
}
