//! A plugin over changes of old, or two beside each other: what each would do, and what it costs.
//!
//! In: plugins, loaded by an engine that counts instructions; changes and posts, from a file for example. Out: effects
//! as text, or those that only one of both has; in the end, counts and instructions.
//!
//! Each plugin is alone: its router sees what its own filter leaves, and its fan-out the posts that its own router makes,
//! with the facts that were given, since nobody counts followers here.
//!
//! Invariant: no clock decides anything. The same plugins, changes and facts give the same effects and the same number
//! of instructions, whenever and wherever. Absent on purpose: gates, who are asked about connections. A *replay* is
//! something else within the host: a dead letter that is handed over again.

use std::collections::{BTreeMap, BTreeSet};

use super::answer::Plan;
use super::compare::{Comparison, Effect, Example, differing};
use super::error::Fault;
use super::evaluate::{Evaluation, Question};
use super::fanout::{Fanout, Post};
use super::instance::Stage;
use super::notes::Notes;
use super::plugin::Plugin;
use super::route::{Entry, Route};
use super::single::Single;
use crate::event::Change;

/// A rehearsal under way.
#[derive(Debug)]
pub struct Rehearsal {
    plugin: Side,
    against: Option<Side>,
    facts: Facts,
    comparison: Comparison,
}

/// What is known of an author's audience when a post is made.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Facts {
    /// As [`Post::followers`], and so on.
    pub followers: u64,
    /// See [`Post::online`].
    pub online: u64,
    /// See [`Post::active`].
    pub active: u64,
    /// See [`Post::rate`].
    pub rate: u32,
    /// See [`Post::previous`].
    pub previous: Option<Plan>,
}

/// An effect that was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// The index of its change or post in what was handed over.
    pub index: usize,
    /// Of two plugins, the one that alone asked for it. If both asked for the same in another order, each has all of it.
    pub only: Option<Only>,
    /// As one line.
    pub effect: String,
}

/// Which of two plugins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Only {
    /// The one that the other is compared with.
    Against,
    /// The other one.
    Plugin,
}

/// What one plugin did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tally {
    /// How many changes and posts it was asked about.
    pub asked_count: u64,
    /// The effects that it asked for, dead letters among them.
    pub effects_count: u64,
    /// The changes that it rejected or failed on.
    pub dead_letters_count: u64,
    /// How many of its calls failed.
    pub faults_count: u64,
    /// What the first was.
    pub first_fault: Option<Fault>,
    /// What its calls ran, in instructions of WebAssembly; what it takes to start an instance is not in it.
    pub instructions: u64,
    /// Whether more than `PLUGIN_FAULTS_MAX` calls failed in one batch: a server would not ask it any more, and neither
    /// does a rehearsal.
    pub stopped: bool,
}

#[derive(Debug)]
struct Side {
    single: Single,
    tally: Tally,
}

/// Changes or posts by their index, those without effects too.
type Judged = BTreeMap<usize, Vec<Effect>>;

impl Facts {
    /// A post of which this is known.
    #[must_use]
    pub fn post<'a>(&self, author: &'a str, item: &'a str) -> Post<'a> {
        let Self { followers, online, active, rate, previous } = *self;
        Post { author, item, followers, online, active, rate, previous }
    }
}

impl Rehearsal {
    /// A rehearsal of one plugin, or of one against another. `facts` are those of posts that a router makes.
    #[must_use]
    pub fn new(plugin: Plugin, against: Option<Plugin>, facts: Facts) -> Self {
        let (plugin, against) = (Side::new(plugin), against.map(Side::new));
        Self { plugin, against, facts, comparison: Comparison::default() }
    }

    /// Asks about changes, a batch of them: by their order, what was asked for or, of two, where they differ.
    pub fn changes(&mut self, changes: &[Change]) -> Vec<Found> {
        let facts = self.facts;
        self.ask(|side| side.judge(&mut changes.to_vec(), &facts), |index| Example::about(&changes[index]))
    }

    /// As [`Rehearsal::changes`], of posts.
    pub fn posts(&mut self, posts: &[Post<'_>]) -> Vec<Found> {
        self.ask(|side| side.judge_posts(posts), |index| Example::about_post(&posts[index]))
    }

    /// What the plugin did.
    #[must_use]
    pub fn tally(&self) -> &Tally {
        &self.plugin.tally
    }

    /// What the other one did, if there is one, and how both compare.
    #[must_use]
    pub fn compared(&self) -> Option<(&Tally, &Comparison)> {
        self.against.as_ref().map(|against| (&against.tally, &self.comparison))
    }

    /// Whether one of them failed too often to go on.
    #[must_use]
    pub fn is_stopped(&self) -> bool {
        self.plugin.tally.stopped || self.against.as_ref().is_some_and(|against| against.tally.stopped)
    }

    fn ask(&mut self, judge: impl Fn(&mut Side) -> Judged, about: impl Fn(usize) -> Example) -> Vec<Found> {
        let here = judge(&mut self.plugin);
        let mut found = Vec::new();
        let mut add = |index: usize, only: Option<Only>, effects: &[&Effect]| {
            let effects = effects.iter().map(|effect| Found { index, only, effect: effect.to_string() });
            found.extend(effects);
        };
        let Some(against) = &mut self.against else {
            for (index, effects) in &here {
                add(*index, None, &effects.iter().collect::<Vec<_>>());
            }
            return found;
        };
        let there = judge(against);
        for index in here.keys().chain(there.keys()).copied().collect::<BTreeSet<_>>() {
            let [here, there] =
                [&here, &there].map(|judged| judged.get(&index).map_or(&[][..], Vec::as_slice));
            self.comparison.add(there, here, || about(index));
            if here != there {
                let [only_there, only_here] = differing(there, here);
                add(index, Some(Only::Against), &only_there);
                add(index, Some(Only::Plugin), &only_here);
            }
        }
        found
    }
}

impl Side {
    fn new(plugin: Plugin) -> Self {
        Self { single: Single::new(plugin), tally: Tally::default() }
    }

    fn judge(&mut self, changes: &mut [Change], facts: &Facts) -> Judged {
        let (mut notes, mut gone) = (Notes::default(), Vec::new());
        for question in [Question::Filter, Question::Router] {
            if !self.single.plugin.has(question.stage()) || self.tally.stopped {
                continue;
            }
            self.single.select(changes, &gone);
            let answer = self.single.ask(question, changes);
            notes.add(changes, &self.single.noted(&answer));
            self.count_troubles(&answer.evaluation);
            if question == Question::Filter {
                gone = vec![false; changes.len()];
                let rejected = answer.evaluation.rejected.iter().map(|rejection| rejection.change);
                for change in answer.verdicts.dropped.iter().copied().chain(rejected) {
                    gone[change] = true;
                }
                for mask in &answer.verdicts.masks {
                    changes[mask.change].mask(mask.column);
                }
            }
        }
        let mut notes = notes.in_order();
        let handed = std::mem::take(&mut notes.handed);
        let mut judged: Judged = handed.into_iter().map(|change| (change, notes.take(change))).collect();
        self.plan_audiences(&mut judged, facts);
        self.count(&judged);
        judged
    }

    /// What the router makes known to followers meets the plugin's own fan-out: each such route is followed by its plan.
    fn plan_audiences(&mut self, judged: &mut Judged, facts: &Facts) {
        if !self.single.plugin.has(Stage::Fanout) {
            return;
        }
        let entries: Vec<Entry> =
            judged.values().flatten().filter_map(|effect| entry(effect).cloned()).collect();
        let posts: Vec<_> = entries.iter().map(|entry| facts.post(&entry.author, &entry.item)).collect();
        let mut plans = self.plan(&posts).into_iter();
        for effects in judged.values_mut() {
            let with_plans = std::mem::take(effects).into_iter().flat_map(|effect| {
                let plan = entry(&effect).and_then(|_| plans.next()).map(Effect::Planned);
                [Some(effect), plan].into_iter().flatten()
            });
            *effects = with_plans.collect();
        }
    }

    fn judge_posts(&mut self, posts: &[Post<'_>]) -> Judged {
        let judged = if self.single.plugin.has(Stage::Fanout) {
            let plans = self.plan(posts).into_iter();
            plans.map(|plan| vec![Effect::Planned(plan)]).enumerate().collect()
        } else {
            Judged::new()
        };
        self.count(&judged);
        judged
    }

    fn plan(&mut self, posts: &[Post<'_>]) -> Vec<Plan> {
        let planned = Fanout::default().plan(&mut self.single.plugin, 0, posts);
        if let Some(trouble) = planned.trouble {
            self.tally.faults_count += trouble.faults_count as u64;
            self.tally.first_fault = self.tally.first_fault.take().or(trouble.first_fault);
        }
        planned.plans
    }

    fn count_troubles(&mut self, evaluation: &Evaluation) {
        self.tally.stopped |= evaluation.failing.is_some();
        for trouble in &evaluation.troubles {
            self.tally.faults_count += trouble.faults_count as u64;
            let first = self.tally.first_fault.take();
            self.tally.first_fault = first.or_else(|| trouble.first_fault.clone());
        }
    }

    fn count(&mut self, judged: &Judged) {
        self.tally.instructions += self.single.plugin.take_work().instructions;
        self.tally.asked_count += judged.len() as u64;
        for effect in judged.values().flatten() {
            self.tally.effects_count += 1;
            self.tally.dead_letters_count += u64::from(matches!(effect, Effect::Rejected(_)));
        }
    }
}

/// What is made known to followers.
fn entry(effect: &Effect) -> Option<&Entry> {
    match effect {
        Effect::Route(Route::Audience(entry)) => Some(entry),
        _ => None,
    }
}
