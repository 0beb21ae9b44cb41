//! The host under test: the program itself, its configuration, and a client of its events.
//!
//! Always: it streams when [`HostUnderTest::start`] returns, and the client is subscribed.

use std::sync::Arc;
use std::thread::{self, JoinHandle};

use anyhow::{Context, Result, bail};
use tokio::sync::oneshot;

use super::ledger::{Ledger, Way};
use super::load::{self, TABLE};
use crate::services::host::Options;
use crate::services::{Folder, Host};
use crate::sse::SseClient;
use crate::{demo, place};

const PLUGIN: &str = "row-router";

/// A running host with its client.
#[derive(Debug)]
pub(super) struct HostUnderTest {
    host: Host,
    reader: JoinHandle<()>,
}

impl HostUnderTest {
    /// Starts both.
    pub(super) async fn start(url: &str, folder: &Folder, ledger: &Arc<Ledger>) -> Result<HostUnderTest> {
        let plugin = place::plugin(PLUGIN)?;
        let text =
            configuration(url, &folder.path().join("data").to_string_lossy(), &plugin.to_string_lossy());
        let config = folder.write("twohop.toml", &text)?;
        let mut options = Options::new(config);
        options.binary = Some(place::target()?.join("release/twohop"));
        let host = Host::start(options)?;
        demo::wait_for_capture(&load::connect(url).await?).await?;
        let (subscribed, waiting) = oneshot::channel();
        let address = host.address();
        let ledger = ledger.clone();
        // A thread of its own, so that the writers' tasks do not delay it.
        let reader = thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            let outcome = runtime.map_err(Into::into).and_then(|runtime| {
                runtime.block_on(async {
                    let client =
                        SseClient::connect(address, &format!("/v1/events?channel={TABLE}"), None).await?;
                    // Whoever waited may have given up.
                    let _ = subscribed.send(());
                    read(client, &ledger).await
                })
            });
            if let Err(error) = outcome {
                eprintln!("warning: the stream of events broke: {error:#}");
            }
        });
        waiting.await.context("the host does not let its client subscribe")?;
        Ok(HostUnderTest { host, reader })
    }

    /// What it has said.
    pub(super) fn stderr(&self) -> String {
        self.host.stderr()
    }

    /// Ends it, and with it the client's stream; blocks for a moment.
    pub(super) fn stop(mut self) {
        self.host.terminate();
        if self.reader.join().is_err() {
            eprintln!("warning: the client of the events panicked");
        }
    }
}

/// Until the host ends the stream.
async fn read(mut client: SseClient, ledger: &Ledger) -> Result<()> {
    while let Some(event) = client.next().await? {
        match event.event.as_str() {
            "insert" => ledger.arrived(Way::Host, &event.data, event.received),
            "reset" => bail!("the host answers that what came meanwhile is no longer kept"),
            _ => {}
        }
    }
    Ok(())
}

fn configuration(url: &str, data: &str, plugin: &str) -> String {
    let [url, data, plugin] = [url, data, plugin].map(|text| toml::Value::from(text).to_string());
    format!(
        "data = {data}\n\n[gateway]\nlisten = \"127.0.0.1:0\"\naccess.anonymous = [\"*\"]\n\n[admin]\nlisten = \"127.0.0.1:0\"\n\n[source.bench]\nurl = {url}\n\
         tables = [\"public.{TABLE}\"]\n\n[plugin.{PLUGIN}]\nfile = {plugin}\nsettings = {{ tables = \"{TABLE}\" }}\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_configuration_is_toml_whatever_the_paths_hold() {
        let text = configuration("postgres://x", "/a \"b\"\\c", "/p.wasm");
        let config: toml::Table = text.parse().unwrap();
        assert_eq!(config["data"].as_str(), Some("/a \"b\"\\c"));
        assert_eq!(config["source"]["bench"]["tables"][0].as_str(), Some("public.measured"));
        assert_eq!(config["plugin"][PLUGIN]["settings"]["tables"].as_str(), Some(TABLE));
    }
}
