//! The listener over real sockets, before a server without a source and a gateway.

mod life;
mod refusals;
mod streams;

use std::net::SocketAddr;
use std::sync::Arc;

use serde_json::Value;
use tempfile::TempDir;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::{Admin, Parts, Readiness, Token};
use crate::deploy::tests::P;
use crate::deploy::tests::{Server, home};
use crate::http::tests::Client;
use crate::letters::DeadLetters;

const TOKEN: &str = "0123456789abcdef";
const AUTHORIZATION: (&str, &str) = ("Authorization", "Bearer 0123456789abcdef");

/// A listener on a free port, and what is behind it. Four components are there, uploaded by anna.
struct Fixture {
    server: Server,
    admin: Admin,
    readiness: Readiness,
    _home: TempDir,
    stop: DropGuard,
}

impl Fixture {
    async fn start() -> Self {
        let home = home();
        let server = Server::with_components(home.path()).await;
        let readiness = Readiness::default();
        let parts = Parts {
            deployer: server.deployer.clone(),
            sources: [("shop".to_owned(), crate::source::asking().0)].into(),
            lines: server.lines.clone(),
            letters: DeadLetters::new(server.bus.clone(), server.log.clone()),
            log: server.log.clone(),
            bus: server.bus.clone(),
            partition: P,
            readiness: readiness.clone(),
            metrics: Arc::clone(&server.metrics),
        };
        let stop = CancellationToken::new();
        let token = Token::new(TOKEN).unwrap();
        let listen = SocketAddr::from(([127, 0, 0, 1], 0));
        let admin = Admin::start(listen, token, parts, stop.clone()).await.unwrap();
        Self { server, admin, readiness, _home: home, stop: stop.drop_guard() }
    }

    fn address(&self) -> SocketAddr {
        self.admin.address()
    }

    /// With the token.
    async fn ask(&self, method: &str, target: &str, body: &str) -> Client {
        let headers = [AUTHORIZATION, ("Content-Type", "application/json")];
        Client::send(self.address(), method, target, &headers, Some(body.as_bytes())).await
    }

    /// The answer to a request that is not refused.
    async fn json(&self, method: &str, target: &str, body: &str) -> Value {
        let client = self.ask(method, target, body).await;
        let status = client.status().to_owned();
        let answer = client.json().await;
        assert_eq!(status, "200", "{method} {target}: {answer}");
        answer
    }

    async fn get(&self, target: &str) -> Value {
        self.json("GET", target, "").await
    }

    async fn stop(self) {
        let Self { server, admin, stop, .. } = self;
        drop(stop);
        admin.stopped().await;
        server.stop().await;
    }
}
