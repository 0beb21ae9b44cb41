//! The public listener as a client without a stream sees it.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::Value;

use super::Stand;

const WITHIN: Duration = Duration::from_secs(20);

impl Stand {
    /// Asks the public listener, with a token if there is one: the status, and the answer, which is JSON.
    ///
    /// # Errors
    /// If there is no answer that ends, or it is no JSON.
    pub fn ask_as_client(&self, method: &str, path: &str, token: Option<&str>) -> Result<(u16, Value)> {
        let mut socket = TcpStream::connect(self.address())?;
        socket.set_read_timeout(Some(WITHIN))?;
        let authorization =
            token.map(|token| format!("Authorization: Bearer {token}\r\n")).unwrap_or_default();
        write!(socket, "{method} {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n{authorization}\r\n")?;
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
        let mut socket = TcpStream::connect(self.admin())?;
        let token = self.token()?;
        write!(
            socket,
            "GET /metrics HTTP/1.1\r\nHost: test\r\nConnection: close\r\nAuthorization: Bearer {token}\r\n\r\n"
        )?;
        let mut text = String::new();
        socket.read_to_string(&mut text)?;
        let values =
            text.lines().filter_map(|line| line.strip_prefix(name)?.rsplit_once(' ')?.1.parse::<u64>().ok());
        Ok(values.sum())
    }
}
