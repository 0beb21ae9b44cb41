//! What the suite stands on: a private PostgreSQL, the built host, a client that follows, a writer that counts.
//!
//! Invariant: every wait has a bound and says what it waited for. Nothing outlives its test.

mod admin;
mod changes;
mod disk;
mod follower;
mod page;
mod public;
mod servers;
mod stand;
mod wait;
mod writer;

pub use disk::SmallDisk;
pub use follower::Follower;
pub use page::{Desk, run_page};
pub use public::{SECRET, token};
pub use servers::servers;
pub use stand::{Setup, Stand};
pub use wait::until;
pub use writer::{Row, SCHEMA, Writer};
