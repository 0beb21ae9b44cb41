//! Facts into the lists of the interface, and plans out of its numbers, with what a host checks about them.

use crate::cells::span_since;
use crate::fanout::{NO_PLAN, Posts};
use crate::{Facts, Plan};

/// One batch of posts.
pub(super) fn lower(posts: &[Facts<'_>]) -> Posts {
    let mut lists = Posts::default();
    let mut arena = Vec::new();
    let mut append = |text: &str| {
        let start = arena.len();
        arena.extend_from_slice(text.as_bytes());
        span_since(start, &arena)
    };
    for post in posts {
        lists.authors.push(append(post.author));
        lists.items.push(append(post.item));
        lists.followers.push(post.followers);
        lists.online.push(post.online);
        lists.active.push(post.active);
        lists.rates.push(post.rate);
        lists.previous.push(post.previous.map_or(NO_PLAN, Plan::number));
    }
    lists.arena = arena.into();
    lists
}

/// One plan a post, or why a host would refuse them.
pub(super) fn read(numbers: &[u8], posts: usize) -> Result<Vec<Plan>, String> {
    if numbers.len() != posts {
        return Err(format!("there are {} plans for {posts} posts", numbers.len()));
    }
    let plan = |number: &u8| Plan::of_number(*number).ok_or_else(|| format!("there is no plan {number}"));
    numbers.iter().map(plan).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_with_a_plan_too_few_or_one_that_there_is_not_is_refused() {
        assert_eq!(read(&[0], 2), Err("there are 1 plans for 2 posts".to_owned()));
        assert_eq!(read(&[0, 4], 2), Err("there is no plan 4".to_owned()));
    }
}
