//! Who may listen, and what a client may say: a plugin's gate, asked from many threads.
//!
//! In: connections and what they ask for. Out: grants, or refusals that the client is told.
//!
//! It is not a hot path: one instance, one call at a time. A gate that hangs holds up its other callers for
//! `PLUGIN_CALL_TIME_MAX`.
//!
//! Invariant: whatever the plugin does wrong, it denies. A refusal's text is one line of bounded length.

use std::sync::{Mutex, PoisonError};

use super::bindings::exports::twohop::policy::gate as wit;
use super::bindings::twohop::policy::types::Setting;
use super::error::{Fault, PluginError, reason};
use super::evaluate::Trouble;
use super::instance::{Instance, Stage};
use super::plugin::Plugin;
use crate::event::Micros;
use crate::limits::GATE_BYTES_MAX;

/// Who asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Connection<'a> {
    /// Who it is, none before it is known.
    pub subject: Option<&'a str>,
    /// The verified claims as a JSON object, `{}` for none.
    pub claims: &'a str,
    /// Where it comes from, without the port.
    pub address: &'a str,
}

/// What it asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Request<'a> {
    /// A channel, or what channels begin with.
    pub channel: &'a str,
    /// Which of both.
    pub scope: Scope,
    /// The event of a client's message, empty for a subscription.
    pub event: &'a str,
    /// Whether the graph has an edge from the subject to this channel.
    pub follows: bool,
    /// What else the host knows, by name.
    pub facts: &'a [(&'a str, &'a str)],
}

/// How many channels a request is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// The one of that name.
    Channel,
    /// All that begin so.
    Prefix,
}

/// What a connection may do on a channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Grant {
    /// May resume, and gets the channel's value.
    pub history: bool,
    /// Sees who comes and goes, and is seen.
    pub presence: bool,
    /// May send messages.
    pub publish: bool,
    /// When it must ask again.
    pub until: Option<Micros>,
}

/// What becomes of a client's message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reception {
    /// It is kept for those who resume.
    Keep,
    /// It is not.
    Ephemeral,
}

/// Why not. The client gets it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// It must say who it is first.
    #[error("unauthenticated")]
    Unauthenticated,
    /// It may not.
    #[error("forbidden: {0}")]
    Forbidden(String),
    /// What it asks for or says makes no sense.
    #[error("invalid: {0}")]
    Invalid(String),
}

/// A plugin that guards.
#[derive(Debug)]
pub struct Gate(Mutex<Guard>);

#[derive(Debug)]
struct Guard {
    plugin: Plugin,
    trouble: Trouble,
}

impl Gate {
    /// Makes a gate of a plugin, which is loaded for this alone.
    ///
    /// # Errors
    /// If the plugin has no gate.
    pub fn new(plugin: Plugin) -> Result<Self, PluginError> {
        if !plugin.has(Stage::Gate) {
            return Err(PluginError::NoGate);
        }
        Ok(Self(Mutex::new(Guard { plugin, trouble: Trouble::new(0) })))
    }

    /// Whether the connection may listen.
    ///
    /// # Errors
    /// If it may not.
    pub fn admit(&self, connection: Connection<'_>, request: Request<'_>) -> Result<Grant, Refusal> {
        let facts = facts(&request);
        check_size(&connection, &request, &[])?;
        let (connection, request) = (wit_connection(connection), wit_request(request, &facts));
        self.ask(|instance| instance.admit(connection, request)).map(|grant| {
            let wit::Grant { history, presence, publish, until } = grant;
            Grant { history, presence, publish, until: until.map(Micros) }
        })
    }

    /// What becomes of a client's message.
    ///
    /// # Errors
    /// If it is not taken.
    pub fn receive(
        &self,
        connection: Connection<'_>,
        request: Request<'_>,
        message: &[u8],
    ) -> Result<Reception, Refusal> {
        let facts = facts(&request);
        check_size(&connection, &request, message)?;
        let (connection, request) = (wit_connection(connection), wit_request(request, &facts));
        self.ask(|instance| instance.receive(connection, request, message)).map(|reception| match reception {
            wit::Reception::Keep => Reception::Keep,
            wit::Reception::Ephemeral => Reception::Ephemeral,
        })
    }

    /// How many calls failed since it was made.
    #[must_use]
    pub fn faults_count(&self) -> usize {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).trouble.faults_count
    }

    /// The first of them.
    #[cfg(test)]
    pub(super) fn first_fault(&self) -> Option<Fault> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).trouble.first_fault.clone()
    }

    fn ask<Answer>(
        &self,
        ask: impl FnOnce(&mut Instance) -> Result<Result<Answer, wit::Refusal>, Fault>,
    ) -> Result<Answer, Refusal> {
        let mut guard = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let answer = guard.plugin.call(ask).and_then(|answer| match answer {
            Ok(answer) => Ok(Ok(answer)),
            Err(refusal) => Ok(Err(checked(refusal)?)),
        });
        answer.unwrap_or_else(|fault| {
            tracing::warn!(plugin = &*guard.plugin.activation().plugin, %fault, "the gate failed and denies");
            guard.plugin.drop_instance();
            guard.trouble.add(&fault);
            Err(Refusal::Forbidden("the gate failed".into()))
        })
    }
}

/// A refusal that says why.
fn checked(refusal: wit::Refusal) -> Result<Refusal, Fault> {
    let said = |text: &str| if text.is_empty() { Err(Fault::Refusal) } else { Ok(reason(text)) };
    Ok(match refusal {
        wit::Refusal::Unauthenticated => Refusal::Unauthenticated,
        wit::Refusal::Forbidden(text) => Refusal::Forbidden(said(&text)?),
        wit::Refusal::Invalid(text) => Refusal::Invalid(said(&text)?),
    })
}

fn check_size(connection: &Connection<'_>, request: &Request<'_>, message: &[u8]) -> Result<(), Refusal> {
    let facts: usize = request.facts.iter().map(|(key, value)| key.len() + value.len()).sum();
    let texts = [connection.subject.unwrap_or(""), connection.claims, connection.address];
    let texts = texts.into_iter().chain([request.channel, request.event]);
    let bytes = texts.map(str::len).sum::<usize>() + facts + message.len();
    if bytes <= GATE_BYTES_MAX {
        return Ok(());
    }
    Err(Refusal::Invalid(format!("{bytes} bytes are too many, at most {GATE_BYTES_MAX} are looked at")))
}

fn wit_connection(connection: Connection<'_>) -> wit::Connection<'_> {
    let Connection { subject, claims, address } = connection;
    wit::Connection { subject, claims, address }
}

fn facts<'a>(request: &Request<'a>) -> Vec<Setting<'a>> {
    request.facts.iter().map(|(key, value)| Setting { key, value }).collect()
}

fn wit_request<'a>(request: Request<'a>, facts: &'a [Setting<'a>]) -> wit::Request<'a> {
    let Request { channel, scope, event, follows, .. } = request;
    wit::Request { channel, prefix: scope == Scope::Prefix, event, follows, facts }
}
