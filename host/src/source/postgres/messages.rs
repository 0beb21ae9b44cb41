//! Which messages of `pg_logical_emit_message` become changes: those whose prefix a person named.
//!
//! In: prefixes, as the configuration has them. Out: whether a message's is one of them.
//!
//! Absent on purpose: our own heartbeats, whatever is named.

use super::heartbeat;

/// The prefixes that are captured.
#[derive(Debug, Default)]
pub(super) struct Messages {
    exact: Vec<Box<str>>,
    /// How they begin.
    beginnings: Vec<Box<str>>,
}

impl Messages {
    /// A prefix that ends in `*` stands for all that begin with what is before it.
    pub(super) fn new(named: &[String]) -> Self {
        let mut messages = Self::default();
        for name in named {
            match name.strip_suffix('*') {
                Some(beginning) => messages.beginnings.push(beginning.into()),
                None => messages.exact.push(name.as_str().into()),
            }
        }
        messages
    }

    pub(super) fn has(&self, prefix: &str) -> bool {
        let is_named = self.exact.iter().any(|exact| &**exact == prefix)
            || self.beginnings.iter().any(|beginning| prefix.starts_with(&**beginning));
        is_named && prefix != heartbeat::PREFIX
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_captured_if_its_prefix_was_named() {
        let has = |named: &[&str], prefix: &str| {
            Messages::new(&named.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>()).has(prefix)
        };
        assert!(!has(&[], "mail"), "nothing is captured that nobody asked for");
        assert!(has(&["mail"], "mail"));
        assert!(!has(&["mail"], "mail.sent"));
        assert!(has(&["other", "mail*"], "mail.sent"));
        assert!(has(&["*"], "") && has(&["*"], "anything"));
        assert!(!has(&["*", heartbeat::PREFIX], heartbeat::PREFIX));
    }
}
