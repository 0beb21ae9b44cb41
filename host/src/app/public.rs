//! The public listener, as the configuration has it.

use std::num::NonZeroU32;
use std::sync::Arc;

use async_trait::async_trait;
use tracing::{info, warn};

use super::AppError;
use crate::access::{self, Access, GraphError, SettingsError};
use crate::config::{self, Config};
use crate::gateway::{self, PresenceConfig};
use crate::http::{Proxies, ProxyHeader, Rate, TlsFiles};
use crate::telemetry::Metrics;
use crate::timeline::Timelines;

/// The public listener.
///
/// # Errors
/// If a proxy or a channel of presence makes no sense.
pub(super) fn gateway_config(config: &Config, metrics: Arc<Metrics>) -> Result<gateway::Config, AppError> {
    let channels = access::Patterns::new(&config.presence.channels).map_err(AppError::Presence)?;
    let grace = config.presence.grace;
    let presence = PresenceConfig { channels, grace, ..PresenceConfig::default() };
    let tls = config.gateway.tls.clone();
    let config::Limits { connections, requests_per_second, requests_burst, .. } = config.gateway.limits;
    let count = |limit: Option<NonZeroU32>| limit.map(|count| count.get() as usize);
    let default = gateway::Config::new(config.gateway.listen);
    Ok(gateway::Config {
        presence,
        connections_count_max: count(connections).unwrap_or(default.connections_count_max),
        connections_per_address_max: count(config.gateway.limits.connections_per_address),
        streams_per_address_max: count(config.gateway.limits.streams_per_address),
        streams_per_subject_max: count(config.gateway.limits.streams_per_subject),
        requests: requests_per_second.map(|per_second| Rate {
            per_second: per_second.get(),
            burst: requests_burst.map_or(per_second.get().saturating_mul(2), NonZeroU32::get),
        }),
        proxies: proxies(&config.gateway.proxies)?,
        heartbeat_interval: config.gateway.heartbeat,
        shutdown_time_max: config.gateway.grace,
        tls: tls.map(|config::Tls { certificate_file, key_file }| TlsFiles::new(certificate_file, key_file)),
        messages: Rate { per_second: config.gateway.publish.rate, burst: config.gateway.publish.burst },
        metrics,
        ..default
    })
}

fn proxies(told: &config::Proxies) -> Result<Proxies, AppError> {
    let trusted = told.trusted.iter().map(|text| text.parse()).collect::<Result<_, _>>();
    Ok(Proxies {
        trusted: trusted.map_err(AppError::Proxies)?,
        header: match told.header {
            config::ProxyHeader::XForwardedFor => ProxyHeader::XForwardedFor,
            config::ProxyHeader::Forwarded => ProxyHeader::Forwarded,
        },
    })
}

/// Who follows whom, for the gate.
struct Graph(Timelines);

#[async_trait]
impl access::Graph for Graph {
    async fn follows(&self, subject: &str, followees: &[&str]) -> Result<Vec<bool>, GraphError> {
        Ok(self.0.follows(subject, followees).await?)
    }
}

/// Who may listen, and says so.
///
/// # Errors
/// If a key makes no sense, or a file cannot be read.
pub(super) fn make_access(
    config: &Config,
    timelines: &Timelines,
    metrics: Arc<Metrics>,
) -> Result<Access, SettingsError> {
    let listen = config.gateway.listen;
    let config::Access { secret, leeway, .. } = &config.gateway.access;
    let own = config.gateway.access.clone();
    let settings = access::Settings {
        anonymous: own.anonymous,
        channels: own.channels,
        channels_claim: own.channels_claim,
        secret: secret.clone().map(|config::Secret(secret)| secret),
        public_key_file: own.public_key_file,
        jwks_file: own.jwks_file,
        jwks_url: own.jwks_url,
        issuer: own.issuer,
        audience: own.audience,
        leeway: *leeway,
        cookie: own.cookie,
        origins: own.origins,
    };
    let access = Access::new(settings, Arc::new(Graph(timelines.clone())), metrics)?;
    let edges = access.edges();
    timelines.on_turn(move |follower, followee| edges.turned(follower, followee));
    let summary = access.summary();
    if access.is_shut() {
        warn!(%listen, "who may listen: {summary}. To let somebody in, see docs/access.md");
    } else {
        info!(%listen, "who may listen: {summary}");
    }
    Ok(access)
}
