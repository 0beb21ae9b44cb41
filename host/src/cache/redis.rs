//! The connection to a Redis, and the few commands that are given there.
//!
//! Invariant: after any error the connection is given up, so that no answer is taken for another's; what was under way
//! may still be carried out, which is harmless.

use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{
    AsyncConnectionConfig, Client, ErrorKind, IntoConnectionInfo, Pipeline, RedisError, ServerError,
    ServerErrorKind,
};
use tokio::sync::Mutex;

use super::error::CacheError;
use super::{HELD, INDEX};
use crate::limits::{CACHE_ANSWER_TIME_MAX, CACHE_CONNECT_TIME_MAX};

/// One Redis.
pub(super) struct Server {
    client: Client,
    /// To show.
    address: String,
    connection: Mutex<Option<MultiplexedConnection>>,
}

/// Commands that are sent together.
#[derive(Default)]
pub(super) struct Commands(Pipeline);

impl Commands {
    /// Forbids something until the time has passed.
    pub(super) fn hold(&mut self, key: &[u8], hold: Duration) {
        let millis = u64::try_from(hold.as_millis()).unwrap_or(u64::MAX);
        self.0.cmd("SET").arg(key).arg(HELD).arg("PX").arg(millis).ignore();
    }

    /// Deletes a key; its memory is freed beside other work.
    pub(super) fn delete(&mut self, key: &[u8]) {
        self.0.cmd("UNLINK").arg(key).ignore();
    }

    /// Takes a key out of the index.
    pub(super) fn forget(&mut self, key: &[u8]) {
        self.0.cmd("ZREM").arg(INDEX).arg(key).ignore();
    }
}

impl Server {
    /// # Errors
    /// If the URL is none.
    pub(super) fn new(url: &str) -> Result<Self, CacheError> {
        let info = url.into_connection_info().map_err(|_| CacheError::Url)?;
        let address = info.addr().to_string();
        let client = Client::open(info).map_err(|_| CacheError::Url)?;
        Ok(Self { client, address, connection: Mutex::new(None) })
    }

    /// Sends commands, and waits until all of them are carried out.
    pub(super) async fn run(&self, commands: &Commands) -> Result<(), CacheError> {
        let mut connection = self.connection().await?;
        let answer = commands.0.query_async::<()>(&mut connection).await;
        self.checked(answer).await
    }

    /// Some keys of the index with the prefix, in order, after one of them.
    pub(super) async fn indexed(
        &self,
        prefix: &[u8],
        after: Option<&[u8]>,
        count: usize,
    ) -> Result<Vec<Vec<u8>>, CacheError> {
        let (from, to) = range(prefix, after);
        let mut command = redis::cmd("ZRANGEBYLEX");
        command.arg(INDEX).arg(from).arg(to).arg("LIMIT").arg(0).arg(count);
        let mut connection = self.connection().await?;
        let answer = command.query_async(&mut connection).await;
        self.checked(answer).await
    }

    async fn connection(&self) -> Result<MultiplexedConnection, CacheError> {
        let mut kept = self.connection.lock().await;
        if let Some(connection) = &*kept {
            return Ok(connection.clone());
        }
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(CACHE_CONNECT_TIME_MAX))
            .set_response_timeout(Some(CACHE_ANSWER_TIME_MAX));
        let made = self.client.get_multiplexed_async_connection_with_config(&config).await;
        Ok(kept.insert(made.map_err(|error| self.explain(&error))?).clone())
    }

    async fn checked<T>(&self, answer: Result<T, RedisError>) -> Result<T, CacheError> {
        match answer {
            Ok(answer) => Ok(answer),
            Err(error) => {
                *self.connection.lock().await = None;
                Err(self.explain(&error))
            }
        }
    }

    fn explain(&self, error: &RedisError) -> CacheError {
        let address = self.address.clone();
        // Of many commands, the first that was refused.
        let refused = error.clone().into_server_errors();
        let refused = refused.as_deref().and_then(|refused| Some(&refused.first()?.1));
        let said = || refused.map_or_else(|| error.to_string(), ToString::to_string);
        match (error.kind(), refused.map(ServerError::code)) {
            (ErrorKind::Parse | ErrorKind::UnexpectedReturnType, _) => {
                CacheError::Foreign { address, why: said() }
            }
            (_, Some("NOAUTH")) => CacheError::NeedsPassword { address },
            (ErrorKind::AuthenticationFailed, _) | (_, Some("WRONGPASS")) => CacheError::Password { address },
            (ErrorKind::Server(ServerErrorKind::ReadOnly), _) => CacheError::Replica { address },
            (ErrorKind::Server(ServerErrorKind::NoPerm), _) => {
                CacheError::Forbidden { address, said: said() }
            }
            _ if error.is_cluster_error() => CacheError::Cluster { address },
            (ErrorKind::Io, _) if error.is_timeout() => CacheError::Silent { address },
            (ErrorKind::Io, _) => CacheError::Unreachable { address, why: said() },
            _ => CacheError::Refused { address, said: said() },
        }
    }
}

/// From where to where keys with a prefix are, in the words of `ZRANGEBYLEX`. No key of ours has the byte 0xFF, which
/// UTF-8 does not know.
fn range(prefix: &[u8], after: Option<&[u8]>) -> (Vec<u8>, Vec<u8>) {
    let from = match after {
        Some(after) => [b"(", after].concat(),
        None => [b"[", prefix].concat(),
    };
    (from, [b"(", prefix, b"\xFF"].concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_that_is_none_is_refused_without_a_word_of_it() {
        for url in ["", "localhost:6379", "http://:s3cret@localhost", "redis://:s3cret@"] {
            let Err(error) = Server::new(url) else { panic!("`{url}` is taken") };
            assert!(matches!(error, CacheError::Url) && !error.to_string().contains("s3cret"), "{error}");
        }
        let server = Server::new("redis://ann:s3cret@cache.example:7000/2").expect("it is one");
        assert_eq!(server.address, "cache.example:7000");
    }

    #[test]
    fn a_range_begins_with_the_prefix_and_goes_on_after_the_last_key() {
        assert_eq!(range(b"a:", None), (b"[a:".to_vec(), b"(a:\xFF".to_vec()));
        assert_eq!(range(b"", Some(b"b")), (b"(b".to_vec(), b"(\xFF".to_vec()));
    }
}
