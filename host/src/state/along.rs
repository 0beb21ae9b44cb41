//! Writes of one room in the commit of another, so that both are there or neither.
//!
//! The room whose commit it is knows nothing of the other but the plain values that it hands on.

use std::sync::Arc;

use super::sql::{Connection, Result};

/// What follows once the commit is on disk: on the committer's thread, short, never blocking.
pub type Then = Box<dyn FnOnce() + Send>;

/// What makes a room's writes within the job of another room.
pub struct Along<W: ?Sized>(Arc<Work<W>>);

type Work<W> = dyn Fn(&Connection, &W) -> Result<Then> + Send + Sync;

impl<W: ?Sized> Along<W> {
    /// `work` may touch nothing but the connection: what it wrote may still be undone. What it returns follows only if
    /// it was not.
    pub fn new(work: impl Fn(&Connection, &W) -> Result<Then> + Send + Sync + 'static) -> Self {
        Self(Arc::new(work))
    }

    /// Makes the writes.
    ///
    /// # Errors
    /// If they cannot be made; the job that they are a part of must fail then.
    pub fn write(&self, connection: &Connection, writes: &W) -> Result<Then> {
        (self.0)(connection, writes)
    }
}

impl<W: ?Sized> Clone for Along<W> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}
