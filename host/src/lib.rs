//! Twohop: from a commit in a database to a person's screen, with the policy in between as WebAssembly.
//!
//! ```text
//! database log ─► source ─► log ─► pipeline ─► effects ─► cache, bus ─► gateway ─► screens
//!                                   ▲   ▲
//!              policy (WebAssembly) ─┘   └─ deploy ─► registry
//! ```
//! The modules stand in the order of the data's way; each is a room that one can read by itself. Stores (`log`,
//! `timeline`, `bus`, `cache`) know nobody. Movers (`source`, `effects`, `letters`, `intake`, `gateway`) know stores. The judge (`policy`) knows
//! nobody. `access` says who may listen, and asks the judge. `pipeline` introduces them, `deploy` tells it which
//! plugins judge, `admin` is how people tell `deploy`, `app` composes. `simulate` reckons what `timeline` would cost. `cargo xtask tidy` holds the arrows to that.

pub mod event;
pub mod source;
pub mod log;
pub mod policy;
pub mod effects;
pub mod timeline;
pub mod bus;
pub mod cache;
pub mod letters;
pub mod access;
pub mod intake;
pub mod gateway;

pub mod pipeline;
pub mod state;

pub mod registry;
pub mod deploy;
pub mod admin;

pub mod app;
pub mod backoff;
pub mod config;
pub mod failpoint;
pub mod http;
pub mod limits;
pub mod shutdown;
pub mod simulate;
pub mod telemetry;
