//! Writes of one room in the commit of another, so that both are there or neither.
//!
//! The room whose commit it is knows nothing of the other but the plain values that it hands on, and those that come
//! back to be made a part of the same commit.

use std::sync::Arc;

use super::sql::{Connection, Result};

/// What follows once the commit is on disk: on the committer's thread, short, never blocking.
pub type Then = Box<dyn FnOnce() + Send>;

/// What makes a room's writes `W` within the job of another room, which gets `R` of it.
pub struct Along<W: ?Sized, R>(Arc<Work<W, R>>);

type Work<W, R> = dyn Fn(&Connection, &W) -> Result<(R, Then)> + Send + Sync;

impl<W: ?Sized, R> Along<W, R> {
    /// `work` may touch nothing but the connection: what it wrote may still be undone. What it returns last follows only
    /// if it was not.
    pub fn new(work: impl Fn(&Connection, &W) -> Result<(R, Then)> + Send + Sync + 'static) -> Self {
        Self(Arc::new(work))
    }

    /// Makes the writes.
    ///
    /// # Errors
    /// If they cannot be made; the job that they are a part of must fail then.
    pub fn write(&self, connection: &Connection, writes: &W) -> Result<(R, Then)> {
        (self.0)(connection, writes)
    }
}

impl<W: ?Sized, R> Clone for Along<W, R> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}
