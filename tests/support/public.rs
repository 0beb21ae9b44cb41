//! The public listener as a client without a stream sees it.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::hmac;
use serde_json::{Value, json};

use super::Stand;

const WITHIN: Duration = Duration::from_secs(20);

/// The secret of [`token`], for the configuration's `secret_file`.
pub const SECRET: &str = "the suite's own secret, of thirty-two bytes at least";

/// A token of a subject in the team `red`, for the audience `suite`, that lives so many seconds.
///
/// # Errors
/// If the clock stands before 1970.
pub fn token(subject: &str, seconds: u64) -> Result<String> {
    let end = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs() + seconds;
    let part = |value: Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let claims = json!({"sub": subject, "team": ["red"], "exp": end, "aud": "suite"});
    let signed = format!("{}.{}", part(json!({"alg": "HS256"})), part(claims));
    let signature = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, SECRET.as_bytes()), signed.as_bytes());
    Ok(format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature)))
}

impl Stand {
    /// Asks the public listener, with a token if there is one: the status, and the answer, which is JSON.
    ///
    /// # Errors
    /// If there is no answer that ends, or it is no JSON.
    pub fn ask_as_client(&self, method: &str, path: &str, token: Option<&str>) -> Result<(u16, Value)> {
        self.request(method, path, token, "", "")
    }

    /// Sends a message of a client, which an id may name.
    ///
    /// # Errors
    /// See [`Stand::ask_as_client`].
    pub fn send_as_client(
        &self,
        path: &str,
        token: &str,
        id: Option<&str>,
        message: &Value,
    ) -> Result<(u16, Value)> {
        let body = message.to_string();
        let id = id.map(|id| format!("Idempotency-Key: {id}\r\n")).unwrap_or_default();
        let head = format!("Content-Type: application/json\r\nContent-Length: {}\r\n{id}", body.len());
        self.request("POST", path, Some(token), &head, &body)
    }

    fn request(
        &self,
        method: &str,
        path: &str,
        token: Option<&str>,
        head: &str,
        body: &str,
    ) -> Result<(u16, Value)> {
        let mut socket = TcpStream::connect(self.address())?;
        socket.set_read_timeout(Some(WITHIN))?;
        let authorization =
            token.map(|token| format!("Authorization: Bearer {token}\r\n")).unwrap_or_default();
        write!(
            socket,
            "{method} {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n{authorization}{head}\r\n{body}"
        )?;
        let mut answer = String::new();
        socket.read_to_string(&mut answer)?;
        let (head, body) = answer.split_once("\r\n\r\n").with_context(|| answer.clone())?;
        let status = head.get(9..12).context("an answer has a status")?.parse()?;
        Ok((status, serde_json::from_str(body).with_context(|| answer.clone())?))
    }

    /// What a metric is now, summed over its labels, of which `name` may have the beginning.
    ///
    /// # Errors
    /// If the admin listener does not answer.
    pub fn metric(&self, name: &str) -> Result<u64> {
        let text = self.metrics()?;
        let values =
            text.lines().filter_map(|line| line.strip_prefix(name)?.rsplit_once(' ')?.1.parse::<u64>().ok());
        Ok(values.sum())
    }
}
