//! The begin of a round: what a slot's snapshot sees, and the tables as they were for it.
//!
//! In: the source's own slot, just made, or a connection to make one that lives as long. Out: a [`Round`] that chunks can
//! be read for.
//!
//! Invariant: the transaction that sees the snapshot ends here.

use std::sync::Arc;

use futures_util::StreamExt;
use tokio_postgres::SimpleQueryMessage;
use tracing::info;

use super::super::connect::{Control, Target};
use super::super::error::SourceError;
use super::super::slot;
use super::super::table::Captured;
use super::super::wire::Wire;
use super::chunk::{files, look, table_sql};
use super::rounds::{At, Round, Rounds, TableState};
use super::{DOING, Done};

/// The first round of a source, of the snapshot that its slot exported.
///
/// # Errors
/// If the server refuses, or the connection broke.
pub(in super::super) async fn first(
    control: &Control,
    snapshot: &str,
    tables: &[Captured],
) -> Result<Rounds, SourceError> {
    let states = tables.iter().map(TableState::new).collect();
    let mut round = Round { visible: None, from: 0, is_told: true, tables: states };
    import(control, snapshot, &mut round, tables).await?;
    Ok(Rounds { rounds: vec![round], asked: 0 })
}

/// Opens a later round, by a slot that is gone again then.
pub(super) async fn later(
    target: Target,
    control: Option<Control>,
    source: Arc<str>,
    slot: String,
    mut round: Round,
    tables: Vec<Captured>,
) -> Result<Done, SourceError> {
    let control = self::control(&target, control, &source).await?;
    let name = slot::temporary_name(&slot);
    let mut wire = Wire::connect(&target, &format!("twohop {source}"), &name, 0).await?;
    let created = slot::create(&mut wire, &control, &name, slot::Kind::Temporary).await?;
    import(&control, created.snapshot.as_deref().unwrap_or_default(), &mut round, &tables).await?;
    round.from = created.consistent_point;
    drop(wire);
    let names: Vec<_> = round.tables.iter().map(|table| table.table_name().to_string()).collect();
    info!(source = &*source, "the snapshot of {} begins", names.join(", "));
    Ok(Done::Opened { control, round })
}

/// The connection for it.
pub(super) async fn control(
    target: &Target,
    control: Option<Control>,
    source: &str,
) -> Result<Control, SourceError> {
    match control {
        Some(control) => Ok(control),
        None => target.connect(&format!("twohop {source} snapshot")).await,
    }
}

/// Looks with the eyes of a snapshot.
async fn import(
    control: &Control,
    snapshot: &str,
    round: &mut Round,
    tables: &[Captured],
) -> Result<(), SourceError> {
    let name = snapshot.replace('\'', "''");
    let sql = format!("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SET TRANSACTION SNAPSHOT '{name}'");
    control.execute("`SET TRANSACTION SNAPSHOT`", &sql).await?;
    round.visible = Some(look(control).await?.text());
    for state in &mut round.tables {
        let captured = tables.iter().find(|table| table.oid == state.oid);
        match (captured, files(control, state).await?) {
            (Some(captured), Some((files, _))) => {
                state.files = files;
                state.estimate = estimate(control, captured).await?;
            }
            // Nothing is to be read of it.
            _ => state.at = At::End,
        }
    }
    control.execute(DOING, "COMMIT").await
}

/// How many rows a table has, as far as the server's planner can tell.
async fn estimate(control: &Control, captured: &Captured) -> Result<u64, SourceError> {
    let sql = format!("EXPLAIN (FORMAT JSON) SELECT 1 FROM {}", table_sql(captured));
    let mut rows = std::pin::pin!(control.rows(DOING, &sql).await?);
    let mut text = String::new();
    while let Some(message) = rows.next().await {
        if let SimpleQueryMessage::Row(row) = message.map_err(|error| SourceError::control(DOING, error))? {
            text += row.get(0).unwrap_or_default();
        }
    }
    let plan: serde_json::Value = serde_json::from_str(&text).unwrap_or_default();
    Ok(plan[0]["Plan"]["Plan Rows"].as_u64().unwrap_or(0))
}
