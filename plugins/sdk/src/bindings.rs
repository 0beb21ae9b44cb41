//! The generated bindings of `wit/policy.wit`, one module for each disjoint world, and what moves between them and the
//! SDK's own lists.
//!
//! Compiled for WebAssembly only: the generated exports have names that native linkers refuse. Nothing here copies; a
//! list is moved. Expanded by [`crate::export!`] in the plugin's crate, therefore public, but no part of the interface
//! for authors.
#![allow(missing_docs, reason = "generated, and hidden from the documentation")]
#![allow(unsafe_code, reason = "generated: the canonical ABI is pointers and lengths")]

use crate::cells::Cells;
use crate::fanout::Posts;
use crate::log::Level;
use crate::route::Outcome;
use crate::verdict::Verdicts;

/// `world base`: the plugin itself, and its log.
pub mod base {
    wit_bindgen::generate!({
        path: "../../wit",
        world: "base",
        pub_export_macro: true,
        default_bindings_module: "twohop_plugin::bindings::base",
        generate_unused_types: false,
    });
}

/// `world filter-stage`.
pub mod filter {
    wit_bindgen::generate!({
        path: "../../wit",
        world: "filter-stage",
        pub_export_macro: true,
        default_bindings_module: "twohop_plugin::bindings::filter",
        generate_unused_types: false,
    });
}

/// `world router-stage`.
pub mod router {
    wit_bindgen::generate!({
        path: "../../wit",
        world: "router-stage",
        pub_export_macro: true,
        default_bindings_module: "twohop_plugin::bindings::router",
        generate_unused_types: false,
    });
}

/// `world fanout-stage`.
pub mod fanout {
    wit_bindgen::generate!({
        path: "../../wit",
        world: "fanout-stage",
        pub_export_macro: true,
        default_bindings_module: "twohop_plugin::bindings::fanout",
        generate_unused_types: false,
    });
}

/// `world gate-stage`.
pub mod gate {
    wit_bindgen::generate!({
        path: "../../wit",
        world: "gate-stage",
        pub_export_macro: true,
        default_bindings_module: "twohop_plugin::bindings::gate",
        generate_unused_types: false,
    });
}

pub use base::exports::twohop::policy::plugin::{self, Setting, Subscription};
pub use fanout::exports::twohop::policy::fanout as fanout_stage;
pub use filter::exports::twohop::policy::filter as filter_stage;
pub use gate::exports::twohop::policy::gate as gate_stage;
pub use router::exports::twohop::policy::router as router_stage;

impl From<crate::Subscription> for Subscription {
    fn from(subscription: crate::Subscription) -> Self {
        let (source, table, operations, columns) = subscription.into_parts();
        Self { source, table, operations, columns }
    }
}

/// Each world has a type of its own for the same record.
macro_rules! cells_from {
    ($stage:ident) => {
        impl From<$stage::Changes> for Cells {
            fn from(changes: $stage::Changes) -> Self {
                let $stage::Changes {
                    subscriptions,
                    operations,
                    committed_at,
                    rows,
                    old_rows,
                    kinds,
                    values,
                    arena,
                } = changes;
                Self {
                    subscriptions,
                    operations,
                    committed_at,
                    rows,
                    old_rows,
                    kinds,
                    values,
                    arena: arena.into(),
                }
            }
        }
    };
}

cells_from!(filter_stage);
cells_from!(router_stage);

impl From<Verdicts> for filter_stage::Outcome {
    fn from(outcome: Verdicts) -> Self {
        let Verdicts { verdicts, reasons, masked_changes, masked_columns, arena } = outcome;
        Self { verdicts, reasons, masked_changes, masked_columns, arena }
    }
}

impl From<Outcome> for router_stage::Outcome {
    fn from(outcome: Outcome) -> Self {
        let Outcome { changes, kinds, options, spans, numbers, arena } = outcome;
        let (attributed_routes, attributes) = (Vec::new(), Vec::new());
        Self { changes, kinds, options, spans, numbers, attributed_routes, attributes, arena }
    }
}

impl From<fanout_stage::Posts> for Posts {
    fn from(posts: fanout_stage::Posts) -> Self {
        let fanout_stage::Posts { authors, items, followers, online, active, rates, previous, arena } = posts;
        Self { authors, items, followers, online, active, rates, previous, arena: arena.into() }
    }
}

impl From<gate_stage::Connection> for crate::Connection {
    fn from(connection: gate_stage::Connection) -> Self {
        let gate_stage::Connection { subject, claims, address } = connection;
        Self { subject, claims, address }
    }
}

impl From<gate_stage::Request> for crate::Request {
    fn from(request: gate_stage::Request) -> Self {
        let gate_stage::Request { channel, prefix, event, follows, facts } = request;
        let facts = facts.into_iter().map(|fact| (fact.key, fact.value)).collect();
        Self { channel, prefix, event, follows, facts }
    }
}

impl From<crate::Grant> for gate_stage::Grant {
    fn from(grant: crate::Grant) -> Self {
        let crate::Grant { history, presence, publish, until } = grant;
        Self { history, presence, publish, until: until.map(crate::Time::micros) }
    }
}

impl From<crate::Reception> for gate_stage::Reception {
    fn from(reception: crate::Reception) -> Self {
        match reception {
            crate::Reception::Keep => Self::Keep,
            crate::Reception::Ephemeral => Self::Ephemeral,
        }
    }
}

impl From<crate::Refusal> for gate_stage::Refusal {
    fn from(refusal: crate::Refusal) -> Self {
        match refusal {
            crate::Refusal::Unauthenticated => Self::Unauthenticated,
            crate::Refusal::Forbidden(why) => Self::Forbidden(why),
            crate::Refusal::Invalid(why) => Self::Invalid(why),
        }
    }
}

pub(crate) fn write_log(level: Level, message: &str) {
    use base::twohop::policy::log;
    let level = match level {
        Level::Debug => log::Level::Debug,
        Level::Info => log::Level::Info,
        Level::Warn => log::Level::Warn,
        Level::Error => log::Level::Error,
    };
    log::write(level, message);
}
