//! Files that are cut, zeroed, changed or gone.

use std::fs;
use std::path::Path;

use super::Folder;
use crate::event::{Offset, Position};
use crate::log::contract::{P, read_all, record, texts};
use crate::log::segments::Config;
use crate::log::segments::Segments;
use crate::log::{ChangeLog, LogError};

/// A log with three groups: `a` and `b`, `c`, and `d` with `e`. Returns the length of the file after each.
async fn three_groups(folder: &Folder) -> [u64; 4] {
    let log = folder.open();
    let length = || fs::metadata(folder.last_file()).expect("the file is there").len();
    let mut lengths = [length(); 4];
    let groups = [texts(["aaaa", "bbbb"]), texts(["cccc"]), texts(["dddd", "eeee"])];
    for (nth, group) in groups.into_iter().enumerate() {
        log.append(P, group).await.expect("appended");
        lengths[nth + 1] = length();
    }
    lengths
}

fn overwrite(path: &Path, range: std::ops::Range<u64>, with: u8) {
    let mut bytes = fs::read(path).expect("read");
    bytes[range.start as usize..range.end as usize].fill(with);
    fs::write(path, bytes).expect("written");
}

/// As after power loss: the mark is not flushed, and may be as old as the last start.
fn forget_mark(folder: &Folder) {
    fs::write(folder.mark(), [0; 20]).expect("written");
}

fn assert_refused(folder: &Folder, at: u64) {
    let before = fs::read(folder.last_file()).expect("read");
    let error = folder.try_open().err().expect("the start is refused");
    let LogError::Damaged { path, at: named, what } = &error else { panic!("{error}") };
    assert_eq!((Path::new(path), *named), (&*folder.last_file(), at), "{what}");
    assert!(what.contains("To repair: restore the file from a backup"), "{what}");
    assert_eq!(fs::read(folder.last_file()).expect("read"), before, "nothing is changed");
}

#[tokio::test]
async fn a_last_group_cut_at_any_byte_leaves_its_whole_records_and_goes_on() {
    let sample = Folder::new();
    let [_, _, start, end] = three_groups(&sample).await;
    let bytes = fs::read(sample.last_file()).expect("read");
    for cut in start..end {
        let folder = Folder::new();
        drop(folder.open());
        fs::write(folder.last_file(), &bytes[..cut as usize]).expect("written");
        forget_mark(&folder);
        let log = folder.open();
        let kept = if cut < start + 20 { 3 } else { 4 };
        assert_eq!(log.bounds(P), Offset(0)..Offset(kept), "cut at {cut}");
        log.append(P, texts(["next"])).await.expect("appended");
        drop(log);
        let records = read_all(&folder.open(), P, Offset(0)).await;
        assert_eq!(records.len() as u64, kept + 1, "cut at {cut}");
        assert_eq!(records[kept as usize].payload, "next");
    }
}

#[tokio::test]
async fn any_byte_changed_below_the_mark_refuses_the_start_and_names_the_repair() {
    let folder = Folder::new();
    let [header, _, _, end] = three_groups(&folder).await;
    let whole = fs::read(folder.last_file()).expect("read");
    let frames: Vec<u64> = (0..5).map(|nth| header + 20 * nth).collect();
    for at in 0..end {
        let mut bytes = whole.clone();
        bytes[at as usize] ^= 0x40;
        fs::write(folder.last_file(), &bytes).expect("written");
        if (8..12).contains(&at) {
            assert!(folder.try_open().is_err(), "a format that is not known");
            continue;
        }
        let frame = frames.iter().rev().find(|frame| **frame <= at).copied().unwrap_or(0);
        assert_refused(&folder, frame);
    }
    fs::write(folder.last_file(), &whole).expect("written");
    assert_eq!(read_all(&folder.open(), P, Offset(0)).await.len(), 5, "restored from a backup, it opens");
}

#[tokio::test]
async fn a_file_cut_below_the_mark_refuses_the_start() {
    let folder = Folder::new();
    let [_, _, start, end] = three_groups(&folder).await;
    let bytes = fs::read(folder.last_file()).expect("read");
    for cut in start..end {
        fs::write(folder.last_file(), &bytes[..cut as usize]).expect("written");
        assert_refused(&folder, if cut < start + 20 { start } else { start + 20 });
    }
}

#[tokio::test]
async fn a_zeroed_page_before_a_later_group_is_damage_even_without_the_mark() {
    let folder = Folder::new();
    let [_, first, second, _] = three_groups(&folder).await;
    overwrite(&folder.last_file(), first..second, 0);
    forget_mark(&folder);
    assert_refused(&folder, first);
    // Even the first byte of the later group may be gone, and all payloads with it.
    overwrite(&folder.last_file(), first..second + 20, 0);
    assert_refused(&folder, first);
}

#[tokio::test]
async fn a_zeroed_page_within_the_last_group_is_cut_off_without_the_mark() {
    let folder = Folder::new();
    let [_, _, start, end] = three_groups(&folder).await;
    overwrite(&folder.last_file(), start..start + 20, 0);
    forget_mark(&folder);
    let log = folder.open();
    assert_eq!(
        log.bounds(P),
        Offset(0)..Offset(3),
        "the group's second record is whole, but not without the first"
    );
    drop(log);
    assert_eq!(fs::metadata(folder.last_file()).expect("it is there").len(), start);
    assert!(start < end);
}

#[tokio::test]
async fn zeroes_behind_the_end_are_cut_off() {
    let folder = Folder::new();
    let [.., end] = three_groups(&folder).await;
    let mut bytes = fs::read(folder.last_file()).expect("read");
    bytes.resize(bytes.len() + 200_000, 0);
    fs::write(folder.last_file(), bytes).expect("written");
    assert_eq!(read_all(&folder.open(), P, Offset(0)).await.len(), 5);
    assert_eq!(fs::metadata(folder.last_file()).expect("it is there").len(), end);
}

#[tokio::test]
async fn remains_of_another_segment_are_not_taken_for_records() {
    let (folder, other) = (Folder::new(), Folder::new());
    let [_, _, third, end] = three_groups(&other).await;
    let [.., third_here, _] = three_groups(&folder).await;
    assert_eq!(third, third_here, "the same place in both");
    let theirs = fs::read(other.last_file()).expect("read");
    let mut ours = fs::read(folder.last_file()).expect("read");
    ours.truncate(third as usize);
    ours.extend_from_slice(&theirs[third as usize..end as usize]);
    fs::write(folder.last_file(), ours).expect("written");
    forget_mark(&folder);
    assert_eq!(folder.open().bounds(P).end, Offset(3));
}

#[tokio::test]
async fn a_closed_segment_that_is_damaged_says_so_when_it_is_read() {
    let folder = Folder::new();
    let small = Config { segment_bytes_max: 1, ..folder.config() };
    let log = Segments::open(small.clone()).expect("opened");
    for group in [texts(["aaaa", "bbbb"]), texts(["cccc"])] {
        log.append(P, group).await.expect("appended");
    }
    drop(log);
    let closed = folder.files()[0].clone();
    let end = fs::metadata(&closed).expect("it is there").len();
    overwrite(&closed, end - 1..end, b'x');
    let log = Segments::open(small).expect("it opens: closed segments are read when they are needed");
    let read = log.read(P, Offset(0), 9, 99).await.expect("what is whole is served");
    assert_eq!(read.len(), 1);
    let error = log.read(P, Offset(1), 9, 99).await.expect_err("the damage is named");
    let LogError::Damaged { path, at, what } = &error else { panic!("{error}") };
    assert_eq!((Path::new(path), *at), (&*closed, end - 20));
    assert!(what.contains("record 1, which was confirmed"), "{what}");
    assert_eq!(log.read(P, Offset(2), 9, 99).await.expect("what follows is there")[0].payload, "cccc");
}

#[tokio::test]
async fn segments_that_are_gone_are_missed() {
    let folder = Folder::new();
    let small = Config { segment_bytes_max: 1, ..folder.config() };
    let log = Segments::open(small.clone()).expect("opened");
    for group in [texts(["a"]), texts(["b"]), texts(["c"])] {
        log.append(P, group).await.expect("appended");
    }
    drop(log);
    let files = folder.files();
    let middle = fs::read(&files[1]).expect("read");
    fs::remove_file(&files[1]).expect("removed");
    let log = Segments::open(small.clone()).expect("opened");
    assert!(matches!(log.read(P, Offset(1), 9, 99).await, Err(LogError::Damaged { .. })));
    drop(log);
    fs::write(&files[1], middle).expect("written");
    fs::remove_file(&files[2]).expect("removed");
    let error = Segments::open(small).err().expect("the start is refused");
    assert!(
        matches!(&error, LogError::Damaged { what, .. } if what.contains("the file is not there")),
        "{error}"
    );
}

#[tokio::test]
async fn what_a_crash_left_unfinished_is_no_segment() {
    let folder = Folder::new();
    three_groups(&folder).await;
    let unfinished = folder.last_file().with_file_name("00000000000000000005.new");
    fs::write(&unfinished, b"half a hea").expect("written");
    assert_eq!(read_all(&folder.open(), P, Offset(0)).await.len(), 5);
    assert!(!unfinished.exists());
}

#[tokio::test]
async fn a_cut_tail_takes_its_positions_along() {
    let folder = Folder::new();
    let log = folder.open();
    log.append(P, vec![record("a", 1, 0)]).await.expect("appended");
    log.append(P, vec![record("a", 2, 0)]).await.expect("appended");
    drop(log);
    let bytes = fs::read(folder.last_file()).expect("read");
    fs::write(folder.last_file(), &bytes[..bytes.len() - 1]).expect("written");
    forget_mark(&folder);
    assert_eq!(folder.open().last_position("a"), Some(Position { commit: 1, index: 0 }));
}
