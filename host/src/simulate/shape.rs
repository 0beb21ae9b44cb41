//! Who follows whom, as far as costs depend on it: how many authors have how many followers.
//!
//! In: the parameters of a power law, or a census of a graph that there is. Out: classes of authors.

use crate::timeline::Census;

/// Authors who are reckoned one by one; below them, so many in a class that classes grow by a twentieth.
const SINGLE_RANKS: f64 = 1_000.0;
const CLASS_RATIO: f64 = 1.05;
/// Steeper than any graph: the second author has a thousandth of the first one's followers.
const EXPONENT_MAX: f64 = 10.0;

/// Authors with about the same number of followers.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Class {
    /// How many authors.
    pub authors: f64,
    /// Followers of each, the mean.
    pub followers: f64,
}

/// A graph.
#[derive(Debug, Clone, PartialEq)]
pub struct Shape {
    /// How many users there are; each of them may post.
    pub users: f64,
    /// Most followers first.
    pub classes: Vec<Class>,
}

/// There is no such graph.
#[derive(Debug, thiserror::Error, PartialEq)]
pub enum ShapeError {
    /// Nobody.
    #[error("a graph needs at least 2 users")]
    Users,
    /// More than all others.
    #[error("{celebrity} cannot follow one author where there are {users} users")]
    Celebrity {
        /// Followers that were asked for.
        celebrity: u64,
        /// Users.
        users: u64,
    },
    /// Nobody follows anybody, or everybody more than there is.
    #[error(
        "if users follow {follows} others on average, the most followed of all authors has at least {follows} followers \
         and at most as many as there are users: {celebrity} does not fit"
    )]
    Follows {
        /// Whom a user follows, the mean.
        follows: f64,
        /// Followers of the first author.
        celebrity: u64,
    },
    /// A graph without edges.
    #[error("nobody follows anybody there: without follows there is nothing to reckon")]
    Empty,
}

impl Shape {
    /// The author at rank *r* has `celebrity / r^x` followers, with the *x* by which users follow so many on average.
    ///
    /// # Errors
    /// If there is no such graph.
    pub fn power_law(users: u64, celebrity: u64, follows: f64) -> Result<Self, ShapeError> {
        if users < 2 {
            return Err(ShapeError::Users);
        }
        if celebrity >= users {
            return Err(ShapeError::Celebrity { celebrity, users });
        }
        let (count, first) = (users as f64, celebrity as f64);
        if !(follows > 0.0 && follows <= first && first <= follows * count) {
            return Err(ShapeError::Follows { follows, celebrity });
        }
        // The steeper, the fewer edges.
        let (mut flat, mut steep) = (0.0, EXPONENT_MAX);
        for _ in 0..100 {
            let middle = f64::midpoint(flat, steep);
            if edges(&ranked(count, first, middle)) > follows * count {
                flat = middle;
            } else {
                steep = middle;
            }
        }
        Ok(Self { users: count, classes: ranked(count, first, steep) })
    }

    /// A graph that there is.
    ///
    /// # Errors
    /// If it has no edges.
    pub fn counted(census: &Census) -> Result<Self, ShapeError> {
        let classes = census.authors.iter().rev().filter(|(followers, _)| **followers > 0);
        let classes = classes
            .map(|(followers, authors)| Class { authors: *authors as f64, followers: *followers as f64 });
        let classes: Vec<Class> = classes.collect();
        if classes.is_empty() {
            return Err(ShapeError::Empty);
        }
        Ok(Self { users: census.users_count as f64, classes })
    }

    /// Followers of the most followed author.
    #[must_use]
    pub fn celebrity(&self) -> f64 {
        self.classes.first().map_or(0.0, |class| class.followers)
    }

    /// Whom a user follows, the mean.
    #[must_use]
    pub fn follows(&self) -> f64 {
        edges(&self.classes) / self.users
    }
}

fn edges(classes: &[Class]) -> f64 {
    classes.iter().map(|class| class.authors * class.followers).sum()
}

fn ranked(users: f64, celebrity: f64, exponent: f64) -> Vec<Class> {
    let mut classes = Vec::new();
    let mut rank = 1.0;
    while rank <= users {
        let end = if rank < SINGLE_RANKS { rank + 1.0 } else { (rank * CLASS_RATIO).round() };
        let end = end.min(users + 1.0);
        let authors = end - rank;
        let followers = if authors > 1.0 {
            // The mean of the ranks between.
            celebrity * power_sum(rank - 0.5, end - 0.5, exponent) / authors
        } else {
            celebrity * rank.powf(-exponent)
        };
        classes.push(Class { authors, followers });
        rank = end;
    }
    classes
}

/// The integral of `r^-exponent`, which the sum over the ranks between comes close to.
fn power_sum(from: f64, to: f64, exponent: f64) -> f64 {
    let rest = 1.0 - exponent;
    if rest.abs() < 1e-9 { (to / from).ln() } else { (to.powf(rest) - from.powf(rest)) / rest }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn a_power_law_has_the_users_the_celebrity_and_the_follows_that_were_asked_for() {
        for (users, celebrity, follows) in
            [(1_000, 300, 20.0), (1_000_000, 200_000, 100.0), (300_000_000, 100_000_000, 200.0), (2, 1, 0.7)]
        {
            let shape = Shape::power_law(users, celebrity, follows).unwrap();
            let authors: f64 = shape.classes.iter().map(|class| class.authors).sum();
            assert!((authors - users as f64).abs() < 1.0, "{authors} of {users}");
            assert!((shape.celebrity() - celebrity as f64).abs() < 1.0);
            assert!((shape.follows() / follows - 1.0).abs() < 0.01, "{} and not {follows}", shape.follows());
            assert!(shape.classes.is_sorted_by(|one, other| one.followers >= other.followers));
            assert!(shape.classes.len() < 2_000);
        }
    }

    #[test]
    fn the_same_parameters_are_the_same_graph() {
        let shape = || Shape::power_law(1_000_000, 300_000, 150.0).unwrap();
        assert_eq!(shape(), shape());
    }

    #[test]
    fn what_is_no_graph_is_refused_with_the_reason() {
        let refused = |users, celebrity, follows| Shape::power_law(users, celebrity, follows).unwrap_err();
        assert_eq!(refused(1, 1, 1.0), ShapeError::Users);
        assert_eq!(
            refused(100, 100, 5.0).to_string(),
            "100 cannot follow one author where there are 100 users"
        );
        for follows in [0.0, -1.0, 51.0, f64::NAN, 0.4] {
            assert!(matches!(refused(100, 50, follows), ShapeError::Follows { .. }), "{follows}");
        }
    }

    #[test]
    fn a_census_is_a_graph_unless_nobody_follows() {
        let census = Census { users_count: 10, authors: BTreeMap::from([(0, 3), (1, 4), (6, 1)]) };
        let shape = Shape::counted(&census).unwrap();
        assert_eq!((shape.celebrity(), shape.classes.len()), (6.0, 2));
        assert!((shape.follows() - 1.0).abs() < 1e-9);
        assert_eq!(Shape::counted(&Census::default()), Err(ShapeError::Empty));
    }
}
