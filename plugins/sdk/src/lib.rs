//! What authors of Twohop plugins write against.
//!
//! A plugin is a pure function of what it is asked and its settings: no clock, no network, no storage. It has one or
//! more of four stages, each a trait:
//!
//! | stage | trait | asked about | answers |
//! |---|---|---|---|
//! | `filter` | [`Filter`] | a [`Change`] | whether it goes on, and which columns are hidden: [`Verdict`], [`Masks`] |
//! | `router` | [`Router`] | a [`Change`] | where it goes: [`Routes`] |
//! | `fanout` | [`Fanout`] | a post: [`Facts`] | how it reaches its audience: [`Plan`] |
//! | `gate` | [`Gate`] | a [`Connection`] and a [`Request`] | [`Grant`], [`Reception`] or [`Refusal`] |
//!
//! ## A router
//! It says what it wants to see ([`Subscription`]) and where each change goes. Here is a whole one, which sends each
//! change of an order to the channel of its status, and tells the channel of its old status that it left:
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
//! A filter is written and tested alike; its `evaluate` answers with a [`Verdict`].
//!
//! ## A fan-out
//! It is asked about posts, not about changes, so it has no subscription. This one pushes what few follow:
//!
//! ```
//! use twohop_plugin::*;
//!
//! struct Small;
//!
//! impl Plugin for Small {
//!     fn configure(_: &Settings) -> Configured<Self> {
//!         Ok((Self, vec![]))
//!     }
//! }
//!
//! impl Fanout for Small {
//!     fn decide(&self, post: &Facts) -> Plan {
//!         let delivery = if post.followers <= 500 { Delivery::Push } else { Delivery::Pull };
//!         Plan { delivery, notify: Notify::Online }
//!     }
//! }
//!
//! export!(Small: fanout);
//!
//! use testing::Policy;
//!
//! let policy = Policy::<Small>::configure([]).unwrap();
//! let post = Facts { author: "ann", item: "1", followers: 501, ..Facts::default() };
//! assert_eq!(policy.decide(&[post]), [Plan { delivery: Delivery::Pull, notify: Notify::Online }]);
//! ```
//!
//! ## A gate
//! This one lets everybody listen to what is public, and whoever is known to what is theirs. It takes no messages:
//!
//! ```
//! use twohop_plugin::*;
//!
//! struct Own;
//!
//! impl Plugin for Own {
//!     fn configure(_: &Settings) -> Configured<Self> {
//!         Ok((Self, vec![]))
//!     }
//! }
//!
//! impl Gate for Own {
//!     fn admit(&self, connection: &Connection, request: &Request) -> Result<Grant, Refusal> {
//!         let grant = Grant { history: true, ..Grant::default() };
//!         if request.channel.starts_with("public:") {
//!             return Ok(grant);
//!         }
//!         let Some(subject) = &connection.subject else { return Err(Refusal::Unauthenticated) };
//!         match request.channel.strip_prefix("user:") {
//!             Some(user) if user == subject && !request.prefix => Ok(grant),
//!             _ => Err(Refusal::Forbidden("this channel is not yours".into())),
//!         }
//!     }
//!
//!     fn receive(&self, _: &Connection, _: &Request, _: &[u8]) -> Result<Reception, Refusal> {
//!         Err(Refusal::Forbidden("nobody may send".into()))
//!     }
//! }
//!
//! export!(Own: gate);
//!
//! use testing::Policy;
//!
//! let policy = Policy::<Own>::configure([]).unwrap();
//! let ann = Connection::of("ann");
//! assert!(policy.admit(&ann, &Request::channel("user:ann")).is_ok());
//! assert!(policy.admit(&ann, &Request::channel("user:bob")).is_err());
//! assert!(policy.admit(&ann, &Request::prefix("user:")).is_err());
//! assert_eq!(
//!     policy.admit(&Connection::anonymous(), &Request::channel("user:ann")),
//!     Err(Refusal::Unauthenticated),
//! );
//! ```
//!
//! ## The crate
//! What happens with a plugin's crate: it is a plain `rlib`, tested with `cargo test`. `cargo xtask build-plugins`
//! makes the component of it; only there, on `wasm32`, does [`export!`] expand to anything but a check of types.
//!
//! In: the lists of `wit/policy.wit`. Out: the same. Between them nothing is copied but what a policy writes, and
//! nothing is allocated for a single change. One plugin may have several stages: `export!(MyPolicy: router, fanout);`.
//!
//! Where a policy panics, the message goes to the plugin's log, and the host stops this instance and looks for the
//! one change that hurts. A post whose fan-out panics is pulled, a request whose gate panics is denied.

mod cells;
mod change;
#[doc(hidden)]
pub mod export;
mod fanout;
mod gate;
mod instance;
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
pub use fanout::{Delivery, Facts, Notify, Plan};
pub use gate::{Connection, Grant, Reception, Refusal, Request};
pub use operation::Operation;
pub use plugin::{Configured, Fanout, Filter, Gate, Plugin, Router};
pub use route::{Channel, Draft, Post, Routes, Topic};
pub use settings::Settings;
pub use subscription::Subscription;
pub use text::IntoText;
pub use time::Time;
pub use value::Value;
pub use verdict::{Masks, Verdict};
