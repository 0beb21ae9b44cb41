//! The gateway, on a bus in a folder, that takes what it publishes by lines.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use anyhow::Context;
use bytes::Bytes;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use twohop::access::{Access, Settings, no_graph};
use twohop::bus::local::{self, LocalBus};
use twohop::bus::{Batch, Bus};
use twohop::event::{Channel, Form, Message, Offset, Partition, Retention};
use twohop::gateway::{Config, Gateway, Neighbours};
use twohop::intake::Desk;
use twohop::limits::{HISTORY_AGE_MAX, HISTORY_COUNT_MAX, VALUES_BYTES_MAX, VALUES_COUNT_MAX};
use twohop::log::ChangeLog;
use twohop::log::segments::{self, Segments};
use twohop::state::State;

use crate::server::{CHANNEL, exit_with_input, raise_descriptors};

/// Runs until its standard input ends.
pub(crate) fn run() -> anyhow::Result<()> {
    raise_descriptors()?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(serve())
}

async fn serve() -> anyhow::Result<()> {
    let home = tempfile::tempdir()?;
    let history = local::Config {
        count_max: HISTORY_COUNT_MAX,
        age_max: HISTORY_AGE_MAX,
        values_count_max: VALUES_COUNT_MAX,
        values_bytes_max: VALUES_BYTES_MAX,
    };
    let bus: Arc<dyn Bus> = Arc::new(LocalBus::open(State::open(home.path())?, history).await?);
    let settings = Settings { anonymous: vec!["*".to_owned()], ..Settings::default() };
    let access = Access::new(settings, no_graph(), Arc::default())?;
    let log: Arc<dyn ChangeLog> = Arc::new(Segments::open(segments::Config::new(home.path().join("log")))?);
    // Nobody says anything here, so the desk need not run.
    let (intake, _desk) = Desk::open(log, Partition(0)).await?;
    // Clients come to several addresses of this machine.
    let mut config = Config::new(SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)));
    config.connections_count_max = usize::MAX >> 4;
    let neighbours = Neighbours { bus: Arc::clone(&bus), timelines: None, access, intake };
    let stop = CancellationToken::new();
    let gateway = Gateway::start(config, neighbours, stop.clone()).await?;
    let publisher = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    println!("127.0.0.1:{} {}", gateway.address().port(), publisher.local_addr()?);
    let publishing = tokio::spawn(publish(publisher, bus));
    exit_with_input();
    publishing.await?
}

async fn publish(listener: TcpListener, bus: Arc<dyn Bus>) -> anyhow::Result<()> {
    let (socket, _) = listener.accept().await?;
    let mut lines = BufReader::new(socket).lines();
    let channel = Channel::new(CHANNEL)?;
    let mut offset = Offset(0);
    while let Some(payload) = lines.next_line().await? {
        let message = Message {
            channel: channel.clone(),
            event: "said".into(),
            payload: Bytes::from(payload),
            form: Form::Json,
            retention: Retention::Kept,
        };
        let next = Offset(offset.0 + 1);
        let batch = Batch {
            partition: Partition(0),
            offsets: offset..next,
            messages: vec![message],
            feed: [].into(),
            dead_letters: Vec::new(),
            replayed: Vec::new(),
            committed_at: None,
        };
        bus.apply(batch).await.context("could not publish")?;
        offset = next;
    }
    std::future::pending().await
}
