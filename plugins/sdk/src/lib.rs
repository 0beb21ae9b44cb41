//! What authors of Twohop plugins write against.
//!
//! A plugin says what it wants to see ([`Subscription`]) and answers where each change goes ([`Routes`]). It is a pure
//! function of changes and settings: no clock, no network, no storage. Here is a whole one, which sends each change of
//! an order to the channel of its status, and tells the channel of its old status that it left:
//!
//! ```
//! use twohop_plugin::*;
//!
//! struct OrderStatus;
//!
//! impl Plugin for OrderStatus {
//!     fn configure(_: &Settings) -> Configured<Self> {
//!         Ok((Self, vec![Subscription::table("orders").columns(["status"])]))
//!     }
//! }
//!
//! impl Router for OrderStatus {
//!     fn direct(&self, change: &Change, routes: &mut Routes) {
//!         let now = change.row().and_then(|row| row.text("status"));
//!         let before = change.old().and_then(|old| old.text("status"));
//!         if let Some(status) = now {
//!             routes.channel(["status:", status]).event(change.operation()).row();
//!         }
//!         if let Some(status) = before.filter(|_| before != now) {
//!             routes.channel(["status:", status]).event("left").row();
//!         }
//!     }
//! }
//!
//! export!(OrderStatus: router);
//!
//! // And its test, which needs no WebAssembly:
//! use testing::{Keep, Payload, Policy, Route, Sample};
//!
//! let policy = Policy::<OrderStatus>::configure([]).unwrap();
//! let insert = Sample::insert("orders", row! { "id" => 1, "status" => "new" });
//! let expected = Route::Channel {
//!     channel: "status:new".into(), event: "insert".into(), payload: Payload::Row, keep: Keep::History,
//! };
//! assert_eq!(policy.direct(&[insert]), [[expected]]);
//! ```
//!
//! What happens with a plugin's crate: it is a plain `rlib`, tested with `cargo test`. `cargo xtask build-plugins`
//! makes the component of it; only there, on `wasm32`, does [`export!`] expand to anything but a check of types.
//!
//! In: the lists of `wit/policy.wit`. Out: the same. Between them nothing is copied but what a policy writes, and
//! nothing is allocated for a single change. The stages for which there is a trait: [`Filter`] and
//! [`Router`].
//!
//! Where a policy panics, the message goes to the plugin's log, and the host stops this instance and looks for the
//! one change that hurts.

mod cells;
mod change;
#[doc(hidden)]
pub mod export;
pub mod log;
mod operation;
mod plugin;
mod route;
mod settings;
mod subscription;
mod text;
mod time;
mod value;
mod verdict;

#[cfg(not(target_family = "wasm"))]
pub mod testing;

#[cfg(target_family = "wasm")]
#[doc(hidden)]
pub mod bindings;

pub use change::{Change, Row};
pub use operation::Operation;
pub use plugin::{Configured, Filter, Plugin, Router};
pub use route::{Channel, Draft, Post, Routes, Topic};
pub use settings::Settings;
pub use subscription::Subscription;
pub use text::IntoText;
pub use time::Time;
pub use value::Value;
pub use verdict::{Masks, Verdict};
