//! When a run is valid, and the floor with a real PostgreSQL.

use super::*;

fn delays(p50: u64, p99: u64) -> Delays {
    Delays { p50: Duration::from_millis(p50), p99: Duration::from_millis(p99) }
}

fn run_of(behind: u64, floor_queue: u64) -> Run {
    Run { written: Written { behind: Duration::from_millis(behind), per_second: 1_000.0 }, floor_queue }
}

/// A ledger where both ways delivered everything.
fn whole() -> Ledger {
    let ledger = Ledger::new(2);
    for number in 0..2 {
        ledger.sent(number);
        for way in [Way::Host, Way::Floor] {
            ledger.arrived(way, &ledger::payload(number), std::time::Instant::now());
        }
    }
    ledger
}

#[test]
fn a_run_where_all_kept_up_is_valid() {
    is_valid(&run_of(5, 4), &delays(5, 20), &whole()).unwrap();
}

#[test]
fn a_run_where_something_fell_behind_is_not_valid_and_says_what() {
    let why = |run: &Run, floor: &Delays| is_valid(run, floor, &whole()).unwrap_err().to_string();
    assert!(why(&run_of(251, 4), &delays(5, 20)).starts_with("the writer was 251 ms behind"));
    assert!(why(&run_of(5, 101), &delays(5, 20)).starts_with("the floor fell behind: 101 transactions"));
    assert!(why(&run_of(5, 4), &delays(5, 101)).starts_with("the floor fell behind: its p99 is 101 ms"));
}

#[test]
fn a_run_where_one_way_lost_something_is_not_valid() {
    let ledger = whole();
    ledger.arrived(Way::Host, &ledger::payload(1), std::time::Instant::now());
    assert!(is_valid(&run_of(5, 4), &delays(5, 20), &ledger).is_err());
}

#[test]
fn ratios_are_the_hosts_to_the_floors() {
    let report = figures(&delays(9, 60), &delays(5, 10), &run_of(0, 0).written);
    assert_eq!(
        (report.figures["p50_ratio"].to_string(), report.figures["p99_ms"].to_string()),
        ("1.8".into(), "60".into())
    );
    assert_eq!(report.missed(), ["p99_ratio is 6, the aim is at most 5"]);
}

#[test]
fn the_floor_delivers_each_transaction_of_a_real_postgresql_once() {
    let runtime = Runtime::new().unwrap();
    let settings = vec![("fsync".to_owned(), "off".to_owned())];
    let postgres = Postgres::start(PostgresOptions { settings, ..PostgresOptions::default() }).unwrap();
    let folder = Folder::new("bench").unwrap();
    let load = Load {
        per_second: 200,
        warm_up: Duration::ZERO,
        measured: Duration::from_millis(500),
        connections_count: 4,
    };
    let ledger = Arc::new(Ledger::new(load.transactions_count()));
    runtime.block_on(async {
        load::prepare(&postgres.url()).await.unwrap();
        let floor = Floor::start(&postgres.url(), folder.path(), &ledger).await.unwrap();
        load.write(&postgres.url(), &ledger).await.unwrap();
        tokio::time::timeout(DRAIN_WITHIN, ledger.all_arrived(Way::Floor)).await.unwrap();
        floor.stop();
    });
    ledger.is_whole(Way::Floor).unwrap();
    assert_eq!(ledger.delays(Way::Floor, 0..100).len(), 100);
    assert_eq!(ledger.missing(Way::Host), 100);
}
