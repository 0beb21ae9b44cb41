//! What people ask of a source while it runs: to read a table once more.
//!
//! In: the name of a table. Out: that its rows are going to be read, once that is on disk; or why not.
//!
//! Invariant: what was answered survives a crash. What was not answered in time may have been taken all the same.

use std::time::Duration;

use tokio::sync::{mpsc, oneshot};

use super::table::{Captured, TableName};
use crate::limits::{SOURCE_ASK_TIME_MAX, SOURCE_ASKED_COUNT_MAX};

/// Why a table is not read again.
#[derive(Debug, Clone, thiserror::Error, PartialEq, Eq)]
pub enum AskError {
    /// The name is none.
    #[error("`{0}` is no table: name it as `table` or `schema.table`")]
    Name(String),
    /// The source does not read it.
    #[error("the source does not read the rows of table `{table}`: it has {known}")]
    Unknown {
        /// What was asked for.
        table: String,
        /// What there is.
        known: String,
    },
    /// Too much has been asked.
    #[error("the source has not answered others yet: try again later")]
    Busy,
    /// It does not run any more.
    #[error("the source has stopped")]
    Stopped,
    /// It did not answer.
    #[error(
        "the source has not answered, for {} s or to its end: it may have no connection to its database, or the change log may take \
         nothing; see its log, and `twohop sources` before it is asked again", .0.as_secs()
    )]
    Away(Duration),
}

/// The way to a source. Clones share it.
#[derive(Debug, Clone)]
pub struct Asking(mpsc::Sender<Ask>);

/// What was asked of a source.
#[derive(Debug)]
pub struct Asked(mpsc::Receiver<Ask>);

/// One question.
#[derive(Debug)]
pub(super) struct Ask {
    pub(super) table: TableName,
    pub(super) answer: Answer,
}

/// The way back.
pub(super) type Answer = oneshot::Sender<Result<(), AskError>>;

/// A way to a source that is yet to be made.
#[must_use]
pub fn asking() -> (Asking, Asked) {
    let (sender, receiver) = mpsc::channel(SOURCE_ASKED_COUNT_MAX);
    (Asking(sender), Asked(receiver))
}

impl Asking {
    /// Has all rows of a table read once more, among the changes of the stream. Gives its name, with the schema, once it
    /// is written down that this is to be done.
    ///
    /// # Errors
    /// If the source does not read this table, or does not answer.
    pub async fn snapshot(&self, table: &str) -> Result<String, AskError> {
        let table = TableName::parse(table).map_err(|_| AskError::Name(table.to_owned()))?;
        let name = table.to_string();
        let (answer, answered) = oneshot::channel();
        self.0.try_send(Ask { table, answer }).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => AskError::Busy,
            mpsc::error::TrySendError::Closed(_) => AskError::Stopped,
        })?;
        match tokio::time::timeout(SOURCE_ASK_TIME_MAX, answered).await {
            Ok(Ok(answer)) => answer.map(|()| name),
            // It stops, or its connection is gone.
            Ok(Err(_)) | Err(_) => Err(AskError::Away(SOURCE_ASK_TIME_MAX)),
        }
    }
}

impl Asked {
    /// The next question of somebody who still waits; for ever if nobody can ask. Cancelling loses nothing.
    pub(super) async fn next(&mut self) -> Ask {
        loop {
            match self.0.recv().await {
                Some(ask) if ask.answer.is_closed() => {}
                Some(ask) => return ask,
                None => std::future::pending().await,
            }
        }
    }
}

impl Ask {
    /// Says that there is no such table.
    pub(super) fn refuse(self, known: &[Captured]) {
        let known: Vec<_> = known.iter().map(|table| format!("`{}`", table.name)).collect();
        let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
        let _ = self.answer.send(Err(AskError::Unknown { table: self.table.to_string(), known }));
    }
}

#[cfg(test)]
mod tests {
    use super::super::table::Kind;
    use super::*;

    #[tokio::test]
    async fn who_asks_gets_an_answer_or_hears_that_nobody_gives_one() {
        let (asking, mut asked) = asking();
        assert_eq!(asking.snapshot("a.").await, Err(AskError::Name("a.".to_owned())));
        // Nobody waits for this one.
        let table = TableName::parse("given_up").expect("a name");
        asking.0.try_send(Ask { table, answer: oneshot::channel().0 }).expect("there is room");
        let answer = async {
            let ask = asked.next().await;
            assert_eq!(ask.table.to_string(), "shop.b");
            ask.answer.send(Ok(())).expect("somebody waits");
            let known =
                Captured { name: TableName::parse("c").expect("a name"), oid: 1, kind: Kind::Ordinary };
            asked.next().await.refuse(&[known]);
            drop(asked.next().await);
        };
        let ask = async {
            assert_eq!(asking.snapshot("shop.b").await.as_deref(), Ok("shop.b"));
            let refused = asking.snapshot("d").await.expect_err("there is no such table");
            assert!(refused.to_string().ends_with("`public.d`: it has `public.c`"), "{refused}");
            assert_eq!(asking.snapshot("c").await, Err(AskError::Away(SOURCE_ASK_TIME_MAX)));
        };
        tokio::join!(answer, ask);
        drop(asked);
        assert_eq!(asking.snapshot("a").await, Err(AskError::Stopped));
    }
}
