//! Fan-outs' answers: they are one plan a post, each by its number, or an error that leaves nothing.

use libfuzzer_sys::arbitrary::{self, Arbitrary};

use super::answer::{self, Plan, PlanError};

/// An answer about so many posts, after plans that were there before.
#[derive(Debug, Arbitrary)]
pub struct Input {
    before: u8,
    numbers: Vec<u8>,
    /// If it is not about as many as it has numbers.
    posts: Option<u8>,
}

/// Reads the answer.
///
/// # Panics
/// If an invariant does not hold.
pub fn check(input: &Input) {
    let before = vec![Plan::HOSTS_OWN; input.before.into()];
    let posts = input.posts.map_or(input.numbers.len(), usize::from);
    let mut plans = before.clone();
    match answer::plans(&input.numbers, posts, &mut plans) {
        Ok(()) => {
            assert_eq!(input.numbers.len(), posts);
            assert_eq!(plans[..before.len()], before);
            assert_eq!(
                plans[before.len()..].iter().map(|plan| plan.number()).collect::<Vec<_>>(),
                input.numbers
            );
        }
        Err(error) => {
            assert_eq!(plans, before, "a wrong answer leaves nothing");
            match error {
                PlanError::Length { .. } => assert_ne!(input.numbers.len(), posts),
                PlanError::Number { post, number } => {
                    assert!(input.numbers[post] == number && number > 3);
                }
            }
        }
    }
}
