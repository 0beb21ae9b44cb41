//! The gate: a plugin that is asked about what claims do not grant.
//!
//! In: a plugin's gate, as who deploys puts it here; who asks for what, or says what. Out: what the plugin grants, what
//! becomes of what was said, or its refusal.
//!
//! Invariants:
//! - without a gate, or with one that cannot be had, nobody gets more than the configuration says, and nobody sends;
//! - one question at a time, on a thread that may block; who waits longer than `GATE_TIME_MAX` is refused for now;
//! - each gate that is put has a number of its own, so that whoever was admitted by another one asks again.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::sync::Semaphore;
use tokio::time::Instant;

use super::edges::{Graph, followee};
use super::identity::Visitor;
use super::refusal::Refusal;
use super::{Rights, Spoken, Wanted};
use crate::limits::{GATE_CALLS_AT_ONCE_MAX, GATE_TIME_MAX};
use crate::policy::{self, Gate, Reception, Scope};

/// Who stands at the gate.
#[derive(Debug, Clone)]
enum Post {
    /// Nobody: what is not granted is refused.
    Nobody,
    /// One that cannot be asked: likewise, and it is said so.
    Unfit,
    Gate(Arc<Gate>),
}

/// See the head of this file.
pub(super) struct Guard {
    post: Mutex<(u64, Post)>,
    turns: Arc<Semaphore>,
    graph: Arc<dyn Graph>,
}

/// What a gate said.
#[derive(Debug)]
pub(super) struct Admitted {
    /// By which gate.
    pub(super) number: u64,
    /// For each thing that was asked for.
    pub(super) rights: Vec<Rights>,
    /// When it must be asked again.
    pub(super) until: Option<SystemTime>,
}

impl Guard {
    pub(super) fn new(graph: Arc<dyn Graph>) -> Self {
        let turns = Arc::new(Semaphore::new(GATE_CALLS_AT_ONCE_MAX));
        Self { post: Mutex::new((0, Post::Nobody)), turns, graph }
    }

    /// Puts a gate, or nobody, in the place of what was there; an error is a gate that cannot be had.
    pub(super) fn put<E>(&self, gate: Result<Option<Gate>, E>) {
        let mut post = self.post.lock().unwrap_or_else(PoisonError::into_inner);
        *post = match gate {
            Ok(Some(gate)) => (post.0 + 1, Post::Gate(Arc::new(gate))),
            Ok(None) => (post.0 + 1, Post::Nobody),
            Err(_) => (post.0 + 1, Post::Unfit),
        };
    }

    /// The number of what stands there now.
    pub(super) fn number(&self) -> u64 {
        self.post.lock().unwrap_or_else(PoisonError::into_inner).0
    }

    /// Asks for all of these; the first refusal is the answer.
    pub(super) async fn ask(&self, visitor: &Visitor, wanted: &[Wanted]) -> Result<Admitted, Refusal> {
        let (number, post) = self.post();
        let gate = match post {
            Post::Gate(gate) => gate,
            Post::Unfit => return Err(unfit()),
            Post::Nobody if !visitor.identity.is_known() => return Err(Refusal::Unauthenticated),
            Post::Nobody => {
                return Err(Refusal::Forbidden("the token does not cover all that is asked for".into()));
            }
        };
        let deadline = Instant::now() + GATE_TIME_MAX;
        let asked: Vec<_> = wanted.iter().filter_map(Wanted::as_channel).collect();
        let follows = self.follows(visitor, &asked, deadline).await?;
        let (visitor, wanted) = (visitor.clone(), wanted.to_vec());
        let question = move || ask_for_all(&gate, &visitor, &wanted, follows, deadline);
        let (rights, until) = self.call(deadline, question).await?;
        Ok(Admitted { number, rights, until })
    }

    /// Asks what becomes of a message.
    pub(super) async fn receive(&self, visitor: &Visitor, spoken: Spoken) -> Result<Reception, Refusal> {
        let gate = match self.post().1 {
            Post::Gate(gate) => gate,
            Post::Unfit => return Err(unfit()),
            Post::Nobody => {
                let why =
                    "nobody may send messages here: that takes a plugin with a gate, and none is active";
                return Err(Refusal::Forbidden(why.into()));
            }
        };
        let deadline = Instant::now() + GATE_TIME_MAX;
        let follows = self.follows(visitor, &[&spoken.channel], deadline).await? == [true];
        let visitor = visitor.clone();
        self.call(deadline, move || ask_about(&gate, &visitor, &spoken, follows)).await
    }

    /// Whether the visitor follows each of these channels.
    async fn follows(
        &self,
        visitor: &Visitor,
        channels: &[&str],
        deadline: Instant,
    ) -> Result<Vec<bool>, Refusal> {
        let Some(subject) = visitor.identity.subject().filter(|_| !channels.is_empty()) else {
            return Ok(vec![false; channels.len()]);
        };
        let followees: Vec<_> = channels.iter().map(|channel| followee(channel)).collect();
        match tokio::time::timeout_at(deadline, self.graph.follows(subject, &followees)).await {
            Ok(Ok(follows)) => Ok(follows),
            Ok(Err(error)) => {
                tracing::warn!(error = &*error as &dyn std::error::Error, "the graph cannot be read");
                Err(Refusal::GateBusy)
            }
            Err(_) => Err(Refusal::GateBusy),
        }
    }

    fn post(&self) -> (u64, Post) {
        self.post.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// One question, when it is its turn, on a thread that may block. Until the deadline there is somebody to hear the
    /// answer.
    async fn call<T: Send + 'static>(
        &self,
        deadline: Instant,
        question: impl FnOnce() -> Result<T, Refusal> + Send + 'static,
    ) -> Result<T, Refusal> {
        let turns = Arc::clone(&self.turns);
        let asked = async move {
            // The turn goes with the call: one that is given up holds it until it has ended.
            let turn = turns.acquire_owned().await.map_err(|_| Refusal::GateBusy)?;
            let call = move || {
                let _turn = turn;
                question()
            };
            tokio::task::spawn_blocking(call).await.unwrap_or(Err(Refusal::GateBusy))
        };
        tokio::time::timeout_at(deadline, asked).await.unwrap_or(Err(Refusal::GateBusy))
    }
}

fn unfit() -> Refusal {
    Refusal::Forbidden("the gate cannot be asked, so it denies".into())
}

fn ask_about(gate: &Gate, visitor: &Visitor, spoken: &Spoken, follows: bool) -> Result<Reception, Refusal> {
    let Spoken { channel, event, body } = spoken;
    let address = visitor.address.to_string();
    let subject = visitor.identity.subject();
    let connection = policy::Connection { subject, claims: visitor.identity.claims(), address: &address };
    let request = policy::Request { channel, scope: Scope::Channel, event, follows, facts: &[] };
    Ok(gate.receive(connection, request, body)?)
}

/// `follows` is for each of what is wanted that is a channel: nobody follows a prefix.
fn ask_for_all(
    gate: &Gate,
    visitor: &Visitor,
    wanted: &[Wanted],
    follows: Vec<bool>,
    deadline: Instant,
) -> Result<(Vec<Rights>, Option<SystemTime>), Refusal> {
    let address = visitor.address.to_string();
    let subject = visitor.identity.subject();
    let connection = policy::Connection { subject, claims: visitor.identity.claims(), address: &address };
    let mut rights = Vec::with_capacity(wanted.len());
    let mut until: Option<SystemTime> = None;
    let mut follows = follows.into_iter();
    for one in wanted {
        if Instant::now() >= deadline {
            return Err(Refusal::GateBusy);
        }
        let follows = one.as_channel().is_some() && follows.next() == Some(true);
        let Wanted { name: channel, scope } = one;
        let request = policy::Request { channel, scope: *scope, event: "", follows, facts: &[] };
        let grant = gate.admit(connection, request)?;
        rights.push(Rights { history: grant.history, presence: grant.presence, publish: grant.publish });
        if let Some(end) = grant.until {
            // A time before 1970 is past, like 1970.
            let since = Duration::from_micros(u64::try_from(end.0).unwrap_or(0));
            let end = UNIX_EPOCH + since;
            until = Some(until.map_or(end, |until| until.min(end)));
        }
    }
    Ok((rights, until))
}

impl From<policy::Refusal> for Refusal {
    fn from(refusal: policy::Refusal) -> Self {
        match refusal {
            policy::Refusal::Unauthenticated => Self::Unauthenticated,
            policy::Refusal::Forbidden(why) => Self::Forbidden(why),
            policy::Refusal::Invalid(why) => Self::Invalid(why),
        }
    }
}
