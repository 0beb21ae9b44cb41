//! Plugins from nothing to a component: crates of plugins made ([`new_crate`]), and components made of crates
//! ([`build_crate`]).
//!
//! In: a name and a stage; a crate's folder. Out: a crate that builds and tests at once; a component with its name,
//! version and description in it. Used by `twohop plugin new` and `build` and by `cargo xtask build-plugins`, so that a
//! component is the same whoever builds it. Always: a crate and a component appear whole or not at all.
//!
//! Its own tools are cargo and rustc, run as programs; nothing is installed here but rustup's target. Errors are
//! `anyhow`'s, made for the person at the terminal, but for [`describe`]'s, which reads what strangers send.

mod workspace;
pub use workspace::{Package, Target, Workspace, cargo};

mod toolchain;
pub use toolchain::{Retry, Search, Toolchain};

mod plugin;
pub use plugin::{Built, Order, Profile, build, build_crate, build_module};

mod component;
pub use component::{Origin, Published, digest, keep};

mod description;
pub use description::{Description, DescriptionError, describe};

mod lock;
mod name;
mod sdk;
mod template;
pub use template::{Stage, new_crate};

pub mod debian;
pub mod process;
