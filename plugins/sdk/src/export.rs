//! `export!`, and what its expansion calls.
//!
//! The macro makes only what must be in the plugin's own crate: the names of the exports, and the one instance of the
//! policy. All that can be a function is one here, so that it is compiled and tested natively too.

#[cfg(target_family = "wasm")]
use std::sync::Once;

#[cfg(target_family = "wasm")]
use crate::Plugin;
#[doc(hidden)]
pub use crate::instance::Instance;
use crate::{Fanout, Filter, Gate, Router};

/// Makes a component of a plugin: the type, and the stages that it has, of `filter`, `router`, `fanout` and `gate`.
/// `export!(MyPolicy: filter, router);`
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
    ($plugin:ident, fanout) => {
        impl $crate::bindings::fanout_stage::Guest for Exported {
            fn decide(posts: $crate::bindings::fanout_stage::Posts) -> ::std::vec::Vec<u8> {
                INSTANCE.with(|instance| $crate::export::decide(instance, posts))
            }
        }

        #[allow(unsafe_code, reason = "the names of the exports")]
        const _: () = {
    $crate::bindings::fanout::export!(Exported with_types_in $crate::bindings::fanout);
        };
    };
    ($plugin:ident, gate) => {
        impl $crate::bindings::gate_stage::Guest for Exported {
            fn admit(
                connection: $crate::bindings::gate_stage::Connection,
                request: $crate::bindings::gate_stage::Request,
            ) -> ::std::result::Result<
                $crate::bindings::gate_stage::Grant,
                $crate::bindings::gate_stage::Refusal,
            > {
                INSTANCE.with(|instance| $crate::export::admit(instance, connection, request))
            }

            fn receive(
                connection: $crate::bindings::gate_stage::Connection,
                request: $crate::bindings::gate_stage::Request,
                message: ::std::vec::Vec<u8>,
            ) -> ::std::result::Result<
                $crate::bindings::gate_stage::Reception,
                $crate::bindings::gate_stage::Refusal,
            > {
                INSTANCE.with(|instance| $crate::export::receive(instance, connection, request, &message))
            }
        }

        #[allow(unsafe_code, reason = "the names of the exports")]
        const _: () = {
    $crate::bindings::gate::export!(Exported with_types_in $crate::bindings::gate);
        };
    };
    ($plugin:ident, $unknown:ident) => {
        $crate::__no_such_stage!($unknown);
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
    ($plugin:ident, fanout) => {
        const _: () = $crate::export::is_fanout::<$plugin>();
    };
    ($plugin:ident, gate) => {
        const _: () = $crate::export::is_gate::<$plugin>();
    };
    ($plugin:ident, $unknown:ident) => {
        $crate::__no_such_stage!($unknown);
    };
}

/// What the compiler says of a stage that there is not.
#[doc(hidden)]
#[macro_export]
macro_rules! __no_such_stage {
    ($unknown:ident) => {
        ::std::compile_error!(::std::concat!(
            "there is no stage `",
            ::std::stringify!($unknown),
            "`: there are `filter`, `router`, `fanout` and `gate`"
        ));
    };
}

/// Compiles where `P` is a filter.
#[doc(hidden)]
pub const fn is_filter<P: Filter>() {}

/// Compiles where `P` is a router.
#[doc(hidden)]
pub const fn is_router<P: Router>() {}

/// Compiles where `P` is a fan-out.
#[doc(hidden)]
pub const fn is_fanout<P: Fanout>() {}

/// Compiles where `P` is a gate.
#[doc(hidden)]
pub const fn is_gate<P: Gate>() {}

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

/// `fanout.decide`.
#[cfg(target_family = "wasm")]
#[doc(hidden)]
pub fn decide<P: Fanout>(instance: &Instance<P>, posts: crate::bindings::fanout_stage::Posts) -> Vec<u8> {
    log_panics();
    instance.plan(&posts.into())
}

/// `gate.admit`.
#[cfg(target_family = "wasm")]
#[doc(hidden)]
pub fn admit<P: Gate>(
    instance: &Instance<P>,
    connection: crate::bindings::gate_stage::Connection,
    request: crate::bindings::gate_stage::Request,
) -> Result<crate::bindings::gate_stage::Grant, crate::bindings::gate_stage::Refusal> {
    log_panics();
    instance.admit(&connection.into(), &request.into()).map(Into::into).map_err(Into::into)
}

/// `gate.receive`.
#[cfg(target_family = "wasm")]
#[doc(hidden)]
pub fn receive<P: Gate>(
    instance: &Instance<P>,
    connection: crate::bindings::gate_stage::Connection,
    request: crate::bindings::gate_stage::Request,
    message: &[u8],
) -> Result<crate::bindings::gate_stage::Reception, crate::bindings::gate_stage::Refusal> {
    log_panics();
    instance.receive(&connection.into(), &request.into(), message).map(Into::into).map_err(Into::into)
}

/// A panic is a trap without words; the log says them first.
#[cfg(target_family = "wasm")]
fn log_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| std::panic::set_hook(Box::new(|panic| crate::log::error(panic.to_string()))));
}
