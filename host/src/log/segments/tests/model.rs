//! Random schedules against a list of payloads.

use bytes::Bytes;
use proptest::prelude::*;

use super::Folder;
use crate::event::Offset;
use crate::log::contract::P;
use crate::log::segments::retention::remove_due;
use crate::log::segments::{Config, Segments};
use crate::log::{ChangeLog, LogError};
use std::fs::OpenOptions;
use std::io::Write;
use std::time::{Duration, SystemTime};

#[derive(Debug, Clone)]
enum Step {
    /// Lengths of payloads.
    Append(Vec<usize>),
    /// Start within what was ever appended, in 256ths; count; bytes.
    Read(u8, usize, usize),
    Reopen,
    /// Bytes that a crash left behind the end.
    Crash(Vec<u8>),
    /// A consumer, and how much of everything it commits, in 256ths.
    Commit(u8, u8),
    Remove,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => prop::collection::vec(0..400usize, 1..6).prop_map(Step::Append),
        6 => (any::<u8>(), 1..20usize, 0..2_000usize).prop_map(|(from, count, bytes)| Step::Read(from, count, bytes)),
        1 => Just(Step::Reopen),
        1 => prop::collection::vec(any::<u8>(), 0..100).prop_map(Step::Crash),
        2 => (0..3u8, any::<u8>()).prop_map(|(consumer, part)| Step::Commit(consumer, part)),
        1 => Just(Step::Remove),
    ]
}

fn part(of: usize, part: u8) -> u64 {
    (of * usize::from(part) / 255) as u64
}

async fn run(steps: Vec<Step>) {
    let folder = Folder::new();
    let config = Config { segment_bytes_max: 1_000, ..folder.config() };
    let open = || Segments::open(config.clone()).expect("the log opens");
    let mut log = Some(open());
    let mut model: Vec<Bytes> = Vec::new();
    let mut committed: std::collections::BTreeMap<String, u64> = std::collections::BTreeMap::new();
    for step in steps {
        let now = log.as_ref().expect("it is open");
        let first = now.bounds(P).start;
        match step {
            Step::Append(lengths) => {
                let records: Vec<_> =
                    lengths.iter().map(|length| Bytes::from(vec![model.len() as u8; *length])).collect();
                let range = now.append(P, records.clone()).await.expect("appended");
                assert_eq!(range.start.0, model.len() as u64);
                model.extend(records);
            }
            Step::Read(from, count_max, bytes_max) if !model.is_empty() => {
                let from = Offset(part(model.len() - 1, from));
                match now.read(P, from, count_max, bytes_max).await {
                    Ok(records) => {
                        assert!(from >= first && !records.is_empty() && records.len() <= count_max);
                        for (record, number) in records.iter().zip(from.0..) {
                            assert_eq!((record.offset.0, &record.payload), (number, &model[number as usize]));
                        }
                        let bytes: usize = records.iter().map(|record| record.payload.len()).sum();
                        let last = records[records.len() - 1].payload.len();
                        assert!(records.len() == 1 || bytes - last < bytes_max);
                    }
                    Err(error) => {
                        assert!(matches!(error, LogError::Removed { .. }) && from < first, "{error}")
                    }
                }
            }
            Step::Read(..) => {}
            Step::Reopen => {
                log = None;
                log = log.or_else(|| Some(open()));
            }
            Step::Crash(torn) => {
                log = None;
                let file = OpenOptions::new().append(true).open(folder.last_file());
                file.expect("it is there").write_all(&torn).expect("written");
                log = log.or_else(|| Some(open()));
            }
            Step::Commit(consumer, share) => {
                let next = part(model.len(), share);
                now.commit(&consumer.to_string(), P, Offset(next));
                committed.insert(consumer.to_string(), next);
            }
            Step::Remove => {
                remove_due(&now.store, SystemTime::now() + Duration::from_secs(48 * 3_600));
                let floor = committed.values().min().copied().unwrap_or(0).max(first.0);
                assert!(now.bounds(P).start.0 <= floor, "what consumers need stays");
            }
        }
        let now = log.as_ref().expect("it is open").bounds(P);
        assert_eq!(now.end.0, model.len() as u64);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_log_behaves_like_a_list(steps in prop::collection::vec(step(), 1..60)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(run(steps));
    }
}
