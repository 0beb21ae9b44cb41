//! A stand's admin listener, by HTTP and by the command line.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::{Command, Output};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use xtask::place;

use super::Stand;

/// Longer than anything takes that is asked of it.
const ANSWER_WITHIN: Duration = Duration::from_secs(120);

impl Stand {
    /// A request by HTTP with the token: the status, and the answer as JSON.
    ///
    /// # Errors
    /// If nobody answers, or not in JSON.
    pub fn ask(&self, method: &str, path: &str, body: &[u8]) -> Result<(u16, Value)> {
        self.ask_with(&self.token()?, method, path, body)
    }

    /// As [`Stand::ask`], with another token.
    ///
    /// # Errors
    /// As [`Stand::ask`].
    pub fn ask_with(&self, token: &str, method: &str, path: &str, body: &[u8]) -> Result<(u16, Value)> {
        let (status, answer) = self.ask_for_text(token, method, path, body)?;
        Ok((status, serde_json::from_str(&answer).with_context(|| answer.clone())?))
    }

    /// The figures, as text.
    ///
    /// # Errors
    /// If nobody answers.
    pub fn metrics(&self) -> Result<String> {
        Ok(self.ask_for_text(&self.token()?, "GET", "/metrics", b"")?.1)
    }

    fn ask_for_text(&self, token: &str, method: &str, path: &str, body: &[u8]) -> Result<(u16, String)> {
        let mut socket = TcpStream::connect(self.admin())?;
        socket.set_read_timeout(Some(ANSWER_WITHIN))?;
        write!(
            socket,
            "{method} {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\nAuthorization: Bearer {token}\r\n\
             X-Twohop-By: http\r\nContent-Length: {}\r\n\r\n",
            body.len()
        )?;
        // Who refuses need not read all of it.
        let _ = socket.write_all(body);
        let mut answer = String::new();
        let read = socket.read_to_string(&mut answer);
        let (head, body) = answer.split_once("\r\n\r\n").with_context(|| format!("no answer: {read:?}"))?;
        let status = head.get(9..12).context("an answer has a status")?.parse()?;
        Ok((status, body.to_owned()))
    }

    /// What operators have to know.
    ///
    /// # Errors
    /// If the host has not made it.
    pub fn token(&self) -> Result<String> {
        Ok(std::fs::read_to_string(self.token_file())?.trim().to_owned())
    }

    /// What a person at the command line gets: `twohop ARGUMENTS`, with this stand's listener and token.
    ///
    /// # Errors
    /// If it cannot be run.
    pub fn twohop(&self, arguments: &[&str]) -> Result<Output> {
        let mut command = Command::new(place::host_binary()?);
        command.args(arguments).args(["--admin", &format!("http://{}", self.admin()), "--by", "cli"]);
        command.arg("--token-file").arg(self.token_file());
        Ok(command.output()?)
    }

    /// As [`Stand::twohop`]: what it said on its standard output.
    ///
    /// # Errors
    /// If it failed, with what it said.
    pub fn said(&self, arguments: &[&str]) -> Result<String> {
        let output = self.twohop(arguments)?;
        let errors = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "{arguments:?}: {errors}");
        Ok(String::from_utf8(output.stdout)?)
    }

    /// As [`Stand::twohop`]: what it said on its standard error.
    ///
    /// # Errors
    /// If it did not fail.
    pub fn refused(&self, arguments: &[&str]) -> Result<String> {
        let output = self.twohop(arguments)?;
        let said = String::from_utf8_lossy(&output.stdout);
        ensure!(!output.status.success(), "{arguments:?} did not fail: {said}");
        Ok(String::from_utf8(output.stderr)?)
    }
}
