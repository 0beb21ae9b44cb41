//! What is not wrong yet, but will be: a look at the server from beside, for people.
//!
//! In: a control connection, and the names of slot and publication. Out: warnings, each with what mends it. Nothing here
//! stops a source: what does is in `preflight.rs`.
//!
//! To add a warning: a variant of [`Warning`], and a look in [`look`] or in what it calls.

use std::time::{Duration, SystemTime};

use super::connect::{Control, quoted};
use super::error::SourceError;
use crate::limits::{CLOCK_SKEW_WARNED, OPEN_TRANSACTION_TIME_WARNED, RETAINED_WAL_BYTES_WARNED};

/// Something that a person should know of.
#[derive(Debug, Clone, thiserror::Error, PartialEq, Eq)]
pub enum Warning {
    /// A slot would have to be made, and there is no room.
    #[error(
        "all {0} replication slots are taken, and `{1}` is not there yet: drop one that nobody needs (SELECT \
         slot_name, active FROM pg_replication_slots), or ALTER SYSTEM SET max_replication_slots = {2}; then restart \
         PostgreSQL"
    )]
    NoFreeSlot(i64, String, i64),
    /// A replication connection would find no room.
    #[error(
        "all {0} replication connections are taken: ALTER SYSTEM SET max_wal_senders = {1}; then restart PostgreSQL"
    )]
    NoFreeSender(i64, i64),
    /// The publication would have to be made, and the role may not.
    #[error(
        "publication {publication} is not there, and `{user}` may not make one: GRANT CREATE ON DATABASE {database} TO \
         {user_sql} (it has to own the tables too), or as their owner: CREATE PUBLICATION {publication} FOR TABLE ... \
         WITH (publish_via_partition_root = true)"
    )]
    PublicationForbidden {
        /// As SQL wants it.
        publication: String,
        /// The role.
        user: String,
        /// The role as SQL wants it.
        user_sql: String,
        /// As SQL wants it.
        database: String,
    },
    /// The server may look for a publication at a place where it was not there.
    #[error(
        "publication `{publication}` was made or altered after the place where slot `{slot}` stands: PostgreSQL looks \
         it up as it was there, and fails if it was not. If the source stops with `publication does not exist`: SELECT \
         pg_drop_replication_slot('{slot}'), and let the source begin anew with a snapshot"
    )]
    PublicationAfterSlot {
        /// Its name.
        publication: String,
        /// Its name.
        slot: String,
    },
    /// A slot that nobody reads from keeps the server's log.
    #[error(
        "nobody reads from replication slot `{slot}`, which keeps {} of the server's log, and more with each write, \
         until the disk is full: if nobody needs it, SELECT pg_drop_replication_slot('{slot}')", bytes(*.retained)
    )]
    SlotAbandoned {
        /// Its name.
        slot: String,
        /// Bytes of the log that it keeps.
        retained: u64,
    },
    /// The source's own slot is far behind.
    #[error(
        "replication slot `{slot}` keeps {} of the server's log: whoever reads from it is slow, or was away for long",
        bytes(*.retained)
    )]
    SlotBehind {
        /// Its name.
        slot: String,
        /// Bytes of the log that it keeps.
        retained: u64,
    },
    /// The server is about to throw away what the slot needs.
    #[error(
        "replication slot `{slot}` is `{status}`: PostgreSQL removes the log that it needs{}, and the source would have \
         to begin anew. Let it catch up, and ALTER SYSTEM SET max_slot_wal_keep_size to more; then SELECT \
         pg_reload_conf()", left(*.safe)
    )]
    SlotEndangered {
        /// Its name.
        slot: String,
        /// `unreserved` or `extended`.
        status: String,
        /// Bytes that can be written until then, if the server says.
        safe: Option<i64>,
    },
    /// A slot may fill the disk.
    #[error(
        "max_slot_wal_keep_size has no limit: while this source is away, the server's log grows until its disk is full. \
         With a limit the source is lost instead, which a snapshot mends: ALTER SYSTEM SET max_slot_wal_keep_size = \
         '64GB'; then SELECT pg_reload_conf()"
    )]
    KeepUnlimited,
    /// A slot cannot be made while this is open, and the log is kept for it.
    #[error(
        "a transaction has been open for {} s (process {pid}): a new slot waits for its end, and decoding keeps the \
         server's log for it. To see what it does: SELECT * FROM pg_stat_activity WHERE pid = {pid}", .since.as_secs()
    )]
    TransactionOpen {
        /// The server's process.
        pid: i32,
        /// How long.
        since: Duration,
    },
    /// A table is meant by the beginning of its name, and cannot be captured.
    #[error("table `{table}` is left out, with its changes: {why}")]
    TableLeftOut {
        /// Its name.
        table: String,
        /// What mends it.
        why: String,
    },
    /// Times of commits are not those of this machine.
    #[error(
        "the server's clock is {} s {}: delays that are measured here are off by as much. Let both follow NTP",
        .by.as_secs(), if *.ahead { "ahead of this machine's" } else { "behind this machine's" }
    )]
    Clock {
        /// By how much.
        by: Duration,
        /// Whether the server's is the later.
        ahead: bool,
    },
}

/// Looks at everything.
///
/// # Errors
/// If the server does not answer.
pub(super) async fn look(
    control: &Control,
    user: &str,
    slot: &str,
    publication: &str,
) -> Result<Vec<Warning>, SourceError> {
    let mut warnings = room(control, slot).await?;
    warnings.extend(publication_rights(control, user, publication).await?);
    warnings.extend(publication_age(control, slot, publication).await?);
    warnings.extend(slots(control, slot).await?);
    warnings.extend(settings(control).await?);
    warnings.extend(transactions(control).await?);
    warnings.extend(clock(control).await?);
    Ok(warnings)
}

async fn room(control: &Control, slot: &str) -> Result<Vec<Warning>, SourceError> {
    const LOOK: &str = "SELECT current_setting('max_replication_slots')::int8, \
         (SELECT count(*) FROM pg_replication_slots), \
         EXISTS (SELECT FROM pg_replication_slots WHERE slot_name = $1), \
         current_setting('max_wal_senders')::int8, (SELECT count(*) FROM pg_stat_replication)";
    let rows = control.query("a look at the slots", LOOK, &[&slot]).await?;
    let Some(row) = rows.first() else { return Ok(Vec::new()) };
    let (slots_max, slots_count, is_there): (i64, i64, bool) = (row.get(0), row.get(1), row.get(2));
    let (senders_max, senders_count): (i64, i64) = (row.get(3), row.get(4));
    let mut warnings = Vec::new();
    if !is_there && slots_count >= slots_max {
        warnings.push(Warning::NoFreeSlot(slots_max, slot.to_owned(), slots_max + 4));
    }
    if senders_count >= senders_max {
        warnings.push(Warning::NoFreeSender(senders_max, senders_max + 4));
    }
    Ok(warnings)
}

async fn publication_rights(
    control: &Control,
    user: &str,
    publication: &str,
) -> Result<Option<Warning>, SourceError> {
    const LOOK: &str = "SELECT EXISTS (SELECT FROM pg_publication WHERE pubname = $1) \
         OR has_database_privilege(current_database(), 'CREATE'), current_database()::text";
    let rows = control.query("a look at the rights", LOOK, &[&publication]).await?;
    let forbidden = rows.first().filter(|row| !row.get::<_, bool>(0));
    Ok(forbidden.map(|row| Warning::PublicationForbidden {
        publication: quoted(publication),
        user: user.to_owned(),
        user_sql: quoted(user),
        database: quoted(row.get(1)),
    }))
}

/// By the transactions that made the publication's row and that the slot still has to see: age counts back from now.
async fn publication_age(
    control: &Control,
    slot: &str,
    publication: &str,
) -> Result<Option<Warning>, SourceError> {
    const LOOK: &str = "SELECT age(p.xmin) <= age(s.catalog_xmin) FROM pg_publication p, pg_replication_slots s \
         WHERE p.pubname = $1 AND s.slot_name = $2 AND s.database = current_database()";
    let rows = control.query("a look at the publication", LOOK, &[&publication, &slot]).await?;
    let is_younger = rows.first().and_then(|row| row.get::<_, Option<bool>>(0)) == Some(true);
    Ok(is_younger.then(|| Warning::PublicationAfterSlot {
        publication: publication.to_owned(),
        slot: slot.to_owned(),
    }))
}

async fn slots(control: &Control, ours: &str) -> Result<Vec<Warning>, SourceError> {
    // A standby's log is written by another server, and preflight has refused it.
    const LOOK: &str = "SELECT slot_name::text, active, wal_status, safe_wal_size, \
         pg_wal_lsn_diff(CASE WHEN pg_is_in_recovery() THEN restart_lsn ELSE pg_current_wal_lsn() END, \
         restart_lsn)::int8 FROM pg_replication_slots ORDER BY slot_name";
    let mut warnings = Vec::new();
    for row in control.query("a look at the slots", LOOK, &[]).await? {
        let (slot, is_active): (String, bool) = (row.get(0), row.get(1));
        let (status, safe): (Option<String>, Option<i64>) = (row.get(2), row.get(3));
        let retained = row.get::<_, Option<i64>>(4).unwrap_or(0).unsigned_abs();
        let is_ours = slot == ours;
        let is_much = retained >= RETAINED_WAL_BYTES_WARNED;
        match status.as_deref() {
            // `lost` of ours is an error at the start; of others it is their own affair.
            Some("lost") => {}
            Some(status @ ("unreserved" | "extended")) if is_ours => {
                warnings.push(Warning::SlotEndangered { slot, status: status.to_owned(), safe });
            }
            _ if is_much && is_ours => warnings.push(Warning::SlotBehind { slot, retained }),
            _ if is_much && !is_active => warnings.push(Warning::SlotAbandoned { slot, retained }),
            _ => {}
        }
    }
    Ok(warnings)
}

async fn settings(control: &Control) -> Result<Option<Warning>, SourceError> {
    const LOOK: &str = "SELECT setting::int8 FROM pg_settings WHERE name = 'max_slot_wal_keep_size'";
    let rows = control.query("a look at the settings", LOOK, &[]).await?;
    let is_unlimited = rows.first().is_some_and(|row| row.get::<_, i64>(0) < 0);
    Ok(is_unlimited.then_some(Warning::KeepUnlimited))
}

async fn transactions(control: &Control) -> Result<Option<Warning>, SourceError> {
    // Only those that have written something hold a slot up.
    const LOOK: &str = "SELECT pid, extract(epoch FROM clock_timestamp() - xact_start)::float8 FROM pg_stat_activity \
         WHERE backend_xid IS NOT NULL AND xact_start IS NOT NULL ORDER BY xact_start LIMIT 1";
    let rows = control.query("a look at the transactions", LOOK, &[]).await?;
    let oldest = rows.first().map(|row| (row.get(0), Duration::from_secs_f64(row.get::<_, f64>(1).max(0.0))));
    let open = oldest.filter(|(_, since)| *since >= OPEN_TRANSACTION_TIME_WARNED);
    Ok(open.map(|(pid, since)| Warning::TransactionOpen { pid, since }))
}

async fn clock(control: &Control) -> Result<Option<Warning>, SourceError> {
    const LOOK: &str = "SELECT extract(epoch FROM clock_timestamp())::float8";
    let before = SystemTime::now();
    let rows = control.query("a look at the clock", LOOK, &[]).await?;
    let after = SystemTime::now();
    let server = rows.first().and_then(|row| Duration::try_from_secs_f64(row.get(0)).ok());
    Ok(server.and_then(|since| skew(before, after, SystemTime::UNIX_EPOCH + since)))
}

/// The server's clock was read between the two moments of ours: what is between them is no skew.
fn skew(before: SystemTime, after: SystemTime, server: SystemTime) -> Option<Warning> {
    let ahead = server > after;
    let by = if ahead { server.duration_since(after) } else { before.duration_since(server) };
    let by = by.unwrap_or_default();
    (by >= CLOCK_SKEW_WARNED).then_some(Warning::Clock { by, ahead })
}

/// A size for people.
fn bytes(count: u64) -> String {
    const UNITS: [(&str, u64); 3] = [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];
    match UNITS.into_iter().find(|(_, size)| count >= *size) {
        Some((unit, size)) => format!("{:.1} {unit}", count as f64 / size as f64),
        None => format!("{count} B"),
    }
}

fn left(safe: Option<i64>) -> String {
    match safe {
        Some(safe) if safe > 0 => format!(" after {} more", bytes(safe.unsigned_abs())),
        _ => " at the next checkpoint".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_is_off_only_by_what_the_question_did_not_take() {
        let at = |seconds| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        assert_eq!(skew(at(10), at(20), at(15)), None);
        assert_eq!(skew(at(10), at(20), at(21)), None);
        let by = Duration::from_secs(3);
        assert_eq!(skew(at(10), at(11), at(14)), Some(Warning::Clock { by, ahead: true }));
        assert_eq!(skew(at(15), at(16), at(12)), Some(Warning::Clock { by, ahead: false }));
    }

    #[test]
    fn a_warning_says_how_much_and_what_mends_it() {
        let retained = 3 << 29;
        let text = Warning::SlotAbandoned { slot: "old".to_owned(), retained }.to_string();
        assert!(text.contains("keeps 1.5 GiB"), "{text}");
        assert!(text.contains("SELECT pg_drop_replication_slot('old')"), "{text}");
        let endangered = |safe| {
            Warning::SlotEndangered { slot: "s".to_owned(), status: "unreserved".to_owned(), safe }
                .to_string()
        };
        assert!(endangered(Some(2048)).contains("after 2.0 KiB more"));
        assert!(endangered(None).contains("at the next checkpoint"));
    }
}
