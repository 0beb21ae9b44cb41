//! The start of a segment file.
//!
//! ```text
//! "twohop\r\n" | version u32 | header length u32 | partition u32 | partition count u32 | first offset u64
//! | created at, microseconds since 1970, i64 | position count u16
//! | for each: source (u8 length, text), commit u64, index u32 | crc32c of everything before u32
//! ```
//! Integers are little-endian. The positions are those of the last record of each source before this segment, so
//! that they are known after the records themselves were removed.
//!
//! Invariant: a header is written and durable before its file gets its name; it never changes.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::time::{Duration, SystemTime};

use bytes::{Buf, BufMut};
use crc32c::crc32c;

use super::frame::Seed;
use crate::event::{Offset, Partition, Position};
use crate::limits::SEGMENT_HEADER_BYTES_MAX;

const MAGIC: &[u8; 8] = b"twohop\r\n";
const VERSION: u32 = 1;
/// Up to and with the header's length.
const START_BYTES: usize = 16;

/// The position of the last record of each source.
pub(super) type Positions = BTreeMap<Box<str>, Position>;

/// What a segment says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Header {
    /// The partition that it belongs to.
    pub(super) partition: Partition,
    /// How many there are.
    pub(super) partition_count: u32,
    /// The offset of its first record.
    pub(super) first: Offset,
    /// When it was made: every record of the segment before is older. In whole microseconds.
    pub(super) created_at: SystemTime,
    /// As of the record before its first.
    pub(super) positions: Positions,
}

/// A header as it lies in its file.
#[derive(Debug)]
pub(super) struct Stored {
    /// What it says.
    pub(super) header: Header,
    /// Where the first frame begins.
    pub(super) length: u64,
    /// What the frames' checksums begin with.
    pub(super) seed: Seed,
}

/// Why a header cannot be used.
#[derive(Debug, thiserror::Error)]
pub(super) enum HeaderError {
    /// Not what was written.
    #[error("the file's header is not whole")]
    NotWhole,
    /// Written by a newer program.
    #[error("the file has format {0}, this program reads format {VERSION}: start the program that wrote it")]
    Version(u32),
    /// It cannot be read.
    #[error(transparent)]
    Io(#[from] io::Error),
}

impl Header {
    /// The bytes, and the same header as stored.
    ///
    /// # Panics
    /// If a source's name is longer than 255 bytes: a record's header cannot hold such a name either.
    pub(super) fn encode(self) -> (Vec<u8>, Stored) {
        let mut out = Vec::new();
        out.put_slice(MAGIC);
        out.put_u32_le(VERSION);
        out.put_u32_le(0);
        out.put_u32_le(self.partition.0);
        out.put_u32_le(self.partition_count);
        out.put_u64_le(self.first.0);
        out.put_i64_le(micros(self.created_at));
        out.put_u16_le(u16::try_from(self.positions.len()).expect("the writer bounds the number of sources"));
        for (source, position) in &self.positions {
            out.put_u8(u8::try_from(source.len()).expect("a record's header holds names of up to 255 bytes"));
            out.put_slice(source.as_bytes());
            out.put_u64_le(position.commit);
            out.put_u32_le(position.index);
        }
        let length = out.len() + 4;
        out[12..START_BYTES].copy_from_slice(&u32::try_from(length).unwrap_or(u32::MAX).to_le_bytes());
        let checksum = crc32c(&out);
        out.put_u32_le(checksum);
        (out, Stored { header: self, length: length as u64, seed: Seed(checksum) })
    }

    /// Reads the header of a file.
    pub(super) fn read(file: &File) -> Result<Stored, HeaderError> {
        let mut start = [0; START_BYTES];
        read_exact(file, &mut start)?;
        let length = u32::from_le_bytes([start[12], start[13], start[14], start[15]]) as usize;
        if &start[..8] != MAGIC || !(START_BYTES + 4..=SEGMENT_HEADER_BYTES_MAX).contains(&length) {
            return Err(HeaderError::NotWhole);
        }
        let version = u32::from_le_bytes([start[8], start[9], start[10], start[11]]);
        if version != VERSION {
            return Err(HeaderError::Version(version));
        }
        let mut bytes = vec![0; length];
        read_exact(file, &mut bytes)?;
        let (covered, checksum) = bytes.split_at(length - 4);
        let seed = Seed(crc32c(covered));
        if checksum != seed.0.to_le_bytes() {
            return Err(HeaderError::NotWhole);
        }
        let header = Self::decode(&covered[START_BYTES..]).map_err(|_| HeaderError::NotWhole)?;
        Ok(Stored { header, length: length as u64, seed })
    }

    fn decode(mut bytes: &[u8]) -> Result<Self, bytes::TryGetError> {
        let bytes = &mut bytes;
        let partition = Partition(bytes.try_get_u32_le()?);
        let partition_count = bytes.try_get_u32_le()?;
        let first = Offset(bytes.try_get_u64_le()?);
        let created_at = time(bytes.try_get_i64_le()?);
        let mut positions = Positions::new();
        for _ in 0..bytes.try_get_u16_le()? {
            let length = usize::from(bytes.try_get_u8()?);
            let name = bytes.get(..length).unwrap_or_default();
            let source = String::from_utf8_lossy(name).into_owned();
            bytes.advance(name.len());
            let position = Position { commit: bytes.try_get_u64_le()?, index: bytes.try_get_u32_le()? };
            positions.insert(source.into(), position);
        }
        Ok(Self { partition, partition_count, first, created_at, positions })
    }
}

fn read_exact(file: &File, bytes: &mut [u8]) -> Result<(), HeaderError> {
    file.read_exact_at(bytes, 0).map_err(|error| match error.kind() {
        io::ErrorKind::UnexpectedEof => HeaderError::NotWhole,
        _ => error.into(),
    })
}

fn micros(time: SystemTime) -> i64 {
    match time.duration_since(SystemTime::UNIX_EPOCH) {
        Ok(after) => i64::try_from(after.as_micros()).unwrap_or(i64::MAX),
        Err(before) => i64::try_from(before.duration().as_micros()).map_or(i64::MIN, |micros| -micros),
    }
}

fn time(micros: i64) -> SystemTime {
    let distance = Duration::from_micros(micros.unsigned_abs());
    let time = match micros {
        0.. => SystemTime::UNIX_EPOCH.checked_add(distance),
        _ => SystemTime::UNIX_EPOCH.checked_sub(distance),
    };
    time.unwrap_or(SystemTime::UNIX_EPOCH)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header() -> Header {
        let positions = [
            ("orders".into(), Position { commit: 3, index: 4 }),
            ("users".into(), Position { commit: 5, index: 0 }),
        ];
        Header {
            partition: Partition(2),
            partition_count: 4,
            first: Offset(99),
            created_at: time(1_700_000_000_000_001),
            positions: Positions::from(positions),
        }
    }

    fn file(bytes: &[u8]) -> File {
        let file = tempfile::tempfile().expect("a temporary file");
        file.write_all_at(bytes, 0).expect("written");
        file
    }

    #[test]
    fn a_header_is_read_back() {
        let (mut bytes, stored) = header().encode();
        let length = bytes.len() as u64;
        bytes.extend_from_slice(b"frames");
        let read = Header::read(&file(&bytes)).expect("the header is whole");
        assert_eq!(read.header, header());
        assert_eq!((read.length, read.seed), (length, stored.seed));
        assert_eq!(stored.length, length);
    }

    #[test]
    fn a_header_that_is_cut_or_changed_is_not_whole() {
        let (bytes, _) = header().encode();
        for length in 0..bytes.len() {
            assert!(matches!(Header::read(&file(&bytes[..length])), Err(HeaderError::NotWhole)), "{length}");
        }
        for at in (0..bytes.len()).filter(|at| !(8..12).contains(at)) {
            let mut changed = bytes.clone();
            changed[at] ^= 0x10;
            assert!(matches!(Header::read(&file(&changed)), Err(HeaderError::NotWhole)), "{at}");
        }
    }

    #[test]
    fn a_newer_format_is_named() {
        let (mut bytes, _) = header().encode();
        bytes[8] = 2;
        assert!(matches!(Header::read(&file(&bytes)), Err(HeaderError::Version(2))));
    }
}
