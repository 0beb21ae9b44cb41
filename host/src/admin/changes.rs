//! `GET /v1/changes?last=N`: the newest changes of the log, a JSON object a line, as `twohop plugin replay` takes them.
//!
//! Invariant: however many are asked for, one batch is held at a time. Nothing is masked in them.

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use warp::reply::Response;

use super::State;
use super::query::Query;
use super::refusal::Refusal;
use crate::event::{Decoder, Offset, change_to_line};
use crate::http;
use crate::limits::{BATCH_BYTES_MAX, BATCH_COUNT_MAX, CHANGES_COUNT_MAX};

const COUNT: u64 = 1_000;

/// Answers the request.
pub(super) fn newest(state: &Arc<State>, query: &str) -> Result<Response, Refusal> {
    let count = Query::of(query, &["last"])?.number("last")?.unwrap_or(COUNT);
    if !(1..=CHANGES_COUNT_MAX).contains(&count) {
        return Err(Refusal::invalid(format!("`last` is a number from 1 to {CHANGES_COUNT_MAX}")));
    }
    let kept = state.parts.log.bounds(state.parts.partition);
    let from = Offset(kept.end.0.saturating_sub(count).max(kept.start.0));
    let reading =
        Reading { state: Arc::clone(state), next: from, end: kept.end, decoder: Decoder::default() };
    let chunks = futures_util::stream::unfold(reading, |mut reading| async move {
        let chunk = reading.chunk().await.transpose()?;
        Some((chunk, reading))
    });
    Ok(http::stream("application/jsonl; charset=utf-8", chunks))
}

struct Reading {
    state: Arc<State>,
    next: Offset,
    end: Offset,
    decoder: Decoder,
}

impl Reading {
    /// The lines of the next batch; none at the end.
    async fn chunk(&mut self) -> io::Result<Option<Bytes>> {
        // A read waits for what is not there yet, so nothing past the end is asked for.
        let count_max = usize::try_from(self.end.0.saturating_sub(self.next.0)).unwrap_or(usize::MAX);
        if count_max == 0 {
            return Ok(None);
        }
        let count_max = count_max.min(BATCH_COUNT_MAX);
        let parts = &self.state.parts;
        let read = parts.log.read(parts.partition, self.next, count_max, BATCH_BYTES_MAX).await;
        let records = read.map_err(io::Error::other)?;
        let mut lines = String::new();
        for record in &records {
            let change = self.decoder.decode(&record.payload).map_err(io::Error::other)?;
            change_to_line(&change, &mut lines);
            lines.push('\n');
            self.next = record.offset.plus(1);
        }
        Ok(Some(lines.into()))
    }
}
