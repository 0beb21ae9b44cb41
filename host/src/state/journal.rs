//! A look at SQLite's write-ahead journal before SQLite opens it: does it end as it was written?
//!
//! In: the journal's file. Out: [`Journal`]. SQLite recovers by itself: it keeps the frames up to the last whole
//! commit whose checksums hold, and silently forgets the rest. That is right for a commit that was never confirmed,
//! and a loss if the disk lost what it had confirmed. The two look alike, so whoever must know treats both as a
//! loss.
//!
//! A frame that carries another generation's salts is what an earlier round left behind: the journal is reused from
//! its start. Every process that is killed, as opposed to a machine that loses power, leaves a whole journal, but for
//! its last frame: SQLite writes a frame's head, then its page, so a kill between the two leaves a head over the page
//! of an earlier round, or over nothing.
//! Format: <https://www.sqlite.org/fileformat2.html#the_write_ahead_log>, section 4.
//!
//! Absent on purpose: repair, which is SQLite's.

use std::fs::File;
use std::io::{self, BufReader, ErrorKind, Read};
use std::path::Path;

const HEADER_BYTES: usize = 32;
const FRAME_HEADER_BYTES: usize = 24;
const PAGE_BYTES_MAX: usize = 65_536;
/// The lowest bit says that checksums are over big-endian words.
const MAGIC: u32 = 0x377f_0682;

/// What a journal looks like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Journal {
    /// There is none: the last process ended properly, or there was none.
    Absent,
    /// Every frame of its generation is as it was written, but for one at its end that was still being written.
    Whole,
    /// It holds bytes that no process wrote: the machine lost power, or the disk lost data.
    Torn,
}

/// Reads a journal once, from its start to the end of its generation.
pub(super) fn survey(path: &Path) -> io::Result<Journal> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Journal::Absent),
        Err(error) => return Err(error),
    };
    let mut reader = BufReader::with_capacity(1 << 20, file);
    let mut header = [0; HEADER_BYTES];
    match fill(&mut reader, &mut header)? {
        0 => return Ok(Journal::Absent),
        HEADER_BYTES => {}
        _ => return Ok(Journal::Torn),
    }
    let magic = word(&header, 0);
    let page_bytes = word(&header, 8) as usize;
    if magic & !1 != MAGIC || !page_bytes.is_power_of_two() || page_bytes > PAGE_BYTES_MAX {
        return Ok(Journal::Torn);
    }
    let order = if magic & 1 == 1 { u32::from_be_bytes } else { u32::from_le_bytes };
    let mut sum = checksum((0, 0), &header[..24], order);
    if sum != (word(&header, 24), word(&header, 28)) {
        return Ok(Journal::Torn);
    }
    let salts = &header[16..24];
    let mut frame = vec![0; FRAME_HEADER_BYTES + page_bytes];
    loop {
        match fill(&mut reader, &mut frame)? {
            0 => return Ok(Journal::Whole),
            length if length < frame.len() => {
                // The rest of an earlier round, cut at the size limit, or a write that a kill cut short.
                let zeroed = length >= FRAME_HEADER_BYTES && frame[8..16] == [0; 8];
                return Ok(if zeroed { Journal::Torn } else { Journal::Whole });
            }
            _ => {}
        }
        if &frame[8..16] != salts {
            return Ok(if is_zeroed(&frame) { Journal::Torn } else { Journal::Whole });
        }
        sum = checksum(sum, &frame[..8], order);
        sum = checksum(sum, &frame[FRAME_HEADER_BYTES..], order);
        if sum != (word(&frame, 16), word(&frame, 20)) {
            let is_lost = frame[FRAME_HEADER_BYTES..].iter().all(|byte| *byte == 0);
            let length = fill(&mut reader, &mut frame)?;
            // At the end of the file a kill leaves a piece of a frame, not a whole one.
            let is_last = length >= FRAME_HEADER_BYTES && &frame[8..16] != salts && !is_zeroed(&frame);
            return Ok(if is_last && !is_lost { Journal::Whole } else { Journal::Torn });
        }
    }
}

/// Whether a frame's head has salts that no process writes.
fn is_zeroed(frame: &[u8]) -> bool {
    frame[8..12] == [0; 4] || frame[12..16] == [0; 4]
}

fn fill(reader: &mut impl Read, into: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < into.len() {
        match reader.read(&mut into[filled..]) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

fn word(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

fn checksum(mut sum: (u32, u32), bytes: &[u8], order: fn([u8; 4]) -> u32) -> (u32, u32) {
    for pair in bytes.chunks_exact(8) {
        let first = order([pair[0], pair[1], pair[2], pair[3]]);
        let second = order([pair[4], pair[5], pair[6], pair[7]]);
        sum.0 = sum.0.wrapping_add(first).wrapping_add(sum.1);
        sum.1 = sum.1.wrapping_add(second).wrapping_add(sum.0);
    }
    sum
}
