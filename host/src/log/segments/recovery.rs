//! Opening a partition after whatever ended the program before.
//!
//! In: a folder. Out: its segments, the last of them whole and durable, and where the next record goes.
//!
//! Only the last segment is verified frame by frame; earlier ones are when they are read. At its first frame that is
//! not what was written, there are two cases:
//! - *a torn tail*: the rest belongs to the last group, whose flush is not known to have ended. It was never
//!   confirmed; it is cut off, with a warning. Sources send it again.
//! - *damage*: the frame had been flushed, and was maybe confirmed; sources will not send it again. The start is
//!   refused, and the error names the repair. Nothing is changed.
//!
//! A frame is known to have been flushed if the mark says so (`mark.rs`), or if any head of a later group follows it
//! (`frame.rs`). See `docs/decisions/change-log.md` for what remains beyond that.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use super::disk::{Disk, UNFINISHED, create_folder, failed};
use super::frame::{HEAD_BYTES, Head};
use super::header::{Header, HeaderError, Positions, Stored};
use super::mark::{Mark, Synced};
use super::partition::{SegmentList, advance};
use super::reader::{Frames, REPAIR, damaged};
use super::segment::{Place, Segment, file_name, first_of};
use crate::event::{Offset, Partition};
use crate::limits::LOG_READ_BYTES;
use crate::log::LogError;

/// A partition that is ready for its writer.
pub(super) struct Recovered {
    /// At least one.
    pub(super) segments: SegmentList,
    /// The last of them, open for writing.
    pub(super) file: File,
    /// The offset of the next record.
    pub(super) end: Offset,
    /// Of the last record of each source.
    pub(super) positions: Positions,
    /// Says how far the last segment is durable.
    pub(super) mark: Mark,
}

/// Opens the partition in a folder, or makes it.
pub(super) fn recover(
    disk: &dyn Disk,
    folder: &Path,
    partition: Partition,
    partition_count: u32,
) -> Result<Recovered, LogError> {
    create_folder(disk, folder)?;
    let paths = segment_paths(folder)?;
    let (mark, synced) = Mark::open(folder)?;
    let mut segments = SegmentList::new();
    for path in &paths {
        segments.push_back(Arc::new(open_segment(path, partition, partition_count)?));
    }
    let last_first = segments.back().map(|segment| segment.first());
    if let Some(synced) = synced.filter(|synced| last_first.is_none_or(|last| synced.segment > last)) {
        let path = folder.join(file_name(synced.segment));
        return Err(lost(
            &path,
            0,
            format!("the file is not there, but {} bytes of it were flushed", synced.length),
        ));
    }
    let (file, place, positions) = match segments.back() {
        Some(last) => restore_last(disk, last, synced)?,
        None => {
            let header = Header {
                partition,
                partition_count,
                first: Offset(0),
                created_at: SystemTime::now(),
                positions: Positions::new(),
            };
            let (segment, file) = Segment::create(disk, folder, header)?;
            let place = Place { offset: segment.first(), at: segment.length() };
            segments.push_back(Arc::new(segment));
            (file, place, Positions::new())
        }
    };
    if let Some(last) = segments.back() {
        mark.write(Synced { segment: last.first(), length: place.at });
        mark.sync();
    }
    Ok(Recovered { segments, file, end: place.offset, positions, mark })
}

/// The segment files of a folder, in order. What a crash left unfinished is removed.
fn segment_paths(folder: &Path) -> Result<Vec<PathBuf>, LogError> {
    let mut paths = Vec::new();
    for entry in fs::read_dir(folder).map_err(|source| failed(folder, source))? {
        let path = entry.map_err(|source| failed(folder, source))?.path();
        if path.extension().is_some_and(|extension| extension == UNFINISHED) {
            fs::remove_file(&path).map_err(|source| failed(&path, source))?;
        } else if first_of(&path).is_some() {
            paths.push(path);
        }
    }
    paths.sort();
    Ok(paths)
}

fn open_segment(path: &Path, partition: Partition, partition_count: u32) -> Result<Segment, LogError> {
    let file = File::open(path).map_err(|source| failed(path, source))?;
    let stored = Header::read(&file).map_err(|error| match error {
        HeaderError::Io(source) => failed(path, source),
        HeaderError::NotWhole => lost(path, 0, "the file's header is not what was written".into()),
        HeaderError::Version(_) => {
            LogError::Damaged { path: path.display().to_string(), at: 8, what: error.to_string() }
        }
    })?;
    check_identity(path, &stored, partition, partition_count)?;
    let length = file.metadata().map_err(|source| failed(path, source))?.len();
    Ok(Segment::new(path.into(), stored, length))
}

/// Whether a file is where it belongs.
fn check_identity(
    path: &Path,
    stored: &Stored,
    partition: Partition,
    partition_count: u32,
) -> Result<(), LogError> {
    let header = &stored.header;
    let what = if header.partition_count != partition_count {
        format!(
            "the change log was made with {} partitions and cannot be opened with {partition_count}: \
             set their number back",
            header.partition_count
        )
    } else if header.partition != partition || first_of(path) != Some(header.first) {
        format!(
            "the file says it is {} of partition {}: put it back to where it was",
            file_name(header.first),
            header.partition.0
        )
    } else {
        return Ok(());
    };
    Err(LogError::Damaged { path: path.display().to_string(), at: 0, what })
}

/// Verifies the last segment, cuts a torn tail off, and makes what remains durable.
fn restore_last(
    disk: &dyn Disk,
    last: &Segment,
    synced: Option<Synced>,
) -> Result<(File, Place, Positions), LogError> {
    let open = OpenOptions::new().read(true).write(true).open(&last.path);
    let file = open.map_err(|source| failed(&last.path, source))?;
    let (place, positions) = walk(&file, last)?;
    let marked = synced.filter(|synced| synced.segment == last.first()).map_or(0, |synced| synced.length);
    let flushed = marked.max(flushed_by_heads(&file, last, place.at)?);
    if flushed > place.at {
        return Err(damaged(last, place.at, place.offset));
    }
    let cut_bytes = last.length() - place.at;
    if cut_bytes > 0 {
        tracing::warn!(
            path = %last.path.display(),
            at = place.at,
            bytes = cut_bytes,
            next_offset = place.offset.0,
            "cut off the end of the change log, which was never confirmed: the last run ended while writing it"
        );
        disk.truncate(&file, place.at).map_err(|source| failed(&last.path, source))?;
    }
    // What the last run wrote but had not flushed is kept as well, and must be durable before anybody sees it.
    disk.sync(&file).map_err(|source| failed(&last.path, source))?;
    last.set_length(place.at);
    Ok((file, place, positions))
}

/// Passes all valid frames from the start: where the first other one would be, and the positions there.
fn walk(file: &File, segment: &Segment) -> Result<(Place, Positions), LogError> {
    let mut frames = Frames::new(file, segment, segment.header_bytes, segment.length());
    let mut place = Place { offset: segment.first(), at: frames.at() };
    let mut positions = segment.header.positions.clone();
    while let Some(record) = frames.next()? {
        advance(&mut positions, &record);
        place = Place { offset: place.offset.plus(1), at: frames.at() };
        segment.index().pass(place);
    }
    Ok((place, positions))
}

/// How far the heads at and behind `from`, wherever they are, prove that the file had been flushed.
fn flushed_by_heads(file: &File, segment: &Segment, from: u64) -> Result<u64, LogError> {
    let (mut at, mut flushed) = (from, 0);
    let mut buffer = vec![0; LOG_READ_BYTES + HEAD_BYTES];
    loop {
        let count = file.read_at(&mut buffer, at).map_err(|source| failed(&segment.path, source))?;
        let starts = (count + 1).saturating_sub(HEAD_BYTES);
        if starts == 0 {
            return Ok(flushed);
        }
        for (nth, bytes) in buffer[..count].windows(HEAD_BYTES).enumerate() {
            let at = at + nth as u64;
            let head = bytes.first_chunk().and_then(|bytes| Head::decode(segment.seed, at, bytes));
            flushed = flushed.max(head.map_or(0, |head| head.group_start(at)));
        }
        at += starts as u64;
    }
}

fn lost(path: &Path, at: u64, what: String) -> LogError {
    LogError::Damaged { path: path.display().to_string(), at, what: format!("{what}. To repair: {REPAIR}") }
}
