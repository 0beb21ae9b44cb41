//! Tests of what several files do together, without a server: messages into changes, changes into a log.

mod appending;
pub(super) mod encode;

use std::sync::{Arc, Mutex};

use proptest::prelude::*;
use tokio_util::sync::CancellationToken;

use super::append::{Appender, Batch};
use super::assemble::AssembleError;
use super::decode::{Message, decode};
use super::outage::Outage;
use super::*;
use crate::event::{Change, Decoder, Micros, Operation, Position, Row, Value};
use encode::{OwnedDatum, text};

const ORDERS: u32 = 5;
const WHOLE: u32 = 6;

/// An assembler that knows two tables: `orders (id key, note, blob)` and one whose identity is the whole row.
fn assembler(after: Option<Position>) -> Assembler {
    assembler_with_key(after, "id")
}

fn messages() -> Messages {
    Messages::new(&["mail".to_owned()])
}

/// The same, where the catalog has another primary key of the second one.
fn assembler_with_key(after: Option<Position>, key: &str) -> Assembler {
    let mut assembler = Assembler::new("main", after, Seen::default(), messages(), None);
    let columns =
        |key: bool| [("id".to_owned(), 20, true), ("note".to_owned(), 25, key), ("blob".to_owned(), 25, key)];
    for (oid, name, identity) in [(ORDERS, "orders", b'd'), (WHOLE, "whole", b'f')] {
        let bytes = encode::relation(oid, "public", name, identity, &columns(identity == b'f'));
        let Ok(Message::Relation(relation)) = decode(&bytes) else { panic!("not a relation") };
        assembler.announce(&relation, Some(&[key.to_owned()])).expect("two tables fit");
    }
    assembler
}

fn push(assembler: &mut Assembler, bytes: &[u8]) -> Result<(), AssembleError> {
    assembler.push(&decode(bytes).expect("the message is whole"), Micros(77))
}

/// Pushes all messages and gives the changes that came out, and the end that they reach.
fn assembled(assembler: &mut Assembler, messages: &[Vec<u8>]) -> (Vec<Change>, Option<u64>) {
    for message in messages {
        push(assembler, message).expect("the messages fit");
    }
    let batch = assembler.take_ready();
    let end = batch.end;
    let mut decoder = Decoder::default();
    let changes = batch.records().iter().map(|record| decoder.decode(record).expect("it was encoded"));
    (changes.collect(), end)
}

fn row(id: &str, note: &str, blob: OwnedDatum) -> Vec<OwnedDatum> {
    vec![text(id), text(note), blob]
}

fn key_of(id: &str) -> encode::OldRow {
    (b'K', vec![text(id), OwnedDatum::Null, OwnedDatum::Null])
}

fn values(row: Option<Row<'_>>) -> Option<Vec<Value<'_>>> {
    row.map(|row| row.columns().map(|(_, value)| value).collect())
}

/// The row of a message whose prefix is `mail`.
fn logical(body: Value<'_>) -> Vec<Value<'_>> {
    vec![Value::Text("mail"), Value::Null, Value::Null, Value::Null, body]
}

fn transaction(commit: u64, changes: impl IntoIterator<Item = Vec<u8>>) -> Vec<Vec<u8>> {
    let mut messages = vec![encode::begin(commit, 0, 9)];
    messages.extend(changes);
    messages.push(encode::commit(commit, commit + 8, 0));
    messages
}

#[test]
fn a_transaction_comes_out_whole_in_order_and_with_its_last_change_marked() {
    let inserts = ["1", "2", "3"].map(|id| encode::insert(ORDERS, &row(id, "a", OwnedDatum::Null)));
    let (changes, end) = assembled(&mut assembler(None), &transaction(0x100, inserts));
    let positions: Vec<_> =
        changes.iter().map(|change| (change.position.commit, change.position.index)).collect();
    assert_eq!(positions, [(0x100, 0), (0x100, 1), (0x100, 2)]);
    assert_eq!(changes.iter().map(|change| change.last).collect::<Vec<_>>(), [false, false, true]);
    assert_eq!(end, Some(0x108));
    let first = &changes[0];
    assert_eq!(first.transaction, 9);
    assert_eq!(first.committed_at, Micros(946_684_800_000_000));
    assert_eq!(values(first.row()), Some(vec![Value::Integer(1), Value::Text("a"), Value::Null]));
    assert_eq!(values(first.old()), None);
}

#[test]
fn nothing_of_a_transaction_is_confirmed_before_its_commit() {
    let mut assembler = assembler(None);
    let mut messages =
        transaction(0x100, ["1", "2"].map(|id| encode::insert(ORDERS, &row(id, "a", text("b")))));
    let commit = messages.pop().expect("a transaction has a commit");
    let (changes, end) = assembled(&mut assembler, &messages);
    assert_eq!((changes.len(), end), (1, None), "the last change is held back");
    assert!(assembler.is_within_transaction());
    let (changes, end) = assembled(&mut assembler, &[commit]);
    assert_eq!((changes.len(), end), (1, Some(0x108)));
    assert!(changes[0].last);
}

#[test]
fn an_empty_transaction_gives_nothing_but_its_end() {
    let mut assembler = assembler(None);
    let (changes, end) = assembled(&mut assembler, &transaction(0x100, []));
    assert_eq!((changes.len(), end), (0, Some(0x108)));
}

#[test]
fn a_value_that_was_not_sent_is_taken_from_the_old_row() {
    let new = row("1", "new", OwnedDatum::Unchanged);
    let without = encode::update(ORDERS, None, &new);
    let old = (b'O', row("1", "old", text("large")));
    let with = encode::update(WHOLE, Some(&old), &new);
    let (changes, _) = assembled(&mut assembler(None), &transaction(0x100, [without, with]));
    assert_eq!(values(changes[0].row()), Some(vec![Value::Integer(1), Value::Text("new"), Value::Unchanged]));
    assert_eq!(values(changes[0].old()), None);
    assert_eq!(
        values(changes[1].row()),
        Some(vec![Value::Integer(1), Value::Text("new"), Value::Text("large")])
    );
    assert_eq!(
        values(changes[1].old()),
        Some(vec![Value::Integer(1), Value::Text("old"), Value::Text("large")])
    );
    assert!(changes.iter().all(|change| change.operation == Operation::Update));
}

#[test]
fn a_change_of_the_key_is_a_delete_and_an_insert() {
    let by_key = encode::update(ORDERS, Some(&key_of("1")), &row("2", "a", text("b")));
    let old = (b'O', row("3", "old", text("large")));
    let by_row = encode::update(WHOLE, Some(&old), &row("4", "new", OwnedDatum::Unchanged));
    let (changes, _) = assembled(&mut assembler(None), &transaction(0x100, [by_key, by_row]));
    let operations: Vec<_> = changes.iter().map(|change| change.operation).collect();
    assert_eq!(operations, [Operation::Delete, Operation::Insert, Operation::Delete, Operation::Insert]);
    assert_eq!(
        values(changes[0].old()),
        Some(vec![Value::Integer(1), Value::Unchanged, Value::Unchanged]),
        "what is not in the key was not sent"
    );
    assert_eq!(
        values(changes[3].row()),
        Some(vec![Value::Integer(4), Value::Text("new"), Value::Text("large")])
    );
    assert_eq!(changes[3].position.index, 3);
}

#[test]
fn an_old_key_that_is_the_same_is_an_update() {
    let update = encode::update(ORDERS, Some(&key_of("1")), &row("1", "a", text("b")));
    let (changes, _) = assembled(&mut assembler(None), &transaction(0x100, [update]));
    assert_eq!(changes[0].operation, Operation::Update);
    assert_eq!(values(changes[0].old()), None);
}

#[test]
fn truncate_is_a_change_for_each_table_and_a_message_is_one_of_a_virtual_table() {
    let messages =
        transaction(0x100, [encode::truncate(&[ORDERS, WHOLE]), encode::logical(true, 0x90, "mail", b"hi")]);
    let (changes, _) = assembled(&mut assembler(None), &messages);
    let tables: Vec<_> = changes.iter().map(|change| (&*change.table.name, change.operation)).collect();
    assert_eq!(
        tables,
        [("orders", Operation::Truncate), ("whole", Operation::Truncate), ("$logical", Operation::Message)]
    );
    assert_eq!(values(changes[2].row()), Some(logical(Value::Text("hi"))));
}

#[test]
fn a_message_that_nobody_asked_for_is_left_out_but_counted() {
    let insert = encode::insert(ORDERS, &row("1", "a", text("b")));
    let messages = transaction(0x100, [encode::logical(true, 0x90, "other", b"hi"), insert]);
    let (changes, end) = assembled(&mut assembler(None), &messages);
    assert_eq!(operations(&changes), [(Operation::Insert, 1, true)]);
    assert_eq!(end, Some(0x108));
    let (changes, end) = assembled(&mut assembler(None), &[encode::logical(false, 0x90, "other", b"hi")]);
    assert_eq!((changes.len(), end), (0, Some(0x90)), "the server need not keep it");
}

#[test]
fn only_an_outboxs_inserts_are_messages_and_everything_else_of_it_still_counts() {
    let columns = OutboxColumns {
        channel: "kind".into(),
        subject: "about".into(),
        event: "what".into(),
        body: "says".into(),
        ..OutboxColumns::default()
    };
    let outbox = Outbox { table: TableName::parse("outbox").expect("the name is whole"), columns };
    let mut assembler = Assembler::new("main", None, Seen::default(), messages(), Some(outbox));
    let names = ["id", "kind", "about", "what", "says"];
    let theirs = names.map(|name| (name.to_owned(), 25, name == "id"));
    let relation = encode::relation(ORDERS, "public", "outbox", b'd', &theirs);
    let Ok(Message::Relation(relation)) = decode(&relation) else { panic!("not a relation") };
    assembler.announce(&relation, None).expect("it is an outbox");
    let row = |id: &str| {
        ["order", "7", "paid", "{}"].iter().fold(vec![text(id)], |mut row, value| {
            row.push(text(value));
            row
        })
    };
    let key = |id: &str| (b'K', [vec![text(id)], vec![OwnedDatum::Null; 4]].concat());
    let messages = [
        encode::insert(ORDERS, &row("a")),
        encode::update(ORDERS, None, &row("a")),
        encode::update(ORDERS, Some(&key("a")), &row("b")),
        encode::insert(ORDERS, &row("c")),
        encode::delete(ORDERS, &key("c")),
        encode::truncate(&[ORDERS]),
    ];
    let (changes, _) = assembled(&mut assembler, &transaction(0x100, messages));
    let found: Vec<_> = changes.iter().map(|its| (its.operation, its.position.index, its.last)).collect();
    assert_eq!(found, [(Operation::Message, 0, false), (Operation::Message, 4, true)]);
    let mut subject = String::new();
    changes[0].write_key(&mut subject);
    assert_eq!((subject.as_str(), &*changes[0].table.columns[4].name), ("7", "body"));
}

#[test]
fn a_message_without_a_transaction_stands_where_no_commit_can() {
    let message = encode::logical(false, 0x90, "mail", &[0xff]);
    let (changes, end) = assembled(&mut assembler(None), std::slice::from_ref(&message));
    assert_eq!(changes[0].position, Position { commit: 0x8F, index: 0 });
    assert_eq!((changes[0].last, changes[0].transaction, changes[0].committed_at), (true, 0, Micros(77)));
    assert_eq!(values(changes[0].row()), Some(logical(Value::Bytes(&[0xff]))));
    assert_eq!(end, Some(0x90));
    let again = assembled(&mut assembler(Some(changes[0].position)), &[message]).0;
    assert_eq!(again.len(), 0, "it is in the log already");
}

/// Announces `orders` anew, with these columns beside `id`.
fn reshape(assembler: &mut Assembler, columns: &[&str]) {
    let columns = columns.iter().map(|name| ((*name).to_owned(), 25, false));
    let columns: Vec<_> = std::iter::once(("id".to_owned(), 20, true)).chain(columns).collect();
    let bytes = encode::relation(ORDERS, "public", "orders", b'd', &columns);
    let Ok(Message::Relation(relation)) = decode(&bytes) else { panic!("not a relation") };
    assembler.announce(&relation, None).expect("the table fits");
}

fn operations(changes: &[Change]) -> Vec<(Operation, u32, bool)> {
    changes.iter().map(|change| (change.operation, change.position.index, change.last)).collect()
}

#[test]
fn a_change_of_columns_stands_before_the_first_change_that_has_them_and_counts_for_none() {
    let mut assembler = assembler(None);
    let insert =
        |values: &[&str]| encode::insert(ORDERS, &values.iter().map(|value| text(value)).collect::<Vec<_>>());
    let (changes, _) = assembled(&mut assembler, &transaction(0x100, [insert(&["1", "a", "b"])]));
    assert_eq!(operations(&changes), [(Operation::Insert, 0, true)], "a table that is new has not changed");
    let mut messages = vec![encode::begin(0x200, 0, 9), insert(&["2", "a", "b"])];
    let (mut changes, _) = assembled(&mut assembler, &messages);
    reshape(&mut assembler, &["remark"]);
    messages = vec![insert(&["3", "c"]), encode::commit(0x200, 0x208, 0)];
    changes.extend(assembled(&mut assembler, &messages).0);
    let expected =
        [(Operation::Insert, 0, false), (Operation::Schema, 1, false), (Operation::Insert, 1, true)];
    assert_eq!(operations(&changes), expected);
    let names = |change: &Change| -> Vec<_> {
        change.table.columns.iter().map(|column| column.name.to_string()).collect()
    };
    assert_eq!(names(&changes[0]), ["id", "note", "blob"]);
    assert_eq!(names(&changes[1]), ["id", "remark"]);
    assert_eq!(values(changes[1].row()), None);
    assert_eq!(values(changes[2].row()), Some(vec![Value::Integer(3), Value::Text("c")]));
    // Announced again, as after a look at its key, it is as it was.
    reshape(&mut assembler, &["remark"]);
    let (changes, _) = assembled(&mut assembler, &transaction(0x300, [insert(&["4", "d"])]));
    assert_eq!(operations(&changes), [(Operation::Insert, 0, true)]);
    // Twice, without a change in between: it is told how they are now, and not at all if that is how they were.
    for columns in [&["remark", "more"][..], &["remark"]] {
        reshape(&mut assembler, columns);
    }
    let (changes, _) = assembled(&mut assembler, &transaction(0x400, [insert(&["5", "e"])]));
    assert_eq!(operations(&changes), [(Operation::Insert, 0, true)]);
}

#[test]
fn a_change_of_columns_that_the_log_has_is_not_told_again() {
    let insert = || encode::insert(ORDERS, &[text("1"), text("c")]);
    let folder = tempfile::tempdir().expect("a folder can be made");
    let path = seen::path(folder.path(), "main");
    let told = |after: Option<Position>| {
        let seen = Seen::open(path.clone()).expect("it is read");
        let mut assembler = Assembler::new("main", after, seen, messages(), None);
        reshape(&mut assembler, &["remark"]);
        for message in transaction(0x100, [insert(), insert()]) {
            push(&mut assembler, &message).expect("the messages fit");
        }
        let told = assembler.take_told();
        (operations(&assembled(&mut assembler, &[]).0), told)
    };
    let before = super::seen::Shape::of(&super::assemble::virtual_table("main", "orders", ["id"]));
    Seen::begin(path.clone(), [(ORDERS, before)]).expect("it is written");
    let schema = (Operation::Schema, 0, false);
    let inserts = [(Operation::Insert, 0, false), (Operation::Insert, 1, true)];
    // A crash before the file was written: the log says how far it had come.
    assert_eq!(told(None).0, [schema, inserts[0], inserts[1]]);
    assert_eq!(told(Some(Position { commit: 0x90, index: 0 })).0, [schema, inserts[0], inserts[1]]);
    let (rest, kept) = told(Some(Position { commit: 0x100, index: 0 }));
    assert_eq!(rest, [inserts[1]]);
    Seen::open(path.clone()).expect("it is read").keep(kept).expect("it is written");
    assert_eq!(told(None).0, inserts);
}

#[test]
fn what_does_not_fit_is_an_error() {
    let insert = encode::insert(ORDERS, &row("1", "a", text("b")));
    let mut assembler = assembler(None);
    assert_eq!(push(&mut assembler, &insert), Err(AssembleError::OutOfPlace("a change")));
    let commit = encode::commit(1, 2, 3);
    assert_eq!(push(&mut assembler, &commit), Err(AssembleError::OutOfPlace("a commit")));
    push(&mut assembler, &encode::begin(1, 2, 3)).expect("a transaction begins");
    assert!(matches!(push(&mut assembler, &encode::begin(1, 2, 3)), Err(AssembleError::OutOfPlace(_))));
    assert_eq!(push(&mut assembler, &encode::insert(99, &[])), Err(AssembleError::UnknownRelation(99)));
    let short = push(&mut assembler, &encode::insert(ORDERS, &[text("1")]));
    assert!(matches!(short, Err(AssembleError::Width { values: 1, columns: 3, .. })));
    let wrong = push(&mut assembler, &encode::insert(ORDERS, &row("secret", "a", text("b"))));
    let error = wrong.expect_err("an id is a number").to_string();
    assert!(error.contains("public.orders.id") && !error.contains("secret"), "{error}");
}

proptest! {
    /// However a crash cuts the stream, what the log had and what comes after it are the whole stream, once.
    #[test]
    fn resuming_anywhere_gives_each_change_once(
        sizes in prop::collection::vec(0..5_usize, 1..6), kept in any::<prop::sample::Index>(),
    ) {
        let transactions: Vec<Vec<Vec<u8>>> = sizes.iter().enumerate().map(|(nth, size)| {
            let inserts = (0..*size).map(|id| encode::insert(ORDERS, &row(&id.to_string(), "a", text("b"))));
            transaction(0x100 * (nth as u64 + 1), inserts)
        }).collect();
        let (whole, _) = assembled(&mut assembler(None), &transactions.concat());
        let positions = |changes: &[Change]| -> Vec<_> {
            changes.iter().map(|change| (change.position, change.last)).collect()
        };
        let whole = positions(&whole);
        let kept = kept.index(whole.len() + 1);
        let last = kept.checked_sub(1).map(|last| whole[last].0);
        // The server sends again from the transaction at which the log ends.
        let resent: Vec<_> = transactions.into_iter().enumerate()
            .filter(|(nth, _)| last.is_none_or(|last| 0x100 * (*nth as u64 + 1) >= last.commit))
            .flat_map(|(_, messages)| messages)
            .collect();
        let (rest, _) = assembled(&mut assembler(last), &resent);
        prop_assert_eq!([&whole[..kept], &positions(&rest)[..]].concat(), whole);
    }
}

proptest! {
    /// The catalog's key says whether an update is split, and may be another one after a crash.
    #[test]
    fn resuming_with_another_key_leaves_no_update_out_and_repeats_none(
        updates in prop::collection::vec((0..2_u8, 0..2_u8), 1..8), kept in any::<prop::sample::Index>(),
    ) {
        // The blob, which never changes the key, numbers the updates.
        let updates = updates.into_iter().enumerate().map(|(nth, (id, note))| {
            let blob = || text(&nth.to_string());
            let old = (b'O', row("0", "0", blob()));
            encode::update(WHOLE, Some(&old), &row(&id.to_string(), &note.to_string(), blob()))
        });
        let count = updates.len();
        let messages = transaction(0x100, updates);
        let (first, _) = assembled(&mut assembler_with_key(None, "id"), &messages);
        let kept = kept.index(first.len() + 1);
        let last = kept.checked_sub(1).map(|last| first[last].position);
        let (rest, _) = assembled(&mut assembler_with_key(last, "note"), &messages);
        // A delete is the first half of an update.
        let new = first[..kept].iter().chain(&rest).filter(|change| change.operation != Operation::Delete);
        let numbers: Vec<_> = new.map(|change| {
            let Some(Value::Text(blob)) = change.row().map(|row| row.value(2)) else { panic!("it has a blob") };
            blob.parse::<usize>().expect("it is a number")
        }).collect();
        prop_assert_eq!(numbers, (0..count).collect::<Vec<_>>());
    }
}

/// A whole transaction of one change.
pub(super) fn batch() -> Batch {
    let mut assembler = assembler(None);
    let insert = encode::insert(ORDERS, &row("1", "a", text("b")));
    for message in transaction(0x100, [insert]) {
        push(&mut assembler, &message).expect("the messages fit");
    }
    assembler.take_ready()
}

/// A part of a transaction.
pub(super) fn begun_batch() -> Batch {
    let mut assembler = assembler(None);
    let insert = |id| encode::insert(ORDERS, &row(id, "a", text("b")));
    for message in [encode::begin(0x100, 0, 1), insert("1"), insert("2")] {
        push(&mut assembler, &message).expect("the messages fit");
    }
    assembler.take_ready()
}

#[test]
fn a_batch_is_ripe_with_the_end_of_a_transaction() {
    let mut assembler = assembler(None);
    let insert = |id| encode::insert(ORDERS, &row(id, "a", text("b")));
    for message in transaction(0x80, []) {
        push(&mut assembler, &message).expect("the messages fit");
    }
    assert!(!assembler.ready().is_ripe(), "there is nothing to append");
    for message in [encode::begin(0x100, 0, 1), insert("1"), insert("2")] {
        push(&mut assembler, &message).expect("the messages fit");
    }
    assert!(!assembler.ready().is_empty());
    assert!(!assembler.ready().is_ripe(), "more of the transaction will follow at once");
    push(&mut assembler, &encode::commit(0x100, 0x108, 0)).expect("the messages fit");
    assert!(assembler.ready().is_ripe());
}

fn config() -> Config {
    Config {
        name: "Main-db".to_owned(),
        url: "postgres://ann:s3cret@localhost/shop".to_owned(),
        tables: vec!["orders".to_owned(), "public.orders".to_owned(), "audit.log".to_owned()],
        outbox: None,
        slot: None,
        publication: None,
        snapshot: SnapshotMode::Initial,
        gap: Gap::Halt,
        folder: "data/sources".into(),
        spill_bytes_max: 1 << 30,
        messages: Vec::new(),
        heartbeat: None,
    }
}

#[test]
fn names_that_are_not_given_are_made_from_the_name_of_the_source() {
    let plans = Plans::new(config()).expect("the configuration is right");
    assert_eq!((plans.slot.as_str(), plans.publication.as_str()), ("twohop_main_db", "twohop_main_db"));
    let names: Vec<_> = plans.choice.names.iter().map(ToString::to_string).collect();
    assert_eq!(names, ["audit.log", "public.orders"], "each table once");
    let long = default_name(&"é".repeat(200));
    assert_eq!(long.len(), POSTGRES_NAME_BYTES_MAX);
    assert!(check_name("slot", &long).is_ok());
}

#[test]
fn a_wrong_configuration_is_told_what_is_wrong() {
    let wrong = |change: fn(&mut Config)| {
        let mut config = config();
        change(&mut config);
        Plans::new(config).map(drop).expect_err("the configuration is wrong").to_string()
    };
    assert!(wrong(|config| config.tables.clear()).contains("`tables` names no table"));
    assert!(wrong(|config| config.slot = Some("My-Slot".to_owned())).contains("`My-Slot`"));
    assert!(wrong(|config| config.publication = Some(String::new())).contains("`publication`"));
    assert!(wrong(|config| config.name.clear()).contains("`name`"));
}

#[test]
fn a_configuration_is_shown_without_its_url() {
    assert!(!format!("{:?}", config()).contains("s3cret"));
}

#[test]
fn two_sources_of_one_server_cannot_share_a_slot_or_a_publication() {
    let other = Config { name: "main_db".to_owned(), ..config() };
    let shared = |change: fn(&mut Config)| {
        let mut config = config();
        change(&mut config);
        check_apart(&config, std::slice::from_ref(&other)).map_err(|error| error.to_string())
    };
    let error = shared(|_| {}).expect_err("both names make the same slot");
    assert!(error.contains("its slot is `twohop_main_db`, which source `main_db` has"), "{error}");
    let error = shared(|config| config.slot = Some("own".to_owned())).expect_err("and the same publication");
    assert!(error.contains("another `publication`"), "{error}");
    let elsewhere = |config: &mut Config| config.url = "postgres://ann@elsewhere/shop".to_owned();
    assert_eq!(shared(elsewhere), Ok(()), "a slot is of one server");
    let apart = |config: &mut Config| {
        config.slot = Some("own".to_owned());
        config.url = "postgres://ann@localhost/other".to_owned();
    };
    assert_eq!(shared(apart), Ok(()), "a publication is of one database");
}
