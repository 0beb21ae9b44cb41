//! How the posts of a batch reach their audience: the store of timelines knows the audience, the policy decides.
//!
//! In: what a batch writes to feeds. Out: the same, with plans.
//!
//! Facts are those of what was applied before the batch. An edit has no plan: its post went already.

use std::collections::HashSet;

use tokio::runtime::Handle;

use super::{Measure, PipelineError};
use crate::event::{FeedPost, FeedWrite, Plan};
use crate::policy::{Policy, Post};
use crate::timeline::{Asked, Timelines};

pub(super) fn plan(
    feed: &mut [FeedWrite],
    timelines: &Timelines,
    policy: &mut Policy,
    measure: &Measure,
    runtime: &Handle,
) -> Result<(), PipelineError> {
    let mut seen: HashSet<(Box<str>, Box<str>)> = HashSet::new();
    let mut posts: Vec<(&FeedPost, &mut Plan)> = Vec::new();
    for write in feed {
        let FeedWrite::Post { post, plan } = write else { continue };
        // The second one in a batch is an edit.
        if seen.insert((post.author.clone(), post.item.clone())) {
            posts.push((post, plan));
        }
    }
    if posts.is_empty() {
        return Ok(());
    }
    let ask = |post: &FeedPost| (post.author.clone(), post.item.clone(), post.committed_at);
    let asked: Vec<_> = posts.iter().map(|(post, _)| ask(post)).collect();
    let asked: Vec<Asked<'_>> = asked
        .iter()
        .map(|(author, item, committed_at)| Asked { author, item, committed_at: *committed_at })
        .collect();
    let facts = runtime.block_on(timelines.facts(&asked))?;
    let (mut planned, mut targets) = (Vec::new(), Vec::new());
    for ((post, plan), facts) in posts.into_iter().zip(facts) {
        let Some(facts) = facts else { continue };
        planned.push(Post {
            author: &post.author,
            item: &post.item,
            followers: facts.followers,
            online: facts.online,
            active: facts.active,
            rate: facts.rate,
            previous: facts.previous,
        });
        targets.push(plan);
    }
    if planned.is_empty() {
        return Ok(());
    }
    let plans = policy.plan(&planned);
    measure.planned(policy, plans.trouble.as_ref());
    for (target, plan) in targets.into_iter().zip(plans.plans) {
        *target = plan;
    }
    Ok(())
}
