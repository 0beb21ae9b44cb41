//! Who may listen, and send: as whom a request comes, what it may listen to, and until when.
//!
//! In: the head of a request, and channels or prefixes. Out: a visitor, and a permit for what it asked for; or a
//! refusal. Every face of the gateway asks here:
//!
//! ```text
//! Head ─► Access::identify ─► Visitor ─► Access::admit ─► Permit ─► Permit::ended
//!          token, cookie,                 patterns, then the gate      expiry, keys, another gate, an edge
//!          ticket, origin
//! ```
//! Invariants:
//! - nobody may what the configuration or the gate does not grant: without both, nobody may anything;
//! - who says who it is and cannot prove it is refused, also where anybody may: a client must not go on in the belief
//!   that it is known;
//! - every refusal is counted by its name. No token, ticket or cookie is ever logged.
//!
//! Absent on purpose: HTTP answers (`gateway`), which plugin is active (`deploy`).

mod credential;
mod doubts;
mod edges;
mod fetch;
mod guard;
mod identity;
mod key;
mod keyring;
mod origin;
mod pattern;
mod permit;
mod refusal;
mod settings;
mod spki;
#[cfg(test)]
pub(crate) mod tests;
mod ticket;
mod token;

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Instant, SystemTime};

use bytes::Bytes;
use hyper::HeaderMap;
use tokio_util::sync::CancellationToken;

pub use crate::policy::{Gate, Reception, Scope};
pub use doubts::Doubts;
pub use edges::{Edges, Graph, GraphError, no_graph};
pub use identity::{Identity, Visitor};
pub use origin::Deed;
pub use pattern::Patterns;
pub use permit::{Permit, Term};
pub use refusal::{Flaw, Refusal};
pub use settings::{Settings, SettingsError};

use credential::{Credential, credential};
use doubts::Common;
use guard::{Admitted, Guard};
use keyring::Keyring;
use origin::Origins;
use pattern::{Claims, Pattern};
use permit::Parts;
use ticket::Tickets;
use token::Rules;

use crate::telemetry::Metrics;

/// Something that somebody wants to listen to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// A channel, or what channels begin with.
    pub name: Box<str>,
    /// Which of both.
    pub scope: Scope,
}

impl Wanted {
    /// A channel.
    #[must_use]
    pub fn channel(name: &str) -> Self {
        Self { name: name.into(), scope: Scope::Channel }
    }

    /// All channels that begin so.
    #[must_use]
    pub fn prefix(prefix: &str) -> Self {
        Self { name: prefix.into(), scope: Scope::Prefix }
    }

    fn as_channel(&self) -> Option<&str> {
        (self.scope == Scope::Channel).then_some(&self.name)
    }
}

/// What may be done with a channel, beside listening to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rights {
    /// What was sent before may be read: on coming back, and the channel's value.
    pub history: bool,
    /// Who comes and goes may be seen, and oneself is seen.
    pub presence: bool,
    /// Messages may be sent.
    pub publish: bool,
}

/// What somebody says on a channel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spoken {
    /// The channel.
    pub channel: Box<str>,
    /// Its event, empty for none.
    pub event: Box<str>,
    /// What is said.
    pub body: Bytes,
}

/// What a request says of itself.
#[derive(Debug, Clone, Copy)]
pub struct Head<'a> {
    /// Its headers.
    pub headers: &'a HeaderMap,
    /// The host that was asked, with its port: `Host`, or `:authority` in HTTP/2.
    pub authority: Option<&'a str>,
    /// The parameter `ticket`.
    pub ticket: Option<&'a str>,
    /// Where the connection comes from.
    pub address: IpAddr,
}

/// Decides. Cheap to clone.
#[derive(Clone)]
pub struct Access(Arc<Inner>);

struct Inner {
    anonymous: Vec<Pattern>,
    channels: Vec<Pattern>,
    cookie: Option<String>,
    origins: Origins,
    rules: Rules,
    keys: Keyring,
    tickets: Tickets,
    guard: Guard,
    /// Raised when other keys count, or another gate stands there.
    doubts: Common,
    edges: Edges,
    metrics: Arc<Metrics>,
}

impl std::fmt::Debug for Access {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Access").field("anonymous", &self.0.anonymous).finish_non_exhaustive()
    }
}

impl Access {
    /// Says who sends a request, which is about to do this.
    ///
    /// # Errors
    /// If what it says of itself does not hold, or its page may not.
    pub async fn identify(&self, head: &Head<'_>, deed: Deed) -> Result<Visitor, Refusal> {
        self.counted(self.visitor(head, deed).await)
    }

    /// Says who a token speaks for that came by another way, as when a WebSocket's token is renewed.
    ///
    /// # Errors
    /// If it does not count.
    pub async fn identify_token(&self, token: &str, address: IpAddr) -> Result<Visitor, Refusal> {
        self.counted(self.known(token).await.map(|identity| Visitor { identity, address }))
    }

    /// What counts the doubts about the permits of one stream.
    #[must_use]
    pub fn doubts(&self) -> Arc<Doubts> {
        Arc::new(self.0.doubts.of_stream())
    }

    /// Grants all that a visitor asks for on a stream, or nothing.
    ///
    /// # Errors
    /// If it may not listen to something of it.
    pub async fn admit(
        &self,
        visitor: Visitor,
        wanted: &[Wanted],
        doubts: Arc<Doubts>,
    ) -> Result<Permit, Refusal> {
        // Before anything is looked at, so that no change is missed.
        let (changes, settled) = (self.0.doubts.subscribe(), doubts.count());
        let claims = visitor.identity.read_claims();
        let (mut rights, mut by_gate) = (Vec::with_capacity(wanted.len()), Vec::new());
        for (place, one) in wanted.iter().enumerate() {
            let granted = self.granted(&visitor.identity, &claims, one);
            if granted.is_none() {
                by_gate.push((one.clone(), place));
            }
            // What the gate has to say about it comes in its place.
            rights.push(granted.unwrap_or(Rights { history: false, presence: false, publish: false }));
        }
        let parts = Parts { visitor, rights, by_gate, changes, doubts, settled };
        self.counted(Permit::new(self.clone(), parts).await)
    }

    /// Says what becomes of a message: the gate decides about each. Nothing but a gate lets anybody send.
    ///
    /// # Errors
    /// If it is not taken, or who says it is not known any longer.
    pub async fn receive(&self, visitor: &Visitor, spoken: Spoken) -> Result<Reception, Refusal> {
        let received = async {
            self.check_known(&visitor.identity)?;
            self.0.metrics.gate_calls.fetch_add(1, Ordering::Relaxed);
            self.0.guard.receive(visitor, spoken).await
        };
        self.counted(received.await)
    }

    /// Makes a ticket for one that is known.
    ///
    /// # Errors
    /// If it is not, or too many are out.
    pub fn issue_ticket(&self, visitor: &Visitor) -> Result<String, Refusal> {
        let known = visitor.identity.is_known();
        self.counted(if known {
            self.0.tickets.issue(&visitor.identity, Instant::now())
        } else {
            Err(Refusal::Unauthenticated)
        })
    }

    /// Tells a browser, on an answer, whether its page may read it.
    pub fn mark_answer(&self, asked: &HeaderMap, answer: &mut HeaderMap) {
        self.0.origins.mark(asked, answer);
    }

    /// Answers what a browser asks beforehand; [`Access::mark_answer`] says the rest.
    ///
    /// # Errors
    /// If its page may not.
    pub fn preflight(&self, asked: &HeaderMap, answer: &mut HeaderMap) -> Result<(), Refusal> {
        self.counted(self.0.origins.preflight(asked, answer))
    }

    /// Counts a refusal that was found by who asks.
    #[must_use]
    pub fn refuse(&self, refusal: Refusal) -> Refusal {
        self.count(&refusal);
        refusal
    }

    /// Puts a gate, or nobody, in the place of what was there. With an error everything is denied that only a gate
    /// could grant.
    pub fn put_gate<E>(&self, gate: Result<Option<Gate>, E>) {
        self.0.guard.put(gate);
        self.0.doubts.raise();
    }

    /// Where it is to be told which edges of the graph turn.
    #[must_use]
    pub fn edges(&self) -> Edges {
        self.0.edges.clone()
    }

    /// Keeps the keys current, until stopped.
    pub async fn run(&self, stop: CancellationToken) {
        self.0.keys.run(&stop).await;
    }

    async fn visitor(&self, head: &Head<'_>, deed: Deed) -> Result<Visitor, Refusal> {
        let Inner { cookie, origins, keys, tickets, .. } = &*self.0;
        let address = head.address;
        if keys.is_empty() {
            // Nobody can be known: what is said of it may be meant for a proxy.
            origins.check(head.headers, head.authority, deed, false)?;
            return Ok(Visitor { identity: Identity::anonymous(), address });
        }
        let found = credential(head.headers, head.ticket, cookie.as_deref())?;
        origins.check(head.headers, head.authority, deed, matches!(found, Credential::Cookie(_)))?;
        let identity = match found {
            Credential::Nothing => Identity::anonymous(),
            Credential::Header(token) | Credential::Cookie(token) => self.known(token).await?,
            Credential::Ticket(text) => {
                let identity = tickets.take(text, Instant::now())?;
                if identity.until().is_some_and(|until| until <= SystemTime::now()) {
                    return Err(Flaw::Expired.into());
                }
                identity
            }
        };
        Ok(Visitor { identity, address })
    }

    async fn known(&self, token: &str) -> Result<Identity, Refusal> {
        let verified = token::verify(token, &self.0.keys, &self.0.rules, SystemTime::now()).await?;
        Ok(Identity::of(verified))
    }

    /// What the configuration and the claims grant.
    fn granted(&self, identity: &Identity, claims: &Claims, wanted: &Wanted) -> Option<Rights> {
        let Inner { anonymous, channels, rules, .. } = &*self.0;
        let listed = || {
            let listed = rules.channels_claim.as_ref().and_then(|name| claims.get(name)?.as_array());
            let mut texts = listed.into_iter().flatten().filter_map(serde_json::Value::as_str);
            texts.any(|text| pattern::listed(text, wanted))
        };
        let by_claims = || channels.iter().any(|pattern| pattern.covers(wanted, claims));
        if identity.is_known() && (by_claims() || listed()) {
            return Some(Rights { history: true, presence: true, publish: false });
        }
        let is_open = anonymous.iter().any(|pattern| pattern.covers(wanted, claims));
        is_open.then_some(Rights { history: true, presence: false, publish: false })
    }

    async fn ask_gate(&self, visitor: &Visitor, wanted: &[Wanted]) -> Result<Admitted, Refusal> {
        self.0.metrics.gate_calls.fetch_add(1, Ordering::Relaxed);
        self.0.guard.ask(visitor, wanted).await
    }

    fn gate_number(&self) -> u64 {
        self.0.guard.number()
    }

    /// Whether a token that counted once still does.
    fn check_known(&self, identity: &Identity) -> Result<(), Flaw> {
        if identity.until().is_some_and(|until| until <= SystemTime::now()) {
            return Err(Flaw::Expired);
        }
        if identity.key().is_some_and(|key| !self.0.keys.has(key)) {
            return Err(Flaw::Key);
        }
        Ok(())
    }

    fn counted<T>(&self, answer: Result<T, Refusal>) -> Result<T, Refusal> {
        answer.inspect_err(|refusal| self.count(refusal))
    }

    fn count(&self, refusal: &Refusal) {
        self.0.metrics.access_refusals.add(refusal.name());
    }
}
