//! What a policy costs: nanoseconds a change by the size of the batch, memory, and what a swap costs the others.
//!
//! In: the folder of the components that ship, as the argument or `TARGET/plugins`. Out: tables, and last one line of
//! JSON. `time` says what a change costs, `idle` what plugins cost that have nothing to do, `swap` what an activation
//! costs the changes that come meanwhile.
//!
//! Times of a change are those of the processor in this one thread, so that others on the machine do not count (but
//! for the caches that they share), and the figure is the median of many short rounds.

mod idle;
#[path = "../support/report.rs"]
mod report;
#[path = "../support/mod.rs"]
mod support;
mod swap;
mod time;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context;
use report::print_report;
use twohop::policy::{Engine, Loader, Plugin, Profile, read_component};

/// Figures with the most that each may be.
const AIMS: [(&str, f64); 6] = [
    ("component_ns_1", 2_000.0),
    ("component_ns_256", 80.0),
    ("stages_ns_256", 250.0),
    ("swap_p99_extra_ms", 5.0),
    ("idle_plugin_mib", 2.0),
    // Nothing that can be measured: what is left is the noise of two runs of the same.
    ("active_200_extra_ns", 2.0),
];

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
    let loader = Arc::new(Loader::new(Engine::new()?, cache.path(), &program)?);
    let components = Components { folder, loader };
    // Memory first, as long as the process has none that it keeps for later.
    let mut figures = idle::measure(&components)?;
    figures.extend(time::measure(&components)?);
    figures.extend(swap::measure(&components)?);
    print_report("policy", &figures, &AIMS, &[]);
    Ok(())
}

/// What is measured, by name.
type Figures = Vec<(String, f64)>;

/// The components that ship, and what loads them.
struct Components {
    folder: PathBuf,
    loader: Arc<Loader>,
}

impl Components {
    fn read(&self, name: &str) -> anyhow::Result<Vec<u8>> {
        let path = self.folder.join(format!("{name}.wasm"));
        read_component(&path, Profile::Small).with_context(|| {
            format!("{}: make it with `cargo xtask build-plugins`, or name another folder", path.display())
        })
    }

    fn load(&self, component: &str, settings: &[(&str, &str)]) -> anyhow::Result<Plugin> {
        self.load_as(component, component, settings)
    }

    fn load_as(&self, name: &str, component: &str, settings: &[(&str, &str)]) -> anyhow::Result<Plugin> {
        support::load(&self.loader, &self.read(component)?, name, Profile::Small, settings)
    }
}

/// `TARGET/release/deps/policy-HASH` → `TARGET/plugins`.
fn default_folder(program: &Path) -> Option<PathBuf> {
    Some(program.ancestors().nth(3)?.join("plugins"))
}
