//! What no server can be below: the same frame, written to each socket in turn; and hyper, that answers and waits.

use std::convert::Infallible;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use bytes::Bytes;
use futures_util::stream;
use http_body_util::StreamBody;
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioIo, TokioTimer};

use crate::server::{CHANNEL, exit_with_input, raise_descriptors};

/// Runs until its standard input ends.
pub(crate) fn run() -> anyhow::Result<()> {
    raise_descriptors()?;
    let (listener, publisher) =
        (TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0))?, TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?);
    println!("127.0.0.1:{} {}", listener.local_addr()?.port(), publisher.local_addr()?);
    let sockets: Arc<Mutex<Vec<TcpStream>>> = Arc::default();
    let accepted = Arc::clone(&sockets);
    thread::spawn(move || accept(&listener, &accepted));
    let (socket, _) = publisher.accept()?;
    exit_with_input();
    publish(socket, &sockets)?;
    loop {
        thread::park();
    }
}

fn accept(listener: &TcpListener, sockets: &Mutex<Vec<TcpStream>>) -> anyhow::Result<()> {
    loop {
        let (mut socket, _) = listener.accept()?;
        socket.set_nodelay(true)?;
        // What the client asks for is short and comes in one piece.
        let _ = socket.read(&mut [0; 512])?;
        socket.write_all(b"HTTP/1.1 200 OK\r\n\r\n")?;
        sockets.lock().unwrap_or_else(PoisonError::into_inner).push(socket);
    }
}

fn publish(socket: TcpStream, sockets: &Mutex<Vec<TcpStream>>) -> anyhow::Result<()> {
    for (number, payload) in BufReader::new(socket).lines().enumerate() {
        let frame = format!("event:said\nchannel:{CHANNEL}\nid:9f3c5d.{number}\ndata:{}\n\n", payload?);
        for socket in sockets.lock().unwrap_or_else(PoisonError::into_inner).iter_mut() {
            socket.write_all(frame.as_bytes())?;
        }
    }
    Ok(())
}

/// hyper as the gateway sets it up, that answers a head and then nothing.
pub(crate) fn run_bare() -> anyhow::Result<()> {
    raise_descriptors()?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let listener = tokio::net::TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0)).await?;
        let publisher = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        println!("127.0.0.1:{} {}", listener.local_addr()?.port(), publisher.local_addr()?);
        exit_with_input();
        let mut builder = hyper::server::conn::http1::Builder::new();
        builder.timer(TokioTimer::new()).max_buf_size(16 * 1_024);
        loop {
            let (socket, _) = listener.accept().await?;
            let serving = builder.serve_connection(TokioIo::new(socket), service_fn(wait));
            tokio::spawn(async move { serving.await.map_err(drop) });
        }
    })
}

async fn wait(
    _: Request<Incoming>,
) -> Result<Response<StreamBody<stream::Pending<Result<Frame<Bytes>, Infallible>>>>, Infallible> {
    Ok(Response::new(StreamBody::new(stream::pending())))
}
