//! How posts reach their audience: the fan-out plugin decides, or the host where there is none or it fails.
//!
//! In: posts with facts about their authors' audiences. Out: one plan a post.
//!
//! A call that fails is tried once more in a fresh instance; then the host plans its posts. Halving would gain nothing:
//! the host's plan costs more or less, but shows readers the same.
//!
//! Invariant: each post has a plan, whatever the plugin does.

use super::Policy;
use super::answer::{Plan, plans};
use super::bindings::exports::twohop::policy::fanout::Posts;
use super::error::Fault;
use super::evaluate::Trouble;
use super::instance::Stage;
use super::plugin::Plugin;
use super::shadow::Stopwatch;
use crate::limits::BATCH_COUNT_MAX;

/// A post, with what is known of its author's audience.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Post<'a> {
    /// Who made it known.
    pub author: &'a str,
    /// Its id.
    pub item: &'a str,
    /// How many follow the author.
    pub followers: u64,
    /// Of them, those with a live connection.
    pub online: u64,
    /// Of them, those whose timeline is active.
    pub active: u64,
    /// Posts of the author in the hour before.
    pub rate: u32,
    /// How the author's last post went.
    pub previous: Option<Plan>,
}

/// How posts go.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Plans {
    /// One a post.
    pub plans: Vec<Plan>,
    /// What the plugin did wrong: those posts were planned by the host.
    pub trouble: Option<Trouble>,
}

/// The interface's number for an author whose first post it is.
const NONE: u8 = u8::MAX;

impl Policy {
    /// Asks the fan-out plugin how posts go.
    ///
    /// # Panics
    /// If authors and items of one call have more than 4 GiB: the host bounds each.
    pub fn plan(&mut self, posts: &[Post<'_>]) -> Plans {
        let Some((index, plugin)) =
            self.plugins.iter_mut().enumerate().find(|(_, plugin)| plugin.has(Stage::Fanout))
        else {
            return self.plan_alone(posts);
        };
        let shadow = self.shadows.iter_mut().find(|shadow| shadow.is_beside(plugin));
        let clock = shadow.is_some().then(Stopwatch::start);
        let planned = self.fanout.plan(plugin, index, posts);
        if let (Some(shadow), Some(clock)) = (shadow, clock) {
            let faults_count = planned.trouble.as_ref().map_or(0, |trouble| trouble.faults_count);
            shadow.observe_plans(posts, &planned.plans, faults_count, clock.stop());
        }
        planned
    }

    /// As the host plans, compared with whoever wants to do it.
    fn plan_alone(&mut self, posts: &[Post<'_>]) -> Plans {
        let plans = vec![Plan::HOSTS_OWN; posts.len()];
        for shadow in &mut self.shadows {
            shadow.observe_plans(posts, &plans, 0, std::time::Duration::ZERO);
        }
        Plans { plans, trouble: None }
    }
}

/// The lists of a call, used again and again.
#[derive(Debug, Default)]
pub(super) struct Fanout {
    authors: Vec<u64>,
    items: Vec<u64>,
    followers: Vec<u64>,
    online: Vec<u64>,
    active: Vec<u64>,
    rates: Vec<u32>,
    previous: Vec<u8>,
    arena: Vec<u8>,
}

impl Fanout {
    /// Asks a plugin, whose index it is.
    pub(super) fn plan(&mut self, plugin: &mut Plugin, index: usize, posts: &[Post<'_>]) -> Plans {
        let mut planned = Plans { plans: Vec::with_capacity(posts.len()), trouble: None };
        if plugin.is_quarantined() {
            planned.plans.resize(posts.len(), Plan::HOSTS_OWN);
            return planned;
        }
        for posts in posts.chunks(BATCH_COUNT_MAX) {
            self.fill(posts);
            let done = (0..2).any(|_| {
                let answer = self.attempt(plugin, &mut planned.plans);
                let failed = answer.as_ref().err();
                if let Some(fault) = failed {
                    plugin.drop_instance();
                    planned.trouble.get_or_insert_with(|| Trouble::new(index)).add(fault);
                }
                failed.is_none()
            });
            if !done {
                planned.plans.extend(posts.iter().map(|_| Plan::HOSTS_OWN));
            }
        }
        planned
    }

    fn attempt(&self, plugin: &mut Plugin, planned: &mut Vec<Plan>) -> Result<(), Fault> {
        let numbers = plugin.call(|instance| instance.decide(self.posts()))?;
        Ok(plans(&numbers, self.authors.len(), planned)?)
    }

    fn fill(&mut self, posts: &[Post<'_>]) {
        let Self { authors, items, followers, online, active, rates, previous, arena } = self;
        arena.clear();
        let mut store = |text: &str| {
            let start = arena.len() as u64;
            arena.extend_from_slice(text.as_bytes());
            assert!(u32::try_from(arena.len()).is_ok(), "names are short");
            start | (text.len() as u64) << 32
        };
        authors.clear();
        authors.extend(posts.iter().map(|post| store(post.author)));
        items.clear();
        items.extend(posts.iter().map(|post| store(post.item)));
        followers.clear();
        followers.extend(posts.iter().map(|post| post.followers));
        online.clear();
        online.extend(posts.iter().map(|post| post.online));
        active.clear();
        active.extend(posts.iter().map(|post| post.active));
        rates.clear();
        rates.extend(posts.iter().map(|post| post.rate));
        previous.clear();
        previous.extend(posts.iter().map(|post| post.previous.map_or(NONE, Plan::number)));
    }

    fn posts(&self) -> Posts<'_> {
        Posts {
            authors: &self.authors,
            items: &self.items,
            followers: &self.followers,
            online: &self.online,
            active: &self.active,
            rates: &self.rates,
            previous: &self.previous,
            arena: &self.arena,
        }
    }
}
