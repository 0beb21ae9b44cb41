//! What feeds cost by the threshold above which an author's posts are pulled: reckoned for a graph, rates of posts and
//! readings, and machines, from costs that were measured by running the store of timelines on this one.
//!
//! ```text
//! Shape (a power law, or the graph of a data folder) ─┐
//! Load (rates, machines) ─────────────────────────────┼─► outcomes, one for each threshold ─► the cheapest; a plot
//! Costs (measured by running `timeline`) ─────────────┘
//! ```
//! Invariants:
//! - the same shape, load and costs give the same outcomes: there is no chance in it, and no clock but in `Costs`;
//! - it reckons what this host does, with its bounds (`limits`), and not what a fan-out could do elsewhere.
//!
//! Absent on purpose: single users and posts. All that is asked for are sums and means over many, so authors are taken
//! together by their followers, and a fleet of 300 million users is reckoned as fast as a shop's.

mod costs;
mod load;
mod outcome;
mod plot;
mod shape;

pub use costs::{Costs, Trial};
pub use load::{Load, LoadError};
pub use outcome::{Outcome, Threshold, cheapest, outcomes};
pub use plot::draw;
pub use shape::{Class, Shape, ShapeError};
