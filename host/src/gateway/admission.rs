//! Who may listen to what: asked by every face, before it gives anything.
//!
//! In: who asks, and for which channels. Out: a permit for all of them, or why not. Its end is for `permits`.

use std::sync::Arc;

use super::codes::Refusal;
use super::feed::Start;
use super::query::Query;
use super::resume::LossReason;
use super::routes::{Asker, State};
use crate::access::{Deed, Doubts, Permit, Rights, Visitor, Wanted};
use crate::event::Channel;

/// Whether the one who sends a request may listen to these channels, all of them; on a stream with these doubts.
pub(super) async fn admit(
    state: &State,
    asker: &Asker,
    query: &Query,
    channels: &[Channel],
    doubts: Arc<Doubts>,
) -> Result<Permit, Refusal> {
    let visitor = asker.visitor(&state.access, query, Deed::Read).await?;
    admit_visitor(state, visitor, channels, doubts).await
}

/// The same for a single channel, of what is answered at once.
pub(super) async fn admit_once(
    state: &State,
    asker: &Asker,
    query: &Query,
    channel: &Channel,
) -> Result<Permit, Refusal> {
    admit(state, asker, query, std::slice::from_ref(channel), state.access.doubts()).await
}

/// The same, for one that is known already.
pub(super) async fn admit_visitor(
    state: &State,
    visitor: Visitor,
    channels: &[Channel],
    doubts: Arc<Doubts>,
) -> Result<Permit, Refusal> {
    let wanted: Vec<_> = channels.iter().map(|channel| Wanted::channel(channel.as_str())).collect();
    Ok(state.access.admit(visitor, &wanted, doubts).await?)
}

/// Whether the one who sends a request may know of all channels that begin so.
pub(super) async fn may_list(
    state: &State,
    asker: &Asker,
    query: &Query,
    prefix: &str,
) -> Result<(), Refusal> {
    let visitor = asker.visitor(&state.access, query, Deed::Read).await?;
    let doubts = state.access.doubts();
    Ok(state.access.admit(visitor, &[Wanted::prefix(prefix)], doubts).await.map(drop)?)
}

/// Who may not read what was before gets none of it, and is told that there may have been something.
pub(super) fn within(start: Start, rights: Rights) -> Start {
    match start {
        _ if rights.history => start,
        Start::New | Start::Live => Start::Live,
        _ => Start::Lost(LossReason::Withheld),
    }
}

/// Where each channel begins, by what the permit has for it.
pub(super) fn starts(channels: Vec<Channel>, start: Start, permit: &Permit) -> Vec<(Channel, Start)> {
    let rights = permit.rights().iter().copied();
    channels.into_iter().zip(rights).map(|(channel, rights)| (channel, within(start, rights))).collect()
}

/// Where somebody sees who is there, and as whom it is seen.
pub(super) struct Attending {
    pub(super) subject: Option<Box<str>>,
    /// Where it may.
    pub(super) granted: Vec<Channel>,
    /// Where it may not.
    pub(super) refused: Vec<Channel>,
}

impl Attending {
    /// What a permit for these channels grants.
    pub(super) fn of(permit: &Permit, channels: &[Channel]) -> Self {
        let (mut granted, mut refused) = (Vec::new(), Vec::new());
        for (channel, rights) in channels.iter().zip(permit.rights()) {
            let list = if rights.presence { &mut granted } else { &mut refused };
            list.push(channel.clone());
        }
        Self { subject: permit.visitor().identity.subject().map(Into::into), granted, refused }
    }
}
