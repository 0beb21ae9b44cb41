//! A client as a browser is one: follows channels, and when its stream ends comes back with the last id it had.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use xtask::sse::{Event, SseClient};

const RECONNECT_INTERVAL: Duration = Duration::from_millis(50);

/// A client that follows channels in the background.
pub struct Follower {
    received: watch::Receiver<Vec<Event>>,
    task: JoinHandle<()>,
}

impl Follower {
    /// Connects; returns once the stream is open, so whatever commits from now on is received.
    ///
    /// # Errors
    /// If the host refuses.
    pub async fn connect(address: SocketAddr, channels: &[&str]) -> Result<Self> {
        let query: Vec<_> = channels.iter().map(|channel| format!("channel={channel}")).collect();
        let path = format!("/v1/events?{}", query.join("&"));
        let mut client = SseClient::connect(address, &path, None).await.context("cannot open the stream")?;
        let (sender, received) = watch::channel(Vec::new());
        let task = tokio::spawn(async move {
            // The last id outlives a client that got none of its own.
            let mut last_id: Option<String> = None;
            loop {
                while let Ok(Some(event)) = client.next().await {
                    sender.send_modify(|received: &mut Vec<Event>| received.push(event));
                }
                last_id = client.last_event_id().map(str::to_owned).or(last_id);
                let mut tries = tokio::time::interval(RECONNECT_INTERVAL);
                client = loop {
                    tries.tick().await;
                    if let Ok(client) = SseClient::connect(address, &path, last_id.as_deref()).await {
                        break client;
                    }
                };
            }
        });
        Ok(Self { received, task })
    }

    /// Waits until the events satisfy `enough`, and returns them all.
    ///
    /// # Errors
    /// If they do not within the time; with how many there are.
    pub async fn wait_until(
        &mut self,
        what: &str,
        within: Duration,
        enough: impl Fn(&[Event]) -> bool,
    ) -> Result<Vec<Event>> {
        let wait = self.received.wait_for(|received| enough(received));
        if let Ok(received) = tokio::time::timeout(within, wait).await {
            return Ok(received.context("the follower has ended")?.clone());
        }
        let received = self.received.borrow();
        let last: Vec<_> = received.iter().rev().take(3).map(|event| (&event.event, &event.data)).collect();
        bail!("waited {within:?} for {what}; got {} events, the last: {last:?}", received.len())
    }

    /// What has come so far.
    #[must_use]
    pub fn received(&self) -> Vec<Event> {
        self.received.borrow().clone()
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        self.task.abort();
    }
}
