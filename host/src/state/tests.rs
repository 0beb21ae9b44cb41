//! Commits, kills, full disks and damaged files.

use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use tempfile::TempDir;

use super::journal::{Journal, survey};
use super::sql::{Connection, Error, Result};
use super::{State, StateError};
use crate::limits::STATE_JOURNAL_PAGES_WAIT;

const PAGE: u64 = 4_096;

/// Copies an open state as it lies on disk: what a process that is killed at this moment leaves.
pub(crate) fn leave_as_a_kill_would(from: &Path, to: &Path) {
    for name in ["state.db", "state.db-wal"] {
        fs::copy(from.join(name), to.join(name)).unwrap();
    }
}

/// Zeroes a page of a file, as a disk that lost it does.
pub(crate) fn zero(path: &Path, at: u64) {
    let file = OpenOptions::new().write(true).open(path).unwrap();
    assert!(at + PAGE <= file.metadata().unwrap().len(), "the page is within the file");
    file.write_all_at(&[0; PAGE as usize], at).unwrap();
}

async fn state(folder: &Path) -> State {
    let state = State::open(folder).unwrap();
    let create = "CREATE TABLE IF NOT EXISTS notes (id INTEGER PRIMARY KEY, text TEXT NOT NULL)";
    state.commit(|connection| connection.execute_batch(create)).await.unwrap();
    state
}

fn note(text: &str) -> impl FnOnce(&Connection) -> Result<()> + Send + 'static {
    let text = text.to_owned();
    move |connection| connection.execute("INSERT INTO notes (text) VALUES (?1)", [text]).map(drop)
}

async fn notes(state: &State) -> Vec<String> {
    let read = state.read(|connection| {
        connection.prepare("SELECT text FROM notes ORDER BY id")?.query_map([], |row| row.get(0))?.collect()
    });
    read.await.unwrap()
}

async fn allow_pages(state: &State, pages: u32) {
    let set = format!("PRAGMA max_page_count = {pages}");
    state.commit(move |connection| connection.query_row(&set, [], |_| Ok(()))).await.unwrap();
}

/// Keeps the committer busy until the sender is dropped, so that what is queued meanwhile becomes one group.
async fn hold(state: &State) -> (mpsc::Sender<()>, tokio::task::JoinHandle<()>) {
    let (release, released) = mpsc::channel::<()>();
    let (began, begun) = tokio::sync::oneshot::channel();
    let state = state.clone();
    let held = tokio::spawn(async move {
        let job = move |_: &Connection| {
            began.send(()).unwrap();
            Ok(released.recv().is_err())
        };
        state.commit(job).await.unwrap();
    });
    begun.await.unwrap();
    (release, held)
}

#[tokio::test]
async fn a_job_that_fails_leaves_nothing_and_harms_no_other_of_its_group() {
    let home = TempDir::new().unwrap();
    let state = state(home.path()).await;
    let (release, held) = hold(&state).await;
    let failing = |connection: &Connection| {
        connection.execute("INSERT INTO notes (text) VALUES ('half')", [])?;
        Err::<(), _>(Error::QueryReturnedNoRows)
    };
    let release = async { drop(release) };
    let (one, failed, two, ()) =
        tokio::join!(state.commit(note("one")), state.commit(failing), state.commit(note("two")), release);
    one.unwrap();
    two.unwrap();
    assert!(matches!(failed, Err(StateError::Database { .. })), "{failed:?}");
    held.await.unwrap();
    assert_eq!(notes(&state).await, ["one", "two"]);
}

#[tokio::test]
async fn what_follows_a_commit_runs_in_order_even_if_nobody_waits() {
    let home = TempDir::new().unwrap();
    let state = state(home.path()).await;
    let order = Arc::new(Mutex::new(Vec::new()));
    let (release, held) = hold(&state).await;
    for nth in 0..5 {
        let order = order.clone();
        let commit = state.commit_then(note("text"), move |()| order.lock().unwrap().push(nth));
        tokio::select! {
            biased;
            _ = commit => panic!("the committer is held"),
            () = tokio::task::yield_now() => {}
        }
    }
    drop(release);
    held.await.unwrap();
    state.commit(|_| Ok(())).await.unwrap();
    assert_eq!(*order.lock().unwrap(), [0, 1, 2, 3, 4]);
}

#[tokio::test]
async fn a_full_disk_keeps_nothing_of_the_group_and_heals_without_a_restart() {
    let home = TempDir::new().unwrap();
    let state = state(home.path()).await;
    state.commit(note("before")).await.unwrap();
    allow_pages(&state, 20).await;
    let (release, held) = hold(&state).await;
    let large = "x".repeat(200_000);
    let release = async { drop(release) };
    let (small, full, late, ()) = tokio::join!(
        state.commit(note("small")),
        state.commit(note(&large)),
        state.commit(note("late")),
        release
    );
    held.await.unwrap();
    let (small, full, late) = (small.is_ok(), full.unwrap_err(), late.is_ok());
    assert!(matches!(full, StateError::DiskFull { .. }), "{full}");
    let mut expected = vec!["before"];
    expected.extend(small.then_some("small"));
    expected.extend(late.then_some("late"));
    assert_eq!(notes(&state).await, expected);
    allow_pages(&state, 1_000_000).await;
    state.commit(note(&large)).await.unwrap();
    assert_eq!(notes(&state).await.len(), expected.len() + 1);
}

#[tokio::test]
async fn a_state_makes_its_folder_and_those_above_it() {
    let home = TempDir::new().unwrap();
    let folder = home.path().join("a/b");
    drop(state(&folder).await);
    assert!(folder.join("state.db").is_file());
    fs::write(home.path().join("file"), "").unwrap();
    assert!(matches!(State::open(&home.path().join("file/a")), Err(StateError::Io { .. })));
}

#[tokio::test]
async fn a_state_is_open_once() {
    let home = TempDir::new().unwrap();
    let first = state(home.path()).await;
    let second = State::open(home.path()).err().unwrap();
    assert!(matches!(second, StateError::InUse { .. }), "{second}");
    drop(first);
    State::open(home.path()).unwrap();
}

#[tokio::test]
async fn a_proper_end_leaves_one_file_and_the_same_life() {
    let home = TempDir::new().unwrap();
    let first = state(home.path()).await;
    first.commit(note("kept")).await.unwrap();
    notes(&first).await;
    let life = first.life();
    drop(first);
    assert!(!home.path().join("state.db-wal").exists(), "the journal was copied and removed");
    let second = state(home.path()).await;
    assert_eq!(second.life(), life);
    assert_eq!(notes(&second).await, ["kept"]);
}

#[tokio::test]
async fn a_newer_format_is_refused_by_name() {
    let home = TempDir::new().unwrap();
    drop(state(home.path()).await);
    let connection = Connection::open(home.path().join("state.db")).unwrap();
    connection.pragma_update(None, "user_version", 99).unwrap();
    drop(connection);
    let error = State::open(home.path()).err().unwrap();
    assert!(matches!(error, StateError::Newer { found: 99, .. }), "{error}");
}

#[tokio::test]
async fn a_kill_keeps_what_was_confirmed_and_the_life() {
    let (home, after) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let first = state(home.path()).await;
    for _ in 0..100 {
        first.commit(note("confirmed")).await.unwrap();
    }
    leave_as_a_kill_would(home.path(), after.path());
    assert_eq!(survey(&after.path().join("state.db-wal")).unwrap(), Journal::Whole);
    let second = state(after.path()).await;
    assert_eq!(second.life(), first.life());
    assert_eq!(notes(&second).await.len(), 100);
}

#[tokio::test]
async fn any_zeroed_page_of_the_journal_rolls_back_to_a_whole_commit_and_begins_a_new_life() {
    let home = TempDir::new().unwrap();
    let first = state(home.path()).await;
    for nth in 0..30 {
        first.commit(note(&nth.to_string())).await.unwrap();
    }
    let all = notes(&first).await;
    let length = fs::metadata(home.path().join("state.db-wal")).unwrap().len();
    for page in 0..length / PAGE {
        let after = TempDir::new().unwrap();
        leave_as_a_kill_would(home.path(), after.path());
        zero(&after.path().join("state.db-wal"), page * PAGE);
        assert_eq!(survey(&after.path().join("state.db-wal")).unwrap(), Journal::Torn, "page {page}");
        let second = state(after.path()).await;
        assert_ne!(second.life(), first.life(), "page {page}");
        let left = notes(&second).await;
        assert_eq!(left, all[..left.len()], "page {page}");
        drop(second);
        let third = state(after.path()).await;
        assert_eq!(notes(&third).await, left, "page {page}");
    }
}

#[tokio::test]
async fn a_journal_that_was_used_before_is_whole() {
    let (home, after) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let first = state(home.path()).await;
    let wal = home.path().join("state.db-wal");
    let large = "x".repeat(1 << 20);
    let mut length = 0;
    // Until it stops growing: then it was begun anew over its old frames.
    while fs::metadata(&wal).unwrap().len() > length {
        length = fs::metadata(&wal).unwrap().len();
        first.commit(note(&large)).await.unwrap();
    }
    first.commit(note("the last")).await.unwrap();
    leave_as_a_kill_would(home.path(), after.path());
    assert_eq!(survey(&after.path().join("state.db-wal")).unwrap(), Journal::Whole);
    let second = state(after.path()).await;
    assert_eq!(second.life(), first.life());
    assert_eq!(notes(&second).await, notes(&first).await);
}

/// Where the frames of the journal's own round end, over those of an earlier one.
fn end_of_round(wal: &[u8]) -> Option<usize> {
    let salts = &wal[16..24];
    (32..wal.len() - 24).step_by(24 + PAGE as usize).find(|at| &wal[at + 8..at + 16] != salts)
}

#[tokio::test]
async fn a_kill_between_the_head_of_a_frame_and_its_page_keeps_the_life() {
    let home = TempDir::new().unwrap();
    let first = state(home.path()).await;
    // Until the journal was begun anew over old frames, and some of both are there.
    let mut tries = 0..200;
    let (wal, end) = loop {
        tries.next().expect("the journal is begun anew after some megabytes");
        first.commit(note(&"x".repeat(1 << 20))).await.unwrap();
        first.commit(note("the last")).await.unwrap();
        let wal = fs::read(home.path().join("state.db-wal")).unwrap();
        let end = end_of_round(&wal);
        if let Some(end) = end.filter(|end| *end > 32 + 4 * 4_120 && end + 2 * 4_120 < wal.len()) {
            break (wal, end);
        }
    };
    let damaged = |at: usize, head: &[u8], page: Option<u8>| {
        let after = TempDir::new().unwrap();
        leave_as_a_kill_would(home.path(), after.path());
        let mut wal = wal.clone();
        wal[at..at + head.len()].copy_from_slice(head);
        if let Some(byte) = page {
            wal[at + 24..at + 24 + PAGE as usize].fill(byte);
        }
        fs::write(after.path().join("state.db-wal"), wal).unwrap();
        after
    };
    let mut head = wal[end..end + 24].to_vec();
    head[8..16].copy_from_slice(&wal[16..24]);
    let after = damaged(end, &head, None);
    assert_eq!(survey(&after.path().join("state.db-wal")).unwrap(), Journal::Whole);
    let second = state(after.path()).await;
    assert_eq!(second.life(), first.life());
    assert_eq!(notes(&second).await, notes(&first).await);

    // A page that the disk lost, in the middle or at the end, is no such thing.
    let last = end - 4_120;
    let keep = |at: usize| wal[at..at + 24].to_vec();
    for after in [
        damaged(last, &keep(last), Some(0)),
        damaged(last - 4_120, &keep(last - 4_120), Some(7)),
        damaged(end, &[0; 24], None),
    ] {
        assert_eq!(survey(&after.path().join("state.db-wal")).unwrap(), Journal::Torn);
    }
}

/// How often the journal was begun anew.
fn rounds(home: &Path) -> u32 {
    let mut count = [0; 4];
    fs::File::open(home.join("state.db-wal")).unwrap().read_exact_at(&mut count, 12).unwrap();
    u32::from_be_bytes(count)
}

/// A read that lasts until the sender is dropped, on a snapshot of now.
async fn hold_reader(state: &State) -> (mpsc::Sender<()>, tokio::task::JoinHandle<()>) {
    let (release, released) = mpsc::channel::<()>();
    let (began, begun) = tokio::sync::oneshot::channel();
    let state = state.clone();
    let held = tokio::spawn(async move {
        let job = move |connection: &Connection| {
            connection.query_row("SELECT count(*) FROM notes", [], |row| row.get::<_, i64>(0))?;
            began.send(()).unwrap();
            Ok(released.recv().is_err())
        };
        state.read(job).await.unwrap();
    });
    begun.await.unwrap();
    (release, held)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_journal_that_readers_hold_grows_up_to_its_bound_and_is_begun_anew_once_they_are_gone() {
    let home = TempDir::new().unwrap();
    let state = state(home.path()).await;
    // The round that this calls for begins once what follows the commit has ended: the reader comes before, and sees
    // everything, so that all can be copied, but nothing be written over.
    let (come, came) = mpsc::channel::<()>();
    let (written, is_written) = tokio::sync::oneshot::channel();
    let large = "x".repeat(STATE_JOURNAL_PAGES_WAIT as usize * PAGE as usize);
    let commit = tokio::spawn({
        let (state, note) = (state.clone(), note(&large));
        async move { state.commit_then(note, move |()| written.send(()).is_ok() && came.recv().is_err()).await }
    });
    is_written.await.unwrap();
    let (leave, left) = hold_reader(&state).await;
    drop(come);
    assert!(commit.await.unwrap().unwrap());
    let gate = state.0.readers.gate();
    let closing = async {
        while gate.is_open() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), closing).await.expect("the committer waits for the reader");
    assert_eq!(rounds(home.path()), 0, "the reader is still there");
    drop(leave);
    left.await.unwrap();
    let begun_anew = async {
        while rounds(home.path()) == 0 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), begun_anew).await.expect("nobody reads any more");
}

#[tokio::test]
async fn a_damaged_file_is_named_with_its_repair_and_the_repair_works() {
    let (home, after) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let first = state(home.path()).await;
    for _ in 0..2_000 {
        first.commit(note(&"x".repeat(100))).await.unwrap();
    }
    drop(first);
    let first = state(home.path()).await;
    first.commit(note("so that there is a journal")).await.unwrap();
    leave_as_a_kill_would(home.path(), after.path());
    let path = after.path().join("state.db");
    zero(&path, 20 * PAGE);
    let error = State::open(after.path()).err().unwrap();
    assert!(matches!(error, StateError::Damaged { .. }), "{error}");
    let text = error.to_string();
    assert!(text.contains("start again") && text.contains("state.db-wal"), "{text}");
    for name in ["state.db", "state.db-wal", "state.db-shm"] {
        let _ = fs::remove_file(after.path().join(name));
    }
    let second = state(after.path()).await;
    assert_ne!(second.life(), first.life());
}

#[tokio::test]
async fn a_reader_sees_one_moment() {
    let home = TempDir::new().unwrap();
    let state = state(home.path()).await;
    let (wrote, written) = mpsc::channel::<()>();
    let (began, begun) = tokio::sync::oneshot::channel();
    let reader = state.clone();
    let read = tokio::spawn(async move {
        let count = |connection: &Connection| {
            connection.query_row("SELECT count(*) FROM notes", [], |row| row.get::<_, i64>(0))
        };
        let twice = reader.read(move |connection| {
            let before = count(connection)?;
            began.send(()).unwrap();
            written.recv().unwrap();
            Ok((before, count(connection)?))
        });
        twice.await.unwrap()
    });
    begun.await.unwrap();
    state.commit(note("meanwhile")).await.unwrap();
    wrote.send(()).unwrap();
    assert_eq!(read.await.unwrap(), (0, 0));
    assert_eq!(notes(&state).await, ["meanwhile"]);
}
