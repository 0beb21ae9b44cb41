//! Transactions in progress: what the server streams of them waits on disk for their commit.
//!
//! In: the messages of stream blocks, aborts. Out: at a commit, the messages of that transaction, in their order, read
//! back piece by piece.
//!
//! Invariants:
//! - memory holds one block at most, however large a transaction is and however many there are;
//! - an aborted part of a transaction (a savepoint that was rolled back) takes everything with it that came after its
//!   first message: the server's sessions nest them, so nothing of the rest came since;
//! - what is here is never needed after a crash, since the server sends it again: no flush, and a start clears the
//!   folder;
//! - all files together stay within a budget.
//!
//! `FOLDER/TRANSACTION`: a length (u32) and a message, again and again; a message is as it would be outside of a
//! stream.

use std::collections::{HashMap, HashSet};
use std::fs::{self, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use tokio::task::{JoinHandle, spawn_blocking};

use super::decode::Segment;
use crate::limits::{
    SOURCE_SPILL_BLOCK_BYTES, SOURCE_SPILL_PARTS_MAX, SOURCE_SPILL_READ_BYTES, SOURCE_SPILL_TRANSACTIONS_MAX,
};

/// Why transactions in progress cannot be kept.
#[derive(Debug, thiserror::Error)]
pub enum SpillError {
    /// They are more than is allowed.
    #[error(
        "transactions in progress need more than {0}; they are read again, each at its commit, and PostgreSQL keeps \
         them until then"
    )]
    Full(String),
    /// Their disk is full.
    #[error(
        "the disk is full ({}) and takes no more of transactions in progress: free some space. They are read again, \
         each at its commit, and PostgreSQL keeps them until then",
        .0.display()
    )]
    DiskFull(PathBuf),
    /// The server's blocks do not fit together.
    #[error("{0} of a streamed transaction came where none can be")]
    OutOfPlace(&'static str),
    /// Anything else that the operating system refuses.
    #[error("cannot keep transactions in progress in {}: see to it that this user may write there", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// Why.
        #[source]
        cause: io::Error,
    },
}

impl SpillError {
    /// Whether it helps to have the server keep transactions until their commit.
    pub(super) fn is_full(&self) -> bool {
        matches!(self, Self::Full(_) | Self::DiskFull(_))
    }
}

/// All transactions in progress.
pub(super) struct Spill {
    folder: PathBuf,
    bytes_max: u64,
    /// Of all files, and of what is not written yet.
    bytes: u64,
    parts_count: usize,
    transactions: HashMap<u32, Transaction>,
    /// The transaction whose block is open.
    open: Option<u32>,
    /// What is not written of it yet.
    pending: Vec<u8>,
}

/// One transaction in progress.
#[derive(Debug, Default)]
struct Transaction {
    written: u64,
    /// Its subtransactions, in the order of their first messages, and where those stand.
    parts: Vec<(u32, u64)>,
    known: HashSet<u32>,
    last: u32,
}

impl Spill {
    /// Begins with an empty folder.
    ///
    /// # Errors
    /// If it cannot be emptied or made.
    pub(super) async fn open(folder: PathBuf, bytes_max: u64) -> Result<Self, SpillError> {
        let path = folder.clone();
        blocking(&folder, move || {
            match fs::remove_dir_all(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                Ok(()) | Err(_) => {}
            }
            fs::create_dir_all(&path)
        })
        .await?;
        Ok(Self {
            folder,
            bytes_max,
            bytes: 0,
            parts_count: 0,
            transactions: HashMap::new(),
            open: None,
            pending: Vec::new(),
        })
    }

    /// Whether a block is open.
    pub(super) fn is_open(&self) -> bool {
        self.open.is_some()
    }

    /// Whether it holds no transaction in progress.
    pub(super) fn is_empty(&self) -> bool {
        self.transactions.is_empty()
    }

    /// Opens a block.
    pub(super) fn begin(&mut self, transaction: u32, segment: Segment) -> Result<(), SpillError> {
        if self.is_open() {
            return Err(SpillError::OutOfPlace("a block"));
        }
        match segment {
            Segment::First => {
                self.forget(transaction);
                if self.transactions.len() >= SOURCE_SPILL_TRANSACTIONS_MAX {
                    return Err(SpillError::Full(format!("{SOURCE_SPILL_TRANSACTIONS_MAX} files")));
                }
                let begun = Transaction { last: transaction, ..Transaction::default() };
                self.transactions.insert(transaction, begun);
            }
            Segment::Further if self.transactions.contains_key(&transaction) => {}
            Segment::Further => return Err(SpillError::OutOfPlace("a further block")),
        }
        self.open = Some(transaction);
        Ok(())
    }

    /// Keeps a message of the open block. `part` is the transaction's own number, or that of a subtransaction.
    pub(super) async fn push(&mut self, part: u32, kind: u8, rest: &[u8]) -> Result<(), SpillError> {
        let opened = self.open.and_then(|open| Some((open, self.transactions.get_mut(&open)?)));
        let Some((open, transaction)) = opened else { return Err(SpillError::OutOfPlace("a message")) };
        if part != transaction.last {
            transaction.last = part;
            if part != open && transaction.known.insert(part) {
                transaction.parts.push((part, transaction.written + self.pending.len() as u64));
                self.parts_count += 1;
            }
        }
        if self.parts_count > SOURCE_SPILL_PARTS_MAX {
            return Err(SpillError::Full(format!("{SOURCE_SPILL_PARTS_MAX} subtransactions")));
        }
        let length = u32::try_from(rest.len() + 1).map_err(|_| SpillError::OutOfPlace("a message"))?;
        self.bytes += 4 + u64::from(length);
        if self.bytes > self.bytes_max {
            return Err(SpillError::Full(format!("{} bytes (`spill_bytes_max`)", self.bytes_max)));
        }
        self.pending.put_u32(length);
        self.pending.put_u8(kind);
        self.pending.put_slice(rest);
        if self.pending.len() >= SOURCE_SPILL_BLOCK_BYTES { self.flush().await } else { Ok(()) }
    }

    /// Closes the block.
    pub(super) async fn end(&mut self) -> Result<(), SpillError> {
        self.flush().await?;
        self.open.take().map(drop).ok_or(SpillError::OutOfPlace("the end of a block"))
    }

    async fn flush(&mut self) -> Result<(), SpillError> {
        let opened = self.open.and_then(|open| Some((open, self.transactions.get_mut(&open)?)));
        let Some((open, transaction)) = opened else { return Ok(()) };
        if self.pending.is_empty() {
            return Ok(());
        }
        let path = file(&self.folder, open);
        let (at, pending) = (transaction.written, std::mem::take(&mut self.pending));
        let file = path.clone();
        let mut pending = blocking(&path, move || {
            OpenOptions::new()
                .create(true)
                .truncate(false)
                .write(true)
                .open(&file)?
                .write_all_at(&pending, at)?;
            Ok(pending)
        })
        .await?;
        transaction.written += pending.len() as u64;
        pending.clear();
        self.pending = pending;
        Ok(())
    }

    /// Forgets an aborted transaction, or an aborted part of one.
    pub(super) fn abort(&mut self, transaction: u32, part: u32) -> Result<(), SpillError> {
        if self.is_open() {
            return Err(SpillError::OutOfPlace("an abort"));
        }
        if transaction == part {
            self.forget(transaction);
            return Ok(());
        }
        // What was never written to has nothing to be forgotten.
        let Some(kept) = self.transactions.get_mut(&transaction) else { return Ok(()) };
        if !kept.known.contains(&part) {
            return Ok(());
        }
        while let Some((last, at)) = kept.parts.pop() {
            kept.known.remove(&last);
            self.parts_count -= 1;
            // What follows is written over it.
            self.bytes -= kept.written - at;
            kept.written = at;
            if last == part {
                break;
            }
        }
        kept.last = transaction;
        Ok(())
    }

    /// Gives the messages of a transaction that commits, to be read back, and keeps its file for as long.
    pub(super) fn read_back(&mut self, transaction: u32) -> Result<ReadBack, SpillError> {
        if self.is_open() {
            return Err(SpillError::OutOfPlace("a commit"));
        }
        let kept = self.transactions.get(&transaction).ok_or(SpillError::OutOfPlace("a commit"))?;
        let path = file(&self.folder, transaction);
        Ok(ReadBack { path, at: 0, length: kept.written, buffer: BytesMut::new(), reading: None })
    }

    /// Forgets a transaction.
    pub(super) fn forget(&mut self, transaction: u32) {
        let Some(kept) = self.transactions.remove(&transaction) else { return };
        self.bytes -= kept.written;
        self.parts_count -= kept.parts.len();
        let path = file(&self.folder, transaction);
        // A large file takes its time. One that stays is written over, or cleared at the next start.
        spawn_blocking(move || drop(fs::remove_file(path)));
    }
}

fn file(folder: &Path, transaction: u32) -> PathBuf {
    folder.join(transaction.to_string())
}

/// The messages of one transaction.
pub(super) struct ReadBack {
    path: PathBuf,
    at: u64,
    length: u64,
    buffer: BytesMut,
    reading: Option<JoinHandle<io::Result<Vec<u8>>>>,
}

impl ReadBack {
    /// The next message, if it is in memory.
    pub(super) fn buffered(&mut self) -> Option<Bytes> {
        let length = u32::from_be_bytes(*self.buffer.first_chunk::<4>()?) as usize;
        if self.buffer.len() - 4 < length {
            return None;
        }
        self.buffer.advance(4);
        Some(self.buffer.split_to(length).freeze())
    }

    /// The next message; none after the last. Cancelling loses nothing.
    pub(super) async fn next(&mut self) -> Result<Option<Bytes>, SpillError> {
        loop {
            if let Some(message) = self.buffered() {
                return Ok(Some(message));
            }
            if self.reading.is_none() && self.at == self.length {
                return Ok(None);
            }
            let (path, at) = (&self.path, self.at);
            let reading = self.reading.get_or_insert_with(|| {
                let length = (self.length - at).min(SOURCE_SPILL_READ_BYTES as u64);
                let path = path.clone();
                spawn_blocking(move || {
                    let mut block = vec![0; usize::try_from(length).unwrap_or(usize::MAX)];
                    fs::File::open(&path)?.read_exact_at(&mut block, at)?;
                    Ok(block)
                })
            });
            let read = reading.await.unwrap_or_else(|error| Err(io::Error::other(error)));
            self.reading = None;
            let block = read.map_err(|cause| SpillError::Io { path: self.path.clone(), cause })?;
            self.at += block.len() as u64;
            self.buffer.extend_from_slice(&block);
        }
    }
}

/// Does what may wait for a disk on a thread of its own.
async fn blocking<T: Send + 'static>(
    path: &Path,
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> Result<T, SpillError> {
    let done = spawn_blocking(work).await.unwrap_or_else(|error| Err(io::Error::other(error)));
    done.map_err(|cause| match cause.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => SpillError::DiskFull(path.to_owned()),
        _ => SpillError::Io { path: path.to_owned(), cause },
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tempfile::TempDir;

    use super::*;

    const T: u32 = 700;

    async fn spill(bytes_max: u64) -> (TempDir, Spill) {
        let home = tempfile::tempdir().expect("a folder");
        let spill = Spill::open(home.path().join("spill"), bytes_max).await.expect("it is made");
        (home, spill)
    }

    async fn block(spill: &mut Spill, transaction: u32, segment: Segment, messages: &[(u32, Vec<u8>)]) {
        spill.begin(transaction, segment).expect("no block is open");
        for (part, rest) in messages {
            spill.push(*part, b'I', rest).await.expect("there is room");
        }
        spill.end().await.expect("it is open");
    }

    async fn read(spill: &mut Spill, transaction: u32) -> Vec<Vec<u8>> {
        let mut back = spill.read_back(transaction).expect("it is there");
        let mut messages = Vec::new();
        while let Some(message) = back.next().await.expect("it can be read") {
            assert_eq!(message[0], b'I');
            messages.push(message[1..].to_vec());
        }
        spill.forget(transaction);
        messages
    }

    #[tokio::test]
    async fn interleaved_transactions_are_read_back_each_in_its_order() {
        let (_home, mut spill) = spill(1 << 20).await;
        let message = |number: u8| vec![number; 10];
        block(&mut spill, T, Segment::First, &[(T, message(1)), (T, message(2))]).await;
        block(&mut spill, T + 1, Segment::First, &[(T + 1, message(3))]).await;
        block(&mut spill, T, Segment::Further, &[(T, message(4))]).await;
        assert_eq!(read(&mut spill, T + 1).await, [message(3)]);
        assert_eq!(read(&mut spill, T).await, [1, 2, 4].map(message));
        assert_eq!((spill.bytes, spill.parts_count), (0, 0));
    }

    #[tokio::test]
    async fn a_transaction_past_the_budget_is_refused_and_one_that_was_aborted_gives_its_room_back() {
        let (_home, mut spill) = spill(100).await;
        block(&mut spill, T, Segment::First, &[(T, vec![0; 90])]).await;
        spill.begin(T + 1, Segment::First).expect("no block is open");
        let error = spill.push(T + 1, b'I', &[0; 90]).await.expect_err("it is too much");
        assert!(error.is_full() && error.to_string().contains("100 bytes (`spill_bytes_max`)"), "{error}");

        let (_home, mut spill) = self::spill(100).await;
        for transaction in T..T + 5 {
            block(&mut spill, transaction, Segment::First, &[(transaction, vec![0; 90])]).await;
            spill.abort(transaction, transaction).expect("no block is open");
        }
    }

    #[tokio::test]
    async fn a_start_clears_what_was_left() {
        let (home, mut first) = spill(1 << 20).await;
        block(&mut first, T, Segment::First, &[(T, vec![0; 10])]).await;
        let folder = home.path().join("spill");
        assert!(folder.join("700").is_file());
        let mut second = Spill::open(folder.clone(), 100).await.expect("it is cleared");
        assert_eq!(fs::read_dir(&folder).expect("it is there").count(), 0);
        let further = second.begin(T, Segment::Further).expect_err("it was cleared");
        assert!(matches!(further, SpillError::OutOfPlace(_)));
    }

    #[tokio::test]
    async fn what_is_larger_than_a_block_or_a_read_comes_back_whole() {
        let (_home, mut spill) = spill(1 << 30).await;
        let messages: Vec<_> = (0..40_u8)
            .map(|number| (T, vec![number; SOURCE_SPILL_READ_BYTES / 7 + usize::from(number)]))
            .collect();
        block(&mut spill, T, Segment::First, &messages).await;
        block(&mut spill, T, Segment::Further, &[(T, vec![7; 2 * SOURCE_SPILL_READ_BYTES])]).await;
        let read = read(&mut spill, T).await;
        assert_eq!(read.len(), 41);
        assert!(read.iter().zip(&messages).all(|(read, (_, message))| read == message));
    }

    #[tokio::test]
    async fn a_file_that_is_gone_is_named() {
        let (home, mut spill) = spill(1 << 20).await;
        block(&mut spill, T, Segment::First, &[(T, vec![0; 10])]).await;
        fs::remove_file(home.path().join("spill/700")).expect("it is there");
        let error = spill.read_back(T).expect("it is known").next().await.expect_err("it is gone");
        assert!(error.to_string().contains("spill/700") && !error.is_full(), "{error}");
    }

    #[derive(Debug, Clone)]
    enum Step {
        Block(Vec<(u32, Vec<u8>)>),
        Abort(u32),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        // The transaction itself and a few of its parts.
        let message = (T..T + 4, prop::collection::vec(any::<u8>(), 0..9));
        let step = prop_oneof![
            prop::collection::vec(message, 0..6).prop_map(Step::Block),
            (T + 1..T + 5).prop_map(Step::Abort)
        ];
        prop::collection::vec(step, 0..9)
    }

    proptest! {
        /// Against the obvious model: a list, of which an abort drops everything from the part's first message on.
        #[test]
        fn what_was_not_aborted_is_read_back(steps in steps()) {
            let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
            runtime.block_on(async {
                let (_home, mut spill) = spill(1 << 20).await;
                let mut model: Vec<(u32, Vec<u8>)> = Vec::new();
                block(&mut spill, T, Segment::First, &[]).await;
                for step in steps {
                    match step {
                        Step::Block(messages) => {
                            block(&mut spill, T, Segment::Further, &messages).await;
                            model.extend(messages);
                        }
                        Step::Abort(part) => {
                            spill.abort(T, part).expect("no block is open");
                            let first = model.iter().position(|(of, _)| *of == part);
                            model.truncate(first.unwrap_or(model.len()));
                        }
                    }
                }
                let expected: Vec<_> = model.into_iter().map(|(_, message)| message).collect();
                assert_eq!(read(&mut spill, T).await, expected);
            });
        }
    }
}
