//! The generated bindings of `wit/policy.wit`, one module for each disjoint world, and what moves between them and the
//! SDK's own lists.
//!
//! Compiled for WebAssembly only: the generated exports have names that native linkers refuse. Nothing here copies; a
//! list is moved. Expanded by [`crate::export!`] in the plugin's crate, therefore public, but no part of the interface
//! for authors.
#![allow(missing_docs, reason = "generated, and hidden from the documentation")]
#![allow(unsafe_code, reason = "generated: the canonical ABI is pointers and lengths")]

use crate::cells::Cells;
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

pub use base::exports::twohop::policy::plugin::{self, Setting, Subscription};
pub use filter::exports::twohop::policy::filter as filter_stage;
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
