//! What a plugin costs in other languages: `row-router` in Rust, JavaScript and Python, one after the other.
//!
//! In: the components of `TARGET/plugins`. Out: a table, and last one line of JSON.
//!
//! - *nanoseconds a change* is all of `Policy::evaluate` for inserts into a table of three columns, two routes a change,
//!   by the size of the batch: the processor's time of this one thread, the median of many short rounds.
//! - *compile time* is the processor's time of the child that compiles, which has one thread.
//! - *resident* is what the process has more after loading than before, with an engine of that profile running: first
//!   with the compiled code, then what an instance more of the same plugin adds to that, code and all; and after the
//!   calls, what its heap has grown by.
//!
//! No aims: these languages are for those who want them, and this is what they cost.

#[allow(dead_code, reason = "the other bench has more use for it")]
mod support;

use std::path::Path;
use std::time::Duration;

use anyhow::Context;
use nix::sys::resource::{UsageWho, getrusage};
use support::{Rounds, resident_mib};
use twohop::policy::{Engine, Loader, Policy, Profile, read_component};

const LANGUAGES: [(&str, &str, Profile); 3] = [
    ("rust", "row-router", Profile::Small),
    ("javascript", "row-router-javascript", Profile::Large),
    ("python", "row-router-python", Profile::Large),
];
const BATCHES: [usize; 2] = [1, 256];
const ROUNDS: Rounds = Rounds { count: 101, changes: 512 };

fn main() -> anyhow::Result<()> {
    let arguments: Vec<_> = std::env::args_os().skip(1).collect();
    if support::compiles(&arguments)? {
        return Ok(());
    }
    let program = std::env::current_exe()?;
    let plugins =
        program.ancestors().nth(3).context("the benchmark does not lie in a target folder")?.join("plugins");
    println!(
        "language     component   compile    resident, one more, after calls   ns a change: at 1   at 256"
    );
    let mut figures = Vec::new();
    for (language, name, profile) in LANGUAGES {
        let measured = measure(&plugins.join(name).with_extension("wasm"), profile, &program)?;
        println!("{language:<10} {measured}");
        figures.push(measured.figures(language));
    }
    println!("{{\"bench\":\"languages\",\"figures\":{{{}}},\"aims\":[]}}", figures.join(","));
    Ok(())
}

/// What one language costs.
struct Measured {
    component_bytes: usize,
    compile_time: Duration,
    /// With its code, of one more, and grown by in the calls.
    resident_mib: [f64; 3],
    ns: [f64; BATCHES.len()],
}

impl Measured {
    fn figures(&self, language: &str) -> String {
        let [first, more, grown] = self.resident_mib;
        let [single, full] = self.ns;
        format!(
            "\"{language}_component_bytes\":{},\"{language}_compile_s\":{:.2},\"{language}_resident_mib\":{first:.1},\
             \"{language}_resident_more_mib\":{more:.1},\"{language}_grown_mib\":{grown:.1},\
             \"{language}_ns_1\":{single:.1},\"{language}_ns_256\":{full:.1}",
            self.component_bytes,
            self.compile_time.as_secs_f64(),
        )
    }
}

impl std::fmt::Display for Measured {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let [first, more, grown] = self.resident_mib;
        let [single, full] = self.ns;
        write!(
            f,
            "{:>9} B  {:>6.2} s  {first:>8.1} MiB {more:>7.1} MiB {grown:>7.1} MiB   {single:>17.0} {full:>8.0}",
            self.component_bytes,
            self.compile_time.as_secs_f64(),
        )
    }
}

fn measure(path: &Path, profile: Profile, program: &Path) -> anyhow::Result<Measured> {
    let wasm = read_component(path, profile).with_context(|| {
        format!("{}: make it with `cargo xtask build-plugins --all-languages`", path.display())
    })?;
    let cache = tempfile::tempdir()?;
    let loader = Loader::new(Engine::new()?, cache.path(), program)?;
    let before = children_time()?;
    // Starts the engine and fills the cache; what is measured is loaded from there.
    let load = |name| support::load(&loader, &wasm, name, profile, &[("tables", "orders")]);
    drop(load("first")?);
    let compile_time = children_time()?.saturating_sub(before);
    let empty = resident_mib()?;
    let plugin = load("a")?;
    let first = resident_mib()?;
    let more = load("b")?;
    let both = resident_mib()?;
    drop(more);
    let mut policy = Policy::new([plugin])?;
    let start = resident_mib()?;
    let ns = BATCHES.map(|count| ROUNDS.measure_policy(&mut policy, count));
    let end = resident_mib()?;
    let [single, full] = ns;
    Ok(Measured {
        component_bytes: wasm.len(),
        compile_time,
        resident_mib: [first - empty, both - first, end - start],
        ns: [single?, full?],
    })
}

/// Of all children that have ended.
fn children_time() -> anyhow::Result<Duration> {
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN)?;
    let duration = |time: nix::sys::time::TimeVal| {
        Duration::from_micros(time.tv_sec().unsigned_abs() * 1_000_000 + time.tv_usec().unsigned_abs())
    };
    Ok(duration(usage.user_time()) + duration(usage.system_time()))
}
