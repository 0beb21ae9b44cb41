//! How a record lies in a segment file: a head, then the payload.
//!
//! ```text
//! payload length u32 | back u32 | crc32c of the payload u32 | crc32c of the place and of the 12 bytes before u32
//! ```
//! Integers are little-endian. *Place* is the checksum of the segment's header and the head's position in the file,
//! so a frame is valid in one place only: remains of another file, or of another time, are never taken for records.
//!
//! *Back* is the distance from the end of the head back to the start of the frame's group, the frames that one flush
//! made durable together. A group is written only after the one before was flushed. So a valid head proves that
//! everything before its group had been flushed, and may have been confirmed; see `recovery.rs`. It is never 0,
//! so zeroes are never a head.

use crc32c::{crc32c, crc32c_append};

/// Bytes of a head.
pub(super) const HEAD_BYTES: usize = 16;

/// The checksum of a segment's header, with which all checksums of its frames begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Seed(pub(super) u32);

/// The head of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Head {
    /// Bytes of the payload.
    pub(super) length: u32,
    /// See the file's head comment.
    pub(super) back: u32,
    checksum: u32,
}

impl Head {
    /// The head at position `at`, if there is one.
    pub(super) fn decode(seed: Seed, at: u64, bytes: &[u8; HEAD_BYTES]) -> Option<Self> {
        let [length, back, checksum, own] = words(bytes);
        let valid = back >= HEAD_BYTES as u32 && own == own_checksum(seed, at, &bytes[..12]);
        valid.then_some(Self { length, back, checksum })
    }

    /// Whether the payload is the one that was written.
    pub(super) fn fits(&self, payload: &[u8]) -> bool {
        crc32c(payload) == self.checksum
    }

    /// Where the frame's group starts, for a head at `at`.
    pub(super) fn group_start(&self, at: u64) -> u64 {
        (at + HEAD_BYTES as u64).saturating_sub(u64::from(self.back))
    }

    /// Where the frame ends, for a head at `at`.
    pub(super) fn end(&self, at: u64) -> u64 {
        at + HEAD_BYTES as u64 + u64::from(self.length)
    }
}

/// The bytes of a frame in a file, if the payload can be framed.
pub(super) fn frame_bytes(payload: &[u8]) -> u64 {
    (HEAD_BYTES + payload.len()) as u64
}

/// Appends a frame to a group that will be written at `group_start`.
///
/// # Panics
/// If the group would reach 4 GiB: the writer refuses such groups first.
pub(super) fn encode(group: &mut Vec<u8>, seed: Seed, group_start: u64, payload: &[u8]) {
    let at = group_start + group.len() as u64;
    let back = u32::try_from(group.len() + HEAD_BYTES).expect("a group is below 4 GiB");
    let length = u32::try_from(payload.len()).expect("a group is below 4 GiB");
    let mut head = [0; HEAD_BYTES];
    head[0..4].copy_from_slice(&length.to_le_bytes());
    head[4..8].copy_from_slice(&back.to_le_bytes());
    head[8..12].copy_from_slice(&crc32c(payload).to_le_bytes());
    let own = own_checksum(seed, at, &head[..12]);
    head[12..16].copy_from_slice(&own.to_le_bytes());
    group.extend_from_slice(&head);
    group.extend_from_slice(payload);
}

fn own_checksum(seed: Seed, at: u64, start: &[u8]) -> u32 {
    crc32c_append(crc32c_append(seed.0, &at.to_le_bytes()), start)
}

fn words(bytes: &[u8; HEAD_BYTES]) -> [u32; 4] {
    std::array::from_fn(|nth| {
        let at = 4 * nth;
        u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn group(payloads: &[&[u8]]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for payload in payloads {
            encode(&mut bytes, Seed(7), 100, payload);
        }
        bytes
    }

    fn head_at(bytes: &[u8], at: usize) -> &[u8; HEAD_BYTES] {
        bytes[at..at + HEAD_BYTES].try_into().expect("the slice has the length")
    }

    #[test]
    fn a_frame_is_read_back_and_knows_its_group() {
        let bytes = group(&[b"one", b""]);
        let one = Head::decode(Seed(7), 100, head_at(&bytes, 0)).expect("a head");
        assert_eq!((one.length, one.group_start(100), one.end(100)), (3, 100, 119));
        assert!(one.fits(b"one") && !one.fits(b"two"));
        let two = Head::decode(Seed(7), 119, head_at(&bytes, 19)).expect("a head");
        assert_eq!((two.length, two.group_start(119), two.end(119)), (0, 100, 135));
        assert!(two.fits(b""));
    }

    #[test]
    fn a_frame_is_valid_in_its_own_place_only() {
        let bytes = group(&[b"one"]);
        assert_eq!(Head::decode(Seed(7), 101, head_at(&bytes, 0)), None);
        assert_eq!(Head::decode(Seed(8), 100, head_at(&bytes, 0)), None);
    }

    #[test]
    fn no_changed_bit_of_a_head_goes_unnoticed_and_zeroes_are_no_head() {
        let bytes = group(&[b"one"]);
        for bit in 0..8 * HEAD_BYTES {
            let mut head = *head_at(&bytes, 0);
            head[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(Head::decode(Seed(7), 100, &head), None, "bit {bit}");
        }
        assert_eq!(Head::decode(Seed(0), 0, &[0; HEAD_BYTES]), None);
    }
}
