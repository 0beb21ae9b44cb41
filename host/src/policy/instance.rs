//! One instantiation of a plugin: a store, and the stages bound in it.
//!
//! In: a component that was checked, and settings. Out: answers, unchecked.
//!
//! Invariant: the deadline, or the fuel, is set before every entry. After any error the instance is dropped by its owner: a
//! trap has poisoned its store.

use std::sync::{Arc, Mutex, PoisonError};

use wasmtime::component::InstancePre;
use wasmtime::{ResourceLimiter, Store};

use super::bindings::exports::twohop::policy::{fanout, filter, gate, plugin, router};
use super::bindings::twohop::policy::log;
use super::bindings::twohop::policy::types::{Changes, Setting, Subscription};
use super::error::{Fault, Refused, reason, ticks};
use super::meter::Meter;
use super::plugin_log::PluginLog;
use super::profile::Bounds;
use crate::limits::{
    PLUGIN_ANSWER_BYTES_MAX, PLUGIN_HANDLES_MAX, PLUGIN_TABLE_ELEMENTS_MAX, PLUGIN_TABLES_MAX, PLUGIN_TICK,
};

/// What `configure` answered.
pub(super) type Configured = Result<Vec<Subscription>, String>;

/// What a plugin can be asked. To add a stage, change this, `Stages` and `inspect`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Stage {
    /// Which changes go on, and with which columns hidden.
    Filter,
    /// Where changes go.
    Router,
    /// How posts reach their audience.
    Fanout,
    /// Who may listen and speak.
    Gate,
}

impl Stage {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Filter, Self::Router, Self::Fanout, Self::Gate];

    /// As the interface names it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Filter => "filter",
            Self::Router => "router",
            Self::Fanout => "fanout",
            Self::Gate => "gate",
        }
    }
}

impl std::fmt::Display for Stage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

/// Something for each stage that a plugin has.
pub(super) struct Stages<Filter, Router, Fanout, Gate> {
    pub(super) filter: Option<Filter>,
    pub(super) router: Option<Router>,
    pub(super) fanout: Option<Fanout>,
    pub(super) gate: Option<Gate>,
}

impl<Filter, Router, Fanout, Gate> Stages<Filter, Router, Fanout, Gate> {
    pub(super) fn has(&self, stage: Stage) -> bool {
        match stage {
            Stage::Filter => self.filter.is_some(),
            Stage::Router => self.router.is_some(),
            Stage::Fanout => self.fanout.is_some(),
            Stage::Gate => self.gate.is_some(),
        }
    }
}

/// The exports of a component, looked up once, and what its instances may have.
pub(super) struct Exports {
    pub(super) bounds: &'static Bounds,
    pub(super) meter: Meter,
    pub(super) component: InstancePre<State>,
    pub(super) plugin: plugin::GuestIndices,
    pub(super) stages:
        Stages<filter::GuestIndices, router::GuestIndices, fanout::GuestIndices, gate::GuestIndices>,
}

/// A plugin that runs.
pub(super) struct Instance {
    store: Store<State>,
    plugin: plugin::Guest,
    stages: Stages<filter::Guest, router::Guest, fanout::Guest, gate::Guest>,
}

/// What the host keeps beside an instance.
pub(super) struct State {
    bounds: &'static Bounds,
    meter: Meter,
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
        let Exports { bounds, meter, .. } = *exports;
        let state = State { bounds, meter, memory_bytes: 0, table_elements: 0, log, said: None };
        let mut store = Store::new(exports.component.engine(), state);
        store.limiter(|state| state);
        store.set_hostcall_fuel(PLUGIN_ANSWER_BYTES_MAX);
        store.set_max_component_handles(PLUGIN_HANDLES_MAX);
        limit_call(&mut store);
        let instance = match exports.component.instantiate(&mut store) {
            Ok(instance) => instance,
            Err(error) => {
                return Err(match store.data_mut().fault(&error) {
                    Fault::Trap { trap, said: None } => Fault::Instance(trap),
                    fault => fault,
                });
            }
        };
        let shape =
            |error: wasmtime::Error| Fault::Instance(format!("it does not fit wit/policy.wit: {error:#}"));
        let plugin = exports.plugin.load(&mut store, &instance).map_err(shape)?;
        let Stages { filter, router, fanout, gate } = &exports.stages;
        let stages = Stages {
            filter: filter.as_ref().map(|it| it.load(&mut store, &instance)).transpose().map_err(shape)?,
            router: router.as_ref().map(|it| it.load(&mut store, &instance)).transpose().map_err(shape)?,
            fanout: fanout.as_ref().map(|it| it.load(&mut store, &instance)).transpose().map_err(shape)?,
            gate: gate.as_ref().map(|it| it.load(&mut store, &instance)).transpose().map_err(shape)?,
        };
        Ok(Self { store, plugin, stages })
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
    ///
    /// # Panics
    /// If it has no such stage, as for the others.
    pub(super) fn filter(&mut self, changes: Changes<'_>) -> Result<filter::Outcome, Fault> {
        self.enter();
        let filter = self.stages.filter.as_ref().expect("who asks has looked");
        let answer = filter.call_evaluate(&mut self.store, changes);
        self.leave(answer)
    }

    /// # Errors
    /// If the call fails; the instance is then of no more use.
    pub(super) fn direct(&mut self, changes: Changes<'_>) -> Result<router::Outcome, Fault> {
        self.enter();
        let router = self.stages.router.as_ref().expect("who asks has looked");
        let answer = router.call_direct(&mut self.store, changes);
        self.leave(answer)
    }

    /// # Errors
    /// If the call fails; the instance is then of no more use.
    pub(super) fn decide(&mut self, posts: fanout::Posts<'_>) -> Result<Vec<u8>, Fault> {
        self.enter();
        let fanout = self.stages.fanout.as_ref().expect("who asks has looked");
        let answer = fanout.call_decide(&mut self.store, posts);
        self.leave(answer)
    }

    /// # Errors
    /// If the call fails; the instance is then of no more use.
    pub(super) fn admit(
        &mut self,
        connection: gate::Connection<'_>,
        request: gate::Request<'_>,
    ) -> Result<Result<gate::Grant, gate::Refusal>, Fault> {
        self.enter();
        let gate = self.stages.gate.as_ref().expect("who asks has looked");
        let answer = gate.call_admit(&mut self.store, connection, request);
        self.leave(answer)
    }

    /// # Errors
    /// If the call fails; the instance is then of no more use.
    pub(super) fn receive(
        &mut self,
        connection: gate::Connection<'_>,
        request: gate::Request<'_>,
        message: &[u8],
    ) -> Result<Result<gate::Reception, gate::Refusal>, Fault> {
        self.enter();
        let gate = self.stages.gate.as_ref().expect("who asks has looked");
        let answer = gate.call_receive(&mut self.store, connection, request, message);
        self.leave(answer)
    }

    /// How many instructions the last call ran; 0 where they are not counted.
    pub(super) fn instructions(&self) -> u64 {
        let State { bounds, meter, .. } = self.store.data();
        match meter {
            Meter::Clock => 0,
            Meter::Fuel => {
                let left = self.store.get_fuel().expect("its engine counts instructions");
                bounds.call_instructions_max.saturating_sub(left)
            }
        }
    }

    fn enter(&mut self) {
        limit_call(&mut self.store);
        self.store.data_mut().said = None;
    }

    fn leave<T>(&mut self, answer: wasmtime::Result<T>) -> Result<T, Fault> {
        answer.map_err(|error| self.store.data_mut().fault(&error))
    }
}

fn limit_call(store: &mut Store<State>) {
    let bounds = store.data().bounds;
    match store.data().meter {
        // One more, since the tick under way may be about to end.
        Meter::Clock => store.set_epoch_deadline(ticks(bounds.call_time_max, PLUGIN_TICK) + 1),
        Meter::Fuel => store.set_fuel(bounds.call_instructions_max).expect("its engine counts instructions"),
    }
}

impl State {
    fn fault(&mut self, error: &wasmtime::Error) -> Fault {
        Fault::of_call(error, self.said.take(), self.bounds)
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
