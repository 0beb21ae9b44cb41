//! Tests of a policy without WebAssembly: plain `cargo test`.
//!
//! In: [`Sample`]s, changes written down as rows; [`Facts`] of posts; a [`Connection`] and a [`Request`]. Out: [`Route`]s
//! and [`Judged`]s, decoded; [`Plan`]s; what a gate says. Between them runs what runs in a component: the kit plays the
//! host, lowers the samples that match a subscription into the lists of the interface, calls the policy, and refuses an
//! answer that a host would refuse. Absent on purpose: anything of the host that comes after the answer; a filter's masks
//! do not reach the router, no length is bounded, and JSON is not parsed.
//!
//! ```
//! # use twohop_plugin::*;
//! # struct MyPolicy;
//! # impl Plugin for MyPolicy {
//! #     fn configure(settings: &Settings) -> Configured<Self> {
//! #         settings.required("channel")?;
//! #         Ok((Self, vec![Subscription::table("orders").columns(["id"])]))
//! #     }
//! # }
//! # impl Router for MyPolicy {
//! #     fn direct(&self, _: &Change, _: &mut Routes) {}
//! # }
//! use twohop_plugin::{row, testing::{Policy, Sample}};
//!
//! let policy = Policy::<MyPolicy>::configure([("channel", "all")]).unwrap();
//! let update = Sample::update("orders", row! { "id" => 1, "status" => "sent" })
//!     .old(row! { "id" => 1, "status" => "new" })
//!     .key(["id"]);
//! let routes = policy.direct(&[update]);
//! assert!(routes[0].is_empty());
//! ```

mod fanout;
mod gate;
mod json;
mod judged;
mod lower;
mod route;
mod sample;

#[cfg(test)]
mod tests;

pub use judged::Judged;
pub use route::{Keep, Payload, Reach, Route};
pub use sample::Sample;

use crate::cells::Cells;
use crate::instance::Instance;
use crate::route::Outcome;
use crate::{
    Connection, Facts, Fanout, Filter, Gate, Grant, Plan, Plugin, Reception, Refusal, Request, Router,
    Subscription, Verdict,
};

/// A configured policy.
#[derive(Debug)]
pub struct Policy<P>(Instance<P>);

impl<P: Plugin> Policy<P> {
    /// Configures it as a host would.
    ///
    /// # Errors
    /// What the policy says against the settings, and settings that it does not know.
    pub fn configure<'a>(settings: impl IntoIterator<Item = (&'a str, &'a str)>) -> Result<Self, String> {
        let instance = Instance::new();
        let settings = settings.into_iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect();
        instance.configure(settings)?;
        Ok(Self(instance))
    }

    /// What it wants to see.
    #[must_use]
    pub fn subscriptions(&self) -> &[Subscription] {
        self.0.subscriptions()
    }
}

impl<P: Filter> Policy<P> {
    /// What the filter says of each sample, all of them in one batch. A sample that no subscription matches is kept.
    ///
    /// # Panics
    /// Where a host would refuse the answer, with the reason; and where the policy panics.
    #[must_use]
    pub fn evaluate(&self, samples: &[Sample]) -> Vec<Judged> {
        let batch = lower::lower(samples, self.subscriptions());
        let outcome = self.0.judge(&batch.cells);
        let mut judged = vec![Judged { verdict: Verdict::Keep, masked: Vec::new() }; samples.len()];
        let seen: Vec<&Sample> = batch.samples.iter().map(|index| &samples[*index]).collect();
        match judged::read(&outcome, &seen) {
            Ok(read) => batch.samples.iter().zip(read).for_each(|(index, one)| judged[*index] = one),
            Err(why) => refused(&why),
        }
        judged
    }
}

impl<P: Router> Policy<P> {
    /// The routes of each sample, all of them in one batch. A sample that no subscription matches has none.
    ///
    /// # Panics
    /// Where a host would refuse the answer, with the reason; and where the policy panics.
    #[must_use]
    pub fn direct(&self, samples: &[Sample]) -> Vec<Vec<Route>> {
        let batch = lower::lower(samples, self.subscriptions());
        let outcome = self.0.route(&batch.cells);
        let mut routes = vec![Vec::new(); samples.len()];
        match route::read(&outcome, batch.samples.len()) {
            Ok(read) => {
                read.into_iter().for_each(|(change, route)| routes[batch.samples[change]].push(route))
            }
            Err(why) => refused(&why),
        }
        routes
    }
}

impl<P: Fanout> Policy<P> {
    /// The plan of each post, all of them in one batch.
    ///
    /// # Panics
    /// Where a host would refuse the answer, with the reason; and where the policy panics.
    #[must_use]
    pub fn decide(&self, posts: &[Facts<'_>]) -> Vec<Plan> {
        fanout::read(&self.0.plan(&fanout::lower(posts)), posts.len()).unwrap_or_else(|why| refused(&why))
    }
}

impl<P: Gate> Policy<P> {
    /// Whether a connection may listen.
    ///
    /// # Errors
    /// What the gate says against it.
    ///
    /// # Panics
    /// Where a host would refuse the answer, with the reason; and where the policy panics.
    pub fn admit(&self, connection: &Connection, request: &Request) -> Result<Grant, Refusal> {
        gate::check(self.0.admit(connection, request)).unwrap_or_else(|why| refused(&why))
    }

    /// What becomes of a client's message.
    ///
    /// # Errors
    /// What the gate says against it.
    ///
    /// # Panics
    /// Where the request is for a prefix, since a message goes to one channel; where a host would refuse the answer,
    /// with the reason; and where the policy panics.
    pub fn receive(
        &self,
        connection: &Connection,
        request: &Request,
        message: &[u8],
    ) -> Result<Reception, Refusal> {
        assert!(!request.prefix, "a host hands over no message to a prefix: a message goes to one channel");
        gate::check(self.0.receive(connection, request, message)).unwrap_or_else(|why| refused(&why))
    }
}

fn refused(why: &str) -> ! {
    panic!("a host would refuse the policy's answer: {why}")
}

impl<P: Router> Policy<P> {
    /// Lowers samples once, to be asked about again and again: for benchmarks.
    #[must_use]
    pub fn lower(&self, samples: &[Sample]) -> Lowered {
        Lowered(lower::lower(samples, self.subscriptions()).cells)
    }

    /// What the router answers, as it leaves a component: neither read nor checked.
    ///
    /// # Panics
    /// Where the policy panics, and on a batch that was lowered for other subscriptions.
    #[must_use]
    pub fn direct_lowered(&self, batch: &Lowered) -> Lists {
        Lists(self.0.route(&batch.0))
    }
}

/// A batch in the lists of the interface.
#[derive(Debug)]
pub struct Lowered(Cells);

/// An answer in the lists of the interface.
#[derive(Debug)]
pub struct Lists(Outcome);

impl Lists {
    /// How many routes it has.
    #[must_use]
    pub fn routes_count(&self) -> usize {
        self.0.kinds.len()
    }
}

/// Columns of a row for a [`Sample`]: `row! { "id" => 1, "status" => "new" }`.
#[macro_export]
macro_rules! row {
    ($($column:expr => $value:expr),* $(,)?) => {
        [$(($column, $crate::Value::from($value))),*]
    };
}
