//! The shape of the file: what serde reads, and the checks that turn it into a [`super::Config`].

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;

use super::cache::RawCache;
use super::listener::RawTls;
use super::outbox::{Kind, Marks};
use super::{Grants, Limits, OnFault, OnGap, Outbox, Proxies, Snapshot, units};
use crate::limits;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Config {
    data: Option<PathBuf>,
    #[serde(default)]
    gateway: Gateway,
    #[serde(default)]
    admin: Admin,
    #[serde(default)]
    log: Log,
    #[serde(default)]
    history: History,
    #[serde(default)]
    presence: Presence,
    #[serde(default)]
    timeline: Timeline,
    cache: Option<RawCache>,
    #[serde(default)]
    source: BTreeMap<String, Source>,
    #[serde(default)]
    plugin: BTreeMap<String, Plugin>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
struct Gateway {
    listen: Option<SocketAddr>,
    #[serde(default)]
    tls: RawTls,
    #[serde(default, deserialize_with = "units::duration")]
    heartbeat: Option<Duration>,
    #[serde(default, deserialize_with = "units::duration")]
    grace: Option<Duration>,
    #[serde(default)]
    limits: Limits,
    #[serde(default)]
    proxies: Proxies,
    #[serde(default)]
    access: Access,
    #[serde(default)]
    publish: Publish,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
struct Publish {
    rate: Option<u32>,
    burst: Option<u32>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
struct Access {
    anonymous: Vec<String>,
    channels: Vec<String>,
    channels_claim: Option<String>,
    secret_file: Option<PathBuf>,
    public_key_file: Option<PathBuf>,
    jwks_file: Option<PathBuf>,
    jwks_url: Option<String>,
    issuer: Option<String>,
    audience: Option<String>,
    #[serde(deserialize_with = "units::duration")]
    leeway: Option<Duration>,
    cookie: Option<String>,
    origins: Vec<String>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
struct Admin {
    listen: Option<SocketAddr>,
    token: Option<String>,
    token_file: Option<PathBuf>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
struct Log {
    #[serde(default, deserialize_with = "units::bytes")]
    bytes_max: Option<u64>,
    #[serde(default, deserialize_with = "units::duration")]
    age_max: Option<Duration>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
struct History {
    count_max: Option<u64>,
    #[serde(default, deserialize_with = "units::duration")]
    age_max: Option<Duration>,
    values_count_max: Option<u64>,
    #[serde(default, deserialize_with = "units::bytes")]
    values_bytes_max: Option<u64>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
struct Presence {
    #[serde(default)]
    channels: Vec<String>,
    #[serde(default, deserialize_with = "units::duration")]
    grace: Option<Duration>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
struct Timeline {
    #[serde(default, deserialize_with = "units::bytes")]
    bytes_max: Option<u64>,
    push_followers_max: Option<u64>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Source {
    #[serde(default)]
    kind: Kind,
    url: Option<String>,
    url_file: Option<PathBuf>,
    tables: Option<Vec<String>>,
    outbox: Option<Outbox>,
    polling: Option<Marks>,
    channels: Option<Vec<String>>,
    slot: Option<String>,
    publication: Option<String>,
    snapshot: Option<Snapshot>,
    on_gap: Option<OnGap>,
    #[serde(default, deserialize_with = "units::bytes")]
    spill_bytes_max: Option<u64>,
    messages: Option<Vec<String>>,
    #[serde(default, deserialize_with = "units::duration")]
    heartbeat: Option<Duration>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Plugin {
    file: PathBuf,
    #[serde(default)]
    profile: super::Profile,
    #[serde(default)]
    settings: BTreeMap<String, toml::Value>,
    #[serde(default)]
    order: i32,
    #[serde(default)]
    on_fault: OnFault,
    #[serde(default)]
    grants: Grants,
}

impl Config {
    pub(super) fn check(
        self,
        folder: &Path,
        overrides: &super::Overrides,
    ) -> Result<super::Config, super::ConfigError> {
        let log_bytes_max = self.log.bytes_max.unwrap_or(limits::LOG_BYTES_MAX);
        if log_bytes_max < 2 * limits::SEGMENT_BYTES_MIN {
            return Err(value("log.bytes_max", format!("is below {}", 2 * limits::SEGMENT_BYTES_MIN)));
        }
        let heartbeat = self.gateway.heartbeat.unwrap_or(limits::HEARTBEAT_INTERVAL);
        if !(limits::HEARTBEAT_INTERVAL_MIN..=limits::HEARTBEAT_INTERVAL_MAX).contains(&heartbeat) {
            let bounds = (limits::HEARTBEAT_INTERVAL_MIN.as_secs(), limits::HEARTBEAT_INTERVAL_MAX.as_secs());
            return Err(value("gateway.heartbeat", format!("is not from {}s to {}s", bounds.0, bounds.1)));
        }
        let grace = self.gateway.grace.unwrap_or(limits::SHUTDOWN_TIME_MAX);
        if !(Duration::from_secs(1)..=limits::GRACE_MAX).contains(&grace) {
            return Err(value(
                "gateway.grace",
                format!("is not from 1s to {}s", limits::GRACE_MAX.as_secs()),
            ));
        }
        let (mut sources, mut polling, mut notify) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        for (name, source) in self.source {
            match source.check(&name, folder)? {
                Checked::Postgres(source) => drop(sources.insert(name, source)),
                Checked::Polling(source) => drop(polling.insert(name, source)),
                Checked::Notify(source) => drop(notify.insert(name, source)),
            }
        }
        let plugins = self.plugin.into_iter().map(|(name, plugin)| {
            check_name("plugin", &name)?;
            Ok((name.clone(), plugin.check(&name, folder)?))
        });
        // A flag's path begins where the program was started, like every path on a command line.
        let cache = self.cache.map(|cache| cache.check(folder)).transpose();
        let cache = cache.map_err(|(key, message)| value(key, message))?;
        let data = overrides.data.clone();
        let data = data.unwrap_or_else(|| folder.join(self.data.unwrap_or_else(|| "twohop-data".into())));
        let listen = overrides.listen.or(self.gateway.listen);
        let tls = self.gateway.tls.check(folder);
        let tls = tls
            .map_err(|key| value(&format!("gateway.tls.{key}"), "is missing: TLS needs both files".into()))?;
        Ok(super::Config {
            data,
            gateway: super::Gateway {
                listen: listen.unwrap_or(SocketAddr::from(([127, 0, 0, 1], 8080))),
                tls,
                heartbeat,
                grace,
                limits: self.gateway.limits,
                proxies: self.gateway.proxies,
                access: self.gateway.access.check(folder)?,
                publish: self.gateway.publish.check()?,
            },
            admin: self.admin.check(folder)?,
            log: super::Log {
                bytes_max: log_bytes_max,
                age_max: self.log.age_max.unwrap_or(limits::LOG_AGE_MAX),
            },
            history: super::History {
                count_max: self.history.count_max.unwrap_or(limits::HISTORY_COUNT_MAX),
                age_max: self.history.age_max.unwrap_or(limits::HISTORY_AGE_MAX),
                values_count_max: self.history.values_count_max.unwrap_or(limits::VALUES_COUNT_MAX),
                values_bytes_max: self.history.values_bytes_max.unwrap_or(limits::VALUES_BYTES_MAX),
            },
            presence: self.presence.check()?,
            timeline: self.timeline.check(),
            cache,
            sources,
            polling,
            notify,
            plugins: plugins.collect::<Result<_, _>>()?,
        })
    }
}

impl Access {
    fn check(self, folder: &Path) -> Result<super::Access, super::ConfigError> {
        let secret = self.secret_file.map(|file| {
            let read = std::fs::read_to_string(folder.join(&file));
            let read = read.map_err(|error| {
                value("gateway.access.secret_file", format!("{}: {error}", file.display()))
            })?;
            Ok(super::Secret(read.trim().to_owned()))
        });
        let leeway = self.leeway.unwrap_or(limits::TOKEN_LEEWAY);
        Ok(super::Access {
            anonymous: self.anonymous,
            channels: self.channels,
            channels_claim: self.channels_claim,
            secret: secret.transpose()?,
            public_key_file: self.public_key_file.map(|file| folder.join(file)),
            jwks_file: self.jwks_file.map(|file| folder.join(file)),
            jwks_url: self.jwks_url,
            issuer: self.issuer,
            audience: self.audience,
            leeway,
            cookie: self.cookie,
            origins: self.origins,
        })
    }
}

impl Presence {
    fn check(self) -> Result<super::Presence, super::ConfigError> {
        let grace = self.grace.unwrap_or(limits::PRESENCE_GRACE);
        if grace > limits::PRESENCE_GRACE_MAX {
            let message = format!("is above {}s", limits::PRESENCE_GRACE_MAX.as_secs());
            return Err(value("presence.grace", message));
        }
        Ok(super::Presence { channels: self.channels, grace })
    }
}

impl Publish {
    fn check(self) -> Result<super::Publish, super::ConfigError> {
        let bounded = |key: &str, number: Option<u32>, or: u32| {
            let number = number.unwrap_or(or);
            let may = (1..=limits::CLIENT_RATE_MAX).contains(&number);
            let wrong = || value(key, format!("is not from 1 to {}", limits::CLIENT_RATE_MAX));
            if may { Ok(number) } else { Err(wrong()) }
        };
        Ok(super::Publish {
            rate: bounded("gateway.publish.rate", self.rate, limits::CLIENT_RATE)?,
            burst: bounded("gateway.publish.burst", self.burst, limits::CLIENT_BURST)?,
        })
    }
}

impl Timeline {
    fn check(self) -> super::Timeline {
        let bytes_max = self.bytes_max.map(|bytes| usize::try_from(bytes).unwrap_or(usize::MAX));
        super::Timeline {
            bytes_max: bytes_max.unwrap_or(limits::TIMELINE_BYTES_MAX),
            push_followers_max: self.push_followers_max.unwrap_or(limits::TIMELINE_PUSH_FOLLOWERS_MAX),
        }
    }
}

/// A source of one kind.
enum Checked {
    Postgres(super::Source),
    Polling(super::Polling),
    Notify(super::Notify),
}

impl Source {
    fn check(self, name: &str, folder: &Path) -> Result<Checked, super::ConfigError> {
        check_name("source", name)?;
        let wrong = |key: &str, what: &str| value(&format!("source.{name}{key}"), what.to_owned());
        self.check_keys(&wrong)?;
        let url = match (self.url, self.url_file) {
            (Some(url), None) => url,
            (None, Some(file)) => std::fs::read_to_string(folder.join(&file))
                .map_err(|error| wrong(".url_file", &format!("{}: {error}", file.display())))?
                .trim()
                .to_owned(),
            (Some(_), Some(_)) => return Err(wrong("", "has `url` and `url_file`: keep one")),
            (None, None) => return Err(wrong("", "needs `url` or `url_file`")),
        };
        Ok(match self.kind {
            Kind::Postgres => {
                let tables = self.tables.unwrap_or_default();
                if tables.is_empty() && self.outbox.is_none() {
                    return Err(wrong(".tables", "names no table"));
                }
                let bounds = limits::SOURCE_HEARTBEAT_INTERVAL_MIN..=limits::SOURCE_HEARTBEAT_INTERVAL_MAX;
                if self.heartbeat.is_some_and(|interval| !bounds.contains(&interval)) {
                    return Err(wrong(".heartbeat", "is not from 100ms to 1h"));
                }
                let (snapshot, on_gap) = (self.snapshot.unwrap_or_default(), self.on_gap.unwrap_or_default());
                if (snapshot, on_gap) == (Snapshot::None, OnGap::Resnapshot) {
                    return Err(wrong(".on_gap", "is `resnapshot`, where `snapshot` is `none`"));
                }
                Checked::Postgres(super::Source {
                    url,
                    tables,
                    outbox: self.outbox,
                    slot: self.slot,
                    publication: self.publication,
                    snapshot,
                    on_gap,
                    spill_bytes_max: self.spill_bytes_max.unwrap_or(limits::SOURCE_SPILL_BYTES_MAX),
                    messages: self.messages.unwrap_or_default(),
                    heartbeat: self.heartbeat,
                })
            }
            Kind::Polling => {
                let outbox = self.outbox.ok_or_else(|| wrong(".outbox.table", "names no table"))?;
                let polling = self.polling.unwrap_or_default().check(url, outbox);
                Checked::Polling(polling.map_err(|what| wrong(".polling.interval", &what))?)
            }
            Kind::Notify => {
                let channels = self.channels.unwrap_or_default();
                if channels.is_empty() {
                    return Err(wrong(".channels", "names no channel"));
                }
                Checked::Notify(super::Notify { url, channels })
            }
        })
    }

    /// Sees that no key is there that means nothing for this kind.
    fn check_keys(
        &self,
        wrong: &impl Fn(&str, &str) -> super::ConfigError,
    ) -> Result<(), super::ConfigError> {
        use Kind::{Notify, Polling, Postgres};
        let keys: [(&str, bool, &[Kind]); 11] = [
            (".tables", self.tables.is_some(), &[Postgres]),
            (".slot", self.slot.is_some(), &[Postgres]),
            (".publication", self.publication.is_some(), &[Postgres]),
            (".snapshot", self.snapshot.is_some(), &[Postgres]),
            (".on_gap", self.on_gap.is_some(), &[Postgres]),
            (".messages", self.messages.is_some(), &[Postgres]),
            (".heartbeat", self.heartbeat.is_some(), &[Postgres]),
            (".spill_bytes_max", self.spill_bytes_max.is_some(), &[Postgres]),
            (".outbox", self.outbox.is_some(), &[Postgres, Polling]),
            (".polling", self.polling.is_some(), &[Polling]),
            (".channels", self.channels.is_some(), &[Notify]),
        ];
        let unfit = keys.into_iter().find(|(_, is_there, kinds)| *is_there && !kinds.contains(&self.kind));
        unfit.map_or(Ok(()), |(key, ..)| Err(wrong(key, "means nothing for a source of this `kind`")))
    }
}

impl Admin {
    fn check(self, folder: &Path) -> Result<super::Admin, super::ConfigError> {
        let token = match (self.token, self.token_file) {
            (token, None) => token,
            (None, Some(file)) => {
                let read = std::fs::read_to_string(folder.join(&file))
                    .map_err(|error| value("admin.token_file", format!("{}: {error}", file.display())))?;
                Some(read.trim().to_owned())
            }
            (Some(_), Some(_)) => {
                return Err(value("admin", "needs `token` or `token_file`, not both".into()));
            }
        };
        Ok(super::Admin {
            listen: self.listen.unwrap_or(SocketAddr::from(([127, 0, 0, 1], 8081))),
            token: token.map(super::Secret),
        })
    }
}

impl Plugin {
    fn check(self, name: &str, folder: &Path) -> Result<super::Plugin, super::ConfigError> {
        let settings = self.settings.into_iter().map(|(key, setting)| match setting {
            toml::Value::String(text) => Ok((key, text)),
            toml::Value::Integer(_) | toml::Value::Float(_) | toml::Value::Boolean(_) => {
                Ok((key, setting.to_string()))
            }
            _ => Err(value(
                &format!("plugin.{name}.settings.{key}"),
                "is not a text, a number or a truth value".into(),
            )),
        });
        let settings = settings.collect::<Result<_, _>>()?;
        let Self { profile, order, on_fault, grants, .. } = self;
        Ok(super::Plugin { file: folder.join(self.file), profile, settings, order, on_fault, grants })
    }
}

fn check_name(section: &str, name: &str) -> Result<(), super::ConfigError> {
    let fits = |character: char| {
        character.is_ascii_lowercase() || character.is_ascii_digit() || "-_".contains(character)
    };
    if name.is_empty() || name.len() > limits::NAME_BYTES_MAX || !name.chars().all(fits) {
        let message = format!("a name has 1 to {} of a-z, 0-9, - and _", limits::NAME_BYTES_MAX);
        return Err(value(&format!("{section}.{name}"), message));
    }
    Ok(())
}

fn value(key: &str, message: String) -> super::ConfigError {
    super::ConfigError::Value { key: key.to_owned(), message }
}
