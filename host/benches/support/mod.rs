//! What the benches of plugins share: the changes, the clock, and plugins that run.

mod resident;

use std::ffi::OsString;
use std::path::Path;
use std::sync::Arc;

use nix::time::{ClockId, clock_gettime};
use twohop::event::{Change, Column, Micros, Operation, Origin, Position, RowBuilder, Rows, Table, Value};
use twohop::policy::{
    Activation, COMPILE_SUBCOMMAND, Digest, Evaluation, Grants, Loader, OnFault, Plugin, Policy, Profile,
    compile_plugin,
};

pub(crate) use resident::resident_mib;

pub(crate) const STATUS: &str = "shipped";
pub(crate) const NOTE: &str = "leave it with the neighbors";
pub(crate) const TWO_ROUTES: &str = "the router gives two routes a change";

/// Compiles a plugin, if these are the arguments of the child that does; says whether they were.
pub(crate) fn compiles(arguments: &[OsString]) -> anyhow::Result<bool> {
    let [subcommand, profile, meter, input, output] = arguments else { return Ok(false) };
    if subcommand != COMPILE_SUBCOMMAND {
        return Ok(false);
    }
    let [profile, meter] = [profile, meter].map(|word| word.to_string_lossy());
    compile_plugin(profile.parse()?, meter.parse()?, Path::new(input), Path::new(output))?;
    Ok(true)
}

/// A plugin that may do everything that a plugin may by default.
pub(crate) fn load(
    loader: &Loader,
    wasm: &[u8],
    name: &str,
    profile: Profile,
    settings: &[(&str, &str)],
) -> anyhow::Result<Plugin> {
    let activation = Activation {
        plugin: name.into(),
        generation: 1,
        digest: Digest::of(wasm),
        order: 0,
        settings: settings.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect(),
        grants: Grants::default(),
        profile,
        on_fault: OnFault::SetAside,
    };
    Ok(loader.load(wasm, activation)?)
}

/// How often something is measured.
pub(crate) struct Rounds {
    pub(crate) count: usize,
    /// Of each, whatever the size of a batch.
    pub(crate) changes: usize,
}

impl Rounds {
    /// The nanoseconds a change of calls with so many, the median of the rounds. What a call takes is prepared before its
    /// round, and not counted.
    pub(crate) fn measure<Taken>(
        &self,
        changes: usize,
        mut prepare: impl FnMut() -> Taken,
        mut call: impl FnMut(&mut Taken) -> anyhow::Result<()>,
    ) -> anyhow::Result<f64> {
        let calls = self.changes / changes;
        let mut rounds = Vec::with_capacity(self.count);
        for _ in 0..self.count {
            let mut taken: Vec<_> = (0..calls).map(|_| prepare()).collect();
            let start = processor_time_ns()?;
            for taken in &mut taken {
                call(taken)?;
            }
            rounds.push((processor_time_ns()? - start) / self.changes as f64);
        }
        rounds.sort_by(f64::total_cmp);
        Ok(rounds[self.count / 2])
    }

    /// As [`Rounds::measure`], of all of [`Policy::evaluate`] with one `row-router`.
    pub(crate) fn measure_policy(&self, policy: &mut Policy, count: usize) -> anyhow::Result<f64> {
        let mut changes = changes(count);
        self.measure(
            count,
            || (),
            |()| {
                let evaluation = policy.evaluate(std::hint::black_box(&mut changes));
                anyhow::ensure!(routes_count(std::hint::black_box(&evaluation)) == 2 * count, TWO_ROUTES);
                Ok(())
            },
        )
    }
}

/// Of all plugins.
pub(crate) fn routes_count(evaluation: &Evaluation) -> usize {
    evaluation.routes.len()
}

/// Of this thread.
fn processor_time_ns() -> anyhow::Result<f64> {
    let time = clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID)?;
    Ok(time.tv_sec() as f64 * 1e9 + time.tv_nsec() as f64)
}

pub(crate) fn id(number: usize) -> i64 {
    100_000 + number as i64
}

/// Inserts into `public.orders (id int8 primary key, status text, note text)`.
pub(crate) fn changes(count: usize) -> Vec<Change> {
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
