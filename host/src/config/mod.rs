//! The configuration: `twohop.toml`, overridden by `TWOHOP_…` variables, overridden by flags.
//!
//! In: a file, the environment, flags. Out: one [`Config`] whose parts are plain values, checked.
//!
//! Invariant: the only reader of the environment. An unknown key is an error that names the nearest known one:
//! a misspelt limit that is silently ignored is a limit that is not there.
//!
//! To add a key: a row in [`KEYS`], a field below, and `docs/configuration.md` by the test that compares it.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

mod cache;
mod listener;
mod outbox;
mod plugin;
mod raw;
mod source;
mod units;

pub use cache::Cache;
pub use listener::{Access, Gateway, Limits, Proxies, ProxyHeader, Publish, Tls};
pub use outbox::{Notify, Outbox, Polling};
pub use plugin::{Grants, OnFault, Plugin, Profile};
pub use source::{OnGap, Snapshot, Source};

/// One row a key: its path, where `*` is a name of the user's choice; its default; what it is.
pub const KEYS: &[(&str, &str, &str)] = &[
    (
        "data",
        "`twohop-data`",
        "Folder of everything that is kept. A relative path begins at the file's folder.",
    ),
    ("gateway.listen", "`127.0.0.1:8080`", "Address and port for clients. Port 0 takes a free one."),
    (
        "gateway.grace",
        "`10s`",
        "From the order to stop until connections are cut; streams end one after the other in it: 1s to 300s.",
    ),
    (
        "gateway.tls.certificate_file",
        "",
        "PEM file of a certificate and those above it; with it, clients need TLS.",
    ),
    ("gateway.tls.key_file", "", "PEM file of its key. Both are read again when they change."),
    (
        "gateway.limits.connections",
        "`20000`",
        "Connections at once, and as many streams; the process needs as many file descriptors and some more.",
    ),
    (
        "gateway.limits.connections_per_address",
        "",
        "Connections of one address at once, of IPv6 of one /64. Not of trusted proxies.",
    ),
    (
        "gateway.limits.streams_per_address",
        "",
        "Streams, WebSockets and waiting long-polls of one address at once.",
    ),
    ("gateway.limits.streams_per_subject", "", "The same of one subject of tokens."),
    ("gateway.limits.requests_per_second", "", "Requests of one address in a second, on the average."),
    (
        "gateway.limits.requests_burst",
        "twice that",
        "Requests of one address at once, after a time of nothing.",
    ),
    (
        "gateway.proxies.trusted",
        "`[]`",
        "Addresses and prefixes of proxies, such as `10.0.0.0/8`, that are believed when they say whom they speak for.",
    ),
    (
        "gateway.proxies.header",
        "`x-forwarded-for`",
        "Where they say it: `x-forwarded-for`, or `forwarded` (RFC 7239). The last address that is none of theirs counts.",
    ),
    ("gateway.heartbeat", "`15s`", "Between two signs of life on a quiet connection: 1s to 20s."),
    (
        "gateway.access.anonymous",
        "`[]`",
        "Channels that everybody may listen to, without a token: names, or with `*` at their end all that begin so. `[\"*\"]` opens all of them.",
    ),
    (
        "gateway.access.channels",
        "`[]`",
        "Channels that one with a token may, in which claims have their places: `user:{sub}`, `orgs:{claims.org}:*`.",
    ),
    (
        "gateway.access.channels_claim",
        "",
        "The claim that lists further channels, each a name, or with `*` at its end all that begin so.",
    ),
    (
        "gateway.access.secret_file",
        "",
        "A file with the secret of tokens signed by HS256, 32 bytes at least; space around it is cut.",
    ),
    (
        "gateway.access.public_key_file",
        "",
        "A PEM file with public keys of tokens: RSA for RS256, P-256 for ES256, Ed25519 for EdDSA.",
    ),
    ("gateway.access.jwks_file", "", "A JWKS file with keys of tokens, read again while the server runs."),
    ("gateway.access.jwks_url", "", "The address of a JWKS, `https://…`, likewise."),
    ("gateway.access.issuer", "", "What a token's `iss` must be; without it, it is not looked at."),
    (
        "gateway.access.audience",
        "",
        "What a token's `aud` must be or hold; without it, a token that has one is refused.",
    ),
    (
        "gateway.access.leeway",
        "`5s`",
        "How far the clock of who makes tokens may differ from this one: at most 300s.",
    ),
    (
        "gateway.access.cookie",
        "",
        "The cookie that may hold a token; it counts only for pages of this host and of `origins`.",
    ),
    (
        "gateway.access.origins",
        "`[]`",
        "Origins whose pages may read from here (CORS), such as `https://shop.example`; `[\"*\"]` for all.",
    ),
    (
        "gateway.publish.rate",
        "`10`",
        "Messages that one subject may send a second, or one address for who has none. Who may send is the gate's to say: [access.md](access.md).",
    ),
    ("gateway.publish.burst", "`50`", "Messages that it may send at once after a pause."),
    ("admin.listen", "`127.0.0.1:8081`", "Address and port for operators. Port 0 takes a free one."),
    (
        "admin.token",
        "made at the first start",
        "What operators have to know, 16 characters at least. What is made is in `admin-token` of the data folder.",
    ),
    (
        "admin.token_file",
        "",
        "A file that holds the token, instead of `token`, so that no secret stands here.",
    ),
    (
        "log.bytes_max",
        "`8GiB`",
        "Size at which the change log stops taking changes that nobody has processed.",
    ),
    ("log.age_max", "`24h`", "How long processed changes are kept."),
    ("history.count_max", "`1000000`", "Messages kept for clients that come back."),
    ("history.age_max", "`24h`", "How long they are kept."),
    (
        "history.values_count_max",
        "`100000`",
        "Channels that have a value for clients that come new; past it what was set least recently is dropped.",
    ),
    ("history.values_bytes_max", "`64MiB`", "Memory and disk for these values, likewise."),
    (
        "presence.channels",
        "`[]`",
        "Channels of which it is told who is there: names, or with `*` at their end all that begin so.",
    ),
    ("presence.grace", "`10s`", "How long a member whose connection was lost is still there: at most 300s."),
    ("timeline.bytes_max", "`256MiB`", "Memory for active timelines: some 15,000 full ones."),
    (
        "timeline.push_followers_max",
        "`1000000`",
        "Posts of an author with more active followers are pulled, whatever a fan-out plugin says.",
    ),
    (
        "cache.url",
        "",
        "The Redis from which keys are deleted: `redis://[[USER]:PASSWORD@]HOST[:PORT][/DATABASE]`, or `rediss://…` for TLS: [cache.md](cache.md).",
    ),
    ("cache.url_file", "", "A file that holds the URL, instead of `url`, so that no password stands here."),
    ("cache.prefix", "", "What every key there begins with; plugins and their grants leave it out."),
    (
        "cache.hold",
        "`1s`",
        "How long nobody may fill a key after it was deleted: 10ms to 10m. More than a commit takes to be seen where fills read.",
    ),
    ("cache.index", "`false`", "Whether fills keep the index, so that plugins can delete by prefixes."),
    ("source.*.url", "", "The database: `postgres://USER:PASSWORD@HOST:PORT/DATABASE`."),
    (
        "source.*.url_file",
        "",
        "A file that holds the URL, instead of `url`, so that no password stands here.",
    ),
    (
        "source.*.tables",
        "",
        "Tables to capture: `TABLE` (of the schema `public`) or `SCHEMA.TABLE`; one that ends in `*` stands for all that begin so, also those that are made later.",
    ),
    ("source.*.slot", "`twohop_NAME`", "Name of the replication slot."),
    ("source.*.publication", "`twohop_NAME`", "Name of the publication."),
    (
        "source.*.snapshot",
        "`initial`",
        "`initial` sends the rows that are there at the first start, and those of a table when it is added; `none` does not.",
    ),
    (
        "source.*.on_gap",
        "`halt`",
        "What happens where changes are lost, since the slot is gone, is another one, or PostgreSQL has removed what it needs: `halt` ends the server with an error, `resnapshot` makes a new slot and reads all rows again.",
    ),
    (
        "source.*.kind",
        "`postgres`",
        "`postgres` reads by logical replication; `polling` reads an outbox by asking for it, `notify` listens: [outbox.md](sources/outbox.md).",
    ),
    ("source.*.channels", "", "Of `notify`: the channels to listen to."),
    (
        "source.*.outbox.table",
        "",
        "A table whose rows are messages; of `postgres` beside `tables`, of `polling` the only one.",
    ),
    (
        "source.*.outbox.channel",
        "`aggregatetype`",
        "Its column with the kind of thing that a message is about.",
    ),
    ("source.*.outbox.subject", "`aggregateid`", "Its column that says which of them."),
    ("source.*.outbox.event", "`type`", "Its column that says what happened."),
    ("source.*.outbox.id", "`id`", "Its column that says which message it is, unique."),
    ("source.*.outbox.body", "`payload`", "Its column with the message's body."),
    ("source.*.polling.status", "`status`", "The outbox's column that says whether a row was published."),
    ("source.*.polling.pending", "`PENDING`", "Its value before."),
    ("source.*.polling.published", "`PUBLISHED`", "Its value after."),
    ("source.*.polling.interval", "`1s`", "Between two looks at an outbox that was empty: 10ms to 1h."),
    (
        "source.*.spill_bytes_max",
        "`16GiB`",
        "Size that transactions in progress may take in the data folder; what needs more is read at its commit.",
    ),
    (
        "source.*.messages",
        "`[]`",
        "Prefixes of `pg_logical_emit_message` whose messages are captured; one that ends in `*` stands for all that begin so.",
    ),
    (
        "source.*.heartbeat",
        "",
        "How often the source writes a message of its own into the database's log, from 100ms to 1h; without it, never.",
    ),
    ("plugin.*.file", "", "The component. A relative path begins at the file's folder."),
    (
        "plugin.*.profile",
        "`small`",
        "`large` for a plugin that brings a runtime, as JavaScript and Python do: more memory, a larger component.",
    ),
    ("plugin.*.settings.*", "", "Whatever the plugin asks for; every value is a text."),
    ("plugin.*.order", "`0`", "Plugins run in this order, those of one order by name."),
    (
        "plugin.*.on_fault",
        "`set-aside`",
        "What happens with a change that the plugin fails on: `set-aside` makes it a dead letter, `pause` stops all \
         processing until somebody decides.",
    ),
    (
        "plugin.*.grants.channels",
        "`[\"*\"]`",
        "Channels that it may publish to: names, or with `*` at their end all that begin so.",
    ),
    ("plugin.*.grants.audience", "`false`", "Whether it may post to followers, and say who follows whom."),
    ("plugin.*.grants.topics", "`[]`", "Topics of other services, likewise. This host has none yet."),
    ("plugin.*.grants.cache", "`[]`", "Keys of the cache that it may delete, likewise."),
];

/// Prefix of the variables that override keys: `gateway.listen` is `TWOHOP_GATEWAY_LISTEN`.
const VARIABLE_PREFIX: &str = "TWOHOP_";

/// The variable that says what is logged, such as `twohop=debug`. It is no key: it counts before the file is read.
pub const LOG_VARIABLE: &str = "TWOHOP_LOG";

/// What [`LOG_VARIABLE`] says.
#[must_use]
pub fn log_filter() -> Option<String> {
    std::env::var(LOG_VARIABLE).ok()
}

/// The variable that arms a failpoint, such as `batch-after-apply:3`. It is no key, and not there in a release.
#[cfg(debug_assertions)]
const FAILPOINT_VARIABLE: &str = "TWOHOP_FAILPOINT";

/// What `FAILPOINT_VARIABLE` says.
#[cfg(debug_assertions)]
#[must_use]
pub fn failpoint() -> Option<String> {
    std::env::var(FAILPOINT_VARIABLE).ok()
}

/// Who runs this program, as far as the environment says.
#[must_use]
pub fn user() -> Option<String> {
    std::env::var("USER").ok().filter(|name| !name.is_empty())
}

/// This program's own file.
///
/// # Errors
/// If the system does not know it.
pub fn program() -> std::io::Result<PathBuf> {
    std::env::current_exe()
}

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read {path}: write it, or name another file with --config")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The file is not TOML, or a value has the wrong type.
    #[error("{path}: {message}")]
    Syntax {
        /// The file.
        path: String,
        /// What is wrong, with line and column where known.
        message: String,
    },
    /// A key that does not exist.
    #[error("{place}: unknown key `{key}`; did you mean `{nearest}`?")]
    UnknownKey {
        /// The file or the variable.
        place: String,
        /// The key.
        key: String,
        /// The known key that is most like it.
        nearest: String,
    },
    /// A value that makes no sense.
    #[error("{key}: {message}")]
    Value {
        /// The key.
        key: String,
        /// What is wrong with it, and what would be right.
        message: String,
    },
}

/// What the program is told to be.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// Folder of everything that is kept.
    pub data: PathBuf,
    /// The public listener.
    pub gateway: Gateway,
    /// The admin listener.
    pub admin: Admin,
    /// The change log.
    pub log: Log,
    /// The history of messages.
    pub history: History,
    /// Who is there.
    pub presence: Presence,
    /// Timelines.
    pub timeline: Timeline,
    /// The cache that keys are deleted from.
    pub cache: Option<Cache>,
    /// Databases, by name.
    pub sources: BTreeMap<String, Source>,
    /// Outboxes that are polled, by name.
    pub polling: BTreeMap<String, Polling>,
    /// Databases that are listened to, by name.
    pub notify: BTreeMap<String, Notify>,
    /// Plugins, by name.
    pub plugins: BTreeMap<String, Plugin>,
}

/// The admin listener.
#[derive(Debug, Clone, PartialEq)]
pub struct Admin {
    /// Its address.
    pub listen: SocketAddr,
    /// What operators have to know; none if it is to be made.
    pub token: Option<Secret>,
}

/// A text that is not shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(pub String);

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("(secret)")
    }
}

/// Retention of the change log.
#[derive(Debug, Clone, PartialEq)]
pub struct Log {
    /// Its size.
    pub bytes_max: u64,
    /// Its age.
    pub age_max: Duration,
}

/// Retention of messages.
#[derive(Debug, Clone, PartialEq)]
pub struct History {
    /// Their number.
    pub count_max: u64,
    /// Their age.
    pub age_max: Duration,
    /// Channels with a value.
    pub values_count_max: u64,
    /// The bytes of these values.
    pub values_bytes_max: u64,
}

/// Of which channels it is told who is there. The patterns are texts here.
#[derive(Debug, Clone, PartialEq)]
pub struct Presence {
    /// The channels.
    pub channels: Vec<String>,
    /// How long a lost connection's member is still there.
    pub grace: Duration,
}

/// What timelines may cost.
#[derive(Debug, Clone, PartialEq)]
pub struct Timeline {
    /// Memory for active ones.
    pub bytes_max: usize,
    /// Active followers up to which posts are pushed.
    pub push_followers_max: u64,
}

/// What flags say; they override everything.
#[derive(Debug, Clone, Default)]
pub struct Overrides {
    /// `--data`.
    pub data: Option<PathBuf>,
    /// `--listen`.
    pub listen: Option<SocketAddr>,
}

/// Reads the configuration from a file, this process's environment, and flags.
///
/// # Errors
/// If the file cannot be read, a key is unknown, or a value makes no sense.
pub fn load(file: &Path, overrides: &Overrides) -> Result<Config, ConfigError> {
    let text = std::fs::read_to_string(file)
        .map_err(|source| ConfigError::Read { path: file.to_owned(), source })?;
    let variables =
        std::env::vars().filter(|(name, _)| name.starts_with(VARIABLE_PREFIX) && name != LOG_VARIABLE);
    #[cfg(debug_assertions)]
    let variables = variables.filter(|(name, _)| name != FAILPOINT_VARIABLE);
    parse(&text, file, variables, overrides)
}

/// What [`load`] does once everything is read.
///
/// # Errors
/// If a key is unknown or a value makes no sense.
pub fn parse(
    text: &str,
    file: &Path,
    variables: impl IntoIterator<Item = (String, String)>,
    overrides: &Overrides,
) -> Result<Config, ConfigError> {
    let place = file.display().to_string();
    let syntax =
        |error: &toml::de::Error| ConfigError::Syntax { path: place.clone(), message: error.to_string() };
    let mut table: toml::Table = toml::from_str(text).map_err(|error| syntax(&error))?;
    check_keys(&table, "", &place)?;
    // Types are checked on the file's own text first: only there an error has a line.
    toml::from_str::<raw::Config>(text).map_err(|error| syntax(&error))?;
    for (variable, value) in variables {
        let key = set_variable(&mut table, &variable, value)?;
        if let Err(error) = table.clone().try_into::<raw::Config>() {
            let message = format!("{} (for {key})", error.message());
            return Err(ConfigError::Value { key: variable, message });
        }
    }
    let raw: raw::Config = table.try_into().map_err(|error| syntax(&error))?;
    raw.check(file.parent().unwrap_or(Path::new("")), overrides)
}

fn matches(pattern: &str, key: &str) -> bool {
    let (mut pattern, mut key) = (pattern.split('.'), key.split('.'));
    loop {
        match (pattern.next(), key.next()) {
            (None, None) => return true,
            (Some(expected), Some(part)) if expected == "*" || expected == part => {}
            _ => return false,
        }
    }
}

fn is_section(key: &str) -> bool {
    let depth = key.split('.').count();
    KEYS.iter().any(|(known, ..)| {
        let parts: Vec<_> = known.split('.').collect();
        parts.len() > depth && matches(&parts[..depth].join("."), key)
    })
}

fn check_keys(table: &toml::Table, prefix: &str, place: &str) -> Result<(), ConfigError> {
    for (name, value) in table {
        let key = if prefix.is_empty() { name.clone() } else { format!("{prefix}.{name}") };
        if KEYS.iter().any(|(known, ..)| matches(known, &key)) {
            continue;
        }
        match value {
            toml::Value::Table(inner) if is_section(&key) => check_keys(inner, &key, place)?,
            _ if is_section(&key) => {
                let message = format!("is a section: write [{key}], and its keys below it");
                return Err(ConfigError::Value { key, message });
            }
            _ => return Err(unknown_key(place.to_owned(), key)),
        }
    }
    Ok(())
}

fn unknown_key(place: String, key: String) -> ConfigError {
    let parts: Vec<_> = key.split('.').collect();
    let nearest = KEYS
        .iter()
        .map(|(known, ..)| {
            // What the user named stays as it is in what is proposed.
            let known = known.split('.').enumerate();
            known
                .map(|(at, part)| if part == "*" { *parts.get(at).unwrap_or(&"NAME") } else { part })
                .collect()
        })
        .map(|known: Vec<_>| known[..known.len().min(parts.len())].join("."))
        .min_by_key(|known| strsim::damerau_levenshtein(known, &key))
        .expect("there are keys");
    ConfigError::UnknownKey { place, key, nearest }
}

/// Sets the key that a variable means: `TWOHOP_SOURCE_SHOP_URL` is `source.shop.url`. A name's own `_` may stand
/// for `-`; only names that the file has are known.
fn set_variable(table: &mut toml::Table, variable: &str, value: String) -> Result<String, ConfigError> {
    let wanted = variable[VARIABLE_PREFIX.len()..].to_ascii_lowercase();
    let flat = |key: &str| key.replace(['.', '-'], "_");
    let mut known: Vec<String> = Vec::new();
    for (pattern, ..) in KEYS {
        match pattern.split_once(".*.") {
            None => known.push((*pattern).to_owned()),
            Some((section, rest)) => {
                let names = table.get(section).and_then(toml::Value::as_table);
                let names = names.into_iter().flat_map(toml::Table::keys);
                known.extend(
                    names.filter(|_| !rest.contains('*')).map(|name| format!("{section}.{name}.{rest}")),
                );
            }
        }
    }
    let Some(key) = known.into_iter().find(|key| flat(key) == wanted) else {
        return Err(unknown_key(variable.to_owned(), wanted.replacen('_', ".", 1)));
    };
    let mut section = table;
    let (path, name) = key.rsplit_once('.').unwrap_or(("", &key));
    for part in path.split('.').filter(|part| !part.is_empty()) {
        let inner = section.entry(part.to_owned()).or_insert_with(|| toml::Value::Table(toml::Table::new()));
        section = inner.as_table_mut().expect("check_keys has found a section here");
    }
    // A variable is text; where a key wants another type, the text is that type's TOML.
    let value = match (name, value.parse::<i64>(), value.parse::<bool>()) {
        (
            "tables" | "messages" | "channels" | "topics" | "cache" | "anonymous" | "origins" | "trusted",
            ..,
        ) => toml::Value::Array(value.split(',').map(|name| name.trim().into()).collect()),
        ("audience" | "index", _, Ok(truth)) => toml::Value::Boolean(truth),
        (
            "count_max" | "bytes_max" | "spill_bytes_max" | "values_count_max" | "values_bytes_max" | "order",
            Ok(number),
            _,
        ) => toml::Value::Integer(number),
        (_, Ok(number), _) if key.starts_with("gateway.limits.") => toml::Value::Integer(number),
        _ => toml::Value::String(value),
    };
    // Of two keys that say the same, the variable's counts.
    match name {
        "url" => drop(section.remove("url_file")),
        "url_file" => drop(section.remove("url")),
        "token" => drop(section.remove("token_file")),
        "token_file" => drop(section.remove("token")),
        _ => {}
    }
    section.insert(name.to_owned(), value);
    Ok(key)
}

#[cfg(test)]
mod tests;
