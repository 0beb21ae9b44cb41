//! What somebody wants to run, as JSON.
//!
//! In: a body. Out: a [`Request`], where what the body leaves out is as in the plugin's active generation, or as
//! `limits` and `policy` have it if nothing is active. Given settings and grants replace all of before.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::refusal::Refusal;
use super::wire;
use crate::deploy::{Deployer, Request};
use crate::policy::{Digest, Grants, Pattern};

/// The body of an activation, a check and a shadow.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Asked {
    digest: Option<String>,
    settings: Option<BTreeMap<String, String>>,
    grants: Option<AskedGrants>,
    order: Option<i32>,
    profile: Option<String>,
    on_fault: Option<String>,
}

/// What is left out is not granted.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct AskedGrants {
    #[serde(default)]
    channels: Vec<String>,
    #[serde(default)]
    audience: bool,
    #[serde(default)]
    topics: Vec<String>,
    #[serde(default)]
    cache: Vec<String>,
}

impl Asked {
    /// # Errors
    /// If a part of it cannot be read, or it names no component and nothing is active.
    pub(super) async fn request(self, deployer: &Deployer, plugin: &str) -> Result<Request, Refusal> {
        let statuses = deployer.plugins().await?;
        let active = statuses.iter().find(|status| *status.plugin == *plugin);
        let active = active.and_then(|status| status.active.as_ref());
        let active = active.map(|active| Request::of(&active.generation.activation));
        let digest: Option<Digest> = self.digest.as_deref().map(digest_of).transpose()?;
        let mut request = match (active, digest) {
            (Some(active), None) => active,
            (Some(active), Some(digest)) => Request { digest, ..active },
            (None, Some(digest)) => Request::new(plugin, digest),
            (None, None) => {
                let message = format!("`{plugin}` is not active, so the body has to name a `digest`");
                return Err(Refusal::invalid(message));
            }
        };
        request.profile = match self.profile.as_deref() {
            Some(name) => wire::profile_of(name)?,
            // The limits under which it was accepted.
            None => {
                let components = deployer.components().await?;
                let own = components.iter().find(|component| component.digest == request.digest);
                own.map_or(request.profile, |component| component.profile)
            }
        };
        request.settings = self.settings.unwrap_or(request.settings);
        request.order = self.order.unwrap_or(request.order);
        if let Some(grants) = self.grants {
            request.grants = grants.grants()?;
        }
        if let Some(on_fault) = self.on_fault.as_deref() {
            request.on_fault = wire::on_fault_of(on_fault)?;
        }
        Ok(request)
    }
}

impl AskedGrants {
    fn grants(self) -> Result<Grants, Refusal> {
        let patterns = |texts: Vec<String>| {
            let parsed = texts.iter().map(|text| text.parse::<Pattern>());
            parsed.collect::<Result<Vec<_>, _>>().map_err(|error| Refusal::invalid(error.to_string()))
        };
        Ok(Grants {
            channels: patterns(self.channels)?,
            audience: self.audience,
            topics: patterns(self.topics)?,
            cache: patterns(self.cache)?,
        })
    }
}

fn digest_of(text: &str) -> Result<Digest, Refusal> {
    text.parse()
        .map_err(|_| Refusal::invalid(format!("`{text}` is no digest: it has 64 digits of 0-9 and a-f")))
}
