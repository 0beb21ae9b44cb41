//! The admin listener of a running server, as the commands see it.
//!
//! In: where it is and the token, from flags, else from the configuration and its data folder. Out: answers, or errors
//! that say what to do.
//!
//! Invariant: one request, one connection; whatever the server refuses is an error with its message.

use std::path::PathBuf;

use anyhow::{Context, Result, anyhow, bail};
use bytes::Bytes;
use clap::Args;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::{Method, Request, Response, StatusCode, header};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpStream;
use tokio::runtime::Runtime;
use twohop::{admin, config};

/// Which server.
#[derive(Debug, Args)]
pub(crate) struct Where {
    /// The admin listener; else what the configuration says.
    #[arg(long, value_name = "URL")]
    admin: Option<String>,
    /// The token; else that of `--token-file`, of the configuration, or of the data folder.
    #[arg(long, value_name = "TEXT", conflicts_with = "token_file")]
    token: Option<String>,
    /// A file with the token.
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// The configuration of the server.
    #[arg(long, default_value = "twohop.toml", value_name = "FILE")]
    config: PathBuf,
    /// Who does it, for the audit list; else this user.
    #[arg(long, value_name = "NAME")]
    by: Option<String>,
    /// Print the server's answer as JSON.
    #[arg(long)]
    pub(super) json: bool,
}

impl Where {
    /// Whether a server was named, or who asks it.
    pub(super) fn is_named(&self) -> bool {
        let Self { admin, token, token_file, config: _, by, json: _ } = self;
        admin.is_some() || token.is_some() || token_file.is_some() || by.is_some()
    }
}

/// A server.
pub(super) struct Server {
    /// Host and port.
    address: String,
    /// Where that is from.
    source: String,
    token: String,
    by: Option<String>,
    runtime: Runtime,
}

impl Server {
    /// # Errors
    /// If it is not known where it is, or what its token is.
    pub(super) fn of(arguments: &Where) -> Result<Self> {
        let flags_suffice =
            arguments.admin.is_some() && (arguments.token.is_some() || arguments.token_file.is_some());
        let config = if flags_suffice {
            None
        } else {
            let loaded = config::load(&arguments.config, &config::Overrides::default());
            Some(loaded.context("where the server is: name it with --admin and --token-file, or")?)
        };
        let (address, source) = match (&arguments.admin, &config) {
            (Some(url), _) => (address_of(url)?, "--admin".to_owned()),
            (None, Some(config)) => {
                let address = config.admin.listen;
                if address.port() == 0 {
                    bail!(
                        "{} has admin.listen with port 0: name the address that the server has printed, with --admin",
                        arguments.config.display()
                    );
                }
                (address.to_string(), format!("admin.listen of {}", arguments.config.display()))
            }
            (None, None) => unreachable!("without --admin the configuration is read"),
        };
        let by = arguments.by.clone().or_else(config::user);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        Ok(Self { address, source, token: token(arguments, config.as_ref())?, by, runtime })
    }

    pub(super) fn get(&self, path: &str) -> Result<Value> {
        self.json(Method::GET, path, None)
    }

    /// A request with a body of JSON, or none.
    pub(super) fn send(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Value> {
        self.json(method, path, body)
    }

    /// Sends a component.
    pub(super) fn upload(&self, path: &str, wasm: Vec<u8>) -> Result<Value> {
        self.runtime.block_on(async {
            let response = self.request(Method::POST, path, "application/wasm", wasm.into()).await?;
            Ok(serde_json::from_slice(&read(response).await?)?)
        })
    }

    /// An answer that comes line by line, without an end perhaps; stops when `each` fails.
    pub(super) fn lines(&self, path: &str, mut each: impl FnMut(&str) -> Result<()>) -> Result<()> {
        self.runtime.block_on(async {
            let mut body = self.request(Method::GET, path, "", Bytes::new()).await?.into_body();
            let mut rest = Vec::new();
            while let Some(frame) = body.frame().await {
                let frame = frame.context("the server cut its answer: its log says why")?;
                let Ok(data) = frame.into_data() else { continue };
                rest.extend_from_slice(&data);
                while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
                    let line: Vec<u8> = rest.drain(..=end).collect();
                    each(String::from_utf8_lossy(&line[..end]).as_ref())?;
                }
            }
            Ok(())
        })
    }

    fn json(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Value> {
        self.runtime.block_on(async {
            let body = body.map(Value::to_string).unwrap_or_default();
            let response = self.request(method, path, "application/json", body.into()).await?;
            Ok(serde_json::from_slice(&read(response).await?)?)
        })
    }

    /// # Errors
    /// If nobody answers, or the server refuses.
    async fn request(
        &self,
        method: Method,
        path: &str,
        kind: &'static str,
        body: Bytes,
    ) -> Result<Response<Incoming>> {
        let unreachable = || {
            format!(
                "no server answers at http://{} ({}): start it with `twohop serve`, or name it with --admin",
                self.address, self.source
            )
        };
        let socket = TcpStream::connect(&self.address).await.with_context(unreachable)?;
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(socket)).await.with_context(unreachable)?;
        // Ends with the answer.
        tokio::spawn(connection);
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::HOST, &self.address)
            .header(header::AUTHORIZATION, format!("Bearer {}", self.token));
        if !kind.is_empty() {
            request = request.header(header::CONTENT_TYPE, kind);
        }
        if let Some(by) = &self.by {
            request = request.header("x-twohop-by", by.as_bytes());
        }
        let response = sender.send_request(request.body(Full::new(body))?).await.with_context(unreachable)?;
        if response.status().is_success() {
            return Ok(response);
        }
        let status = response.status();
        let body = read(response).await?;
        let message = serde_json::from_slice::<Value>(&body).ok();
        let message = message.as_ref().and_then(|body| body["error"]["message"].as_str());
        Err(match message {
            Some(_) if status == StatusCode::UNAUTHORIZED => anyhow!(
                "the server at http://{} does not know this token: name the right one with --token-file",
                self.address
            ),
            Some(message) => anyhow!("{message}"),
            None => anyhow!("http://{} answers {status}: is it the admin listener?", self.address),
        })
    }
}

async fn read(response: Response<Incoming>) -> Result<Bytes> {
    Ok(response.into_body().collect().await.context("the server cut its answer")?.to_bytes())
}

fn address_of(url: &str) -> Result<String> {
    let rest = url.strip_prefix("http://").context("--admin is a URL such as http://127.0.0.1:8081")?;
    let address = rest.trim_end_matches('/');
    if address.is_empty() || address.contains('/') {
        bail!("--admin is a URL without a path, such as http://127.0.0.1:8081");
    }
    let has_port = address.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
    Ok(if has_port { address.to_owned() } else { format!("{address}:80") })
}

fn token(arguments: &Where, config: Option<&config::Config>) -> Result<String> {
    if let Some(token) = &arguments.token {
        return Ok(token.clone());
    }
    let file = match (&arguments.token_file, config) {
        (Some(file), _) => file.clone(),
        (None, Some(config)) => match &config.admin.token {
            Some(config::Secret(token)) => return Ok(token.clone()),
            None => config.data.join(admin::TOKEN_FILE),
        },
        (None, None) => unreachable!("without --token-file the configuration is read"),
    };
    let text = std::fs::read_to_string(&file).with_context(|| {
        format!(
            "no token in {}: start the server once, which makes it, or name another with --token-file",
            file.display()
        )
    })?;
    Ok(text.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_becomes_host_and_port() {
        for (url, address) in [
            ("http://127.0.0.1:8081", "127.0.0.1:8081"),
            ("http://localhost:8081/", "localhost:8081"),
            ("http://[::1]:9", "[::1]:9"),
            ("http://admin", "admin:80"),
        ] {
            assert_eq!(address_of(url).unwrap(), address);
        }
        for url in ["https://a:1", "127.0.0.1:8081", "http://", "http://a:1/v1"] {
            assert!(address_of(url).is_err(), "{url}");
        }
    }
}
