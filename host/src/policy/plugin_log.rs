//! What plugins write to their log, into the host's log and among the recent lines of plugins.
//!
//! Invariant: one call writes one line without control characters, of bounded length; a plugin writes at most
//! `PLUGIN_LOG_LINES_PER_SECOND_MAX` lines a second, and what is left out is counted.
//! The clock here decides what people read, never what a policy answers.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::bindings::twohop::policy::log::Level;
use super::error::one_line;
use super::plugin_lines::{LineLevel, PluginLines};
use crate::limits::{PLUGIN_LOG_LINE_BYTES_MAX, PLUGIN_LOG_LINES_PER_SECOND_MAX};

const WINDOW: Duration = Duration::from_secs(1);

/// One plugin's log. It outlives the plugin's instances, so that one that traps in a loop cannot flood.
#[derive(Debug)]
pub(super) struct PluginLog {
    plugin: Arc<str>,
    generation: u64,
    lines: PluginLines,
    window: Option<Instant>,
    written: u32,
    left_out: u64,
}

impl PluginLog {
    pub(super) fn new(plugin: Arc<str>, generation: u64, lines: PluginLines) -> Self {
        Self { plugin, generation, lines, window: None, written: 0, left_out: 0 }
    }

    pub(super) fn write(&mut self, level: Level, message: &str) {
        let admitted = self.admit(Instant::now());
        if let Some(left_out) = admitted.left_out {
            tracing::warn!(plugin = &*self.plugin, left_out, "the plugin writes too much to its log");
            let text = format!("{left_out} lines were left out: the plugin writes too much to its log");
            self.lines.add(&self.plugin, self.generation, LineLevel::Warn, text);
        }
        if !admitted.write {
            return;
        }
        let plugin = &*self.plugin;
        let line = one_line(message, PLUGIN_LOG_LINE_BYTES_MAX);
        match level {
            Level::Debug => tracing::debug!(plugin, "{line}"),
            Level::Info => tracing::info!(plugin, "{line}"),
            Level::Warn => tracing::warn!(plugin, "{line}"),
            Level::Error => tracing::error!(plugin, "{line}"),
        }
        let level = match level {
            Level::Debug => LineLevel::Debug,
            Level::Info => LineLevel::Info,
            Level::Warn => LineLevel::Warn,
            Level::Error => LineLevel::Error,
        };
        self.lines.add(&self.plugin, self.generation, level, line);
    }

    fn admit(&mut self, now: Instant) -> Admitted {
        let mut left_out = None;
        if self.window.is_none_or(|start| now.saturating_duration_since(start) >= WINDOW) {
            left_out = Some(std::mem::take(&mut self.left_out)).filter(|count| *count > 0);
            self.window = Some(now);
            self.written = 0;
        }
        let write = self.written < PLUGIN_LOG_LINES_PER_SECOND_MAX;
        if write {
            self.written += 1;
        } else {
            self.left_out += 1;
        }
        Admitted { write, left_out }
    }
}

#[derive(Debug, PartialEq, Eq)]
struct Admitted {
    write: bool,
    /// Lines left out in the window that ended.
    left_out: Option<u64>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_cut_to_the_lines_of_a_second_and_counted() {
        let mut log = PluginLog::new("p".into(), 1, PluginLines::default());
        let start = Instant::now();
        let written = (0..100_000).filter(|_| log.admit(start).write).count();
        assert_eq!(written, PLUGIN_LOG_LINES_PER_SECOND_MAX as usize);
        let next = log.admit(start + WINDOW);
        assert_eq!(
            next,
            Admitted { write: true, left_out: Some(100_000 - u64::from(PLUGIN_LOG_LINES_PER_SECOND_MAX)) }
        );
        assert_eq!(log.admit(start + WINDOW), Admitted { write: true, left_out: None });
    }

    #[test]
    fn what_is_written_is_kept_with_its_plugin_and_generation() {
        let lines = PluginLines::default();
        let mut log = PluginLog::new("p".into(), 3, lines.clone());
        log.write(Level::Debug, "one\ntwo");
        let kept = lines.after("p", 0);
        let kept: Vec<_> = kept.iter().map(|line| (line.generation, line.level, &*line.text)).collect();
        assert_eq!(kept, [(3, LineLevel::Debug, "one\\ntwo")]);
    }

    #[test]
    fn a_line_has_no_control_characters_and_is_cut_at_a_character() {
        assert_eq!(one_line("a\nb\u{1b}[31m\u{85}", 100), "a\\nb\\u{1b}[31m\\u{85}");
        assert_eq!(one_line("äöü", 3), "ä");
    }
}
