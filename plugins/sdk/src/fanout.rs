//! How a post reaches its audience: what a fan-out policy is told, and what it answers.
//!
//! In: the lists of a batch of posts. Out: one number a post. Between them each post is a [`Facts`], which borrows from
//! the batch, and each answer a [`Plan`]. Always holds: a plan and its number are each other's, in both directions.

use crate::cells::Arena;

/// Bits of an answer of `decide`.
const PULL: u8 = 1;
const NOTIFY: u8 = 1 << 1;
/// What `previous` has for an author without an earlier post.
pub(crate) const NO_PLAN: u8 = u8::MAX;

/// A post, and what is known of its author's audience at that moment.
///
/// The host takes these numbers once for a post: whoever judges the post again is told the same.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Facts<'a> {
    /// Who made it.
    pub author: &'a str,
    /// Which of the author's posts it is.
    pub item: &'a str,
    /// How many follow the author.
    pub followers: u64,
    /// Followers with a live connection.
    pub online: u64,
    /// Followers whose timeline is in the cache: what a push would write to.
    pub active: u64,
    /// Posts of this author in the hour before this one, by commit times.
    pub rate: u32,
    /// How this author's last post went, so that a policy near its threshold need not flap.
    pub previous: Option<Plan>,
}

/// How one post reaches its audience.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Plan {
    /// When it gets into the timelines.
    pub delivery: Delivery,
    /// Who is told at once.
    pub notify: Notify,
}

/// When a post gets into the timelines of those who follow its author. What a timeline shows is the same either way;
/// only the cost differs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Delivery {
    /// It is written to the timelines of active followers now.
    Push,
    /// It is merged when a timeline is read.
    Pull,
}

/// Who is told of a post at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Notify {
    /// Followers with a live connection.
    Online,
    /// Nobody.
    Nobody,
}

impl Plan {
    pub(crate) const fn number(self) -> u8 {
        let delivery = match self.delivery {
            Delivery::Push => 0,
            Delivery::Pull => PULL,
        };
        let notify = match self.notify {
            Notify::Online => NOTIFY,
            Notify::Nobody => 0,
        };
        delivery | notify
    }

    /// None where there is no such plan.
    pub(crate) const fn of_number(number: u8) -> Option<Self> {
        if number & !(PULL | NOTIFY) != 0 {
            return None;
        }
        let delivery = if number & PULL == 0 { Delivery::Push } else { Delivery::Pull };
        let notify = if number & NOTIFY == 0 { Notify::Nobody } else { Notify::Online };
        Some(Self { delivery, notify })
    }
}

/// A batch of posts as the interface has it: see `wit/policy.wit` for what each list holds.
#[derive(Debug, Default)]
pub(crate) struct Posts {
    pub(crate) authors: Vec<u64>,
    pub(crate) items: Vec<u64>,
    pub(crate) followers: Vec<u64>,
    pub(crate) online: Vec<u64>,
    pub(crate) active: Vec<u64>,
    pub(crate) rates: Vec<u32>,
    pub(crate) previous: Vec<u8>,
    pub(crate) arena: Arena,
}

impl Posts {
    pub(crate) fn len(&self) -> usize {
        self.authors.len()
    }

    /// The post at `index`.
    pub(crate) fn facts(&self, index: usize) -> Facts<'_> {
        let previous = self.previous[index];
        let plan = Plan::of_number(previous);
        if plan.is_none() && previous != NO_PLAN {
            panic!("the host sent the plan {previous}, which this SDK does not know");
        }
        Facts {
            author: self.arena.text(self.authors[index]),
            item: self.arena.text(self.items[index]),
            followers: self.followers[index],
            online: self.online[index],
            active: self.active[index],
            rate: self.rates[index],
            previous: plan,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_plan_is_found_by_its_number_and_there_are_no_others() {
        let known: Vec<u8> = (0..=u8::MAX).filter(|number| Plan::of_number(*number).is_some()).collect();
        assert_eq!(known, [0, 1, 2, 3]);
        for number in known {
            assert_eq!(Plan::of_number(number).map(Plan::number), Some(number));
        }
        let plan = Plan { delivery: Delivery::Pull, notify: Notify::Nobody };
        assert_eq!(plan.number(), 1);
    }
}
