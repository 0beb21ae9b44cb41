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

use serde::Deserialize;

mod raw;
mod units;

/// One row a key: its path, where `*` is a name of the user's choice; its default; what it is.
pub const KEYS: &[(&str, &str, &str)] = &[
    (
        "data",
        "`twohop-data`",
        "Folder of everything that is kept. A relative path begins at the file's folder.",
    ),
    ("gateway.listen", "`127.0.0.1:8080`", "Address and port for clients. Port 0 takes a free one."),
    ("gateway.heartbeat", "`15s`", "Between two signs of life on a quiet connection."),
    (
        "log.bytes_max",
        "`8GiB`",
        "Size at which the change log stops taking changes that nobody has processed.",
    ),
    ("log.age_max", "`24h`", "How long processed changes are kept."),
    ("history.count_max", "`1000000`", "Messages kept for clients that come back."),
    ("history.age_max", "`24h`", "How long they are kept."),
    ("source.*.url", "", "The database: `postgres://USER:PASSWORD@HOST:PORT/DATABASE`."),
    (
        "source.*.url_file",
        "",
        "A file that holds the URL, instead of `url`, so that no password stands here.",
    ),
    ("source.*.tables", "", "Tables to capture: `TABLE` (of the schema `public`) or `SCHEMA.TABLE`."),
    ("source.*.slot", "`twohop_NAME`", "Name of the replication slot."),
    ("source.*.publication", "`twohop_NAME`", "Name of the publication."),
    (
        "source.*.snapshot",
        "`initial`",
        "`initial` sends the rows that are there at the first start, `none` does not.",
    ),
    ("plugin.*.file", "", "The component. A relative path begins at the file's folder."),
    (
        "plugin.*.profile",
        "`small`",
        "`large` for a plugin that brings a runtime, as JavaScript and Python do: more memory, a larger component.",
    ),
    ("plugin.*.settings.*", "", "Whatever the plugin asks for; every value is a text."),
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
    /// The change log.
    pub log: Log,
    /// The history of messages.
    pub history: History,
    /// Databases, by name.
    pub sources: BTreeMap<String, Source>,
    /// Plugins, by name.
    pub plugins: BTreeMap<String, Plugin>,
}

/// The public listener.
#[derive(Debug, Clone, PartialEq)]
pub struct Gateway {
    /// Its address.
    pub listen: SocketAddr,
    /// Between two signs of life on a quiet connection.
    pub heartbeat: Duration,
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
}

/// One database.
#[derive(Clone, PartialEq)]
pub struct Source {
    /// Where it is; holds a password.
    pub url: String,
    /// What is captured.
    pub tables: Vec<String>,
    /// The slot's name, if it is not the usual one.
    pub slot: Option<String>,
    /// The publication's name, if it is not the usual one.
    pub publication: Option<String>,
    /// What happens with the rows that are there at the first start.
    pub snapshot: Snapshot,
}

impl std::fmt::Debug for Source {
    /// Without the URL: it holds a password.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Source")
            .field("tables", &self.tables)
            .field("slot", &self.slot)
            .finish_non_exhaustive()
    }
}

/// What happens with the rows that are there at the first start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Default)]
#[serde(rename_all = "kebab-case")]
pub enum Snapshot {
    /// They are sent, as the operation `snapshot`.
    #[default]
    Initial,
    /// They are not.
    None,
}

/// One plugin.
#[derive(Debug, Clone, PartialEq)]
pub struct Plugin {
    /// Its component.
    pub file: PathBuf,
    /// Which limits it runs under.
    pub profile: Profile,
    /// Its settings.
    pub settings: BTreeMap<String, String>,
}

/// Which limits a plugin runs under.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Profile {
    /// Those for Rust, C and the like.
    #[default]
    Small,
    /// Those for guests that bring a runtime.
    Large,
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
/// for `-`; a name that is in the file already wins over a new one.
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
    let value = match (name, value.parse::<i64>()) {
        ("tables", _) => toml::Value::Array(value.split(',').map(|table| table.trim().into()).collect()),
        (_, Ok(number)) => toml::Value::Integer(number),
        (_, Err(_)) => toml::Value::String(value),
    };
    section.insert(name.to_owned(), value);
    Ok(key)
}

#[cfg(test)]
mod tests;
