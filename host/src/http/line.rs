//! A line: one socket in the clear that two write to, the task of its connection and whoever has the same for many.
//!
//! In: whole frames from outside, while the task has nothing to say; anything from the task itself, as [`Wire`]. Out: the
//! bytes of each, none within a frame of the other.
//!
//! To wake a task for every message, and have it poll its way to the socket, costs several times what writing does. So the
//! hub writes itself, to whoever waits for nothing else, and leaves the others to their tasks.
//!
//! Invariants:
//! - only a line that its task has released is offered anything; any word of the task takes it back;
//! - what was begun from outside is written to its end before anything else.

use std::io::{self, ErrorKind, IoSlice};
use std::os::fd::AsRawFd;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use nix::sys::socket::{Shutdown, shutdown};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

/// See the head of this file.
#[derive(Debug)]
pub(crate) struct Line {
    socket: TcpStream,
    turn: Mutex<Turn>,
}

/// Whose turn it is to write.
#[derive(Debug, Default)]
struct Turn {
    is_free: bool,
    /// The socket has not taken all of what the task said last.
    is_blocked: bool,
    /// Of a frame from outside.
    rest: Bytes,
}

/// What became of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Offered {
    /// The socket has all of it.
    Written,
    /// The socket has some of it: the task has to be woken, to write the rest.
    Begun,
    /// Nothing of it was written.
    Refused,
}

impl Line {
    pub(crate) fn new(socket: TcpStream) -> Arc<Self> {
        Arc::new(Self { socket, turn: Mutex::default() })
    }

    fn turn(&self) -> MutexGuard<'_, Turn> {
        self.turn.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes a frame, if the line is free and the socket takes it now.
    pub(crate) fn offer(&self, frame: &Bytes) -> Offered {
        let mut turn = self.turn();
        if !turn.is_free {
            return Offered::Refused;
        }
        match self.socket.try_write(frame) {
            Ok(length) if length == frame.len() => Offered::Written,
            Ok(length) if length > 0 => {
                turn.is_free = false;
                turn.rest = frame.slice(length..);
                Offered::Begun
            }
            // The task finds out what is wrong.
            Ok(_) | Err(_) => {
                turn.is_free = false;
                Offered::Refused
            }
        }
    }

    /// The task is about to say something: nobody else does until it has released the line again.
    pub(crate) fn claim(&self) {
        self.turn().is_free = false;
    }

    /// Whether the socket has all that the task has said.
    pub(crate) fn has_said_all(&self) -> bool {
        !self.turn().is_blocked
    }

    /// The task, which has nothing to say, lets others write; ready once what they have begun is written.
    pub(crate) fn poll_release(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut turn = self.turn();
        ready!(self.poll_rest(&mut turn, context))?;
        turn.is_free = !turn.is_blocked;
        Poll::Ready(Ok(()))
    }

    fn poll_rest(&self, turn: &mut Turn, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !turn.rest.is_empty() {
            let length = ready!(self.poll_with(context, || self.socket.try_write(&turn.rest)))?;
            let _ = turn.rest.split_to(length);
        }
        Poll::Ready(Ok(()))
    }

    /// Writes as soon as the socket takes something.
    fn poll_with(
        &self,
        context: &mut Context<'_>,
        write: impl Fn() -> io::Result<usize>,
    ) -> Poll<io::Result<usize>> {
        loop {
            ready!(self.socket.poll_write_ready(context))?;
            match write() {
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                written => return Poll::Ready(written),
            }
        }
    }

    /// A word of the task, of that many bytes.
    fn poll_say(
        &self,
        context: &mut Context<'_>,
        bytes_count: usize,
        write: impl Fn() -> io::Result<usize>,
    ) -> Poll<io::Result<usize>> {
        let mut turn = self.turn();
        turn.is_free = false;
        turn.is_blocked = true;
        ready!(self.poll_rest(&mut turn, context))?;
        let written = ready!(self.poll_with(context, write))?;
        turn.is_blocked = written < bytes_count;
        Poll::Ready(Ok(written))
    }
}

/// The line as its task has it.
#[derive(Debug)]
pub(crate) struct Wire(Arc<Line>);

impl Wire {
    /// One task has the wire at a time.
    pub(crate) fn new(line: Arc<Line>) -> Self {
        Self(line)
    }
}

impl AsyncRead for Wire {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let socket = &self.0.socket;
        loop {
            ready!(socket.poll_read_ready(context))?;
            match socket.try_read(buffer.initialize_unfilled()) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                read => {
                    buffer.advance(read?);
                    return Poll::Ready(Ok(()));
                }
            }
        }
    }
}

impl AsyncWrite for Wire {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.0.poll_say(context, bytes.len(), || self.0.socket.try_write(bytes))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let bytes_count = parts.iter().map(|part| part.len()).sum();
        self.0.poll_say(context, bytes_count, || self.0.socket.try_write_vectored(parts))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut turn = self.0.turn();
        self.0.poll_rest(&mut turn, context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut turn = self.0.turn();
        turn.is_free = false;
        ready!(self.0.poll_rest(&mut turn, context))?;
        Poll::Ready(shutdown(self.0.socket.as_raw_fd(), Shutdown::Write).map_err(io::Error::from))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    /// A line, and the client at its other end.
    async fn pair() -> (Arc<Line>, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
        let address = listener.local_addr().expect("it has one");
        let (client, accepted) = tokio::join!(TcpStream::connect(address), listener.accept());
        (Line::new(accepted.expect("it came").0), client.expect("it is listened to"))
    }

    async fn release(line: &Line) {
        std::future::poll_fn(|context| line.poll_release(context)).await.expect("the client is there");
    }

    #[tokio::test]
    async fn only_a_line_that_is_free_takes_a_frame_and_any_word_of_its_task_takes_it_back() {
        let (line, mut client) = pair().await;
        let frame = Bytes::from_static(b"frame;");
        assert_eq!(line.offer(&frame), Offered::Refused);
        release(&line).await;
        assert_eq!(line.offer(&frame), Offered::Written);
        assert_eq!(line.offer(&frame), Offered::Written);
        Wire::new(Arc::clone(&line)).write_all(b"word;").await.expect("the client is there");
        assert_eq!(line.offer(&frame), Offered::Refused);
        release(&line).await;
        line.claim();
        assert_eq!(line.offer(&frame), Offered::Refused);
        let mut said = [0; 17];
        client.read_exact(&mut said).await.expect("so much was said");
        assert_eq!(&said, b"frame;frame;word;");
    }

    #[tokio::test]
    async fn what_was_begun_is_written_to_its_end_before_a_word_of_the_task() {
        let (line, mut client) = pair().await;
        release(&line).await;
        let frames: Vec<_> = (0..64_u8).map(|number| Bytes::from(vec![number; 300_000])).collect();
        let begun = frames.iter().position(|frame| line.offer(frame) != Offered::Written);
        let begun = begun.expect("a socket takes less than all of this");
        assert_eq!(line.offer(&frames[0]), Offered::Refused, "the line is not free any more");
        let reading = tokio::spawn(async move {
            let mut said = Vec::new();
            client.read_to_end(&mut said).await.map(|_| said)
        });
        let mut wire = Wire::new(line);
        wire.write_all(b"word").await.expect("the client reads");
        wire.shutdown().await.expect("the client is there");
        drop(wire);
        let said = reading.await.expect("no panic").expect("the stream has an end");
        let whole = if said.len() == begun * 300_000 + 4 { begun } else { begun + 1 };
        let expected: Vec<u8> = frames[..whole].concat();
        assert!(said == [&expected[..], b"word"].concat(), "{} bytes came", said.len());
    }

    #[tokio::test]
    async fn a_line_whose_task_has_not_said_all_is_not_free() {
        let (line, _client) = pair().await;
        let mut wire = Wire::new(Arc::clone(&line));
        let much = vec![b'x'; 64 << 20];
        let saying = tokio::time::timeout(Duration::from_millis(50), wire.write_all(&much));
        assert!(saying.await.is_err(), "nobody reads");
        release(&line).await;
        assert_eq!(line.offer(&Bytes::from_static(b"frame")), Offered::Refused);
    }
}
