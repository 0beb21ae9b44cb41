//! The floor: the least that a durable way from a commit to a client can take.
//!
//! In: notifications. Out: the same payloads, a line each, over plain TCP, after they are appended to a file and
//! synced.
//! Always: the syncs are grouped by the rule of the change log: while one runs, what arrives waits, and then all that
//! waits goes into the next.
//! Absent on purpose: everything else.

use std::fs::File;
use std::future::poll_fn;
use std::io::{BufRead, BufReader, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::Instant;

use anyhow::{Context, Result};
use tokio_postgres::tls::NoTlsStream;
use tokio_postgres::{AsyncMessage, Client, Connection, NoTls, Socket};

use super::ledger::{Ledger, Way};
use super::load::NOTIFICATIONS;

/// A running floor.
#[derive(Debug)]
pub(super) struct Floor {
    /// The connection lives as long as this.
    listener: Client,
    threads: [JoinHandle<()>; 2],
}

impl Floor {
    /// Listens; its file is made in the folder.
    pub(super) async fn start(url: &str, folder: &Path, ledger: &Arc<Ledger>) -> Result<Floor> {
        let file = File::create(folder.join("floor")).context("could not make the floor's file")?;
        let server =
            TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("could not listen for the floor's client")?;
        let reading = TcpStream::connect(server.local_addr()?).context("could not reach the floor")?;
        let (writing, _) = server.accept().context("could not accept the floor's client")?;
        writing.set_nodelay(true)?;
        let (listener, connection) =
            tokio_postgres::connect(url, NoTls).await.context("could not reach PostgreSQL")?;
        // Unbounded, since the run is: it never holds more than the run's transactions.
        let (notified, waiting) = channel();
        tokio::spawn(listen(connection, notified));
        let ledger = ledger.clone();
        let threads =
            [thread::spawn(|| append(waiting, file, writing)), thread::spawn(move || read(reading, &ledger))];
        listener.batch_execute(&format!("LISTEN {NOTIFICATIONS}")).await.context("could not listen")?;
        Ok(Floor { listener, threads })
    }

    /// Ends it; blocks for a moment.
    pub(super) fn stop(self) {
        // Without its client, the connection ends; then the writer, for want of notifications; then the reader.
        drop(self.listener);
        for thread in self.threads {
            if thread.join().is_err() {
                eprintln!("warning: a thread of the floor panicked");
            }
        }
    }
}

/// Passes notifications on until the connection ends.
async fn listen(mut connection: Connection<Socket, NoTlsStream>, notified: Sender<String>) {
    while let Some(message) = poll_fn(|context| connection.poll_message(context)).await {
        match message {
            Ok(AsyncMessage::Notification(notification)) => {
                if notified.send(notification.payload().to_owned()).is_err() {
                    return;
                }
            }
            Ok(_) => {}
            Err(error) => return eprintln!("warning: the floor's connection to PostgreSQL broke: {error}"),
        }
    }
}

/// What cannot be written does not arrive, and the run is not valid.
fn append(waiting: Receiver<String>, mut file: File, mut client: TcpStream) {
    let mut group = Vec::new();
    while let Ok(first) = waiting.recv() {
        group.clear();
        for payload in std::iter::once(first).chain(waiting.try_iter()) {
            group.extend_from_slice(payload.as_bytes());
            group.push(b'\n');
        }
        let written =
            file.write_all(&group).and_then(|()| file.sync_data()).and_then(|()| client.write_all(&group));
        if let Err(error) = written {
            return eprintln!("warning: the floor broke: {error}");
        }
    }
}

fn read(from: TcpStream, ledger: &Ledger) {
    for line in BufReader::new(from).lines().map_while(Result::ok) {
        ledger.arrived(Way::Floor, &line, Instant::now());
    }
}
