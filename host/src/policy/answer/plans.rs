//! A fan-out's answer: how each post reaches its audience.

use super::PlanError;
pub use crate::event::{Delivery, Plan};

/// Checks the answer about so many posts, and appends its plans; appends nothing if it breaks a rule.
pub(in crate::policy) fn plans(numbers: &[u8], posts: usize, plans: &mut Vec<Plan>) -> Result<(), PlanError> {
    if numbers.len() != posts {
        return Err(PlanError::Length { plans: numbers.len(), posts });
    }
    let before = plans.len();
    for (post, number) in numbers.iter().enumerate() {
        let Some(plan) = Plan::from_number(*number) else {
            plans.truncate(before);
            return Err(PlanError::Number { post, number: *number });
        };
        plans.push(plan);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_answer_leaves_nothing() {
        let mut read = Vec::new();
        assert_eq!(plans(&[0, 1, 4], 3, &mut read), Err(PlanError::Number { post: 2, number: 4 }));
        assert_eq!(plans(&[0, 1], 3, &mut read), Err(PlanError::Length { plans: 2, posts: 3 }));
        assert_eq!(read, []);
        assert_eq!(plans(&[0, 3], 2, &mut read), Ok(()));
        assert_eq!(
            read.iter().map(Plan::to_string).collect::<Vec<_>>(),
            ["push, do not notify", "pull, notify"]
        );
    }
}
