//! The vocabulary: what the rooms say to each other.
//!
//! In: nothing. Out: plain types, and the one encoding of a change.
//!
//! Invariant: no I/O and no clock here. A change is immutable once built.
//! Absent on purpose: JSON of the wire (`gateway`), anything of PostgreSQL, WebAssembly or SQLite.

mod change;
mod codec;
mod envelope;
mod feed;
mod json;
mod jsonl;
mod message;
mod plan;
mod position;
mod replay;
mod stale;
mod table;

pub use change::{Change, Micros, Operation, Origin, Row, RowBuilder, Rows, Value};
pub use codec::{DecodeError, Decoder, Header, encode};
pub use envelope::envelope_to_json;
pub use feed::{FeedPost, FeedWrite};
pub use json::{row_to_json, write_json_string};
pub use jsonl::{LineError, change_from_line, change_to_line};
pub use message::{Channel, ChannelError, EventError, EventName, Form, Message, Retention};
pub(crate) use message::{PRESENCE_EVENT, REFUSED_EVENT, RESET_EVENT, has_control, is_printable};
pub use plan::{Delivery, Plan};
pub use position::{Epoch, Offset, Partition, Position, Sequence};
pub use replay::{LetterId, Replay};
pub use stale::Stale;
pub use table::{Column, Table};
