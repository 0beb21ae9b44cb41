//! Plugin sets: which generation of each plugin judges the changes from an offset on.
//!
//! Invariant: a set names a plugin at most once, and is ordered by name.

use std::sync::Arc;

use crate::event::{Offset, Partition};

/// The set that judges from an offset on, until the next record of the partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SetRecord {
    /// Of which partition.
    pub partition: Partition,
    /// The first offset that it judges.
    pub from: Offset,
    /// The whole set.
    pub set: PluginSet,
}

/// Which generation of each plugin is active.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PluginSet(Vec<Member>);

/// One plugin of a set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// The plugin.
    pub plugin: Arc<str>,
    /// Which of its generations.
    pub generation: u64,
    /// Whether it is called.
    pub standing: Standing,
}

/// Whether a plugin of a set is called.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Standing {
    /// It is.
    Running,
    /// It is not: it failed too often and had no good generation before. Its changes become its dead letters.
    Quarantined,
}

impl PluginSet {
    /// Adds a plugin, in place of the one with its name.
    #[must_use]
    pub fn with(mut self, member: Member) -> Self {
        match self.place(&member.plugin) {
            Ok(at) => self.0[at] = member,
            Err(at) => self.0.insert(at, member),
        }
        self
    }

    /// Takes a plugin out, if it is there.
    #[must_use]
    pub fn without(mut self, plugin: &str) -> Self {
        if let Ok(at) = self.place(plugin) {
            self.0.remove(at);
        }
        self
    }

    /// The member of this name.
    #[must_use]
    pub fn member(&self, plugin: &str) -> Option<&Member> {
        self.place(plugin).ok().map(|at| &self.0[at])
    }

    /// By name.
    #[must_use]
    pub fn members(&self) -> &[Member] {
        &self.0
    }

    fn place(&self, plugin: &str) -> Result<usize, usize> {
        self.0.binary_search_by(|member| (*member.plugin).cmp(plugin))
    }
}

impl FromIterator<Member> for PluginSet {
    fn from_iter<Members: IntoIterator<Item = Member>>(members: Members) -> Self {
        members.into_iter().fold(Self::default(), Self::with)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(plugin: &str, generation: u64) -> Member {
        Member { plugin: plugin.into(), generation, standing: Standing::Running }
    }

    #[test]
    fn a_set_names_each_plugin_once_in_the_order_of_their_names() {
        let set = PluginSet::from_iter([member("b", 1), member("a", 1), member("b", 2)]);
        assert_eq!(set.members(), [member("a", 1), member("b", 2)]);
        assert_eq!(set.clone().without("a").members(), [member("b", 2)]);
        assert_eq!(set.clone().without("c"), set);
        assert_eq!(set.member("b"), Some(&member("b", 2)));
    }
}
