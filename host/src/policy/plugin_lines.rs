//! The recent log lines of plugins, for people who look at a running server.
//!
//! In: lines as [`PluginLog`](super::plugin_log::PluginLog) admits them. Out: the last ones of a plugin, and all as they
//! come.
//!
//! Invariant: a line's number is greater than that of every line before it, of whichever plugin; so who reads what is
//! there and then follows, by number, has each line once. Bounded by lines a plugin, and plugins.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use tokio::sync::broadcast;

use crate::event::Micros;
use crate::limits::{PLUGIN_LINES_COUNT_MAX, PLUGIN_LINES_QUEUE_COUNT_MAX, PLUGINS_COUNT_MAX};

/// A line that a plugin wrote to its log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PluginLine {
    /// Its number, from 1; it begins anew with the program.
    pub id: u64,
    /// When, on this machine's clock.
    pub at: Micros,
    /// Which plugin.
    pub plugin: Arc<str>,
    /// Which of its generations.
    pub generation: u64,
    /// How bad it is.
    pub level: LineLevel,
    /// What it says, in one line.
    pub text: String,
}

/// How bad a line is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LineLevel {
    /// For its author.
    Debug,
    /// Worth knowing.
    Info,
    /// Worth a look.
    Warn,
    /// A fault.
    Error,
}

impl fmt::Display for LineLevel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Debug => "debug",
            Self::Info => "info",
            Self::Warn => "warn",
            Self::Error => "error",
        })
    }
}

/// The lines of all plugins of a program. Clones share them.
#[derive(Debug, Clone)]
pub struct PluginLines(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    kept: Mutex<Kept>,
    live: broadcast::Sender<Arc<PluginLine>>,
}

#[derive(Debug, Default)]
struct Kept {
    last: u64,
    lines: BTreeMap<Arc<str>, VecDeque<Arc<PluginLine>>>,
}

impl Default for PluginLines {
    fn default() -> Self {
        let live = broadcast::Sender::new(PLUGIN_LINES_QUEUE_COUNT_MAX);
        Self(Arc::new(Shared { kept: Mutex::default(), live }))
    }
}

impl PluginLines {
    /// The kept lines of a plugin with a number above `after`, oldest first.
    #[must_use]
    pub fn after(&self, plugin: &str, after: u64) -> Vec<Arc<PluginLine>> {
        let kept = self.kept();
        let lines = kept.lines.get(plugin).into_iter().flatten();
        lines.filter(|line| line.id > after).cloned().collect()
    }

    /// The lines of all plugins as they come; a receiver that lags loses the oldest.
    #[must_use]
    pub fn follow(&self) -> broadcast::Receiver<Arc<PluginLine>> {
        self.0.live.subscribe()
    }

    pub(super) fn add(&self, plugin: &Arc<str>, generation: u64, level: LineLevel, text: String) {
        let mut kept = self.kept();
        kept.last += 1;
        let line = PluginLine { id: kept.last, at: now(), plugin: plugin.clone(), generation, level, text };
        let line = Arc::new(line);
        let lines = kept.lines.entry(plugin.clone()).or_default();
        lines.push_back(line.clone());
        if lines.len() > PLUGIN_LINES_COUNT_MAX {
            lines.pop_front();
        }
        if kept.lines.len() > PLUGINS_COUNT_MAX {
            let last = |lines: &VecDeque<Arc<PluginLine>>| lines.back().map_or(0, |line| line.id);
            let quietest = kept.lines.iter().min_by_key(|(_, lines)| last(lines));
            if let Some(quietest) = quietest.map(|(plugin, _)| plugin.clone()) {
                kept.lines.remove(&quietest);
            }
        }
        // Under the lock, so that lines are told in the order of their numbers. Nobody may listen.
        let _ = self.0.live.send(line);
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.0.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn now() -> Micros {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    Micros(i64::try_from(since.as_micros()).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(lines: &[Arc<PluginLine>]) -> Vec<String> {
        lines.iter().map(|line| line.text.clone()).collect()
    }

    #[test]
    fn the_last_lines_of_each_plugin_are_kept_and_all_are_told_in_order() {
        let lines = PluginLines::default();
        let mut live = lines.follow();
        for nth in 0..=PLUGIN_LINES_COUNT_MAX {
            lines.add(&"loud".into(), 1, LineLevel::Info, nth.to_string());
        }
        lines.add(&"quiet".into(), 2, LineLevel::Warn, "once".into());
        let loud = lines.after("loud", 0);
        assert_eq!(loud.len(), PLUGIN_LINES_COUNT_MAX);
        assert_eq!(loud[0].text, "1");
        assert_eq!(
            texts(&lines.after("loud", loud[loud.len() - 2].id)),
            [PLUGIN_LINES_COUNT_MAX.to_string()]
        );
        assert_eq!(texts(&lines.after("quiet", 0)), ["once"]);
        assert!(lines.after("nobody", 0).is_empty());
        let mut last = 0;
        while let Ok(line) = live.try_recv() {
            assert_eq!(line.id, last + 1);
            last = line.id;
        }
        assert_eq!(last, lines.after("quiet", 0)[0].id);
    }

    #[test]
    fn the_lines_of_plugins_that_were_quiet_longest_go_first() {
        let lines = PluginLines::default();
        for nth in 0..=PLUGINS_COUNT_MAX {
            lines.add(&format!("p{nth}").into(), 1, LineLevel::Info, String::new());
        }
        assert!(lines.after("p0", 0).is_empty());
        assert_eq!(lines.after("p1", 0).len(), 1);
    }
}
