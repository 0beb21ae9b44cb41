//! What every change log must do, as tests over any of them.
//!
//! `change_log_contract!` makes the tests of one implementation from a [`Fixture`], whatever the log lives in. It
//! opens a new, empty log of two partitions; and the same log again, after the one before was dropped.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::timeout;

pub(crate) use super::segments::tests::local;
use super::{ChangeLog, Record};
use crate::event::{
    Decoder, LetterId, Micros, Offset, Operation, Origin, Partition, Position, Replay, RowBuilder, Rows,
    Table, encode,
};

/// The partition that most tests use.
pub(crate) const P: Partition = Partition(0);

/// Opens the log under test.
pub(crate) trait Fixture {
    /// Opens it, anew or again.
    fn open(&self) -> impl Future<Output = Arc<dyn ChangeLog>>;
}

/// Makes a test of each function of the contract.
macro_rules! change_log_contract {
    ($fixture:expr; $($name:ident)*) => {
        $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $name() {
            crate::log::contract::$name($fixture).await;
        })*
    };
    ($fixture:expr) => {
        crate::log::contract::change_log_contract! { $fixture;
            offsets_are_gapless_from_zero_and_each_partition_has_its_own
            a_read_waits_for_its_record
            a_read_stops_at_its_bounds_but_has_one_record
            what_was_appended_is_there_after_opening_again
            appends_from_many_tasks_stay_whole_and_in_order
            old_records_are_read_as_well_as_recent_ones
            an_append_of_nothing_changes_nothing
            the_last_position_of_each_source_is_known
            a_replay_leaves_the_position_of_its_source_where_it_is
            a_change_of_columns_leaves_the_position_of_its_source_where_it_is
        }
    };
}
pub(crate) use change_log_contract;

/// A record with a header.
pub(crate) fn record(source: &str, commit: u64, index: u32) -> Bytes {
    let table = Table { source: source.into(), schema: "s".into(), name: "t".into(), columns: Box::new([]) };
    encode(&RowBuilder::default().finish(origin(table, Position { commit, index }), Rows::Neither))
}

/// The same record, handed over again.
fn replayed(record: &Bytes) -> Bytes {
    let mut change = Decoder::default().decode(record).expect("the record is whole");
    change.replay = Some(Replay { letter: LetterId(1), first: Offset(0), router: None });
    encode(&change)
}

/// A change of columns at the same position.
fn of_columns(record: &Bytes) -> Bytes {
    let mut change = Decoder::default().decode(record).expect("the record is whole");
    change.operation = Operation::Schema;
    encode(&change)
}

fn origin(table: Table, position: Position) -> Origin {
    Origin {
        table: Arc::new(table),
        operation: Operation::Truncate,
        position,
        last: true,
        transaction: 0,
        committed_at: Micros(0),
    }
}

/// Records without a meaning.
pub(crate) fn texts<const N: usize>(texts: [&'static str; N]) -> Vec<Bytes> {
    texts.map(Bytes::from).to_vec()
}

/// Everything from an offset up to the end.
pub(crate) async fn read_all(log: &dyn ChangeLog, partition: Partition, mut from: Offset) -> Vec<Record> {
    let mut records: Vec<Record> = Vec::new();
    while from < log.bounds(partition).end {
        records.extend(log.read(partition, from, 1_000, 1 << 20).await.expect("the records are there"));
        from = records.last().expect("a read has a record").offset.plus(1);
    }
    records
}

fn payloads(records: &[Record]) -> Vec<&[u8]> {
    records.iter().map(|record| &record.payload[..]).collect()
}

pub(crate) async fn offsets_are_gapless_from_zero_and_each_partition_has_its_own(fixture: impl Fixture) {
    let log = fixture.open().await;
    assert_eq!(log.bounds(P), Offset(0)..Offset(0));
    let first = log.append(P, texts(["a", "b"])).await.expect("appended");
    let second = log.append(P, texts(["c"])).await.expect("appended");
    let other = log.append(Partition(1), texts(["d"])).await.expect("appended");
    assert_eq!((first, second, other), (Offset(0)..Offset(2), Offset(2)..Offset(3), Offset(0)..Offset(1)));
    assert_eq!(log.bounds(P), Offset(0)..Offset(3));
    let read = read_all(&*log, P, Offset(0)).await;
    assert_eq!(payloads(&read), [b"a", b"b", b"c"]);
    assert_eq!(read.iter().map(|record| record.offset.0).collect::<Vec<_>>(), [0, 1, 2]);
    assert_eq!(payloads(&read_all(&*log, Partition(1), Offset(0)).await), [b"d"]);
}

pub(crate) async fn a_read_waits_for_its_record(fixture: impl Fixture) {
    let log = fixture.open().await;
    let reader = tokio::spawn({
        let log = Arc::clone(&log);
        async move { log.read(P, Offset(1), 10, 100).await }
    });
    log.append(P, texts(["a"])).await.expect("appended");
    let early = timeout(Duration::from_millis(20), log.read(P, Offset(1), 10, 100)).await;
    assert!(early.is_err(), "there is no record 1 yet");
    log.append(P, texts(["b", "c"])).await.expect("appended");
    let read = timeout(Duration::from_secs(10), reader).await.expect("it is woken").expect("it runs");
    assert_eq!(read.expect("it is there")[0], Record { offset: Offset(1), payload: "b".into() });
}

pub(crate) async fn a_read_stops_at_its_bounds_but_has_one_record(fixture: impl Fixture) {
    let fixture = &fixture;
    for again in [false, true] {
        let log = fixture.open().await;
        if !again {
            log.append(P, texts(["aaaa", "bbbb", "cccc"])).await.expect("appended");
        }
        for (count_max, bytes_max, count) in
            [(2, 100, 2), (9, 4, 1), (9, 5, 2), (9, 0, 1), (0, 9, 1), (9, 99, 3)]
        {
            let read = log.read(P, Offset(0), count_max, bytes_max).await.expect("it is there");
            assert_eq!(read.len(), count, "{count_max} records, {bytes_max} bytes, opened again: {again}");
        }
    }
}

pub(crate) async fn what_was_appended_is_there_after_opening_again(fixture: impl Fixture) {
    let log = fixture.open().await;
    log.append(P, texts(["a", "", "c"])).await.expect("appended");
    drop(log);
    let log = fixture.open().await;
    assert_eq!(log.bounds(P), Offset(0)..Offset(3));
    let next = log.append(P, texts(["d"])).await.expect("appended");
    assert_eq!(next, Offset(3)..Offset(4));
    assert_eq!(payloads(&read_all(&*log, P, Offset(0)).await), [&b"a"[..], b"", b"c", b"d"]);
}

pub(crate) async fn appends_from_many_tasks_stay_whole_and_in_order(fixture: impl Fixture) {
    let log = fixture.open().await;
    let tasks: Vec<_> = (0..8u8)
        .map(|task| {
            let log = Arc::clone(&log);
            tokio::spawn(async move {
                for nth in 0..20u8 {
                    let records = (0..3u8).map(|part| Bytes::copy_from_slice(&[task, nth, part])).collect();
                    let range = log.append(P, records).await.expect("appended");
                    let read = log.read(P, range.start, 3, 100).await.expect("what returned can be read");
                    assert_eq!(&read[0].payload[..], [task, nth, 0]);
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.expect("the task ends well");
    }
    let read = read_all(&*log, P, Offset(0)).await;
    assert_eq!(read.len(), 8 * 20 * 3);
    let mut next = [0; 8];
    for append in read.chunks(3) {
        let task = append[0].payload[0];
        let expected: Vec<_> = (0..3).map(|part| vec![task, next[usize::from(task)], part]).collect();
        assert_eq!(payloads(append), expected);
        next[usize::from(task)] += 1;
    }
}

pub(crate) async fn old_records_are_read_as_well_as_recent_ones(fixture: impl Fixture) {
    const COUNT: u64 = 30_000;
    let payload = |number: u64| Bytes::from(number.to_le_bytes().repeat(1 + (number % 97) as usize));
    let fixture = &fixture;
    for again in [false, true] {
        let log = fixture.open().await;
        if !again {
            for start in (0..COUNT).step_by(10_000) {
                log.append(P, (start..start + 10_000).map(payload).collect()).await.expect("appended");
            }
        }
        // Steps forward and back, of many sizes.
        for from in (0..500).map(|nth| nth * nth * 7_919 % COUNT) {
            let read = log.read(P, Offset(from), 20, 1 << 20).await.expect("it is there");
            for (record, number) in read.iter().zip(from..) {
                assert_eq!((record.offset, &record.payload), (Offset(number), &payload(number)));
            }
        }
        assert_eq!(read_all(&*log, P, Offset(0)).await.len() as u64, COUNT);
    }
}

pub(crate) async fn an_append_of_nothing_changes_nothing(fixture: impl Fixture) {
    let log = fixture.open().await;
    log.append(P, texts(["a"])).await.expect("appended");
    assert_eq!(log.append(P, Vec::new()).await.expect("it is no error"), Offset(1)..Offset(1));
    assert_eq!(log.bounds(P), Offset(0)..Offset(1));
}

pub(crate) async fn the_last_position_of_each_source_is_known(fixture: impl Fixture) {
    let log = fixture.open().await;
    assert_eq!(log.last_position("a"), None);
    log.append(P, vec![record("a", 1, 0), record("b", 9, 9), record("a", 1, 1)]).await.expect("appended");
    log.append(Partition(1), vec![record("a", 2, 0)]).await.expect("appended");
    log.append(P, texts(["a record without a header"])).await.expect("appended");
    let known =
        |log: &dyn ChangeLog| (log.last_position("a"), log.last_position("b"), log.last_position("c"));
    let expected = (Some(Position { commit: 2, index: 0 }), Some(Position { commit: 9, index: 9 }), None);
    assert_eq!(known(&*log), expected);
    drop(log);
    assert_eq!(known(&*fixture.open().await), expected);
}

pub(crate) async fn a_change_of_columns_leaves_the_position_of_its_source_where_it_is(fixture: impl Fixture) {
    let log = fixture.open().await;
    // It stands before the change at its position, which a write that was cut short may lack.
    log.append(P, vec![record("a", 5, 0), of_columns(&record("a", 5, 1))]).await.expect("appended");
    let before = Some(Position { commit: 5, index: 0 });
    assert_eq!(log.last_position("a"), before);
    drop(log);
    assert_eq!(fixture.open().await.last_position("a"), before);
}

pub(crate) async fn a_replay_leaves_the_position_of_its_source_where_it_is(fixture: impl Fixture) {
    let log = fixture.open().await;
    log.append(P, vec![replayed(&record("gone", 7, 0))]).await.expect("appended");
    log.append(P, vec![record("a", 1, 0), record("a", 5, 1)]).await.expect("appended");
    let expected = (Some(Position { commit: 5, index: 1 }), None);
    let known = |log: &dyn ChangeLog| (log.last_position("a"), log.last_position("gone"));
    log.append(P, vec![replayed(&record("a", 1, 0))]).await.expect("appended");
    assert_eq!(known(&*log), expected);
    drop(log);
    let log = fixture.open().await;
    assert_eq!(known(&*log), expected);
    // Into the next segments, whose headers say it too.
    log.append(P, vec![replayed(&record("a", 1, 0)); 5]).await.expect("appended");
    drop(log);
    assert_eq!(known(&*fixture.open().await), expected);
}
