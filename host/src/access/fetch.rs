//! Fetches a key set from its address.
//!
//! In: `https://…`, or `http://` of this machine. Out: the bytes, bounded in number and time.
//! Absent on purpose: redirects, and keys that come in the clear over a network: who can change them lets anybody in.

use bytes::Bytes;
use http_body_util::{BodyExt, Empty, Limited};
use hyper::Uri;
use hyper_rustls::HttpsConnector;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;

use crate::limits::{TOKEN_KEYS_BYTES_MAX, TOKEN_KEYS_READ_TIME_MAX};

/// A client for one address.
#[derive(Debug)]
pub(super) struct Fetcher {
    address: Uri,
    client: Client<HttpsConnector<HttpConnector>, Empty<Bytes>>,
}

impl Fetcher {
    /// A client for an address.
    ///
    /// # Errors
    /// If it is none that keys may come from, or this machine trusts nobody.
    pub(super) fn new(address: &str) -> Result<Self, String> {
        let uri: Uri = address.parse().map_err(|_| format!("`{address}` is no address"))?;
        let is_here = matches!(uri.host(), Some("localhost" | "127.0.0.1" | "[::1]"));
        match uri.scheme_str() {
            Some("https") if uri.host().is_some() => {}
            Some("http") if is_here => {}
            _ => {
                return Err(format!(
                    "`{address}` does not begin with https:// (http:// only of this machine)"
                ));
            }
        }
        let connector = hyper_rustls::HttpsConnectorBuilder::new()
            .with_native_roots()
            .map_err(|error| {
                format!("this machine trusts no certificates: {error}; install ca-certificates")
            })?
            .https_or_http()
            .enable_http1()
            .build();
        Ok(Self { address: uri, client: Client::builder(TokioExecutor::new()).build(connector) })
    }

    /// Where it fetches.
    pub(super) fn address(&self) -> &Uri {
        &self.address
    }

    /// Fetches.
    ///
    /// # Errors
    /// If there is no such answer in time.
    pub(super) async fn fetch(&self) -> Result<Bytes, String> {
        let fetched = async {
            let answer = self.client.get(self.address.clone()).await.map_err(|error| chain(&error))?;
            if answer.status() != 200 {
                return Err(format!("it answers {}", answer.status()));
            }
            let body = Limited::new(answer.into_body(), TOKEN_KEYS_BYTES_MAX).collect().await;
            Ok(body.map_err(|error| error.to_string())?.to_bytes())
        };
        tokio::time::timeout(TOKEN_KEYS_READ_TIME_MAX, fetched)
            .await
            .unwrap_or_else(|_| Err("no answer in time".into()))
    }
}

/// An error with its reasons: its own words are "client error (Connect)".
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(reason) = source {
        text = format!("{text}: {reason}");
        source = reason.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_come_from_https_or_from_this_machine() {
        for address in ["http://issuer.example/jwks", "ftp://localhost/jwks", "jwks.json", "", "https://"] {
            assert!(Fetcher::new(address).is_err(), "{address}");
        }
        assert!(Fetcher::new("http://127.0.0.1:1/jwks").is_ok());
    }
}
