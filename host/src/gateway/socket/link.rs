//! One WebSocket (RFC 6455) after its handshake: frames in, shared frames out.
//!
//! In: an upgraded connection. Out: what the client says, checked, pings answered; and the end with a code.
//!
//! What the client sends is read by tungstenite, with a small buffer: its own default weighs 128 KiB a connection.
//! What goes to the client is written as it is: a frame of the server is not masked, so all sockets share one.
//!
//! Invariants: a message of the client is bounded before it is read; a frame is written whole, or the connection is
//! not used any more.

use std::io;

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Error, Message, Utf8Bytes};

use crate::limits::{SOCKET_BUFFER_BYTES, SOCKET_CLOSE_TIME_MAX, SOCKET_MESSAGE_BYTES_MAX};

/// What a client said.
#[derive(Debug)]
pub(in crate::gateway) enum Said {
    Text(Utf8Bytes),
    Binary(Bytes),
    /// A sign of life.
    Sign,
    /// It has ended the conversation, or broke it off.
    End,
    /// It broke the protocol; this is the code to end it with.
    Broken(u16, &'static str),
}

/// See the head of this file.
pub(in crate::gateway) struct Link<Io> {
    socket: WebSocketStream<Io>,
}

impl<Io: AsyncRead + AsyncWrite + Unpin> Link<Io> {
    /// The server's end.
    pub(in crate::gateway) async fn new(io: Io) -> Self {
        Self::with_message_bytes_max(io, SOCKET_MESSAGE_BYTES_MAX).await
    }

    /// The same, with another bound for what the client sends.
    pub(in crate::gateway) async fn with_message_bytes_max(io: Io, bytes_max: usize) -> Self {
        let config = WebSocketConfig::default()
            .read_buffer_size(SOCKET_BUFFER_BYTES)
            // Only pongs and the end go through it.
            .write_buffer_size(0)
            .max_write_buffer_size(SOCKET_BUFFER_BYTES)
            .max_message_size(Some(bytes_max))
            .max_frame_size(Some(bytes_max));
        Self { socket: WebSocketStream::from_raw_socket(io, Role::Server, Some(config)).await }
    }

    /// Waits for what the client says. Cancelling loses nothing.
    pub(in crate::gateway) async fn receive(&mut self) -> Said {
        match self.socket.next().await {
            Some(Ok(Message::Text(text))) => Said::Text(text),
            Some(Ok(Message::Binary(bytes))) => Said::Binary(bytes),
            // The answer to a close is under way with the next look.
            Some(Ok(Message::Ping(_) | Message::Pong(_) | Message::Close(_) | Message::Frame(_))) => {
                Said::Sign
            }
            Some(Err(Error::Utf8(_))) => Said::Broken(1007, "text must be UTF-8"),
            Some(Err(Error::Capacity(_))) => Said::Broken(1009, "the message is too large"),
            Some(Err(Error::Protocol(
                tokio_tungstenite::tungstenite::error::ProtocolError::ResetWithoutClosingHandshake,
            )))
            | Some(Err(Error::Io(_)))
            | None => Said::End,
            Some(Err(_)) => Said::Broken(1002, "this is not RFC 6455"),
        }
    }

    /// Writes a part of a frame, after what waits to be written. Once some of a frame is written, all of it must be:
    /// whoever gives this up must not use the link any more.
    pub(in crate::gateway) async fn write(&mut self, part: &[u8]) -> io::Result<()> {
        self.socket.flush().await.map_err(io::Error::other)?;
        let io = self.socket.get_mut();
        io.write_all(part).await?;
        io.flush().await
    }

    /// Asks the client for a sign of life.
    pub(in crate::gateway) async fn ping(&mut self) -> io::Result<()> {
        self.socket.send(Message::Ping(Bytes::new())).await.map_err(io::Error::other)
    }

    /// Ends the conversation, and waits a little for the client to see it: what it has sent and nobody has read would
    /// otherwise reset the connection, and the code would be lost.
    pub(in crate::gateway) async fn close(mut self, code: u16, reason: &'static str) {
        let frame = CloseFrame { code: CloseCode::from(code), reason: reason.into() };
        let closing = async {
            // A client that is gone needs no word.
            let _ = self.socket.close(Some(frame)).await;
            self.end().await;
        };
        let _ = tokio::time::timeout(SOCKET_CLOSE_TIME_MAX, closing).await;
    }

    async fn end(&mut self) {
        let io = self.socket.get_mut();
        if io.shutdown().await.is_ok() {
            let mut rest = [0; 512];
            while matches!(io.read(&mut rest).await, Ok(1..)) {}
        }
    }
}
