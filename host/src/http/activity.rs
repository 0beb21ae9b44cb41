//! Whether anything goes on on a connection.
//!
//! In: requests, and the ends of their answers. Out: what has been going on since the last look.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::{Context, Poll};

use hyper::Version;
use hyper::body::{Body, Frame, SizeHint};

/// What is going on on a connection.
#[derive(Debug, Default)]
pub(super) struct Activity {
    /// Requests so far.
    asked: AtomicUsize,
    /// Answers that are not at their end.
    open: AtomicUsize,
    /// Whether it speaks HTTP/2. What speaks HTTP/1.1 is watched by hyper after its first request.
    is_h2: AtomicBool,
}

/// What has been going on since the last look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Since {
    /// Nothing, and nothing before.
    NeverAsked,
    /// Nothing.
    Idle,
    /// Something.
    Busy,
}

impl Activity {
    /// Counts a request in, until its answer is dropped.
    pub(super) fn begin(self: &Arc<Self>, version: Version) -> Busy {
        self.asked.fetch_add(1, Ordering::Relaxed);
        self.open.fetch_add(1, Ordering::Relaxed);
        self.is_h2.store(version == Version::HTTP_2, Ordering::Relaxed);
        Busy(Arc::clone(self))
    }

    /// Whether somebody has to look whether anything goes on.
    pub(super) fn is_looked_at(&self) -> bool {
        !self.has_asked() || self.is_h2.load(Ordering::Relaxed)
    }

    /// Whether there was a request.
    pub(super) fn has_asked(&self) -> bool {
        self.asked.load(Ordering::Relaxed) > 0
    }

    /// `asked` is how many requests there were at the last look, and then how many there are now.
    pub(super) fn since(&self, asked: &mut usize) -> Since {
        let before = std::mem::replace(asked, self.asked.load(Ordering::Relaxed));
        match *asked {
            0 => Since::NeverAsked,
            now if now == before && self.open.load(Ordering::Relaxed) == 0 => Since::Idle,
            _ => Since::Busy,
        }
    }
}

/// A request whose answer is not at its end.
#[derive(Debug)]
pub(super) struct Busy(Arc<Activity>);

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A body that counts as something going on.
pub(super) struct Answer<B> {
    body: B,
    _busy: Busy,
}

impl<B> Answer<B> {
    /// One that is as busy as its request.
    pub(super) fn new(body: B, busy: Busy) -> Self {
        Self { body, _busy: busy }
    }
}

impl<B: Body + Unpin> Body for Answer<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
