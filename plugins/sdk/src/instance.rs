//! The one policy of an instance, and how a whole batch goes through it.
//!
//! In: settings, then lists of the interface. Out: lists of the interface. Between them the policy is asked about one
//! change, post or request at a time. Compiled natively too, where the testing kit calls it.

use std::cell::OnceCell;

use crate::cells::Cells;
use crate::fanout::Posts;
use crate::route::Outcome;
use crate::verdict::Verdicts;
use crate::{
    Change, Connection, Fanout, Filter, Gate, Grant, Plugin, Reception, Refusal, Request, Router, Routes,
    Settings, Subscription,
};

/// The one policy of an instance, with what it subscribed to.
#[doc(hidden)]
#[derive(Debug)]
pub struct Instance<P>(OnceCell<(P, Vec<Subscription>)>);

impl<P: Plugin> Instance<P> {
    /// Not configured yet.
    #[doc(hidden)]
    #[must_use]
    pub const fn new() -> Self {
        Self(OnceCell::new())
    }

    pub(crate) fn configure(&self, settings: Vec<(String, String)>) -> Result<&[Subscription], String> {
        let settings = Settings::new(settings);
        let configured = P::configure(&settings)?;
        settings.refuse_unknown()?;
        if self.0.set(configured).is_err() {
            return Err("this instance is configured already".to_owned());
        }
        Ok(self.subscriptions())
    }

    pub(crate) fn subscriptions(&self) -> &[Subscription] {
        &self.configured().1
    }

    fn configured(&self) -> &(P, Vec<Subscription>) {
        match self.0.get() {
            Some(configured) => configured,
            None => panic!("the plugin was called before `configure`"),
        }
    }
}

impl<P: Plugin> Default for Instance<P> {
    fn default() -> Self {
        Self::new()
    }
}

impl<P: Filter> Instance<P> {
    /// The verdicts of a batch.
    pub(crate) fn judge(&self, cells: &Cells) -> Verdicts {
        let (policy, subscriptions) = self.configured();
        let mut verdicts = Verdicts::for_batch(cells.operations.len());
        for index in 0..cells.operations.len() {
            let change = Change::new(cells, subscriptions, index);
            let verdict = policy.evaluate(&change, &mut verdicts.masks());
            verdicts.push(&verdict);
        }
        verdicts
    }
}

impl<P: Router> Instance<P> {
    /// The routes of a batch.
    pub(crate) fn route(&self, cells: &Cells) -> Outcome {
        let (policy, subscriptions) = self.configured();
        let mut routes = Routes::for_batch(cells.operations.len());
        for index in 0..cells.operations.len() {
            let change = Change::new(cells, subscriptions, index);
            routes.begin(index, change.committed_at());
            policy.direct(&change, &mut routes);
        }
        routes.into_outcome()
    }
}

impl<P: Fanout> Instance<P> {
    /// The plans of a batch of posts.
    pub(crate) fn plan(&self, posts: &Posts) -> Vec<u8> {
        let (policy, _) = self.configured();
        (0..posts.len()).map(|index| policy.decide(&posts.facts(index)).number()).collect()
    }
}

impl<P: Gate> Instance<P> {
    /// Whether a connection may listen.
    pub(crate) fn admit(&self, connection: &Connection, request: &Request) -> Result<Grant, Refusal> {
        self.configured().0.admit(connection, request)
    }

    /// What becomes of a message.
    pub(crate) fn receive(
        &self,
        connection: &Connection,
        request: &Request,
        message: &[u8],
    ) -> Result<Reception, Refusal> {
        self.configured().0.receive(connection, request, message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Quiet;

    impl Plugin for Quiet {
        fn configure(settings: &Settings) -> crate::Configured<Self> {
            settings.get("volume");
            Ok((Self, vec![Subscription::table("orders")]))
        }
    }

    impl Router for Quiet {
        fn direct(&self, _: &Change<'_>, _: &mut Routes) {}
    }

    #[test]
    fn a_setting_that_the_plugin_does_not_read_is_refused_and_leaves_it_unconfigured() {
        let instance = Instance::<Quiet>::new();
        let error = instance.configure(vec![("volum".to_owned(), "1".to_owned())]).unwrap_err();
        assert_eq!(error, "the setting `volum` is not known: this plugin knows `volume`");
        assert!(instance.configure(Vec::new()).is_ok());
    }

    #[test]
    fn an_instance_is_configured_once() {
        let instance = Instance::<Quiet>::new();
        assert!(instance.configure(Vec::new()).is_ok());
        assert!(instance.configure(Vec::new()).unwrap_err().contains("configured already"));
    }

    #[test]
    #[should_panic(expected = "before `configure`")]
    fn a_call_before_configure_panics() {
        Instance::<Quiet>::new().route(&Cells::default());
    }
}
