//! Messages of PostgreSQL's `pgoutput`, as the replication connection brings them.
//!
//! In: any bytes. Out: nothing, or a panic: a message that was decoded has all that it promises, and is the same message
//! once it was encoded and decoded again.

#[path = "../../../host/src/source/postgres/decode.rs"]
#[allow(dead_code, unreachable_pub, missing_docs, reason = "only parts are used")]
mod decode;
mod tests;

use decode::{
    Datum, Identity, Message, Old, Scope, Segment, Streamed, Tuple, Within, decode, decode_streamed,
    decode_within,
};
use tests::encode::{self, OldRow, OwnedDatum};

/// Takes the bytes for a message outside of a block, around one, and within one.
///
/// # Panics
/// If an invariant does not hold.
pub fn check(data: &[u8]) {
    if let Ok(message) = decode(data) {
        let (shown, encoded) = again(&message);
        let decoded = decode(&encoded).expect("what was encoded is whole");
        assert_eq!(again(&decoded).0, shown);
        assert!(decode(&encoded[..encoded.len() - 1]).is_err(), "it ends too early");
    }
    if let Ok(Some(streamed)) = decode_streamed(data) {
        assert_eq!(decode_streamed(&around(&streamed)), Ok(Some(streamed)));
    }
    if let Ok(Within::Message { part, kind, rest }) = decode_within(data) {
        let message = [&[kind], rest].concat();
        assert_eq!(encode::within(part, &message), data);
        // As it is read back at its commit.
        let _ = decode(&message).map(|message| again(&message));
    }
}

/// All that a message says, and the message encoded anew.
fn again(message: &Message<'_>) -> (String, Vec<u8>) {
    match *message {
        Message::Begin { commit, committed_at, transaction } => {
            (format!("{message:?}"), encode::begin(commit, committed_at, transaction))
        }
        Message::Commit { commit, end, committed_at } => {
            (format!("{message:?}"), encode::commit(commit, end, committed_at))
        }
        Message::Origin => (format!("{message:?}"), encode::origin(0, "")),
        Message::Relation(relation) => {
            let columns: Vec<_> = relation
                .columns()
                .map(|column| (column.name.to_owned(), column.type_oid, column.key))
                .collect();
            let (oid, schema, name) = (relation.oid, relation.schema, relation.name);
            let shown = format!("{oid} {schema} {name} {:?} {columns:?}", relation.identity);
            let identity = match relation.identity {
                Identity::Default => b'd',
                Identity::Nothing => b'n',
                Identity::Full => b'f',
                Identity::Index => b'i',
            };
            (shown, encode::relation(oid, schema, name, identity, &columns))
        }
        Message::Type { oid, schema, name } => (format!("{message:?}"), encode::type_name(oid, schema, name)),
        Message::Insert { relation, new } => {
            let new = owned(&new);
            (format!("{relation} {new:?}"), encode::insert(relation, &new))
        }
        Message::Update { relation, old, new } => {
            let (old, new) = (old.as_ref().map(owned_old), owned(&new));
            (format!("{relation} {old:?} {new:?}"), encode::update(relation, old.as_ref(), &new))
        }
        Message::Delete { relation, old } => {
            let old = owned_old(&old);
            (format!("{relation} {old:?}"), encode::delete(relation, &old))
        }
        Message::Truncate { relations } => {
            let relations: Vec<_> = relations.iter().collect();
            (format!("{relations:?}"), encode::truncate(&relations))
        }
        Message::Logical { scope, at, prefix, content } => {
            let is_within = scope == Scope::Transaction;
            (format!("{message:?}"), encode::logical(is_within, at, prefix, content))
        }
    }
}

fn around(streamed: &Streamed) -> Vec<u8> {
    match *streamed {
        Streamed::Start { transaction, segment } => {
            encode::stream_start(transaction, segment == Segment::First)
        }
        Streamed::Commit { transaction, commit, end, committed_at } => {
            encode::stream_commit(transaction, commit, end, committed_at)
        }
        Streamed::Abort { transaction, part } => encode::stream_abort(transaction, part),
    }
}

fn owned(tuple: &Tuple<'_>) -> Vec<OwnedDatum> {
    let data: Vec<_> = tuple
        .iter()
        .map(|datum| match datum {
            Datum::Null => OwnedDatum::Null,
            Datum::Unchanged => OwnedDatum::Unchanged,
            Datum::Text(text) => OwnedDatum::Text(text.to_vec()),
        })
        .collect();
    assert_eq!(data.len(), tuple.count(), "a row has as many values as it says");
    data
}

fn owned_old(old: &Old<'_>) -> OldRow {
    let mark = match old {
        Old::Key(_) => b'K',
        Old::Full(_) => b'O',
    };
    (mark, owned(&old.tuple()))
}
