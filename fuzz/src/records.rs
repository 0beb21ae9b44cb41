//! The encoding of a change: no bytes make the decoder panic, and what is decoded or made is encoded to the same.

use std::sync::Arc;

use bytes::Bytes;
use libfuzzer_sys::arbitrary::{Arbitrary, Unstructured};

use crate::event::{Change, Decoder, Header, Operation, Row, encode, row_to_json};
use crate::made::{MadeChange, MadeTable};

/// Takes the bytes for a record, and then for the choices of which a change is made.
///
/// # Panics
/// If an invariant does not hold.
pub fn check(data: &[u8]) {
    let record = Bytes::copy_from_slice(data);
    let header = Header::of(&record);
    if let Ok(change) = Decoder::default().decode(&record) {
        let header = header.expect("a record has a header");
        assert_eq!(header.source, &*change.table.source);
        let is_reached = change.replay.is_none() && change.operation != Operation::Schema;
        assert_eq!((header.position, header.is_reached), (change.position, is_reached));
        look(&change);
        come_back(&change);
    }
    let mut choices = Unstructured::new(data);
    let made = <(MadeTable, MadeChange)>::arbitrary(&mut choices);
    if let Ok((table, change)) = made {
        come_back(&change.change(Arc::new(table.table())));
    }
}

/// Everything that is read of a change.
fn look(change: &Change) {
    let mut text = String::new();
    change.write_key(&mut text);
    for row in [change.row(), change.old()].into_iter().flatten() {
        row_to_json(row, &mut text);
    }
}

fn come_back(change: &Change) {
    let record = encode(change);
    let mut decoder = Decoder::default();
    for _ in 0..2 {
        // The second time out of the decoder's memory.
        let again = decoder.decode(&record).expect("what was encoded is a record");
        assert_eq!(again.table, change.table);
        assert_eq!(again.operation, change.operation);
        assert_eq!((again.position, again.last), (change.position, change.last));
        assert_eq!((again.transaction, again.committed_at), (change.transaction, change.committed_at));
        assert_eq!(again.replay, change.replay);
        assert_eq!(cells(again.row()), cells(change.row()));
        assert_eq!(cells(again.old()), cells(change.old()));
    }
}

/// A kind, a number, or bytes instead, whose place in the arena means nothing: floats by their bits.
type Cell<'a> = (u8, u64, Option<&'a [u8]>);

fn cells<'a>(row: Option<Row<'a>>) -> Option<Vec<Cell<'a>>> {
    let cell = |row: Row<'a>, column| match row.raw(column) {
        (kind, _, Some(bytes)) => (kind, 0, Some(bytes)),
        number => number,
    };
    row.map(|row| (0..row.columns().count()).map(|column| cell(row, column)).collect())
}
