//! The registry: which components there are, which generations of which plugins, and what judges from which offset.
//!
//! In: what deployments decide. Out: the same, after any crash. Tables in the state, bytes in the data folder.
//!
//! Invariants:
//! - the owner of an offset is the record of its partition with the greatest first offset not above it; a record of
//!   the same first offset is replaced, since nothing was judged under it;
//! - a record, the generations that it brings and the entry that says so are one commit;
//! - whatever a set names can be loaded: its generations are never forgotten, nor their components;
//! - an event is told after it is durable.
//!
//! Absent on purpose: loading and calling plugins (`policy`), the choice of an offset (`pipeline`), who may do what.

mod audit;
mod component;
mod error;
mod generation;
mod set;
#[cfg(test)]
pub(crate) mod tests;

pub use audit::{Action, Entry, HOST, Note};
pub use component::Component;
pub use error::RegistryError;
pub use generation::{Generation, is_same, last_good};
pub use set::{Member, PluginSet, SetRecord, Standing};
