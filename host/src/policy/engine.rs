//! The engine: every limit that a plugin meets, set once.
//!
//! In: a profile, whose bounds are in `limits`, and a meter. Out: an [`Engine`] that instances are made of. That of the
//! small profile reserves room for every plugin at once, so that an instance costs microseconds; that of the large one,
//! and each that counts instructions, reserves nothing, and makes room for each instance when it comes.
//!
//! Invariant: what one engine made is never mixed with another's. A call is stopped within one tick of its deadline,
//! whatever the plugin does; the ticker ends with the engine. Where fuel is the meter there is no clock at all, so that a
//! call ends the same everywhere. Two instances never see each other's memory.
//! Absent on purpose: WASI, fuel in a server (two to three times slower than epochs), asynchronous calls.

use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;

use wasmtime::component::Linker;
use wasmtime::{Config, InstanceAllocationStrategy, PoolingAllocationConfig};

use super::bindings::twohop::policy::log;
use super::instance::State;
use super::profile::Bounds;
use super::{Meter, PolicyError, Profile};
use crate::limits::{
    PLUGIN_STACK_BYTES_MAX, PLUGIN_TABLE_ELEMENTS_MAX, PLUGIN_TABLES_MAX, PLUGIN_TICK,
    PLUGINS_BESIDE_COUNT_MAX, PLUGINS_COUNT_MAX,
};

/// Runs plugins of one profile. Cheap to clone; one a profile and meter.
#[derive(Clone)]
pub struct Engine(Arc<Running>);

struct Running {
    profile: Profile,
    meter: Meter,
    engine: wasmtime::Engine,
    linker: Linker<State>,
    /// Nothing, where fuel is the meter.
    ticker: Option<Ticker>,
}

struct Ticker {
    /// Dropped to stop it.
    stop: mpsc::Sender<()>,
    thread: JoinHandle<()>,
}

impl Engine {
    /// Starts the engine of the small profile and its ticker. The loader starts that of the large one.
    ///
    /// # Errors
    /// If the address space for the plugins cannot be reserved, or the ticker's thread cannot start.
    pub fn new() -> Result<Self, PolicyError> {
        Self::of(Profile::Small, Meter::Clock)
    }

    /// Starts an engine of the small profile that counts instructions, and has no clock.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn counting() -> Result<Self, PolicyError> {
        Self::of(Profile::Small, Meter::Fuel)
    }

    /// # Errors
    /// As [`new`](Self::new).
    pub(super) fn of(profile: Profile, meter: Meter) -> Result<Self, PolicyError> {
        let mut config = config(meter);
        config.allocation_strategy(match (profile, meter) {
            (Profile::Small, Meter::Clock) => InstanceAllocationStrategy::Pooling(pool(profile.bounds())),
            (Profile::Large, _) | (_, Meter::Fuel) => InstanceAllocationStrategy::OnDemand,
        });
        let engine = wasmtime::Engine::new(&config)
            .map_err(|error| PolicyError::AddressSpace(error.root_cause().to_string()))?;
        let mut linker = Linker::new(&engine);
        log::add_to_linker::<State, wasmtime::component::HasSelf<State>>(&mut linker, |state| state)
            .expect("an empty linker takes the log");
        let ticker = match meter {
            Meter::Clock => Some(Ticker::start(engine.clone()).map_err(PolicyError::Ticker)?),
            Meter::Fuel => None,
        };
        Ok(Self(Arc::new(Running { profile, meter, engine, linker, ticker })))
    }

    pub(super) fn meter(&self) -> Meter {
        self.0.meter
    }

    pub(super) fn profile(&self) -> Profile {
        self.0.profile
    }

    pub(super) fn wasmtime(&self) -> &wasmtime::Engine {
        &self.0.engine
    }

    pub(super) fn linker(&self) -> &Linker<State> {
        &self.0.linker
    }
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Engine").finish_non_exhaustive()
    }
}

impl Ticker {
    fn start(engine: wasmtime::Engine) -> std::io::Result<Self> {
        let (stop, stopped) = mpsc::channel();
        let tick = move || {
            while stopped.recv_timeout(PLUGIN_TICK) == Err(mpsc::RecvTimeoutError::Timeout) {
                engine.increment_epoch();
            }
        };
        let thread = std::thread::Builder::new().name("plugin-ticker".into()).spawn(tick)?;
        Ok(Self { stop, thread })
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(Ticker { stop, thread }) = self.ticker.take() {
            drop(stop);
            // It cannot panic, and if it did there would be nothing to mend here.
            let _ = thread.join();
        }
    }
}

/// The engine of the child process that compiles. It runs nothing and reserves nothing, but its code is the one that
/// [`Engine`] loads: all that code depends on comes from [`config`].
pub(super) fn compiler(meter: Meter) -> wasmtime::Engine {
    let mut config = config(meter);
    // Each thread costs address space, which the child has little of.
    config.parallel_compilation(false);
    wasmtime::Engine::new(&config).expect("the configuration is valid, and nothing is reserved")
}

fn config(meter: Meter) -> Config {
    let mut config = Config::new();
    match meter {
        Meter::Clock => config.epoch_interruption(true),
        Meter::Fuel => config.consume_fuel(true),
    };
    // Without it each synchronous call builds the state of an asynchronous task.
    config.concurrency_support(false);
    config.max_wasm_stack(PLUGIN_STACK_BYTES_MAX);
    // The bits of a NaN would differ between machines: a policy must be replayable.
    config.cranelift_nan_canonicalization(true);
    config.wasm_relaxed_simd(false);
    config.wasm_memory64(false);
    config.wasm_multi_memory(false);
    config.wasm_tail_call(false);
    // The mitigations of Spectre need it, and without it calls cost up to twice as much.
    config.signals_based_traps(true);
    config
}

fn pool(bounds: &Bounds) -> PoolingAllocationConfig {
    let plugins = u32::try_from(PLUGINS_COUNT_MAX + PLUGINS_BESIDE_COUNT_MAX).expect("a few hundred");
    let mut pool = PoolingAllocationConfig::default();
    pool.total_component_instances(plugins)
        .total_core_instances(plugins * bounds.core_instances_max)
        .total_memories(plugins)
        .total_tables(plugins * PLUGIN_TABLES_MAX)
        .max_core_instances_per_component(bounds.core_instances_max)
        .max_memories_per_component(1)
        .max_tables_per_component(PLUGIN_TABLES_MAX)
        .max_memory_size(bounds.memory_bytes_max)
        .table_elements(PLUGIN_TABLE_ELEMENTS_MAX);
    pool
}

#[cfg(test)]
mod tests {
    use std::hash::{DefaultHasher, Hash, Hasher};

    use super::*;

    #[test]
    fn the_compiler_makes_the_code_that_the_engine_loads() {
        let hash = |engine: &wasmtime::Engine| {
            let mut hasher = DefaultHasher::new();
            engine.precompile_compatibility_hash().hash(&mut hasher);
            hasher.finish()
        };
        for profile in [Profile::Small, Profile::Large] {
            for meter in [Meter::Clock, Meter::Fuel] {
                let engine = Engine::of(profile, meter).expect("the engine starts");
                assert_eq!(hash(engine.wasmtime()), hash(&compiler(meter)), "{profile} {meter}");
            }
        }
        assert_ne!(hash(&compiler(Meter::Clock)), hash(&compiler(Meter::Fuel)), "the cache tells them apart");
    }

    #[test]
    fn the_ticker_ends_with_the_last_clone_of_the_engine() {
        let engine = Engine::new().expect("the engine starts");
        let weak = engine.wasmtime().weak();
        let clone = engine.clone();
        drop(engine);
        assert!(weak.upgrade().is_some());
        drop(clone);
        // The ticker held a clone of the inner engine, and was joined.
        assert!(weak.upgrade().is_none());
    }
}
