//! One instantiation of a plugin: a store, and the stages bound in it.
//!
//! In: a component that was checked, and settings. Out: answers, unchecked.
//!
//! Invariant: the epoch deadline is set before every entry. After any error the instance is dropped by its owner: a
//! trap has poisoned its store.

use std::sync::{Arc, Mutex, PoisonError};

use wasmtime::component::InstancePre;
use wasmtime::{ResourceLimiter, Store};

use super::bindings::exports::twohop::policy::{plugin, router};
use super::bindings::twohop::policy::log;
use super::bindings::twohop::policy::types::{Changes, Setting, Subscription};
use super::error::{Fault, Refused, reason, ticks};
use super::plugin_log::PluginLog;
use super::profile::Bounds;
use crate::limits::{
    PLUGIN_ANSWER_BYTES_MAX, PLUGIN_HANDLES_MAX, PLUGIN_TABLE_ELEMENTS_MAX, PLUGIN_TABLES_MAX, PLUGIN_TICK,
};

/// What `configure` answered.
pub(super) type Configured = Result<Vec<Subscription>, String>;

/// The exports of a component, looked up once, and what its instances may have.
pub(super) struct Exports {
    pub(super) bounds: &'static Bounds,
    pub(super) component: InstancePre<State>,
    pub(super) plugin: plugin::GuestIndices,
    pub(super) router: router::GuestIndices,
}

/// A plugin that runs.
pub(super) struct Instance {
    store: Store<State>,
    plugin: plugin::Guest,
    router: router::Guest,
}

/// What the host keeps beside an instance.
pub(super) struct State {
    bounds: &'static Bounds,
    memory_bytes: usize,
    table_elements: usize,
    log: Arc<Mutex<PluginLog>>,
    /// The last error that it wrote in this call: often a panic's message.
    said: Option<String>,
}

impl Instance {
    /// # Errors
    /// If the component does not start within its limits, or its types are other ones.
    pub(super) fn new(exports: &Exports, log: Arc<Mutex<PluginLog>>) -> Result<Self, Fault> {
        let state = State { bounds: exports.bounds, memory_bytes: 0, table_elements: 0, log, said: None };
        let mut store = Store::new(exports.component.engine(), state);
        store.limiter(|state| state);
        store.set_hostcall_fuel(PLUGIN_ANSWER_BYTES_MAX);
        store.set_max_component_handles(PLUGIN_HANDLES_MAX);
        set_deadline(&mut store);
        let instance = match exports.component.instantiate(&mut store) {
            Ok(instance) => instance,
            Err(error) => {
                return Err(match store.data_mut().fault(&error) {
                    Fault::Trap { trap, said: None } => Fault::Instance(trap),
                    fault => fault,
                });
            }
        };
        let shape = |error: wasmtime::Error| Fault::Instance(format!("{error:#}"));
        let plugin = exports.plugin.load(&mut store, &instance).map_err(shape)?;
        let router = exports.router.load(&mut store, &instance).map_err(shape)?;
        Ok(Self { store, plugin, router })
    }

    /// # Errors
    /// If the call fails; the instance is then of no more use.
    pub(super) fn configure(&mut self, settings: &[Setting<'_>]) -> Result<Configured, Fault> {
        self.enter();
        let answer = self.plugin.call_configure(&mut self.store, settings);
        self.leave(answer)
    }

    /// # Errors
    /// If the call fails; the instance is then of no more use.
    pub(super) fn direct(&mut self, changes: Changes<'_>) -> Result<router::Outcome, Fault> {
        self.enter();
        let answer = self.router.call_direct(&mut self.store, changes);
        self.leave(answer)
    }

    fn enter(&mut self) {
        set_deadline(&mut self.store);
        self.store.data_mut().said = None;
    }

    fn leave<T>(&mut self, answer: wasmtime::Result<T>) -> Result<T, Fault> {
        answer.map_err(|error| self.store.data_mut().fault(&error))
    }
}

fn set_deadline(store: &mut Store<State>) {
    let time_max = store.data().bounds.call_time_max;
    // One more, since the tick under way may be about to end.
    store.set_epoch_deadline(ticks(time_max, PLUGIN_TICK) + 1);
}

impl State {
    fn fault(&mut self, error: &wasmtime::Error) -> Fault {
        Fault::of_call(error, self.said.take(), self.bounds.call_time_max)
    }
}

impl log::Host for State {
    fn write(&mut self, level: log::Level, message: String) {
        if level == log::Level::Error {
            self.said = Some(reason(&message));
        }
        self.log.lock().unwrap_or_else(PoisonError::into_inner).write(level, &message);
    }
}

/// Growth past a limit traps instead of answering -1: the fault then names what was asked for.
impl ResourceLimiter for State {
    fn memory_growing(&mut self, current: usize, desired: usize, _: Option<usize>) -> wasmtime::Result<bool> {
        self.memory_bytes = self.memory_bytes.saturating_add(desired.saturating_sub(current));
        let bytes_max = self.bounds.memory_bytes_max;
        if self.memory_bytes > bytes_max {
            return Err(Refused::Memory { bytes: self.memory_bytes, bytes_max }.into());
        }
        Ok(true)
    }

    fn table_growing(&mut self, current: usize, desired: usize, _: Option<usize>) -> wasmtime::Result<bool> {
        self.table_elements = self.table_elements.saturating_add(desired.saturating_sub(current));
        if self.table_elements > PLUGIN_TABLE_ELEMENTS_MAX {
            return Err(Refused::Table(self.table_elements).into());
        }
        Ok(true)
    }

    fn instances(&self) -> usize {
        self.bounds.core_instances_max as usize
    }

    fn tables(&self) -> usize {
        PLUGIN_TABLES_MAX as usize
    }

    fn memories(&self) -> usize {
        1
    }
}
