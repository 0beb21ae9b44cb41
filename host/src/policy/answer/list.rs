//! The routes of an evaluation: places in the answers that have them.

use super::super::route::{Kind, Route};
use super::answered::{Answered, Directed, Place};

/// Routes, and the answers that they are read out of.
#[derive(Debug, Default)]
pub struct Routes {
    answers: Vec<Answered>,
    places: Vec<Place>,
}

impl Routes {
    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.places.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// Each, in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = Directed<'_>> {
        self.from(0)
    }

    /// Each from that one on.
    pub(in crate::policy) fn from(&self, first: usize) -> impl ExactSizeIterator<Item = Directed<'_>> {
        let read = |place: &Place| Directed::new(*place, &self.answers[place.answer as usize]);
        self.places[first..].iter().map(read)
    }

    /// Takes those of some kinds out, each with the index of its change, in order.
    pub fn take(&mut self, is_wanted: impl Fn(Kind) -> bool) -> impl Iterator<Item = (usize, Route)> {
        let Self { answers, places } = self;
        places.extract_if(.., move |place| is_wanted(place.kind)).map(|place| {
            let directed = Directed::new(place, &answers[place.answer as usize]);
            (place.change, directed.route())
        })
    }

    /// Drops those from that one on that are not wanted, and says how many these are.
    pub(in crate::policy) fn drop_from(
        &mut self,
        first: usize,
        is_wanted: impl Fn(&Directed<'_>) -> bool,
    ) -> usize {
        let Self { answers, places } = self;
        let is_wanted = |place: &Place| is_wanted(&Directed::new(*place, &answers[place.answer as usize]));
        // Nearly always all are, and none has to move.
        let Some(unwanted) = places[first..].iter().position(|place| !is_wanted(place)) else { return 0 };
        places.extract_if(first + unwanted.., |place| !is_wanted(place)).count()
    }

    /// By change; for one change they stay as they are.
    pub(in crate::policy) fn sort(&mut self) {
        self.places.sort_by_key(|place| place.change);
    }

    /// What the next answer's routes are appended to, and its index.
    pub(super) fn next(&mut self) -> (&mut Vec<Place>, u32) {
        let answer = u32::try_from(self.answers.len()).expect("each call of a batch gives one");
        (&mut self.places, answer)
    }

    /// The answer whose routes were appended.
    pub(super) fn finish(&mut self, answered: Answered) {
        self.answers.push(answered);
    }
}

/// As they read.
impl PartialEq for Routes {
    fn eq(&self, other: &Self) -> bool {
        let read = |directed: Directed<'_>| (directed.change(), directed.plugin(), directed.route());
        self.iter().map(read).eq(other.iter().map(read))
    }
}

impl Eq for Routes {}
