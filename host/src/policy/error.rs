//! What goes wrong with policies: when they are loaded ([`PolicyError`]), and when they are called ([`Fault`]).
//!
//! A policy error is for the person who deploys and stops the deployment. A fault is a plugin's own and sets one
//! change aside; it is a value of the evaluation, never an `Err` of it.
//!
//! Invariant: no message holds a value of a row, except what the plugin itself said.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::Profile;
use super::answer::{AnswerError, PlanError, VerdictError};
use super::instance::Stage;
use super::profile::Bounds;
use super::subscription::SubscriptionError;
use crate::limits::{
    BATCH_BYTES_MAX, PLUGIN_TABLE_ELEMENTS_MAX, PLUGINS_COUNT_MAX, REASON_BYTES_MAX, SUBSCRIPTIONS_COUNT_MAX,
};

/// Why policies cannot be loaded.
#[derive(Debug, thiserror::Error)]
pub enum PolicyError {
    /// The engine did not start.
    #[error(
        "the WebAssembly engine cannot reserve the address space for {PLUGINS_COUNT_MAX} plugins: {0}; \
         look at `ulimit -v` and at the sysctl vm.overcommit_memory, which must not be 2"
    )]
    AddressSpace(String),
    /// The engine's clock did not start.
    #[error("the thread that interrupts plugins cannot start")]
    Ticker(#[source] std::io::Error),
    /// There are too many plugins.
    #[error("{0} plugins are configured, at most {PLUGINS_COUNT_MAX} run at once")]
    TooMany(usize),
    /// Two plugins have the same name.
    #[error("two plugins are named `{0}`: rename one")]
    NameTwice(String),
    /// Two plugins have a stage of which there is one.
    #[error(
        "`{first}` and `{second}` both have a {stage}, of which there can be only one: remove one of them"
    )]
    StageTwice {
        /// The stage.
        stage: Stage,
        /// Who has it.
        first: String,
        /// Who wants it too.
        second: String,
    },
    /// The cache of compiled plugins cannot be used.
    #[error("the folder of compiled plugins, {}, cannot be used", folder.display())]
    Cache {
        /// The folder.
        folder: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
}

/// Why one plugin cannot be loaded. Each message says what to do.
#[derive(Debug, thiserror::Error)]
pub enum PluginError {
    /// The file cannot be read.
    #[error("cannot be read: {0}")]
    Read(std::io::Error),
    /// The file is too large for its profile.
    #[error("has more than {} bytes, the limit {}", .0.bounds().component_bytes_max, smaller(*.0))]
    TooLarge(Profile),
    /// The file is something else.
    #[error("is not WebAssembly: a plugin is the .wasm file that `twohop plugin build` makes")]
    NotWebAssembly,
    /// A module without the component model around it.
    #[error(
        "is a core module, not a component: `twohop plugin build` makes the component of it, \
         as does `wasm-tools component new`"
    )]
    CoreModule,
    /// It is not valid, or uses features of WebAssembly that are off.
    #[error("does not compile: {0}")]
    Compile(String),
    /// What the child process that compiles says; one of the errors above, as a rule.
    #[error("{0}")]
    Child(String),
    /// The compiler cannot be started or its result not be read.
    #[error("the compiler cannot run: {0}")]
    Compiler(std::io::Error),
    /// The compiler took too long.
    #[error("took longer than {} s to compile: make it smaller, above all its largest function", .0.as_secs())]
    CompileTime(Duration),
    /// The engine of its profile did not start.
    #[error("has a profile whose engine cannot start: {0}")]
    Engine(Box<PolicyError>),
    /// It needs more than a plugin may have.
    #[error("cannot be loaded within the limits of a plugin: {0}")]
    Limits(String),
    /// It wants the system.
    #[error(
        "imports `{0}`, but plugins get nothing of WASI: build it for wasm32-unknown-unknown, \
         as `twohop plugin build` does, or as docs/plugins/languages.md says for other languages"
    )]
    Wasi(String),
    /// It wants what the host does not have.
    #[error(
        "imports `{0}`, which this host does not have: only twohop:policy/log and twohop:policy/types are there"
    )]
    UnknownImport(String),
    /// It was built against another major version.
    #[error(
        "has `{0}`, but this host speaks version 1 of twohop:policy: build it with the SDK of this version"
    )]
    OtherVersion(String),
    /// It lacks the interface that every plugin has.
    #[error("does not export twohop:policy/plugin: use `export!` of the SDK, or the world of wit/policy.wit")]
    NoPlugin,
    /// It does nothing.
    #[error(
        "exports no stage: implement at least one of `Filter`, `Router`, `Fanout` and `Gate`, and name it in `export!`"
    )]
    NoStage,
    /// It is to guard and cannot.
    #[error("exports no gate: implement `Gate` and name it in `export!`, or guard with another plugin")]
    NoGate,
    /// It exports what would be silently ignored.
    #[error(
        "exports `{0}`, which this host does not know: it knows plugin, filter, router, fanout and gate, so build it \
         with the SDK of this version"
    )]
    UnknownExport(String),
    /// Its types are other ones.
    #[error("does not fit wit/policy.wit: {0}")]
    Shape(String),
    /// No instance can be made of it.
    #[error("cannot be started: {0}")]
    Start(String),
    /// It failed before the first change.
    #[error("fails when it is configured: {0}")]
    Configure(Fault),
    /// It refuses its settings.
    #[error("refuses its settings: {0}")]
    Refused(String),
    /// It wants to see too much.
    #[error("subscribes {0} times, at most {SUBSCRIPTIONS_COUNT_MAX} are allowed")]
    Subscriptions(usize),
    /// One of its subscriptions makes no sense.
    #[error("asks for what cannot be, in subscription {index} (`{table}`): {problem}")]
    Subscription {
        /// Its place in the answer of `configure`, from 0.
        index: usize,
        /// The table it names.
        table: String,
        /// Why.
        problem: SubscriptionError,
    },
}

/// What a plugin did wrong in a call.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// It trapped: a panic, a stack overflow, too much data.
    #[error("{trap}{}", LastWords(said.as_deref()))]
    Trap {
        /// What the engine says.
        trap: String,
        /// The last error that it wrote to its log in this call.
        said: Option<String>,
    },
    /// It ran too long.
    #[error("ran longer than {} ms", .0.as_millis())]
    Time(Duration),
    /// It ran too much, where instructions are counted.
    #[error("ran more than {0} instructions of WebAssembly")]
    Instructions(u64),
    /// It wanted too much memory.
    #[error("asked for {bytes} bytes of memory, at most {bytes_max} are allowed")]
    Memory {
        /// What it would have had.
        bytes: usize,
        /// What its profile allows.
        bytes_max: usize,
    },
    /// It wanted too large a table.
    #[error("asked for tables of {0} elements, at most {PLUGIN_TABLE_ELEMENTS_MAX} are allowed")]
    Table(usize),
    /// Its answer breaks a rule of the interface.
    #[error("answered wrongly: {0}")]
    Answer(#[from] AnswerError),
    /// As a filter's.
    #[error("answered wrongly: {0}")]
    Verdict(#[from] VerdictError),
    /// As a fan-out's.
    #[error("answered wrongly: {0}")]
    Plan(#[from] PlanError),
    /// A gate refuses and does not say why.
    #[error("answered wrongly: it refuses without saying why")]
    Refusal,
    /// No instance can be made of it.
    #[error("cannot be started: {0}")]
    Instance(String),
    /// `configure` answered differently in a later instance: it is not a pure function of the settings.
    #[error("answered `configure` differently than before")]
    Configure,
    /// A single change does not fit into a call.
    #[error(
        "the change has {0} bytes of what the plugin subscribed to, at most {BATCH_BYTES_MAX} are handed over"
    )]
    ChangeTooLarge(usize),
}

/// What to do about a component that is too large.
fn smaller(profile: Profile) -> &'static str {
    match profile {
        Profile::Small => {
            "for a plugin: build it in release mode, stripped; one that brings a runtime, as JavaScript and Python \
             do, needs `profile = \"large\"`"
        }
        Profile::Large => "for a plugin of the large profile: leave out of it what it does not use",
    }
}

struct LastWords<'a>(Option<&'a str>);

impl fmt::Display for LastWords<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.map_or(Ok(()), |said| write!(f, "; it said: {said}"))
    }
}

/// Asked of a plugin's memory or tables and refused; travels through the engine as its error.
#[derive(Debug, Clone, Copy, thiserror::Error)]
pub(super) enum Refused {
    #[error("{bytes} bytes of memory are too many")]
    Memory { bytes: usize, bytes_max: usize },
    #[error("{0} elements of tables are too many")]
    Table(usize),
}

impl Fault {
    /// What an error of the engine means. `said`: the plugin's last error in its log.
    pub(super) fn of_call(error: &wasmtime::Error, said: Option<String>, bounds: &Bounds) -> Self {
        match error.downcast_ref::<wasmtime::Trap>() {
            Some(wasmtime::Trap::Interrupt) => return Self::Time(bounds.call_time_max),
            Some(wasmtime::Trap::OutOfFuel) => return Self::Instructions(bounds.call_instructions_max),
            Some(_) | None => {}
        }
        match error.downcast_ref() {
            Some(&Refused::Memory { bytes, bytes_max }) => Self::Memory { bytes, bytes_max },
            Some(&Refused::Table(elements)) => Self::Table(elements),
            // The root alone: the layers above it are a backtrace of many lines.
            None => Self::Trap { trap: error.root_cause().to_string(), said },
        }
    }

    /// Whether the fault has nothing to do with the changes that were handed over.
    pub(super) fn is_of_instance(&self) -> bool {
        matches!(self, Self::Instance(_) | Self::Configure)
    }
}

/// Why a change was set aside.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Cause {
    /// The plugin rejected it.
    #[error("rejected: {0}")]
    Rejected(Arc<str>),
    /// The plugin failed on it.
    #[error(transparent)]
    Fault(Fault),
    /// The plugin failed too often and is not asked any more.
    #[error("the plugin is in quarantine: it failed too often")]
    Quarantined,
}

/// Cuts a text to `bytes_max` at a character, and escapes its control characters.
pub(super) fn one_line(text: &str, bytes_max: usize) -> String {
    let cut = &text[..text.floor_char_boundary(bytes_max)];
    let mut line = String::with_capacity(cut.len());
    for character in cut.chars() {
        if character.is_control() {
            line.extend(character.escape_default());
        } else {
            line.push(character);
        }
    }
    line
}

/// As [`one_line`], for reasons.
pub(super) fn reason(text: &str) -> String {
    one_line(text, REASON_BYTES_MAX)
}

/// `duration` in ticks of `tick`, at least one.
pub(super) fn ticks(duration: Duration, tick: Duration) -> u64 {
    u64::try_from(duration.as_nanos() / tick.as_nanos().max(1)).unwrap_or(u64::MAX).max(1)
}
