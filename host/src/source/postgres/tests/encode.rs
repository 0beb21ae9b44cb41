//! An encoder of `pgoutput`, versions 1 and 2, to test the decoder against: it writes what the manual says a server sends.
//!
//! The fuzz target `pgoutput` uses it too, so it names nothing of others.

/// One value of a row, as the server sends it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in super::super) enum OwnedDatum {
    Null,
    Unchanged,
    Text(Vec<u8>),
}

pub(in super::super) fn text(text: &str) -> OwnedDatum {
    OwnedDatum::Text(text.as_bytes().to_vec())
}

/// An old row with its mark, `K` or `O`.
pub(in super::super) type OldRow = (u8, Vec<OwnedDatum>);

fn zero_ended(text: &str) -> impl Iterator<Item = u8> {
    text.bytes().chain([0])
}

fn length(length: usize) -> [u8; 4] {
    u32::try_from(length).expect("tests are small").to_be_bytes()
}

fn count(count: usize) -> [u8; 2] {
    u16::try_from(count).expect("tests are small").to_be_bytes()
}

fn put_row(out: &mut Vec<u8>, row: &[OwnedDatum]) {
    out.extend(count(row.len()));
    for datum in row {
        match datum {
            OwnedDatum::Null => out.push(b'n'),
            OwnedDatum::Unchanged => out.push(b'u'),
            OwnedDatum::Text(text) => {
                out.push(b't');
                out.extend(length(text.len()));
                out.extend(text);
            }
        }
    }
}

pub(in super::super) fn begin(commit: u64, committed_at: i64, transaction: u32) -> Vec<u8> {
    let mut out = vec![b'B'];
    out.extend(commit.to_be_bytes());
    out.extend(committed_at.to_be_bytes());
    out.extend(transaction.to_be_bytes());
    out
}

pub(in super::super) fn commit(commit: u64, end: u64, committed_at: i64) -> Vec<u8> {
    let mut out = vec![b'C', 0];
    out.extend(commit.to_be_bytes());
    out.extend(end.to_be_bytes());
    out.extend(committed_at.to_be_bytes());
    out
}

pub(in super::super) fn origin(at: u64, name: &str) -> Vec<u8> {
    let mut out = vec![b'O'];
    out.extend(at.to_be_bytes());
    out.extend(zero_ended(name));
    out
}

pub(in super::super) fn relation(
    oid: u32,
    schema: &str,
    name: &str,
    identity: u8,
    columns: &[(String, u32, bool)],
) -> Vec<u8> {
    let mut out = vec![b'R'];
    out.extend(oid.to_be_bytes());
    out.extend(zero_ended(schema).chain(zero_ended(name)));
    out.push(identity);
    out.extend(count(columns.len()));
    for (name, type_oid, key) in columns {
        out.push(u8::from(*key));
        out.extend(zero_ended(name));
        out.extend(type_oid.to_be_bytes());
        out.extend((-1_i32).to_be_bytes());
    }
    out
}

pub(in super::super) fn type_name(oid: u32, schema: &str, name: &str) -> Vec<u8> {
    let mut out = vec![b'Y'];
    out.extend(oid.to_be_bytes());
    out.extend(zero_ended(schema).chain(zero_ended(name)));
    out
}

pub(in super::super) fn insert(relation: u32, new: &[OwnedDatum]) -> Vec<u8> {
    let mut out = vec![b'I'];
    out.extend(relation.to_be_bytes());
    out.push(b'N');
    put_row(&mut out, new);
    out
}

pub(in super::super) fn update(relation: u32, old: Option<&OldRow>, new: &[OwnedDatum]) -> Vec<u8> {
    let mut out = vec![b'U'];
    out.extend(relation.to_be_bytes());
    if let Some((mark, row)) = old {
        out.push(*mark);
        put_row(&mut out, row);
    }
    out.push(b'N');
    put_row(&mut out, new);
    out
}

pub(in super::super) fn delete(relation: u32, (mark, row): &OldRow) -> Vec<u8> {
    let mut out = vec![b'D'];
    out.extend(relation.to_be_bytes());
    out.push(*mark);
    put_row(&mut out, row);
    out
}

pub(in super::super) fn truncate(relations: &[u32]) -> Vec<u8> {
    let mut out = vec![b'T'];
    out.extend(length(relations.len()));
    out.push(0);
    out.extend(relations.iter().flat_map(|oid| oid.to_be_bytes()));
    out
}

pub(in super::super) fn logical(transactional: bool, at: u64, prefix: &str, content: &[u8]) -> Vec<u8> {
    let mut out = vec![b'M', u8::from(transactional)];
    out.extend(at.to_be_bytes());
    out.extend(zero_ended(prefix));
    out.extend(length(content.len()));
    out.extend(content);
    out
}

/// A message as it stands in a block.
pub(in super::super) fn within(part: u32, message: &[u8]) -> Vec<u8> {
    [&message[..1], &part.to_be_bytes(), &message[1..]].concat()
}

pub(in super::super) fn stream_start(transaction: u32, first: bool) -> Vec<u8> {
    [&[b'S'][..], &transaction.to_be_bytes(), &[u8::from(first)]].concat()
}

pub(in super::super) fn stream_commit(transaction: u32, commit: u64, end: u64, committed_at: i64) -> Vec<u8> {
    let mut out = vec![b'c'];
    out.extend(transaction.to_be_bytes());
    out.push(0);
    out.extend(commit.to_be_bytes());
    out.extend(end.to_be_bytes());
    out.extend(committed_at.to_be_bytes());
    out
}

pub(in super::super) fn stream_abort(transaction: u32, part: u32) -> Vec<u8> {
    [&[b'A'][..], &transaction.to_be_bytes(), &part.to_be_bytes()].concat()
}
