//! The replication slot: the server's memory of how far we are.
//!
//! In: the slot as it is, and where the change log stands. Out: whether to go on, or to begin with a snapshot.
//!
//! Invariant: the change log has a record of a slot before the slot is made, so one that it has no record of is
//! somebody else's, and is left alone.
//!
//! The record of the slot stands before the server's log as it was then, where no change of the stream can stand
//! (`snapshot/place.rs`), and the rows of snapshots stand so too. Whether a slot's first snapshot has begun, its own file
//! says (`snapshot/rounds.rs`).

use std::time::Duration;

use tokio::time::{Instant, timeout};
use tracing::warn;

use super::SnapshotMode;
use super::connect::Control;
use super::error::SourceError;
use super::snapshot::place::{before, is_between};
use super::wire::{Wire, notation, place};
use crate::event::Position;
use crate::limits::{
    POSTGRES_NAME_BYTES_MAX, RETRY_DELAY_MIN, SOURCE_PROBE_INTERVAL, SOURCE_SILENCE_TIME_MAX,
    SOURCE_SLOT_WAIT_TIME_MAX,
};

/// How long the making of a slot may take before we say what it waits for.
const PATIENCE: Duration = Duration::from_secs(5);

/// Whether the slot's first snapshot has begun.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Snapshot {
    /// It may have, in the way of an older program, which begins anew.
    Unknown,
    /// What is to be read is known.
    Begun,
}

/// A slot as the server describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct State {
    /// `logical` or `physical`, then the plugin and the database.
    kind: String,
    plugin: Option<String>,
    is_ours: bool,
    database: Option<String>,
    active_pid: Option<i32>,
    confirmed: u64,
    wal_status: Option<String>,
}

/// What to do with the slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Plan {
    /// There is none: make it, and take the snapshot if there is to be one.
    Create,
    /// It is there, but its snapshot is not complete: begin again.
    Recreate,
    /// Changes are lost: make another one in its place, if it is there, with a snapshot.
    Anew,
    /// Go on from a place.
    Resume { from: u64 },
}

/// Decides.
///
/// # Errors
/// If going on would leave a gap, or the slot is not ours.
pub(super) fn plan(
    name: &str,
    state: Option<&State>,
    last: Option<Position>,
    mode: SnapshotMode,
    snapshot: Snapshot,
) -> Result<Plan, SourceError> {
    let is_record = |last| is_between(last) && last.index != u32::MAX;
    let has_begun = snapshot == Snapshot::Unknown && last.is_some_and(is_record);
    let Some(state) = state else {
        return match last {
            Some(position) if !has_begun => Err(SourceError::SlotMissing { slot: name.to_owned(), position }),
            Some(_) | None => Ok(Plan::Create),
        };
    };
    if state.plugin.as_deref() != Some("pgoutput") || !state.is_ours {
        return Err(SourceError::SlotForeign { slot: name.to_owned(), owner: state.owner() });
    }
    let Some(last) = last else { return Err(SourceError::SlotUnknown { slot: name.to_owned() }) };
    if has_begun && mode == SnapshotMode::Initial {
        return Ok(Plan::Recreate);
    }
    if state.wal_status.as_deref() == Some("lost") {
        return Err(SourceError::SlotLost { slot: name.to_owned() });
    }
    // The server knows more than the log where it confirmed places without changes of ours.
    Ok(Plan::Resume { from: last.commit.max(state.confirmed) })
}

impl State {
    fn owner(&self) -> String {
        let database = self.database.as_deref().unwrap_or("-");
        match self.plugin.as_deref() {
            Some(plugin) => format!("plugin `{plugin}` in database `{database}`"),
            None => format!("{} replication", self.kind),
        }
    }
}

/// The slot, once nobody reads from it: the server may need a moment to notice that our last connection is gone.
///
/// # Errors
/// [`SourceError::SlotInUse`] if somebody still reads from it.
pub(super) async fn free(control: &Control, name: &str) -> Result<Option<State>, SourceError> {
    let begin = Instant::now();
    loop {
        let state = look(control, name).await?;
        let Some(pid) = state.as_ref().and_then(|state| state.active_pid) else { return Ok(state) };
        if begin.elapsed() >= SOURCE_SLOT_WAIT_TIME_MAX {
            return Err(SourceError::SlotInUse { slot: name.to_owned(), pid });
        }
        tokio::time::sleep(RETRY_DELAY_MIN).await;
    }
}

async fn look(control: &Control, name: &str) -> Result<Option<State>, SourceError> {
    const LOOK: &str = "SELECT slot_type, plugin::text, database::text, \
         COALESCE(database = current_database(), false), active_pid, confirmed_flush_lsn::text, wal_status \
         FROM pg_replication_slots WHERE slot_name = $1";
    let rows = control.query("a look at the slots", LOOK, &[&name]).await?;
    Ok(rows.first().map(|row| State {
        kind: row.get(0),
        plugin: row.get(1),
        database: row.get(2),
        is_ours: row.get(3),
        active_pid: row.get(4),
        confirmed: row.get::<_, Option<&str>>(5).and_then(place).unwrap_or(0),
        wal_status: row.get(6),
    }))
}

/// Where the slot stands once we read from it, so that nobody else can move it. What we asked for counts only from
/// there on: the server goes forward to it without a word.
///
/// # Errors
/// [`SourceError::SlotMoved`] if that is beyond `known`.
pub(super) async fn check_reached(
    control: &Control,
    name: &str,
    known: Option<u64>,
) -> Result<u64, SourceError> {
    let found = look(control, name).await?.map_or(0, |state| state.confirmed);
    match known {
        Some(known) if found > known => Err(SourceError::SlotMoved {
            slot: name.to_owned(),
            found: notation(found),
            known: notation(known),
        }),
        Some(_) | None => Ok(found),
    }
}

/// Sees that the server has written what the change log has.
///
/// # Errors
/// [`SourceError::ServerBehind`] if it has not.
pub(super) async fn check_written(control: &Control, position: Position) -> Result<(), SourceError> {
    let written = written(control).await?;
    if position.commit > written {
        return Err(SourceError::ServerBehind { position, written: notation(written) });
    }
    Ok(())
}

/// The position of the record of a slot that is about to be made, before everything that will come through it.
pub(super) async fn begin(control: &Control) -> Result<Position, SourceError> {
    let written = written(control).await?;
    Ok(Position { commit: before(written), index: 0 })
}

async fn written(control: &Control) -> Result<u64, SourceError> {
    const LOOK: &str = "SELECT pg_current_wal_insert_lsn()::text";
    let rows = control.query("a look at the server's log", LOOK, &[]).await?;
    Ok(rows.first().and_then(|row| place(row.get(0))).unwrap_or(0))
}

/// Drops the slot, if it is there.
pub(super) async fn drop_slot(control: &Control, name: &str) -> Result<(), SourceError> {
    let doing = format!("`pg_drop_replication_slot('{name}')`");
    const DROP: &str =
        "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE slot_name = $1";
    control.query(&doing, DROP, &[&name]).await.map(drop)
}

/// A slot that was just made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Created {
    /// Everything that commits at or after this place comes through the slot.
    pub(super) consistent_point: u64,
    /// The name under which everything before is seen, until the connection that made it is used again.
    pub(super) snapshot: Option<String>,
}

/// What a slot is made for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// To stay, with a snapshot or without.
    Kept(SnapshotMode),
    /// For its snapshot: it is gone with its connection.
    Temporary,
}

/// A name for such a slot that no other has.
pub(super) fn temporary_name(slot: &str) -> String {
    let moment = super::stream::now().0;
    let suffix = format!("_{:x}_{moment:x}", std::process::id());
    let kept = slot.len().min(POSTGRES_NAME_BYTES_MAX - suffix.len());
    format!("{}{suffix}", &slot[..kept])
}

/// Makes a slot. The control connection is asked now and then whether the server is still there: it is silent for as
/// long as it waits for open transactions.
///
/// # Errors
/// If the server refuses, or the connection broke.
pub(super) async fn create(
    wire: &mut Wire,
    control: &Control,
    name: &str,
    kind: Kind,
) -> Result<Created, SourceError> {
    // The old form of the options, which every version knows.
    let (temporary, export) = match kind {
        Kind::Kept(SnapshotMode::Initial) => ("", "EXPORT_SNAPSHOT"),
        Kind::Kept(SnapshotMode::None) => ("", "NOEXPORT_SNAPSHOT"),
        Kind::Temporary => (" TEMPORARY", "EXPORT_SNAPSHOT"),
    };
    let command = format!("CREATE_REPLICATION_SLOT {name}{temporary} LOGICAL pgoutput {export}");
    let doing = format!("`CREATE_REPLICATION_SLOT {name}`");
    let patience = async {
        tokio::time::sleep(PATIENCE).await;
        warn!(
            slot = name,
            "PostgreSQL makes the slot once every transaction that is open now has ended; to see them: SELECT pid, \
             xact_start, query FROM pg_stat_activity WHERE xact_start IS NOT NULL ORDER BY xact_start"
        );
        watch(control).await
    };
    let rows = tokio::select! {
        rows = wire.command(&doing, &command) => rows?,
        gone = patience => return Err(gone),
    };
    let text = |column: usize| {
        let value = rows.first().and_then(|row| row.get(column)).and_then(Option::as_ref);
        value.and_then(|value| std::str::from_utf8(value).ok())
    };
    let consistent_point = text(1).and_then(place).ok_or_else(|| SourceError::Protocol {
        doing: doing.clone(),
        what: "the answer has no consistent point".to_owned(),
    })?;
    let snapshot = text(2).filter(|name| !name.is_empty()).map(str::to_owned);
    if export == "EXPORT_SNAPSHOT" && snapshot.is_none() {
        return Err(SourceError::Protocol { doing, what: "the answer has no snapshot".to_owned() });
    }
    Ok(Created { consistent_point, snapshot })
}

/// Asks the server for a sign of life for as long as it gives one.
async fn watch(control: &Control) -> SourceError {
    loop {
        let doing = "the making of the replication slot";
        match timeout(SOURCE_SILENCE_TIME_MAX, control.query(doing, "SELECT 1", &[])).await {
            Ok(Ok(_)) => tokio::time::sleep(SOURCE_PROBE_INTERVAL).await,
            Ok(Err(error)) => return error,
            Err(_) => return SourceError::Silent(SOURCE_SILENCE_TIME_MAX),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const POINT: u64 = 0x16B_3748;

    fn state() -> State {
        State {
            kind: "logical".to_owned(),
            plugin: Some("pgoutput".to_owned()),
            is_ours: true,
            database: Some("shop".to_owned()),
            active_pid: None,
            confirmed: POINT,
            wal_status: Some("reserved".to_owned()),
        }
    }

    fn row(index: u32) -> Option<Position> {
        Some(Position { commit: before(POINT), index })
    }

    #[track_caller]
    fn check(state: Option<&State>, last: Option<Position>, mode: SnapshotMode, expected: Plan) {
        let planned = plan("s", state, last, mode, Snapshot::Unknown);
        assert_eq!(planned.expect("there is a way on"), expected);
    }

    #[test]
    fn the_first_start_makes_the_slot() {
        check(None, None, SnapshotMode::Initial, Plan::Create);
        check(None, None, SnapshotMode::None, Plan::Create);
    }

    #[test]
    fn a_snapshot_that_had_not_begun_begins_again_and_another_goes_on() {
        check(Some(&state()), row(0), SnapshotMode::Initial, Plan::Recreate);
        check(Some(&state()), row(u32::MAX - 1), SnapshotMode::Initial, Plan::Recreate);
        // The crash came between dropping the slot and making it again.
        check(None, row(7), SnapshotMode::Initial, Plan::Create);
        let planned =
            |state: Option<&State>| plan("s", state, row(7), SnapshotMode::Initial, Snapshot::Begun);
        assert_eq!(planned(Some(&state())).expect("it is there"), Plan::Resume { from: POINT });
        assert!(matches!(planned(None), Err(SourceError::SlotMissing { .. })), "changes may be lost");
    }

    #[test]
    fn a_slot_that_lost_its_log_before_the_snapshot_was_complete_begins_again() {
        let lost = State { wal_status: Some("lost".to_owned()), ..state() };
        check(Some(&lost), row(3), SnapshotMode::Initial, Plan::Recreate);
    }

    #[test]
    fn after_a_complete_snapshot_the_stream_goes_on() {
        let last = row(u32::MAX);
        check(Some(&state()), last, SnapshotMode::Initial, Plan::Resume { from: POINT });
    }

    #[test]
    fn a_transaction_of_the_stream_is_resumed_at_its_commit() {
        let last = Some(Position { commit: POINT + 80, index: 0 });
        check(Some(&state()), last, SnapshotMode::Initial, Plan::Resume { from: POINT + 80 });
        let quiet = State { confirmed: POINT + 800, ..state() };
        check(Some(&quiet), last, SnapshotMode::Initial, Plan::Resume { from: POINT + 800 });
    }

    #[test]
    fn without_a_snapshot_the_stream_goes_on_from_the_slot() {
        check(Some(&state()), row(0), SnapshotMode::None, Plan::Resume { from: POINT });
    }

    #[test]
    fn a_slot_that_this_log_did_not_begin_is_left_alone() {
        for mode in [SnapshotMode::Initial, SnapshotMode::None] {
            let planned = plan("s", Some(&state()), None, mode, Snapshot::Unknown);
            let error = planned.expect_err("it may be somebody else's");
            assert!(matches!(error, SourceError::SlotUnknown { .. }), "{error}");
            assert!(error.to_string().contains("SELECT pg_drop_replication_slot('s')"), "{error}");
        }
    }

    #[test]
    fn a_slot_that_is_gone_or_foreign_or_lost_is_an_error() {
        let last = Some(Position { commit: POINT, index: 0 });
        let error =
            |state: Option<&State>| plan("s", state, last, SnapshotMode::Initial, Snapshot::Begun).err();
        assert!(matches!(error(None), Some(SourceError::SlotMissing { .. })));
        let other_plugin = State { plugin: Some("wal2json".to_owned()), ..state() };
        assert!(matches!(error(Some(&other_plugin)), Some(SourceError::SlotForeign { .. })));
        let other_database = State { is_ours: false, ..state() };
        assert!(matches!(error(Some(&other_database)), Some(SourceError::SlotForeign { .. })));
        let lost = State { wal_status: Some("lost".to_owned()), ..state() };
        assert!(matches!(error(Some(&lost)), Some(SourceError::SlotLost { .. })));
    }
}
