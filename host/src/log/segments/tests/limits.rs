//! Retention, and the limit at which appends are refused.

use std::time::{Duration, SystemTime};

use bytes::Bytes;

use super::Folder;
use crate::event::{Offset, Partition, Position};
use crate::log::contract::{P, read_all, record, texts};
use crate::log::segments::retention::remove_due;
use crate::log::segments::{Config, Segments};
use crate::log::{ChangeLog, LogError};

const DAY: Duration = Duration::from_secs(24 * 3_600);

/// Every append in a segment of its own.
fn open(folder: &Folder) -> Segments {
    let config = Config { segment_bytes_max: 1, age_max: DAY, ..folder.config() };
    Segments::open(config).expect("the log opens")
}

async fn append_each(log: &Segments, count: u64) {
    for _ in 0..count {
        log.append(P, texts(["a"])).await.expect("appended");
    }
}

fn tomorrow() -> SystemTime {
    SystemTime::now() + DAY + DAY / 2
}

#[tokio::test]
async fn nothing_is_removed_before_a_consumer_is_known() {
    let folder = Folder::new();
    let log = open(&folder);
    append_each(&log, 5).await;
    remove_due(&log.store, tomorrow());
    assert_eq!(log.bounds(P), Offset(0)..Offset(5));
}

#[tokio::test]
async fn old_segments_go_up_to_what_the_slowest_consumer_has_committed() {
    let folder = Folder::new();
    let log = open(&folder);
    append_each(&log, 5).await;
    log.commit("fast", P, Offset(5));
    log.commit("slow", P, Offset(2));
    remove_due(&log.store, SystemTime::now());
    assert_eq!(log.bounds(P).start, Offset(0), "nothing is old");
    remove_due(&log.store, tomorrow());
    assert_eq!(log.bounds(P).start, Offset(2));
    let error = log.read(P, Offset(1), 9, 9).await.expect_err("it is gone");
    assert!(matches!(error, LogError::Removed { asked: Offset(1), first: Offset(2) }), "{error}");
    log.commit("slow", P, Offset(5));
    remove_due(&log.store, tomorrow());
    assert_eq!(log.bounds(P), Offset(4)..Offset(5), "the last segment stays");
    assert_eq!(folder.files().len(), 1);
    drop(log);
    let log = open(&folder);
    assert_eq!(log.bounds(P), Offset(4)..Offset(5));
    assert_eq!(read_all(&log, P, Offset(4)).await.len(), 1);
}

#[tokio::test]
async fn consumers_hold_their_records_across_restarts_and_on_every_partition() {
    let folder = Folder::new();
    let config = Config { segment_bytes_max: 1, age_max: DAY, partition_count: 2, ..folder.config() };
    let log = Segments::open(config.clone()).expect("opened");
    for _ in 0..3 {
        log.append(P, texts(["a"])).await.expect("appended");
        log.append(Partition(1), texts(["a"])).await.expect("appended");
    }
    log.commit("one", P, Offset(1));
    drop(log);
    let log = Segments::open(config).expect("opened");
    log.commit("two", P, Offset(3));
    log.commit("two", Partition(1), Offset(3));
    remove_due(&log.store, tomorrow());
    assert_eq!(log.bounds(P).start, Offset(1), "`one` was here in the last run");
    assert_eq!(log.bounds(Partition(1)).start, Offset(0), "`one` has committed nothing on partition 1");
}

#[tokio::test]
async fn positions_survive_the_removal_of_their_records() {
    let folder = Folder::new();
    let log = open(&folder);
    log.append(P, vec![record("gone", 7, 3)]).await.expect("appended");
    append_each(&log, 2).await;
    log.commit("c", P, Offset(3));
    remove_due(&log.store, tomorrow());
    assert_eq!(log.bounds(P).start, Offset(2));
    drop(log);
    assert_eq!(open(&folder).last_position("gone"), Some(Position { commit: 7, index: 3 }));
}

#[tokio::test]
async fn a_log_at_its_limit_refuses_appends_until_consumers_have_committed() {
    let folder = Folder::new();
    let config = Config { bytes_max: 4_000, ..folder.config() };
    let log = Segments::open(config.clone()).expect("opened");
    let append = async || log.append(P, vec![Bytes::from(vec![b'x'; 300])]).await;
    let mut count = 0;
    let error = loop {
        match append().await {
            Ok(_) => count += 1,
            Err(error) => break error,
        }
        assert!(count < 100, "the limit holds");
    };
    let LogError::Full { bytes, consumer } = &error else { panic!("{error}") };
    assert!((4_000..4_400).contains(bytes) && consumer == "a consumer that is yet to come", "{error}");
    log.commit("slow", P, Offset(1));
    let error = append().await.expect_err("nothing whole is committed");
    assert!(matches!(&error, LogError::Full { consumer, .. } if consumer == "slow"), "{error}");
    assert_eq!(log.bounds(P), Offset(0)..Offset(count));
    for _ in 0..50 {
        log.commit("slow", P, log.bounds(P).end);
        append().await.expect("there is room");
    }
    assert_eq!(log.bounds(P).end, Offset(count + 50));
    assert!(log.store.bytes() < 4_400);
}

#[tokio::test]
async fn a_record_larger_than_the_whole_log_does_not_stop_it_for_ever() {
    let folder = Folder::new();
    let log = Segments::open(Config { bytes_max: 4_000, ..folder.config() }).expect("opened");
    log.append(P, vec![Bytes::from(vec![b'x'; 9_000])]).await.expect("appended");
    log.append(P, texts(["a"])).await.expect_err("nobody has committed");
    log.commit("c", P, Offset(1));
    log.append(P, texts(["a"])).await.expect("there is room");
}
