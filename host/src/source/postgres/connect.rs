//! The way to the server: the URL, and the control connection.
//!
//! In: the source's URL. Out: a [`Target`] for every connection, and a [`Control`] for SQL. Both kinds of connections go
//! the same way there (`transport/`), with the same encryption.
//!
//! Invariants: a password goes to the server and nowhere else; every session has the settings of
//! `values::SESSION`, and no time limit of the server cuts it.
//!
//! Absent on purpose: replication (`wire.rs`), since `tokio-postgres` has no replication mode; more than one host.

use std::error::Error as _;
use std::fmt;
use std::future::{Ready, ready};
use std::io;

use tokio::task::JoinHandle;
use tokio_postgres::config::{Host, SslMode, SslNegotiation};
use tokio_postgres::tls::{ChannelBinding, TlsConnect, TlsStream};
use tokio_postgres::{Client, Connection, Row};

use super::error::{Said, SourceError, with_causes};
use super::transport::{Account, Address, Binding, Cleartext, DialError, Session, Stream, Tls, dial};
use super::{url, values, wire};
use crate::limits::SOURCE_CONNECT_TIME_MAX;

/// What a URL looks like.
const FORM: &str = "postgres://USER:PASSWORD@HOST:PORT/DATABASE";

/// One database of one server, and who we are there.
#[derive(Clone)]
pub(super) struct Target {
    config: tokio_postgres::Config,
    address: Address,
    tls: Tls,
    binding: Binding,
    pub(super) user: String,
    password: Option<Vec<u8>>,
    pub(super) database: String,
    /// The `options` of every session.
    options: String,
}

impl Target {
    /// Reads a URL, or a list of `key=value`.
    ///
    /// # Errors
    /// If it is no URL of PostgreSQL, lacks host or user, or asks for what this program cannot do. The error has
    /// nothing of the URL in it.
    pub(super) fn parse(text: &str) -> Result<Self, SourceError> {
        let wrong =
            |what: &str| SourceError::Config(format!("the source's URL {what}; it looks like {FORM}"));
        let (text, tls) = url::take_tls(text).map_err(|what| wrong(&what))?;
        // The parser's own words may quote a part of the password.
        let config: tokio_postgres::Config =
            text.parse().map_err(|_| wrong("cannot be read (special characters must be percent-encoded)"))?;
        let host = match config.get_hosts() {
            [Host::Tcp(name)] => name.clone(),
            [Host::Unix(folder)] => folder.display().to_string(),
            [] => return Err(wrong("names no host")),
            _ => return Err(wrong("names several hosts, and one source reads from one")),
        };
        let address = Address {
            host,
            numeric: config.get_hostaddrs().first().copied(),
            port: config.get_ports().first().copied().unwrap_or(5432),
        };
        let user = config
            .get_user()
            .filter(|user| !user.is_empty())
            .ok_or_else(|| wrong("names no user"))?
            .to_owned();
        let binding = match config.get_channel_binding() {
            tokio_postgres::config::ChannelBinding::Disable => Binding::Never,
            tokio_postgres::config::ChannelBinding::Require => Binding::Always,
            _ => Binding::IfOffered,
        };
        let password = config.get_password().map(<[u8]>::to_vec);
        let database = config.get_dbname().unwrap_or(&user).to_owned();
        let options = format!("{} {}", config.get_options().unwrap_or_default(), session_options());
        let options = options.trim_start().to_owned();
        Ok(Self { config, address, tls, binding, user, password, database, options })
    }

    /// Where the server is.
    pub(super) fn address(&self) -> String {
        format!("{}:{}", self.address.host, self.address.port)
    }

    async fn dial(&self) -> Result<Stream, SourceError> {
        dial(&self.address, &self.tls).await.map_err(|error| match error {
            DialError::Io(cause) => self.unreachable(cause),
            DialError::Files(what) => SourceError::Config(format!("the source's URL: {what}")),
            error @ (DialError::NotOffered | DialError::Handshake { .. }) => SourceError::Encryption {
                address: self.address(),
                mode: self.tls.mode.name(),
                what: error.to_string(),
            },
        })
    }

    /// Opens a control connection.
    ///
    /// # Errors
    /// If the server cannot be reached, or does not let us in.
    pub(super) async fn connect(&self, application: &str) -> Result<Control, SourceError> {
        let (client, connection) = self.dialed(application).await?;
        // The connection's own error also reaches whoever waits for an answer.
        let driver = tokio::spawn(async move { drop(connection.await) });
        Ok(Control { client, driver })
    }

    /// Opens a connection for SQL that the caller drives, to see what comes on it.
    ///
    /// # Errors
    /// As [`connect`](Self::connect).
    pub(super) async fn dialed(
        &self,
        application: &str,
    ) -> Result<(Client, Connection<Stream, Stream>), SourceError> {
        let mut config = self.config.clone();
        // The stream is as encrypted as it is to be: the library is only told what binds a password to it.
        config
            .ssl_mode(SslMode::Require)
            .ssl_negotiation(SslNegotiation::Direct)
            .options(&self.options)
            .application_name(application);
        let connected = tokio::time::timeout(SOURCE_CONNECT_TIME_MAX, async {
            let stream = self.dial().await?;
            config.connect_raw(stream, Dialed).await.map_err(|error| self.refused(error))
        });
        match connected.await {
            Ok(connected) => connected,
            Err(_) => Err(self.unreachable(io::ErrorKind::TimedOut.into())),
        }
    }

    /// Opens a replication connection.
    ///
    /// # Errors
    /// As [`connect`](Self::connect).
    pub(super) async fn session(&self, application: &str) -> Result<Session, SourceError> {
        let stream = self.dial().await?;
        let account = Account { user: &self.user, password: self.password.as_deref(), binding: self.binding };
        let parameters = [
            ("database", self.database.as_str()),
            ("replication", "database"),
            ("client_encoding", "UTF8"),
            ("application_name", application),
            ("options", self.options.as_str()),
        ];
        let begun = Session::begin(stream, account, &parameters).await;
        begun.map_err(|error| wire::refused(self, error))
    }

    fn refused(&self, error: tokio_postgres::Error) -> SourceError {
        if error.as_db_error().is_some() {
            return self.refusal(error.into());
        }
        match error.source().and_then(|cause| cause.downcast_ref::<io::Error>()) {
            Some(cause) if is_cleartext(cause) => self.cleartext(),
            Some(cause) => self.unreachable(io::Error::new(cause.kind(), cause.to_string())),
            // It went while it was about to let us in.
            None if error.is_closed() => {
                self.unreachable(io::Error::new(io::ErrorKind::ConnectionAborted, error.to_string()))
            }
            // Such as "password missing": nothing came from the server.
            None => self.refusal_of(with_causes(&error)),
        }
    }

    /// The error for a server that nobody answers at.
    pub(super) fn unreachable(&self, cause: io::Error) -> SourceError {
        SourceError::Unreachable { address: self.address(), cause }
    }

    /// The error for a connection that broke before it let us in.
    pub(super) fn broken(&self, cause: io::Error) -> SourceError {
        if is_cleartext(&cause) { self.cleartext() } else { self.unreachable(cause) }
    }

    fn cleartext(&self) -> SourceError {
        SourceError::Cleartext { address: self.address(), user: self.user.clone() }
    }

    /// The error for a password that does not do.
    pub(super) fn refusal_of(&self, message: String) -> SourceError {
        let said = Said { code: String::new(), message };
        SourceError::Password { address: self.address(), user: self.user.clone(), said }
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

fn is_cleartext(error: &io::Error) -> bool {
    error.get_ref().is_some_and(|cause| cause.is::<Cleartext>())
}

/// Takes a stream as it is.
struct Dialed;

impl TlsConnect<Stream> for Dialed {
    type Stream = Stream;
    type Error = io::Error;
    type Future = Ready<Result<Stream, io::Error>>;

    fn connect(self, stream: Stream) -> Self::Future {
        ready(Ok(stream))
    }
}

impl TlsStream for Stream {
    fn channel_binding(&self) -> ChannelBinding {
        self.end_point().map_or_else(ChannelBinding::none, ChannelBinding::tls_server_end_point)
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

/// The server's own limits would cut a long snapshot or a quiet stream. How long it waits for a sign of life of ours is
/// left to it: it gets several a second.
fn session_options() -> String {
    format!(
        "{} -c statement_timeout=0 -c lock_timeout=0 -c idle_in_transaction_session_timeout=0 \
         -c idle_session_timeout=0",
        values::SESSION
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
        assert_eq!((target.user.as_str(), target.password.as_deref()), ("ann", Some(&b"s3cret"[..])));
        assert_eq!(target.database, "shop");
        let target = Target::parse("host=/run/pg user=ann port=5433").expect("the list is whole");
        assert_eq!((target.address.host.as_str(), target.address.port), ("/run/pg", 5433));
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
            "postgres://ann:s3cret@db/shop?sslmode=s3cret",
            "s3cret",
            "",
        ] {
            let error = Target::parse(url).expect_err("the URL is wrong").to_string();
            assert!(!error.contains("s3cret"), "{error}");
            assert!(error.contains(FORM), "{error}");
        }
    }

    #[test]
    fn options_of_the_url_come_before_ours() {
        let target =
            Target::parse("postgres://ann@db/shop?options=-c%20work_mem%3D1MB").expect("the URL is whole");
        assert!(target.options.starts_with("-c work_mem=1MB -c TimeZone=UTC"), "{}", target.options);
        assert!(target.options.ends_with("-c idle_session_timeout=0"), "{}", target.options);
    }

    #[test]
    fn names_are_quoted() {
        assert_eq!(quoted("Or\"ders"), "\"Or\"\"ders\"");
    }
}
