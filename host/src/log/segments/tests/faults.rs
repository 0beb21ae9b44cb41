//! A disk that fails.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::{Arc, Mutex};

use super::Folder;
use crate::event::Offset;
use crate::log::contract::{P, read_all, texts};
use crate::log::segments::disk::{Disk, create_folder};
use crate::log::segments::{Config, Segments};
use crate::log::{ChangeLog, LogError};

/// What goes wrong, as long as it is set.
#[derive(Default)]
struct FaultyDisk(Mutex<Faults>);

#[derive(Debug, Clone, Default)]
struct Faults {
    /// A write leaves so many bytes, and fails with this.
    write: Option<(usize, i32)>,
    sync: Option<i32>,
    /// The next flush fails, and the one after it succeeds: the kernel has called the lost pages clean.
    sync_once: Option<i32>,
    truncate: Option<i32>,
}

impl FaultyDisk {
    fn set(&self, faults: Faults) {
        *self.0.lock().expect("no panic") = faults;
    }

    fn now(&self) -> Faults {
        self.0.lock().expect("no panic").clone()
    }
}

fn result(fault: Option<i32>) -> io::Result<()> {
    fault.map_or(Ok(()), |number| Err(io::Error::from_raw_os_error(number)))
}

impl Disk for FaultyDisk {
    fn write_at(&self, file: &File, bytes: &[u8], at: u64) -> io::Result<()> {
        match self.now().write {
            None => file.write_all_at(bytes, at),
            Some((count, number)) => {
                file.write_all_at(&bytes[..count.min(bytes.len())], at)?;
                Err(io::Error::from_raw_os_error(number))
            }
        }
    }

    fn sync(&self, file: &File) -> io::Result<()> {
        result(self.now().sync)?;
        result(self.0.lock().expect("no panic").sync_once.take())?;
        file.sync_data()
    }

    fn truncate(&self, file: &File, length: u64) -> io::Result<()> {
        result(self.now().truncate)?;
        file.set_len(length)
    }
}

#[test]
fn a_folder_that_is_there_is_made_durable_all_the_same() {
    let folder = Folder::new();
    let disk = FaultyDisk::default();
    create_folder(&disk, &folder.path().join("a/b")).expect("it is made");
    disk.set(Faults { sync: Some(EIO), ..Faults::default() });
    create_folder(&disk, &folder.path().join("a/b"))
        .expect_err("a crash may have come before its entry was durable");
}

const ENOSPC: i32 = nix::errno::Errno::ENOSPC as i32;
const EDQUOT: i32 = nix::errno::Errno::EDQUOT as i32;
const EIO: i32 = nix::errno::Errno::EIO as i32;

fn open(folder: &Folder, disk: &Arc<FaultyDisk>, segment_bytes_max: u64) -> Segments {
    let config = Config { segment_bytes_max, ..folder.config() };
    Segments::open_on(config, Arc::clone(disk) as Arc<dyn Disk>).expect("the log opens")
}

/// Appends `a`, fails at `b` under the faults, appends `c` without them; then `a` and `c` are all there is, now and
/// after opening again. Returns the error and the number of segments.
async fn fail_once(faults: Faults, segment_bytes_max: u64) -> (LogError, usize) {
    let (folder, disk) = (Folder::new(), Arc::new(FaultyDisk::default()));
    let log = open(&folder, &disk, segment_bytes_max);
    log.append(P, texts(["aaaa"])).await.expect("appended");
    disk.set(faults);
    let error = log.append(P, texts(["bbbb", "b2"])).await.expect_err("the disk fails");
    assert_eq!(log.bounds(P), Offset(0)..Offset(1), "nothing of it is there");
    disk.set(Faults::default());
    assert_eq!(log.append(P, texts(["cccc"])).await.expect("it has healed"), Offset(1)..Offset(2));
    for _ in 0..2 {
        log.append(P, texts(["d"])).await.expect("appended");
    }
    drop(log);
    let log = open(&folder, &disk, segment_bytes_max);
    let read = read_all(&log, P, Offset(0)).await;
    let payloads: Vec<_> = read.iter().map(|record| &record.payload[..]).collect();
    assert_eq!(payloads, [&b"aaaa"[..], b"cccc", b"d", b"d"]);
    (error, folder.files().len())
}

const LARGE: u64 = 1 << 20;

#[tokio::test]
async fn a_full_disk_keeps_nothing_of_the_batch_and_heals() {
    for number in [ENOSPC, EDQUOT] {
        for count in [0, 1, 16, 20, 30, 37] {
            let faults = Faults { write: Some((count, number)), ..Faults::default() };
            let (error, segments) = fail_once(faults, LARGE).await;
            assert!(matches!(error, LogError::DiskFull { .. }), "{error}");
            assert_eq!(segments, 1);
        }
    }
}

#[tokio::test]
async fn a_file_whose_flush_failed_is_never_written_to_again() {
    let (error, segments) = fail_once(Faults { sync: Some(EIO), ..Faults::default() }, LARGE).await;
    assert!(matches!(error, LogError::Io { .. }), "{error}");
    assert_eq!(segments, 2);
    let (error, segments) = fail_once(Faults { sync_once: Some(EIO), ..Faults::default() }, LARGE).await;
    assert!(matches!(error, LogError::Io { .. }), "{error}");
    assert_eq!(segments, 2, "that the next flush would succeed proves nothing");
    let (error, segments) = fail_once(Faults { sync: Some(ENOSPC), ..Faults::default() }, LARGE).await;
    assert!(matches!(error, LogError::DiskFull { .. }), "{error}");
    assert_eq!(segments, 2);
}

#[tokio::test]
async fn what_cannot_be_cut_back_stays_behind_the_end_of_its_segment() {
    let faults = Faults { sync: Some(EIO), truncate: Some(EIO), ..Faults::default() };
    assert_eq!(fail_once(faults, LARGE).await.1, 2);
    let faults = Faults { write: Some((37, ENOSPC)), truncate: Some(EIO), ..Faults::default() };
    assert_eq!(fail_once(faults, LARGE).await.1, 2);
}

#[tokio::test]
async fn a_full_disk_while_a_segment_begins_keeps_nothing_and_heals() {
    for faults in [
        Faults { write: Some((5, ENOSPC)), ..Faults::default() },
        Faults { sync: Some(ENOSPC), ..Faults::default() },
    ] {
        let (error, segments) = fail_once(faults, 1).await;
        assert!(matches!(error, LogError::DiskFull { .. }), "{error}");
        assert_eq!(segments, 4);
    }
}

#[tokio::test]
async fn an_empty_segment_whose_flush_failed_is_replaced() {
    let (folder, disk) = (Folder::new(), Arc::new(FaultyDisk::default()));
    let log = open(&folder, &disk, LARGE);
    for _ in 0..3 {
        disk.set(Faults { sync: Some(EIO), ..Faults::default() });
        log.append(P, texts(["lost"])).await.expect_err("the disk fails");
    }
    disk.set(Faults::default());
    log.append(P, texts(["kept"])).await.expect("it has healed");
    assert_eq!(log.read(P, Offset(0), 1, 1).await.expect("it is there")[0].payload, "kept");
    drop(log);
    let log = open(&folder, &disk, LARGE);
    assert_eq!(read_all(&log, P, Offset(0)).await.len(), 1);
    assert_eq!(folder.files().len(), 1);
}

#[tokio::test]
async fn a_start_that_failed_can_be_tried_again() {
    let (folder, disk) = (Folder::new(), Arc::new(FaultyDisk::default()));
    let try_open = || Segments::open_on(folder.config(), Arc::clone(&disk) as Arc<dyn Disk>);
    disk.set(Faults { write: Some((3, ENOSPC)), ..Faults::default() });
    assert!(matches!(try_open().err(), Some(LogError::DiskFull { .. })));
    disk.set(Faults { sync: Some(EIO), ..Faults::default() });
    assert!(matches!(try_open().err(), Some(LogError::Io { .. })));
    disk.set(Faults::default());
    let log = try_open().expect("it has healed");
    assert_eq!(log.append(P, texts(["a"])).await.expect("appended"), Offset(0)..Offset(1));
}
