//! What happens, as it happens: `GET /v1/events` for the dashboard, and the log lines of one plugin.
//!
//! In: entries of the audit list, log lines, where the pipeline stands. Out: `text/event-stream`, without end.
//!
//! | event | data |
//! |---|---|
//! | `audit` | an entry of the audit list: quarantine, pause and shadow differences are entries too |
//! | `line` | a log line of a plugin |
//! | `status` | the pipeline, the sources and their snapshots, and the counters of plugins; at once, then when they have changed |
//! | `lost` | `{}`: the client was too slow, and some events were left out |
//!
//! Invariant: a client that is slow loses the oldest events and is told so; it holds up nobody.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;

use bytes::Bytes;
use serde_json::{Value, json};
use tokio::sync::broadcast::{self, error::RecvError};
use tokio::time::{Interval, MissedTickBehavior};
use warp::reply::Response;

use super::{State, health, wire};
use crate::http;
use crate::limits::{ADMIN_STATUS_INTERVAL, HEARTBEAT_INTERVAL};
use crate::policy::PluginLine;
use crate::registry::Entry;

const KIND: &str = "text/event-stream";

/// Everything.
pub(super) fn all(state: &Arc<State>) -> Response {
    let events = Events {
        entries: Some(state.parts.deployer.events()),
        lines: state.parts.lines.follow(),
        status: interval(ADMIN_STATUS_INTERVAL),
        heartbeat: interval(HEARTBEAT_INTERVAL),
        state: Arc::clone(state),
        plugin: None,
        last_line: 0,
        told: None,
        pending: VecDeque::from([Bytes::from_static(b": the events of this server\n\n")]),
    };
    events.response()
}

/// The lines of a plugin above `after`, and those that come.
pub(super) fn lines(state: &Arc<State>, plugin: &str, after: u64) -> Response {
    // First follow, then read what is there: what is in both is told once, by its number.
    let following = state.parts.lines.follow();
    let kept = state.parts.lines.after(plugin, after);
    let mut pending = VecDeque::from([Bytes::from_static(b": the log lines of this plugin\n\n")]);
    pending.extend(kept.iter().map(|line| event("line", &wire::line(line))));
    let events = Events {
        entries: None,
        lines: following,
        status: interval(ADMIN_STATUS_INTERVAL),
        heartbeat: interval(HEARTBEAT_INTERVAL),
        state: Arc::clone(state),
        plugin: Some(plugin.into()),
        last_line: kept.last().map_or(after, |line| line.id),
        told: None,
        pending,
    };
    events.response()
}

struct Events {
    state: Arc<State>,
    /// None where only lines are asked for.
    entries: Option<broadcast::Receiver<Arc<Entry>>>,
    lines: broadcast::Receiver<Arc<PluginLine>>,
    /// Whose lines alone.
    plugin: Option<Box<str>>,
    last_line: u64,
    status: Interval,
    heartbeat: Interval,
    /// The status as the client knows it.
    told: Option<Value>,
    pending: VecDeque<Bytes>,
}

impl Events {
    fn response(self) -> Response {
        let frames = futures_util::stream::unfold(self, |mut events| async move {
            let frame = events.next().await?;
            Some((io::Result::Ok(frame), events))
        });
        http::stream(KIND, frames)
    }

    /// The next bytes; none when the server stops.
    async fn next(&mut self) -> Option<Bytes> {
        let stop = self.state.stop.clone();
        loop {
            if let Some(frame) = self.pending.pop_front() {
                return Some(frame);
            }
            tokio::select! {
                biased;
                () = stop.cancelled() => return None,
                entry = next_entry(&mut self.entries) => match entry {
                    Ok(entry) => return Some(event("audit", &wire::entry(&entry))),
                    Err(RecvError::Lagged(_)) => return Some(event("lost", &json!({}))),
                    Err(RecvError::Closed) => self.entries = None,
                },
                line = self.lines.recv() => match line {
                    Ok(line) if self.wants(&line) => return Some(event("line", &wire::line(&line))),
                    Ok(_) => {}
                    Err(RecvError::Lagged(_)) => return Some(event("lost", &json!({}))),
                    Err(RecvError::Closed) => return None,
                },
                _ = self.status.tick(), if self.plugin.is_none() => {
                    let status = health::status(&self.state);
                    if self.told.as_ref() != Some(&status) {
                        let frame = event("status", &status);
                        self.told = Some(status);
                        return Some(frame);
                    }
                }
                _ = self.heartbeat.tick() => return Some(Bytes::from_static(b":\n\n")),
            }
        }
    }

    fn wants(&self, line: &PluginLine) -> bool {
        line.id > self.last_line && self.plugin.as_deref().is_none_or(|plugin| *plugin == *line.plugin)
    }
}

/// Waits for ever where entries are not asked for.
async fn next_entry(entries: &mut Option<broadcast::Receiver<Arc<Entry>>>) -> Result<Arc<Entry>, RecvError> {
    match entries {
        Some(entries) => entries.recv().await,
        None => std::future::pending().await,
    }
}

fn interval(period: std::time::Duration) -> Interval {
    let mut interval = tokio::time::interval(period);
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    interval
}

/// JSON has no line breaks, so it is one line of data.
fn event(name: &str, data: &Value) -> Bytes {
    format!("event: {name}\ndata: {data}\n\n").into()
}
