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

/// The one that takes over when `failing` is quarantined: the newest before it that was not quarantined, and is not
/// the same under another number as one that was. `generations` are those of one plugin, in any order.
#[must_use]
pub fn last_good(generations: &[Generation], failing: u64) -> Option<&Generation> {
    let bad = |generation: &&Generation| {
        generation.quarantined_at.is_some() || generation.activation.generation == failing
    };
    let bad: Vec<_> = generations.iter().filter(bad).collect();
    generations
        .iter()
        .filter(|generation| generation.activation.generation < failing)
        .filter(|good| !bad.iter().any(|bad| is_same(&good.activation, &bad.activation)))
        .max_by_key(|generation| generation.activation.generation)
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

    fn number(generation: Option<&Generation>) -> Option<u64> {
        generation.map(|generation| generation.activation.generation)
    }

    #[test]
    fn the_newest_earlier_one_that_was_not_quarantined_takes_over() {
        let mut generations: Vec<_> = (1..=4).map(|at| generation(at, &at.to_string())).collect();
        assert_eq!(number(last_good(&generations, 4)), Some(3));
        generations[2].quarantined_at = Some(Micros(1));
        assert_eq!(number(last_good(&generations, 4)), Some(2));
        assert_eq!(number(last_good(&generations, 1)), None);
    }

    #[test]
    fn what_is_the_same_under_another_number_does_not_take_over() {
        let generations = [generation(1, "good"), generation(2, "bad"), generation(3, "bad")];
        assert_eq!(number(last_good(&generations, 3)), Some(1));
    }
}
