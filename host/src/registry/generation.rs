//! Generations: each activation of a component, by number, as long as it is remembered.

use crate::event::Micros;
use crate::policy::Activation;

/// One activation, and whose it was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Generation {
    /// What was activated.
    pub activation: Activation,
    /// Who activated it; `configuration` for the file.
    pub by: String,
    /// When.
    pub at: Micros,
    /// When it was quarantined, if it was.
    pub quarantined_at: Option<Micros>,
}

/// Those that may take over when `failing` is quarantined, the best first: each before it that was not quarantined,
/// and is not the same under another number as one that was. `generations` are those of one plugin, in any order.
#[must_use]
pub fn good_before(generations: &[Generation], failing: u64) -> Vec<&Generation> {
    let is_bad = |generation: &&Generation| {
        generation.quarantined_at.is_some() || generation.activation.generation == failing
    };
    let bad: Vec<_> = generations.iter().filter(is_bad).collect();
    let mut good: Vec<_> = generations
        .iter()
        .filter(|generation| generation.activation.generation < failing)
        .filter(|good| !bad.iter().any(|bad| is_same(&good.activation, &bad.activation)))
        .collect();
    good.sort_by_key(|generation| std::cmp::Reverse(generation.activation.generation));
    good
}

/// Whether two generations would answer the same under the same limits.
#[must_use]
pub fn is_same(one: &Activation, other: &Activation) -> bool {
    Activation { generation: other.generation, ..one.clone() } == *other
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::tests::activation;

    fn generation(number: u64, setting: &str) -> Generation {
        Generation {
            activation: activation("p", number, setting),
            by: "a".into(),
            at: Micros(0),
            quarantined_at: None,
        }
    }

    fn numbers(generations: &[Generation], failing: u64) -> Vec<u64> {
        good_before(generations, failing).iter().map(|good| good.activation.generation).collect()
    }

    #[test]
    fn the_newest_earlier_ones_that_were_not_quarantined_may_take_over() {
        let mut generations: Vec<_> = (1..=4).map(|at| generation(at, &at.to_string())).collect();
        assert_eq!(numbers(&generations, 4), [3, 2, 1]);
        generations[2].quarantined_at = Some(Micros(1));
        assert_eq!(numbers(&generations, 4), [2, 1]);
        assert_eq!(numbers(&generations, 1), [0; 0]);
    }

    #[test]
    fn what_is_the_same_under_another_number_does_not_take_over() {
        let generations = [generation(1, "good"), generation(2, "bad"), generation(3, "bad")];
        assert_eq!(numbers(&generations, 3), [1]);
    }
}
