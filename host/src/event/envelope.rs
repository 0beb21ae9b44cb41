//! A change as Debezium's envelope, without its schema, for consumers that know that form.
//!
//! `before` and `after` are the rows as [`row_to_json`] writes them, `op` is one of `r c u d t m` (null for a change of
//! the table's columns). Both `ts_ms` are the time of the commit: the time of processing would differ each time a change
//! is looked at. `source` has what a change knows of its source.
//!
//! Invariant: what is masked is left out, as in every row.

use std::fmt::Write;

use super::{Change, Operation, Row, row_to_json, write_json_string};

/// Appends the envelope as a JSON object without line breaks.
pub fn envelope_to_json(change: &Change, out: &mut String) {
    out.push_str("{\"before\":");
    write_row(change.old(), out);
    out.push_str(",\"after\":");
    write_row(change.row(), out);
    let milliseconds = change.committed_at.0.div_euclid(1_000);
    write_source(change, milliseconds, out);
    let operation = match change.operation {
        Operation::Snapshot => "\"r\"",
        Operation::Insert => "\"c\"",
        Operation::Update => "\"u\"",
        Operation::Delete => "\"d\"",
        Operation::Truncate => "\"t\"",
        Operation::Schema => "null",
        Operation::Message => "\"m\"",
    };
    write!(out, ",\"op\":{operation},\"ts_ms\":{milliseconds}}}").expect("writing to a string cannot fail");
}

fn write_row(row: Option<Row<'_>>, out: &mut String) {
    match row {
        Some(row) => row_to_json(row, out),
        None => out.push_str("null"),
    }
}

fn write_source(change: &Change, milliseconds: i64, out: &mut String) {
    out.push_str(",\"source\":{\"name\":");
    write_json_string(&change.table.source, out);
    let snapshot = change.operation == Operation::Snapshot;
    write!(out, ",\"ts_ms\":{milliseconds},\"snapshot\":\"{snapshot}\",\"schema\":")
        .expect("writing to a string cannot fail");
    write_json_string(&change.table.schema, out);
    out.push_str(",\"table\":");
    write_json_string(&change.table.name, out);
    out.push_str(",\"txId\":");
    match change.transaction {
        0 => out.push_str("null"),
        transaction => write!(out, "{transaction}").expect("writing to a string cannot fail"),
    }
    write!(out, ",\"lsn\":{}}}", change.position.commit).expect("writing to a string cannot fail");
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::{Column, Micros, Origin, Position, RowBuilder, Rows, Table, Value};
    use super::*;

    fn envelope(operation: Operation, rows: Rows, values: &[Value<'_>], masked: Option<usize>) -> String {
        let column =
            |name: &str, type_name: &str, key| Column { name: name.into(), type_name: type_name.into(), key };
        let table = Arc::new(Table {
            source: "shop".into(),
            schema: "public".into(),
            name: "orders".into(),
            columns: [column("id", "int8", true), column("no\"te", "text", false)].into(),
        });
        let mut builder = RowBuilder::default();
        values.iter().for_each(|value| builder.push(*value));
        let origin = Origin {
            table,
            operation,
            position: Position { commit: 17, index: 0 },
            last: true,
            transaction: u64::from(operation != Operation::Snapshot) * 9,
            committed_at: Micros(1_700_000_000_123_456),
        };
        let mut change = builder.finish(origin, rows);
        masked.into_iter().for_each(|column| change.mask(column));
        let mut out = String::new();
        envelope_to_json(&change, &mut out);
        serde_json::from_str::<serde::de::IgnoredAny>(&out).expect("it is JSON");
        out
    }

    #[test]
    fn a_change_is_written_as_consumers_of_debezium_read_it() {
        let values = [Value::Integer(1), Value::Text("new"), Value::Integer(1), Value::Text("old")];
        insta::assert_snapshot!(envelope(Operation::Update, Rows::NewThenOld, &values, None), @r#"{"before":{"id":1,"no\"te":"old"},"after":{"id":1,"no\"te":"new"},"source":{"name":"shop","ts_ms":1700000000123,"snapshot":"false","schema":"public","table":"orders","txId":9,"lsn":17},"op":"u","ts_ms":1700000000123}"#);
        insta::assert_snapshot!(envelope(Operation::Snapshot, Rows::New, &values[..2], None), @r#"{"before":null,"after":{"id":1,"no\"te":"new"},"source":{"name":"shop","ts_ms":1700000000123,"snapshot":"true","schema":"public","table":"orders","txId":null,"lsn":17},"op":"r","ts_ms":1700000000123}"#);
        insta::assert_snapshot!(envelope(Operation::Truncate, Rows::Neither, &[], None), @r#"{"before":null,"after":null,"source":{"name":"shop","ts_ms":1700000000123,"snapshot":"false","schema":"public","table":"orders","txId":9,"lsn":17},"op":"t","ts_ms":1700000000123}"#);
    }

    #[test]
    fn what_is_masked_is_in_neither_row() {
        let values = [Value::Integer(1), Value::Text("new"), Value::Integer(1), Value::Text("old")];
        let envelope = envelope(Operation::Update, Rows::NewThenOld, &values, Some(1));
        assert!(envelope.starts_with(r#"{"before":{"id":1},"after":{"id":1},"#), "{envelope}");
    }
}
