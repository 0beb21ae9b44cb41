//! Who may listen, and what a client may say: what a gate is told, and what it answers.
//!
//! In: one connection and one request. Out: a [`Grant`], a [`Reception`], or a [`Refusal`]. No hot path, so these are
//! plain values that own their text. Absent on purpose: a JSON parser for the claims; a gate that reads them brings one.

use crate::Time;

/// Who asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Connection {
    /// Who it is, none before it is known.
    pub subject: Option<String>,
    /// The verified claims as a JSON object, `{}` for none.
    pub claims: String,
    /// Where it comes from, without the port.
    pub address: String,
}

/// What it asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// A channel, or a prefix of channels where `prefix` is true.
    pub channel: String,
    /// Whether it asks for all channels that begin with `channel`, those that do not exist yet too.
    pub prefix: bool,
    /// The event of a client's message, empty for a subscription.
    pub event: String,
    /// Whether the graph has an edge from the subject to this channel: whether the subject follows what stands after the
    /// first `:` of its name (or all of it, without one). Of a prefix there is none. When it turns, a stream that was
    /// granted the channel is asked for again.
    pub follows: bool,
    /// What else the host knows: names and values.
    pub facts: Vec<(String, String)>,
}

/// That it may listen, and what else it may. By default nothing else, for ever.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Grant {
    /// May resume, and gets the channel's value.
    pub history: bool,
    /// Sees who comes and goes, and is seen.
    pub presence: bool,
    /// May send messages.
    pub publish: bool,
    /// After this it must ask again.
    pub until: Option<Time>,
}

/// What becomes of a client's message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reception {
    /// It is kept, like any other change.
    Keep,
    /// It is for those who are connected now.
    Ephemeral,
}

/// Why not. The client gets it: a reason is one sentence for whoever writes the client, without secrets, not empty,
/// and without control characters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Nobody knows who asks. It may come again with a token.
    Unauthenticated,
    /// Whoever asks may not.
    Forbidden(String),
    /// What is asked makes no sense.
    Invalid(String),
}
