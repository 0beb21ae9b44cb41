//! What clients say into a change log: in memory, where it has to refuse or to wait, and on a disk, over restarts.

mod memory_log;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio_util::sync::CancellationToken;

use super::ids::oldest;
use super::message::Tables;
use super::{Body, ClientMessage, Desk, Intake, IntakeError, Receipt, now};
use crate::event::{
    Change, Channel, Form, LetterId, Offset, Operation, Replay, Retention, encode, row_to_json,
};
use crate::limits::{CLIENT_IDS_SCAN_STEP, CLIENT_QUEUE_COUNT_MAX};
use crate::log::contract::{P, local, record};
use crate::log::{ChangeLog, LogError};
pub(crate) use memory_log::MemoryLog;

/// Longer than anything takes; a test that waits this long has failed.
const PATIENCE: Duration = Duration::from_secs(20);

/// One at which nobody is.
pub(crate) fn closed() -> Intake {
    Intake { queue: tokio::sync::mpsc::channel(1).0, time_max: PATIENCE }
}

/// One that is served for as long as there is somebody who could hand in.
pub(crate) async fn served(log: Arc<dyn ChangeLog>) -> Intake {
    let (intake, desk) = Desk::open(log, P).await.expect("the log can be read");
    tokio::spawn(desk.run(CancellationToken::new()));
    intake
}

fn message(subject: Option<&str>, channel: &str, id: Option<&str>, text: &str) -> ClientMessage {
    ClientMessage {
        channel: Channel::new(channel).expect("the name is right"),
        subject: subject.map(Into::into),
        event: Some("said".into()),
        id: id.map(Into::into),
        body: Body::Text(text.into()),
    }
}

fn said(id: &str) -> ClientMessage {
    message(Some("ann"), "room", Some(id), "hello")
}

fn row(change: &Change) -> String {
    let mut json = String::new();
    row_to_json(change.row().expect("a message has a row"), &mut json);
    json
}

async fn soon<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, what).await.expect("it comes in time")
}

#[tokio::test]
async fn a_message_is_a_change_of_the_table_of_clients() {
    let log = MemoryLog::new();
    let intake = served(log.clone()).await;
    let plain = ClientMessage { event: None, ..message(None, "a", None, "1") };
    let json = ClientMessage { body: Body::Json(r#"{"a": 1}"#.into()), ..said("i1") };
    let bytes = ClientMessage { body: Body::Bytes(Bytes::from_static(&[0, 0xFF])), ..plain.clone() };
    for message in [json, plain, bytes] {
        intake.take(message).await.expect("it is kept");
    }
    let changes = log.changes();
    let rows: Vec<_> = changes.iter().map(row).collect();
    assert_eq!(
        rows,
        [
            r#"{"channel":"room","subject":"ann","event":"said","id":"i1","body":{"a": 1},"form":"json"}"#,
            r#"{"channel":"a","subject":null,"event":null,"id":null,"body":"1","form":"text"}"#,
            r#"{"channel":"a","subject":null,"event":null,"id":null,"body":"\\x00ff","form":"bytes"}"#,
        ]
    );
    for change in &changes {
        assert_eq!(
            (&*change.table.source, &*change.table.name, &*change.table.schema),
            ("$client", "$client", "")
        );
        assert_eq!((change.operation, change.last, change.transaction), (Operation::Message, true, 0));
        assert_eq!(u64::try_from(change.committed_at.0), Ok(change.position.commit));
    }
}

#[test]
fn what_is_told_at_once_has_the_form_that_it_was_said_in() {
    for (body, form, payload) in [
        (Body::Json("[1]".into()), Form::Json, "[1]"),
        (Body::Text("x".into()), Form::Text, "x"),
        (Body::Bytes(Bytes::from_static(&[0xFF, 0])), Form::Base64, "/wA="),
    ] {
        let live = ClientMessage { body, ..said("1") }.into_live();
        assert_eq!(
            (live.form, &live.payload[..], live.retention),
            (form, payload.as_bytes(), Retention::LiveOnly)
        );
        assert_eq!((live.channel.as_str(), &*live.event), ("room", "said"));
    }
}

#[tokio::test]
async fn a_message_that_comes_again_is_kept_once_and_has_the_receipt_of_the_first() {
    let log = MemoryLog::new();
    let intake = served(log.clone()).await;
    let first = intake.take(said("1")).await.expect("it is kept");
    assert!(!first.is_repeated);
    let again = intake.take(ClientMessage { body: Body::Text("other".into()), ..said("1") }).await;
    assert_eq!(again.expect("it was kept"), Receipt { is_repeated: true, ..first });
    for other in [
        said("2"),
        message(Some("bob"), "room", Some("1"), "hello"),
        message(Some("ann"), "hall", Some("1"), "hello"),
        // Nobody known: two of them may have chosen the same id.
        message(None, "room", Some("1"), "hello"),
        message(None, "room", Some("1"), "hello"),
        message(Some("ann"), "room", None, "hello"),
        message(Some("ann"), "room", None, "hello"),
    ] {
        let receipt = intake.take(other.clone()).await.expect("it is kept");
        assert!(!receipt.is_repeated && receipt.number > first.number, "{other:?}");
    }
    assert_eq!(log.changes().len(), 8);
}

#[tokio::test]
async fn what_waits_is_appended_together_and_what_came_twice_meanwhile_once() {
    let log = MemoryLog::held();
    let (intake, desk) = Desk::open(log.clone(), P).await.expect("the log can be read");
    let take = |id: &'static str| {
        let intake = intake.clone();
        tokio::spawn(async move { intake.take(said(id)).await.expect("it is kept") })
    };
    let waiting = ["1", "2", "1", "3", "1"].map(take);
    while intake.queue.capacity() > CLIENT_QUEUE_COUNT_MAX - waiting.len() {
        tokio::task::yield_now().await;
    }
    tokio::spawn(desk.run(CancellationToken::new()));
    log.let_through(1);
    let mut receipts = Vec::new();
    for waiting in waiting {
        receipts.push(soon(waiting).await.expect("no panic"));
    }
    let [one, two, again, three, once_more] = receipts.try_into().expect("five were handed in");
    assert_eq!([again, once_more], [Receipt { is_repeated: true, ..one }; 2]);
    assert!(one.number < two.number && two.number < three.number);
    let positions: Vec<_> = log.changes().iter().map(|change| change.position.commit).collect();
    assert_eq!(positions, [one.number, two.number, three.number]);
}

#[tokio::test]
async fn nothing_is_said_to_be_kept_before_the_append_has_returned() {
    let log = MemoryLog::held();
    let intake = served(log.clone()).await;
    let mut waiting = Box::pin(intake.take(said("1")));
    assert!(futures_util::poll!(&mut waiting).is_pending());
    for _ in 0..10 {
        tokio::task::yield_now().await;
    }
    assert!(futures_util::poll!(&mut waiting).is_pending());
    assert!(log.changes().is_empty());
    log.let_through(1);
    soon(waiting).await.expect("it is kept");
    assert_eq!(log.changes().len(), 1);
}

#[tokio::test]
async fn a_log_that_refuses_leaves_no_trace_and_the_next_try_is_the_first() {
    let log = MemoryLog::new();
    let intake = served(log.clone()).await;
    log.fill();
    for _ in 0..2 {
        let refused = intake.take(said("1")).await.expect_err("the log is full");
        assert!(matches!(refused, IntakeError::Log(LogError::Full { .. })), "{refused}");
    }
    log.make_room();
    assert!(!intake.take(said("1")).await.expect("it is kept").is_repeated);
    assert_eq!(log.changes().len(), 1);
}

#[tokio::test]
async fn too_many_that_wait_are_refused_and_who_waits_too_long_is_told_that_nobody_knows() {
    let log = MemoryLog::held();
    let (intake, _desk) = Desk::open(log, P).await.expect("the log can be read");
    let intake = Intake { time_max: Duration::from_millis(20), ..intake };
    let mut waiting: Vec<_> =
        (0..CLIENT_QUEUE_COUNT_MAX).map(|nth| Box::pin(intake.take(said(&nth.to_string())))).collect();
    for waiting in &mut waiting {
        assert!(futures_util::poll!(waiting).is_pending());
    }
    let refused = intake.take(said("more")).await.expect_err("there is no room");
    assert!(matches!(refused, IntakeError::Busy), "{refused}");
    let unknown = soon(waiting.remove(0)).await.expect_err("nobody appends");
    assert!(matches!(unknown, IntakeError::Unknown), "{unknown}");
}

#[tokio::test]
async fn what_was_handed_in_before_the_end_is_kept_and_nothing_after_it() {
    let log = MemoryLog::new();
    let (intake, desk) = Desk::open(log.clone(), P).await.expect("the log can be read");
    let mut waiting = Box::pin(intake.take(said("1")));
    assert!(futures_util::poll!(&mut waiting).is_pending());
    let stop = CancellationToken::new();
    stop.cancel();
    soon(desk.run(stop)).await;
    waiting.await.expect("it is kept");
    assert_eq!(log.changes().len(), 1);
    assert!(matches!(intake.take(said("2")).await, Err(IntakeError::Closed)));
}

#[tokio::test]
async fn after_a_restart_ids_are_known_and_numbers_go_on() {
    let folder = tempfile::tempdir().expect("a folder");
    let open = || local(folder.path());
    let mut receipts = Vec::new();
    {
        let log = open();
        let intake = served(log.clone()).await;
        for id in ["1", "2"] {
            log.append(P, vec![record("shop", 7, 0)]).await.expect("it is appended");
            receipts.push(intake.take(said(id)).await.expect("it is kept"));
        }
        assert_eq!(
            log.last_position("shop").map(|position| position.commit),
            Some(7),
            "databases stay where they are"
        );
        assert_eq!(log.last_position("$client").map(|position| position.commit), Some(receipts[1].number));
        drop(intake);
        until_alone(log).await;
    }
    let log = open();
    let intake = served(log.clone()).await;
    for (id, receipt) in ["1", "2"].iter().zip(receipts.clone()) {
        assert_eq!(intake.take(said(id)).await.ok(), Some(Receipt { is_repeated: true, ..receipt }));
    }
    assert!(intake.take(said("3")).await.expect("it is kept").number > receipts[1].number);
    assert_eq!(log.bounds(P), Offset(0)..Offset(5));
}

/// The desk that was served has it as well, for a moment.
async fn until_alone(log: Arc<dyn ChangeLog>) {
    while Arc::strong_count(&log) > 1 {
        tokio::task::yield_now().await;
    }
}

fn change(id: &str, number: u64) -> Change {
    said(id).into_change(&Tables::new(), number)
}

async fn is_known(log: &Arc<MemoryLog>, id: &str) -> bool {
    let ids = super::ids::recall(&**log, P, now()).await.expect("the log can be read");
    ids.number(&super::Key::of(&said(id)).expect("it has an id")).is_some()
}

#[tokio::test]
async fn a_start_looks_back_over_many_records_of_others_but_not_at_what_is_too_old() {
    let log = MemoryLog::new();
    let now = now();
    let others = vec![record("shop", 7, 0); 2 * usize::try_from(CLIENT_IDS_SCAN_STEP).expect("it is small")];
    log.append(P, vec![encode(&change("old", oldest(now)))]).await.expect("it is appended");
    log.append(P, vec![encode(&change("young", now - 1_000_000))]).await.expect("it is appended");
    log.append(P, others).await.expect("it is appended");
    let mut replayed = change("replayed", now);
    replayed.replay = Some(Replay { letter: LetterId(1), first: Offset(0), router: None });
    log.append(P, vec![encode(&replayed)]).await.expect("it is appended");
    log.append(P, vec![encode(&change("last", now))]).await.expect("it is appended");
    for (id, known) in [("old", false), ("young", true), ("replayed", false), ("last", true)] {
        assert_eq!(is_known(&log, id).await, known, "{id}");
    }
    // Of what retention has removed nothing is known.
    log.forget_before(2);
    assert!(!is_known(&log, "young").await && is_known(&log, "last").await);
}

#[tokio::test]
async fn ids_are_forgotten_when_they_are_too_old_or_too_many() {
    let mut ids = super::Ids::default();
    let key = |id: &str| Arc::new(super::Key::of(&said(id)).expect("it has an id"));
    let now = now();
    ids.add(key("a"), oldest(now));
    ids.add(key("b"), oldest(now) + 1);
    ids.forget_before(now);
    assert_eq!((ids.number(&key("a")), ids.number(&key("b"))), (None, Some(oldest(now) + 1)));
    ids.add(key("b"), now);
    for nth in 1..crate::limits::CLIENT_IDS_COUNT_MAX {
        ids.add(key(&nth.to_string()), now + nth as u64);
    }
    assert_eq!(ids.number(&key("b")), Some(now), "as many as allowed are known");
    ids.add(key("one more"), now + 1_000_000);
    assert_eq!(ids.number(&key("b")), None);
}
