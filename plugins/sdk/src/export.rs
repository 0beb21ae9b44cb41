//! `export!`, and what its expansion calls.
//!
//! The macro makes only what must be in the plugin's own crate: the names of the exports, and the one instance of the
//! policy. All that can be a function is one here, so that it is compiled and tested natively too.

use std::cell::OnceCell;
#[cfg(target_family = "wasm")]
use std::sync::Once;

use crate::cells::Cells;
use crate::route::Outcome;
use crate::verdict::Verdicts;
use crate::{Change, Filter, Plugin, Router, Routes, Settings, Subscription};

/// Makes a component of a plugin: the type, and the stages that it has. `export!(MyPolicy: filter, router);`
///
/// Once in a crate. Natively it only checks that the type has the traits of its stages.
#[macro_export]
macro_rules! export {
    ($plugin:ident: $($stage:ident),+ $(,)?) => {
        const _: () = {
            $($crate::__export_stage!($plugin, $stage);)+
            $crate::__export_plugin!($plugin);
        };
    };
}

/// The exports of every plugin.
#[doc(hidden)]
#[macro_export]
#[cfg(target_family = "wasm")]
macro_rules! __export_plugin {
    ($plugin:ident) => {
        ::std::thread_local! {
            static INSTANCE: $crate::export::Instance<$plugin> = const { $crate::export::Instance::new() };
        }

        struct Exported;

        impl $crate::bindings::plugin::Guest for Exported {
            fn configure(
                settings: ::std::vec::Vec<$crate::bindings::Setting>,
            ) -> ::std::result::Result<::std::vec::Vec<$crate::bindings::Subscription>, ::std::string::String>
            {
                INSTANCE.with(|instance| $crate::export::configure(instance, settings))
            }
        }

        #[allow(unsafe_code, reason = "the names of the exports")]
        const _: () = {
    $crate::bindings::base::export!(Exported with_types_in $crate::bindings::base);
        };
    };
}

/// The exports of one stage.
#[doc(hidden)]
#[macro_export]
#[cfg(target_family = "wasm")]
macro_rules! __export_stage {
    ($plugin:ident, filter) => {
        impl $crate::bindings::filter_stage::Guest for Exported {
            fn evaluate(
                batch: $crate::bindings::filter_stage::Changes,
            ) -> $crate::bindings::filter_stage::Outcome {
                INSTANCE.with(|instance| $crate::export::evaluate(instance, batch))
            }
        }

        #[allow(unsafe_code, reason = "the names of the exports")]
        const _: () = {
    $crate::bindings::filter::export!(Exported with_types_in $crate::bindings::filter);
        };
    };
    ($plugin:ident, router) => {
        impl $crate::bindings::router_stage::Guest for Exported {
            fn direct(
                batch: $crate::bindings::router_stage::Changes,
            ) -> $crate::bindings::router_stage::Outcome {
                INSTANCE.with(|instance| $crate::export::direct(instance, batch))
            }
        }

        #[allow(unsafe_code, reason = "the names of the exports")]
        const _: () = {
    $crate::bindings::router::export!(Exported with_types_in $crate::bindings::router);
        };
    };
}

/// Natively there is nothing to export.
#[doc(hidden)]
#[macro_export]
#[cfg(not(target_family = "wasm"))]
macro_rules! __export_plugin {
    ($plugin:ident) => {};
}

/// Natively a stage is only checked.
#[doc(hidden)]
#[macro_export]
#[cfg(not(target_family = "wasm"))]
macro_rules! __export_stage {
    ($plugin:ident, filter) => {
        const _: () = $crate::export::is_filter::<$plugin>();
    };
    ($plugin:ident, router) => {
        const _: () = $crate::export::is_router::<$plugin>();
    };
}

/// Compiles where `P` is a filter.
#[doc(hidden)]
pub const fn is_filter<P: Filter>() {}

/// Compiles where `P` is a router.
#[doc(hidden)]
pub const fn is_router<P: Router>() {}

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

/// `plugin.configure`.
#[cfg(target_family = "wasm")]
#[doc(hidden)]
pub fn configure<P: Plugin>(
    instance: &Instance<P>,
    settings: Vec<crate::bindings::Setting>,
) -> Result<Vec<crate::bindings::Subscription>, String> {
    log_panics();
    let settings = settings.into_iter().map(|setting| (setting.key, setting.value)).collect();
    let subscriptions = instance.configure(settings)?;
    Ok(subscriptions.iter().cloned().map(Into::into).collect())
}

/// `filter.evaluate`.
#[cfg(target_family = "wasm")]
#[doc(hidden)]
pub fn evaluate<P: Filter>(
    instance: &Instance<P>,
    batch: crate::bindings::filter_stage::Changes,
) -> crate::bindings::filter_stage::Outcome {
    log_panics();
    instance.judge(&batch.into()).into()
}

/// `router.direct`.
#[cfg(target_family = "wasm")]
#[doc(hidden)]
pub fn direct<P: Router>(
    instance: &Instance<P>,
    batch: crate::bindings::router_stage::Changes,
) -> crate::bindings::router_stage::Outcome {
    log_panics();
    instance.route(&batch.into()).into()
}

/// A panic is a trap without words; the log says them first.
#[cfg(target_family = "wasm")]
fn log_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| std::panic::set_hook(Box::new(|panic| crate::log::error(panic.to_string()))));
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
