//! The way to the server: the URL, and the control connection.
//!
//! In: the source's URL. Out: a [`Target`] for every connection, and a [`Control`] for SQL.
//!
//! Invariants: a password goes to the server and nowhere else; every session has the settings of
//! `values::SESSION`, and no time limit of the server cuts it.
//!
//! Absent on purpose: replication (`wire.rs`), since `tokio-postgres` has no replication mode; more than one host.

use std::error::Error as _;
use std::fmt;
use std::io;

use tokio::task::JoinHandle;
use tokio_postgres::config::{Host, SslMode};
use tokio_postgres::{Client, NoTls, Row};

use super::error::{Said, SourceError, with_causes};
use super::values;
use crate::limits::{
    SOURCE_CONNECT_TIME_MAX, SOURCE_PROBE_INTERVAL, SOURCE_SERVER_TIME_MAX, SOURCE_SILENCE_TIME_MAX,
};

/// Signs of life that may be missing: with those before, as long as the stream may be silent.
const KEEPALIVE_RETRIES: u32 = 3;

/// What a URL looks like.
const FORM: &str = "postgres://USER:PASSWORD@HOST:PORT/DATABASE";

/// One database of one server, and who we are there.
#[derive(Clone)]
pub(super) struct Target {
    config: tokio_postgres::Config,
    /// A name, or the folder of a socket, which begins with `/`.
    pub(super) host: String,
    pub(super) port: u16,
    pub(super) user: String,
    pub(super) password: String,
    pub(super) database: String,
    /// The `options` of every session.
    pub(super) options: String,
}

impl Target {
    /// Reads a URL, or a list of `key=value`.
    ///
    /// # Errors
    /// If it is no URL of PostgreSQL, lacks host or user, or asks for what this program cannot do. The error has
    /// nothing of the URL in it.
    pub(super) fn parse(url: &str) -> Result<Self, SourceError> {
        let wrong =
            |what: &str| SourceError::Config(format!("the source's URL {what}; it looks like {FORM}"));
        // The parser does not know these two.
        if let Some(mode) = ["verify-ca", "verify-full"].iter().find(|mode| url.contains(*mode)) {
            return Err(SourceError::Encryption(format!("sslmode={mode}")));
        }
        // The parser's own words may quote a part of the password.
        let config: tokio_postgres::Config =
            url.parse().map_err(|_| wrong("cannot be read (special characters must be percent-encoded)"))?;
        if config.get_ssl_mode() == SslMode::Require {
            return Err(SourceError::Encryption("sslmode=require".to_owned()));
        }
        let host = match config.get_hosts() {
            [Host::Tcp(name)] => name.clone(),
            [Host::Unix(folder)] => folder.display().to_string(),
            [] => return Err(wrong("names no host")),
            _ => return Err(wrong("names several hosts, and one source reads from one")),
        };
        let port = config.get_ports().first().copied().unwrap_or(5432);
        let user = config
            .get_user()
            .filter(|user| !user.is_empty())
            .ok_or_else(|| wrong("names no user"))?
            .to_owned();
        let password = String::from_utf8(config.get_password().unwrap_or_default().to_vec())
            .map_err(|_| wrong("has a password that is not UTF-8"))?;
        let database = config.get_dbname().unwrap_or(&user).to_owned();
        let options = format!("{} {}", config.get_options().unwrap_or_default(), session_options());
        Ok(Self { config, host, port, user, password, database, options: options.trim_start().to_owned() })
    }

    /// Where the server is.
    pub(super) fn address(&self) -> String {
        format!("{}:{}", self.host, self.port)
    }

    /// Opens a control connection.
    ///
    /// # Errors
    /// If the server cannot be reached, or does not let us in.
    pub(super) async fn connect(&self, application: &str) -> Result<Control, SourceError> {
        let config = self.control(application);
        let connected = tokio::time::timeout(SOURCE_CONNECT_TIME_MAX, config.connect(NoTls)).await;
        let (client, connection) = match connected {
            Ok(connected) => connected.map_err(|error| self.refused(error))?,
            Err(_) => {
                let cause = io::Error::from(io::ErrorKind::TimedOut);
                return Err(SourceError::Unreachable { address: self.address(), cause });
            }
        };
        // The connection's own error also reaches whoever waits for an answer.
        let driver = tokio::spawn(async move { drop(connection.await) });
        Ok(Control { client, driver })
    }

    /// How a control connection is made. Its peer may be gone without a word while an answer is awaited, or while there
    /// is nothing to ask for: the kernel finds out, and ends the connection.
    fn control(&self, application: &str) -> tokio_postgres::Config {
        let mut config = self.config.clone();
        config
            .ssl_mode(SslMode::Disable)
            .options(&self.options)
            .application_name(application)
            .keepalives(true)
            .keepalives_idle(SOURCE_SERVER_TIME_MAX)
            .keepalives_interval(SOURCE_PROBE_INTERVAL)
            .keepalives_retries(KEEPALIVE_RETRIES)
            .tcp_user_timeout(SOURCE_SILENCE_TIME_MAX);
        config
    }

    fn refused(&self, error: tokio_postgres::Error) -> SourceError {
        if error.as_db_error().is_some() {
            return self.refusal(error.into());
        }
        match error.source().and_then(|cause| cause.downcast_ref::<io::Error>()) {
            Some(cause) => SourceError::Unreachable {
                address: self.address(),
                cause: io::Error::new(cause.kind(), cause.to_string()),
            },
            // Such as "password missing": nothing came from the server.
            None => {
                let said = Said { code: String::new(), message: with_causes(&error) };
                SourceError::Password { address: self.address(), user: self.user.clone(), said }
            }
        }
    }

    /// The error for what the server said instead of letting us in.
    pub(super) fn refusal(&self, said: Said) -> SourceError {
        let (address, user) = (self.address(), self.user.clone());
        match said.code.as_str() {
            "28P01" => SourceError::Password { address, user, said },
            "28000" => SourceError::Refused { address, user, said },
            "3D000" => SourceError::DatabaseUnknown { address, database: self.database.clone() },
            _ => SourceError::said("the connection", said),
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "postgres://{}@{}/{}", self.user, self.address(), self.database)
    }
}

impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The server's own limits would cut a long snapshot or a quiet stream; its time limit for us is pinned, so that we
/// know how long it may be silent.
fn session_options() -> String {
    format!(
        "{} -c statement_timeout=0 -c lock_timeout=0 -c idle_in_transaction_session_timeout=0 \
         -c idle_session_timeout=0 -c wal_sender_timeout={}ms",
        values::SESSION,
        SOURCE_SERVER_TIME_MAX.as_millis()
    )
}

/// A connection for SQL. Dropping it closes it.
pub(super) struct Control {
    client: Client,
    driver: JoinHandle<()>,
}

impl Control {
    /// The rows of a query with parameters.
    ///
    /// # Errors
    /// If the server refuses, or the connection broke; `doing` says what was tried.
    pub(super) async fn query(
        &self,
        doing: &str,
        sql: &str,
        parameters: &[&(dyn tokio_postgres::types::ToSql + Sync)],
    ) -> Result<Vec<Row>, SourceError> {
        self.client.query(sql, parameters).await.map_err(|error| SourceError::control(doing, error))
    }

    /// Runs statements.
    ///
    /// # Errors
    /// As [`query`](Self::query).
    pub(super) async fn execute(&self, doing: &str, sql: &str) -> Result<(), SourceError> {
        self.client.batch_execute(sql).await.map_err(|error| SourceError::control(doing, error))
    }

    /// The rows of one statement as text, one after the other, as fast as they are taken.
    ///
    /// # Errors
    /// As [`query`](Self::query).
    pub(super) async fn rows(
        &self,
        doing: &str,
        sql: &str,
    ) -> Result<tokio_postgres::SimpleQueryStream, SourceError> {
        self.client.simple_query_raw(sql).await.map_err(|error| SourceError::control(doing, error))
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

/// A name within SQL.
pub(super) fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_names_host_port_user_and_database() {
        let target = Target::parse("postgres://ann:s3cret@db.example/shop").expect("the URL is whole");
        assert_eq!(target.address(), "db.example:5432");
        assert_eq!((target.user.as_str(), target.password.as_str()), ("ann", "s3cret"));
        assert_eq!(target.database, "shop");
        let target = Target::parse("host=/run/pg user=ann port=5433").expect("the list is whole");
        assert_eq!((target.host.as_str(), target.port), ("/run/pg", 5433));
        assert_eq!(target.database, "ann");
    }

    #[test]
    fn a_target_is_shown_without_its_password() {
        let target = Target::parse("postgres://ann:s3cret@db.example:6000/shop").expect("the URL is whole");
        assert_eq!(format!("{target}"), "postgres://ann@db.example:6000/shop");
        assert_eq!(format!("{target:?}"), "postgres://ann@db.example:6000/shop");
    }

    #[test]
    fn an_error_about_a_url_has_nothing_of_it() {
        for url in [
            "postgres://ann:s3cret@db:port/shop",
            "host=db user=ann password=my s3cret",
            "postgres://ann:s3cret@a,b/shop",
            "postgres://:s3cret@db/shop",
            "s3cret",
            "",
        ] {
            let error = Target::parse(url).expect_err("the URL is wrong").to_string();
            assert!(!error.contains("s3cret"), "{error}");
            assert!(error.contains(FORM), "{error}");
        }
    }

    #[test]
    fn a_url_that_asks_for_encryption_is_told_that_there_is_none() {
        for mode in ["require", "verify-ca", "verify-full"] {
            let url = format!("postgres://ann:s3cret@db/shop?sslmode={mode}");
            let error = Target::parse(&url).expect_err("there is no encryption").to_string();
            assert!(error.contains(&format!("sslmode={mode}")), "{error}");
            assert!(!error.contains("s3cret"), "{error}");
        }
        for mode in ["prefer", "disable"] {
            assert!(Target::parse(&format!("postgres://ann@db/shop?sslmode={mode}")).is_ok());
        }
    }

    #[test]
    fn options_of_the_url_come_before_ours() {
        let target =
            Target::parse("postgres://ann@db/shop?options=-c%20work_mem%3D1MB").expect("the URL is whole");
        assert!(target.options.starts_with("-c work_mem=1MB -c TimeZone=UTC"), "{}", target.options);
        assert!(target.options.ends_with("-c wal_sender_timeout=30000ms"), "{}", target.options);
    }

    #[test]
    fn a_peer_that_is_gone_is_noticed_on_the_control_connection_as_soon_as_on_the_stream() {
        let target =
            Target::parse("postgres://ann@db/shop?keepalives=0&tcp_user_timeout=0").expect("it is whole");
        let config = target.control("twohop");
        assert!(config.get_keepalives());
        let probes = SOURCE_PROBE_INTERVAL * KEEPALIVE_RETRIES;
        assert_eq!(config.get_keepalives_idle() + probes, SOURCE_SILENCE_TIME_MAX);
        assert_eq!(config.get_keepalives_interval(), Some(SOURCE_PROBE_INTERVAL));
        assert_eq!(config.get_tcp_user_timeout(), Some(&SOURCE_SILENCE_TIME_MAX));
    }

    #[test]
    fn names_are_quoted() {
        assert_eq!(quoted("Or\"ders"), "\"Or\"\"ders\"");
    }
}
