//! Decodes messages of `pgoutput`, protocol versions 1 and 2.
//!
//! In: the payload of one `XLogData`. Out: one [`Message`] that borrows from it; nothing is copied. Version 2 sends
//! transactions in progress in blocks: [`Streamed`] is what stands around those, [`Within`] what stands in them.
//!
//! Invariants: any bytes give a message or an error, never a panic; a [`Tuple`] was walked once when it was decoded,
//! so that iterating over it cannot fail; all text is UTF-8.
//!
//! Absent on purpose: what a relation is (`relation.rs`), what a value means (`values.rs`), prepared transactions, which
//! come with version 3, and what version 4 adds for parallel appliers.
//!
//! The layouts are those of PostgreSQL's manual, section "Logical Replication Message Formats".

/// Why bytes are not a message of this protocol.
#[derive(Debug, Clone, Copy, thiserror::Error, PartialEq, Eq)]
pub enum DecodeError {
    /// It ends too early.
    #[error("the message ends within its {0}")]
    Short(&'static str),
    /// It goes on after its end.
    #[error("the message has {0} bytes after its end")]
    Long(usize),
    /// A number or text that no server sends.
    #[error("the message's {0} is not valid")]
    Invalid(&'static str),
    /// A kind of message that cannot be there.
    #[error("the message has the unknown kind {0:#04x}")]
    Kind(u8),
}

/// One message. Numbers of the log are LSNs, times are microseconds since 2000-01-01.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Message<'a> {
    Begin {
        commit: u64,
        committed_at: i64,
        transaction: u32,
    },
    Commit {
        commit: u64,
        end: u64,
        committed_at: i64,
    },
    Origin,
    Relation(Relation<'a>),
    /// A type that is not built in; a domain is announced under the name of its base type.
    Type {
        oid: u32,
        schema: &'a str,
        name: &'a str,
    },
    Insert {
        relation: u32,
        new: Tuple<'a>,
    },
    Update {
        relation: u32,
        old: Option<Old<'a>>,
        new: Tuple<'a>,
    },
    Delete {
        relation: u32,
        old: Old<'a>,
    },
    Truncate {
        relations: Oids<'a>,
    },
    Logical {
        scope: Scope,
        at: u64,
        prefix: &'a str,
        content: &'a [u8],
    },
}

/// What stands around the blocks of transactions in progress.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Streamed {
    /// A block begins.
    Start {
        transaction: u32,
        segment: Segment,
    },
    Commit {
        transaction: u32,
        commit: u64,
        end: u64,
        committed_at: i64,
    },
    /// A transaction is aborted, or, where the numbers differ, a part of one.
    Abort {
        transaction: u32,
        part: u32,
    },
}

/// Whether a block is a transaction's first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Segment {
    First,
    Further,
}

/// What stands in a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Within<'a> {
    /// The block ends.
    Stop,
    Origin,
    /// A message: `part` is the transaction or subtransaction that made it. Without that, it is the kind and the rest.
    Message {
        part: u32,
        kind: u8,
        rest: &'a [u8],
    },
}

/// Decodes what stands around blocks; nothing if it is another message.
pub(super) fn decode_streamed(payload: &[u8]) -> Result<Option<Streamed>, DecodeError> {
    let mut reader = Reader { bytes: payload };
    let streamed = match reader.u8("kind")? {
        b'S' => {
            let transaction = reader.u32("transaction")?;
            let segment = if reader.u8("segment")? == 1 { Segment::First } else { Segment::Further };
            Streamed::Start { transaction, segment }
        }
        b'c' => {
            let transaction = reader.u32("transaction")?;
            reader.u8("flags")?;
            let (commit, end) = (reader.u64("commit")?, reader.u64("end")?);
            Streamed::Commit { transaction, commit, end, committed_at: reader.i64("commit time")? }
        }
        b'A' => {
            let transaction = reader.u32("transaction")?;
            Streamed::Abort { transaction, part: reader.u32("subtransaction")? }
        }
        _ => return Ok(None),
    };
    reader.end(Some(streamed))
}

/// Decodes a message within a block as far as it has to be known before its transaction commits.
pub(super) fn decode_within(payload: &[u8]) -> Result<Within<'_>, DecodeError> {
    let mut reader = Reader { bytes: payload };
    match reader.u8("kind")? {
        b'E' => reader.end(Within::Stop),
        b'O' => Ok(Within::Origin),
        kind @ (b'R' | b'Y' | b'I' | b'U' | b'D' | b'T' | b'M') => {
            let part = reader.u32("transaction")?;
            Ok(Within::Message { part, kind, rest: reader.bytes })
        }
        kind => Err(DecodeError::Kind(kind)),
    }
}

/// Whether a logical message belongs to a transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Scope {
    Transaction,
    Standalone,
}

/// A table, announced before its first change and after each change of its columns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Relation<'a> {
    pub(super) oid: u32,
    pub(super) schema: &'a str,
    pub(super) name: &'a str,
    pub(super) identity: Identity,
    column_count: u16,
    columns: &'a [u8],
}

/// By what the database identifies rows of a table (`pg_class.relreplident`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Identity {
    /// The primary key.
    Default,
    /// Nothing.
    Nothing,
    /// The whole row.
    Full,
    /// A unique index.
    Index,
}

impl Identity {
    pub(super) fn from_letter(letter: u8) -> Option<Self> {
        match letter {
            b'd' => Some(Self::Default),
            b'n' => Some(Self::Nothing),
            b'f' => Some(Self::Full),
            b'i' => Some(Self::Index),
            _ => None,
        }
    }
}

/// A column of a [`Relation`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Column<'a> {
    pub(super) key: bool,
    pub(super) name: &'a str,
    pub(super) type_oid: u32,
}

impl<'a> Relation<'a> {
    pub(super) fn columns(&self) -> impl Iterator<Item = Column<'a>> {
        let mut reader = Reader { bytes: self.columns };
        (0..self.column_count).map(move |_| reader.column().expect("columns were walked when decoded"))
    }
}

/// The old row of an update or a delete.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Old<'a> {
    /// Only the columns of the replica identity; the others are sent as nulls that mean nothing.
    Key(Tuple<'a>),
    /// The whole row.
    Full(Tuple<'a>),
}

impl<'a> Old<'a> {
    pub(super) fn tuple(&self) -> Tuple<'a> {
        match *self {
            Self::Key(tuple) | Self::Full(tuple) => tuple,
        }
    }
}

/// The values of one row, in the order of the relation's columns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Tuple<'a> {
    count: u16,
    bytes: &'a [u8],
}

/// One value of a tuple.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Datum<'a> {
    Null,
    /// An out-of-line value that did not change and was not sent.
    Unchanged,
    /// The type's text output.
    Text(&'a [u8]),
}

impl<'a> Tuple<'a> {
    pub(super) fn count(&self) -> usize {
        self.count.into()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = Datum<'a>> {
        let mut reader = Reader { bytes: self.bytes };
        (0..self.count).map(move |_| reader.datum().expect("data were walked when decoded"))
    }
}

/// A list of relations.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Oids<'a>(&'a [u8]);

impl Oids<'_> {
    pub(super) fn iter(&self) -> impl Iterator<Item = u32> {
        self.0.chunks_exact(4).map(|oid| u32::from_be_bytes(oid.try_into().expect("chunks have four bytes")))
    }
}

/// Decodes one message.
pub(super) fn decode(payload: &[u8]) -> Result<Message<'_>, DecodeError> {
    let mut reader = Reader { bytes: payload };
    let message = match reader.u8("kind")? {
        b'B' => {
            let (commit, committed_at) = (reader.u64("commit")?, reader.i64("commit time")?);
            Message::Begin { commit, committed_at, transaction: reader.u32("transaction")? }
        }
        b'C' => {
            reader.u8("flags")?;
            let (commit, end) = (reader.u64("commit")?, reader.u64("end")?);
            Message::Commit { commit, end, committed_at: reader.i64("commit time")? }
        }
        b'O' => {
            reader.u64("origin")?;
            reader.text("origin")?;
            Message::Origin
        }
        b'R' => Message::Relation(reader.relation()?),
        b'Y' => {
            let oid = reader.u32("type")?;
            let schema = reader.schema("type's schema")?;
            Message::Type { oid, schema, name: reader.text("type's name")? }
        }
        b'I' => {
            let relation = reader.u32("relation")?;
            reader.expect(b'N', "new row's mark")?;
            Message::Insert { relation, new: reader.tuple()? }
        }
        b'U' => {
            let relation = reader.u32("relation")?;
            let old = if reader.bytes.first() == Some(&b'N') { None } else { Some(reader.old()?) };
            reader.expect(b'N', "new row's mark")?;
            Message::Update { relation, old, new: reader.tuple()? }
        }
        b'D' => Message::Delete { relation: reader.u32("relation")?, old: reader.old()? },
        b'T' => {
            let count = reader.u32("relations")? as usize;
            reader.u8("flags")?;
            let length = count.checked_mul(4).ok_or(DecodeError::Invalid("relations"))?;
            Message::Truncate { relations: Oids(reader.take(length, "relations")?) }
        }
        b'M' => {
            let transactional = reader.u8("flags")? & 1 != 0;
            let at = reader.u64("place")?;
            let prefix = reader.text("prefix")?;
            let length = reader.u32("content")? as usize;
            let content = reader.take(length, "content")?;
            let scope = if transactional { Scope::Transaction } else { Scope::Standalone };
            Message::Logical { scope, at, prefix, content }
        }
        kind => return Err(DecodeError::Kind(kind)),
    };
    reader.end(message)
}

struct Reader<'a> {
    bytes: &'a [u8],
}

impl<'a> Reader<'a> {
    /// Sees that the message ends here.
    fn end<T>(&self, read: T) -> Result<T, DecodeError> {
        match self.bytes.len() {
            0 => Ok(read),
            rest => Err(DecodeError::Long(rest)),
        }
    }

    fn take(&mut self, length: usize, what: &'static str) -> Result<&'a [u8], DecodeError> {
        let (taken, rest) = self.bytes.split_at_checked(length).ok_or(DecodeError::Short(what))?;
        self.bytes = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self, what: &'static str) -> Result<[u8; N], DecodeError> {
        Ok(self.take(N, what)?.try_into().expect("take gives what was asked for"))
    }

    fn u8(&mut self, what: &'static str) -> Result<u8, DecodeError> {
        Ok(self.array::<1>(what)?[0])
    }

    fn u16(&mut self, what: &'static str) -> Result<u16, DecodeError> {
        self.array(what).map(u16::from_be_bytes)
    }

    fn u32(&mut self, what: &'static str) -> Result<u32, DecodeError> {
        self.array(what).map(u32::from_be_bytes)
    }

    fn u64(&mut self, what: &'static str) -> Result<u64, DecodeError> {
        self.array(what).map(u64::from_be_bytes)
    }

    fn i64(&mut self, what: &'static str) -> Result<i64, DecodeError> {
        self.array(what).map(i64::from_be_bytes)
    }

    fn text(&mut self, what: &'static str) -> Result<&'a str, DecodeError> {
        let end = self.bytes.iter().position(|byte| *byte == 0).ok_or(DecodeError::Short(what))?;
        let text = self.take(end, what)?;
        self.take(1, what)?;
        std::str::from_utf8(text).map_err(|_| DecodeError::Invalid(what))
    }

    /// The server sends an empty name for its own catalog.
    fn schema(&mut self, what: &'static str) -> Result<&'a str, DecodeError> {
        Ok(match self.text(what)? {
            "" => "pg_catalog",
            schema => schema,
        })
    }

    fn expect(&mut self, mark: u8, what: &'static str) -> Result<(), DecodeError> {
        if self.u8(what)? == mark { Ok(()) } else { Err(DecodeError::Invalid(what)) }
    }

    fn relation(&mut self) -> Result<Relation<'a>, DecodeError> {
        let oid = self.u32("relation")?;
        let schema = self.schema("schema")?;
        let name = self.text("table")?;
        let identity = Identity::from_letter(self.u8("identity")?).ok_or(DecodeError::Invalid("identity"))?;
        let column_count = self.u16("columns")?;
        let columns = self.walked(column_count, |reader| reader.column().map(drop))?;
        Ok(Relation { oid, schema, name, identity, column_count, columns })
    }

    fn column(&mut self) -> Result<Column<'a>, DecodeError> {
        let key = self.u8("column's flags")? & 1 != 0;
        let name = self.text("column")?;
        let type_oid = self.u32("column's type")?;
        self.u32("column's modifier")?;
        Ok(Column { key, name, type_oid })
    }

    fn old(&mut self) -> Result<Old<'a>, DecodeError> {
        match self.u8("old row's mark")? {
            b'K' => Ok(Old::Key(self.tuple()?)),
            b'O' => Ok(Old::Full(self.tuple()?)),
            _ => Err(DecodeError::Invalid("old row's mark")),
        }
    }

    fn tuple(&mut self) -> Result<Tuple<'a>, DecodeError> {
        let count = self.u16("columns")?;
        let bytes = self.walked(count, |reader| reader.datum().map(drop))?;
        Ok(Tuple { count, bytes })
    }

    fn datum(&mut self) -> Result<Datum<'a>, DecodeError> {
        match self.u8("value's kind")? {
            b'n' => Ok(Datum::Null),
            b'u' => Ok(Datum::Unchanged),
            b't' => {
                let length = self.u32("value")? as usize;
                Ok(Datum::Text(self.take(length, "value")?))
            }
            _ => Err(DecodeError::Invalid("value's kind")),
        }
    }

    /// The bytes of `count` items, each of which was read once.
    fn walked(
        &mut self,
        count: u16,
        mut item: impl FnMut(&mut Self) -> Result<(), DecodeError>,
    ) -> Result<&'a [u8], DecodeError> {
        let start = self.bytes;
        for _ in 0..count {
            item(self)?;
        }
        Ok(&start[..start.len() - self.bytes.len()])
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::tests::encode::{self, OwnedDatum};
    use super::*;

    fn data(tuple: &Tuple<'_>) -> Vec<OwnedDatum> {
        tuple
            .iter()
            .map(|datum| match datum {
                Datum::Null => OwnedDatum::Null,
                Datum::Unchanged => OwnedDatum::Unchanged,
                Datum::Text(text) => OwnedDatum::Text(text.to_vec()),
            })
            .collect()
    }

    fn owned_datum() -> impl Strategy<Value = OwnedDatum> {
        prop_oneof![
            Just(OwnedDatum::Null),
            Just(OwnedDatum::Unchanged),
            prop::collection::vec(any::<u8>(), 0..20).prop_map(OwnedDatum::Text),
        ]
    }

    fn rows() -> impl Strategy<Value = Vec<OwnedDatum>> {
        prop::collection::vec(owned_datum(), 0..6)
    }

    /// Any message, well formed.
    fn messages() -> impl Strategy<Value = Vec<u8>> {
        let old = prop_oneof![
            Just(None),
            rows().prop_map(|row| Some((b'K', row))),
            rows().prop_map(|row| Some((b'O', row)))
        ];
        prop_oneof![
            any::<(u64, i64, u32)>().prop_map(|(commit, at, id)| encode::begin(commit, at, id)),
            any::<(u64, u64, i64)>().prop_map(|(commit, end, at)| encode::commit(commit, end, at)),
            (
                any::<u32>(),
                "[a-z]{0,9}",
                prop::collection::vec(("[a-z]{1,5}", any::<u32>(), any::<bool>()), 0..5)
            )
                .prop_map(|(oid, name, columns)| encode::relation(oid, "public", &name, b'd', &columns)),
            (any::<u64>(), "[a-z]{0,9}").prop_map(|(at, name)| encode::origin(at, &name)),
            (any::<u32>(), "[a-z]{1,9}").prop_map(|(oid, name)| encode::type_name(oid, "public", &name)),
            (any::<u32>(), rows()).prop_map(|(relation, new)| encode::insert(relation, &new)),
            (any::<u32>(), old, rows()).prop_map(|(relation, old, new)| encode::update(
                relation,
                old.as_ref(),
                &new
            )),
            (any::<u32>(), rows()).prop_map(|(relation, old)| encode::delete(relation, &(b'K', old))),
            prop::collection::vec(any::<u32>(), 0..5).prop_map(|oids| encode::truncate(&oids)),
            (any::<bool>(), any::<u64>(), "[a-z]{0,9}", prop::collection::vec(any::<u8>(), 0..20))
                .prop_map(|(inside, at, prefix, content)| encode::logical(inside, at, &prefix, &content)),
        ]
    }

    proptest! {
        #[test]
        fn rows_come_out_as_they_went_in(relation in any::<u32>(), old in rows(), new in rows()) {
            let bytes = encode::update(relation, Some(&(b'O', old.clone())), &new);
            let Message::Update { relation: decoded, old: Some(Old::Full(old_tuple)), new: new_tuple } =
                decode(&bytes).expect("the message is whole")
            else {
                panic!("not an update with its old row")
            };
            prop_assert_eq!(decoded, relation);
            prop_assert_eq!(data(&old_tuple), old);
            prop_assert_eq!(new_tuple.count(), new.len());
            prop_assert_eq!(data(&new_tuple), new);
        }

        #[test]
        fn relations_come_out_as_they_went_in(
            oid in any::<u32>(),
            name in "[^\0]{0,9}",
            columns in prop::collection::vec(("[^\0]{1,5}", any::<u32>(), any::<bool>()), 0..5),
        ) {
            let bytes = encode::relation(oid, "shop", &name, b'i', &columns);
            let Message::Relation(relation) = decode(&bytes).expect("the message is whole") else {
                panic!("not a relation")
            };
            prop_assert_eq!(
                (relation.oid, relation.schema, relation.name, relation.identity),
                (oid, "shop", name.as_str(), Identity::Index)
            );
            let decoded: Vec<_> = relation
                .columns()
                .map(|column| (column.name.to_owned(), column.type_oid, column.key))
                .collect();
            prop_assert_eq!(decoded, columns);
        }

        #[test]
        fn a_message_of_a_block_is_what_it_would_be_outside_of_one(bytes in messages(), part in any::<u32>()) {
            prop_assume!(!matches!(bytes[0], b'B' | b'C' | b'O'));
            let within = encode::within(part, &bytes);
            let expected = Within::Message { part, kind: bytes[0], rest: &bytes[1..] };
            prop_assert_eq!(decode_within(&within), Ok(expected));
        }

        #[test]
        fn what_stands_around_a_block_comes_out_as_it_went_in(
            transaction in any::<u32>(), part in any::<u32>(), commit in any::<u64>(), end in any::<u64>(), at in any::<i64>(),
        ) {
            for (bytes, expected) in [
                (encode::stream_start(transaction, true), Streamed::Start { transaction, segment: Segment::First }),
                (encode::stream_start(transaction, false), Streamed::Start { transaction, segment: Segment::Further }),
                (
                    encode::stream_commit(transaction, commit, end, at),
                    Streamed::Commit { transaction, commit, end, committed_at: at },
                ),
                (encode::stream_abort(transaction, part), Streamed::Abort { transaction, part }),
            ] {
                prop_assert_eq!(decode_streamed(&bytes), Ok(Some(expected)));
                for cut in 1..bytes.len() {
                    prop_assert!(decode_streamed(&bytes[..cut]).is_err());
                }
                let long = [&bytes[..], &[0]].concat();
                prop_assert_eq!(decode_streamed(&long), Err(DecodeError::Long(1)));
            }
        }

        #[test]
        fn a_message_cut_short_is_an_error(bytes in messages(), at in any::<prop::sample::Index>()) {
            prop_assert!(decode(&bytes).is_ok());
            prop_assert!(decode(&bytes[..at.index(bytes.len())]).is_err());
        }

        #[test]
        fn a_damaged_message_is_a_message_or_an_error_but_never_a_panic(
            mut bytes in messages(), at in any::<prop::sample::Index>(), byte in any::<u8>(),
        ) {
            let at = at.index(bytes.len());
            bytes[at] = byte;
            walk(&bytes);
        }

        #[test]
        fn any_bytes_are_a_message_or_an_error_but_never_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            walk(&bytes);
        }
    }

    /// Decodes and looks at everything, so that a broken promise of an iterator shows.
    fn walk(bytes: &[u8]) {
        let _ = decode_streamed(bytes);
        let _ = decode_within(bytes);
        let seen = match decode(bytes) {
            Ok(Message::Relation(relation)) => relation.columns().count(),
            Ok(Message::Insert { new, .. }) => new.iter().count(),
            Ok(Message::Update { old, new, .. }) => {
                new.iter().count() + old.map_or(0, |old| old.tuple().iter().count())
            }
            Ok(Message::Delete { old, .. }) => old.tuple().iter().count(),
            Ok(Message::Truncate { relations }) => relations.iter().count(),
            Ok(_) | Err(_) => 0,
        };
        assert!(seen <= 2 * bytes.len() + 2, "every item has at least a byte");
    }

    #[test]
    fn fixed_messages_have_their_fields_where_the_manual_says() {
        assert_eq!(
            decode(&encode::begin(0x10, -5, 7)),
            Ok(Message::Begin { commit: 0x10, committed_at: -5, transaction: 7 })
        );
        assert_eq!(
            decode(&encode::commit(0x10, 0x18, -5)),
            Ok(Message::Commit { commit: 0x10, end: 0x18, committed_at: -5 })
        );
        assert_eq!(
            decode(&encode::logical(true, 9, "mail", b"hello")),
            Ok(Message::Logical { scope: Scope::Transaction, at: 9, prefix: "mail", content: b"hello" })
        );
        assert_eq!(
            decode(&encode::type_name(70_000, "", "int4")),
            Ok(Message::Type { oid: 70_000, schema: "pg_catalog", name: "int4" })
        );
        let truncate = encode::truncate(&[3, 4]);
        let Ok(Message::Truncate { relations }) = decode(&truncate) else { panic!("not a truncate") };
        assert_eq!(relations.iter().collect::<Vec<_>>(), [3, 4]);
    }

    #[test]
    fn what_goes_on_after_its_end_is_an_error() {
        let mut bytes = encode::begin(1, 2, 3);
        bytes.push(0);
        assert_eq!(decode(&bytes), Err(DecodeError::Long(1)));
        assert_eq!(decode(b"S"), Err(DecodeError::Kind(b'S')));
        assert_eq!(decode_streamed(b"I"), Ok(None));
        assert_eq!(decode_within(b"E"), Ok(Within::Stop));
        assert_eq!(decode_within(b"E1"), Err(DecodeError::Long(1)));
        assert_eq!(decode_within(b"B"), Err(DecodeError::Kind(b'B')));
        assert_eq!(decode(b""), Err(DecodeError::Short("kind")));
    }
}
