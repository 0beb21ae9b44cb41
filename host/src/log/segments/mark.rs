//! How far a partition is known to be durable: a tiny file, `synced`, overwritten after each flush.
//!
//! ```text
//! first offset of the segment u64 | bytes of it that are durable u64 | crc32c of the 16 bytes before u32
//! ```
//! It is written after the flush and before the append returns, and not itself flushed but now and then: it survives
//! the end of the process, and after power loss it is at worst old. It is never ahead of the truth.
//!
//! It serves one purpose: to tell a torn tail, which was never confirmed, from damage of what was. See `recovery.rs`.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use crc32c::crc32c;

use crate::event::Offset;
use crate::log::LogError;
use crate::log::segments::disk::failed;

const MARK_BYTES: usize = 20;

/// How far a partition is durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Synced {
    /// The segment's first offset.
    pub(super) segment: Offset,
    /// Bytes of its file that are durable.
    pub(super) length: u64,
}

/// The file.
#[derive(Debug)]
pub(super) struct Mark {
    path: PathBuf,
    file: File,
}

impl Mark {
    /// Opens or makes the file of a partition's folder. What it says is `None` if it is new, or not whole: then it
    /// proves nothing.
    pub(super) fn open(folder: &Path) -> Result<(Self, Option<Synced>), LogError> {
        let path = folder.join("synced");
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(|source| failed(&path, source))?;
        let mut bytes = [0; MARK_BYTES];
        let synced = match file.read_exact_at(&mut bytes, 0) {
            Ok(()) => decode(&bytes),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => None,
            Err(source) => return Err(failed(&path, source)),
        };
        Ok((Self { path, file }, synced))
    }

    /// Notes what was flushed. A failure leaves an older mark, which is true as well.
    pub(super) fn write(&self, synced: Synced) {
        if let Err(error) = self.file.write_all_at(&encode(synced), 0) {
            tracing::warn!(path = %self.path.display(), %error, "cannot note how far the change log is durable");
        }
    }

    /// Makes the note durable as well.
    pub(super) fn sync(&self) {
        if let Err(error) = self.file.sync_data() {
            tracing::warn!(path = %self.path.display(), %error, "cannot note how far the change log is durable");
        }
    }
}

fn encode(synced: Synced) -> [u8; MARK_BYTES] {
    let mut bytes = [0; MARK_BYTES];
    bytes[0..8].copy_from_slice(&synced.segment.0.to_le_bytes());
    bytes[8..16].copy_from_slice(&synced.length.to_le_bytes());
    let checksum = crc32c(&bytes[..16]);
    bytes[16..].copy_from_slice(&checksum.to_le_bytes());
    bytes
}

fn decode(bytes: &[u8; MARK_BYTES]) -> Option<Synced> {
    let number = |at: usize| u64::from_le_bytes(std::array::from_fn(|nth| bytes[at + nth]));
    let synced = Synced { segment: Offset(number(0)), length: number(8) };
    // A segment has a header, so a length of 0, as in a zeroed page, is never written.
    (synced.length > 0 && bytes[16..] == crc32c(&bytes[..16]).to_le_bytes()).then_some(synced)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_is_read_back_and_a_broken_one_says_nothing() {
        let folder = tempfile::tempdir().expect("a folder");
        let (mark, none) = Mark::open(folder.path()).expect("opened");
        assert_eq!(none, None);
        let synced = Synced { segment: Offset(3), length: 44 };
        mark.write(synced);
        assert_eq!(Mark::open(folder.path()).expect("opened").1, Some(synced));
        mark.file.write_all_at(&[1], 9).expect("written");
        assert_eq!(Mark::open(folder.path()).expect("opened").1, None);
        mark.file.write_all_at(&[0; MARK_BYTES], 0).expect("written");
        assert_eq!(Mark::open(folder.path()).expect("opened").1, None);
    }
}
