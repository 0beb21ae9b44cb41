//! What routes delete from the cache.
//!
//! In: the routes of a batch. Out: what is stale by them, each once, in the order of the changes; the other routes are
//! left.

use std::collections::HashSet;

use crate::event::Stale;
use crate::policy::{CacheKeys, Kind, Route, Routes};

/// Takes the routes to the cache out of `routes`.
///
/// To delete a key once for a whole batch is enough: all of its changes are committed by then.
pub fn take_stale(routes: &mut Routes) -> Vec<Stale> {
    let mut seen = HashSet::new();
    let stale = routes.take(|kind| kind == Kind::Cache).filter_map(|(_, route)| match route {
        Route::Cache(CacheKeys::One(key)) => Some(Stale::Key(key)),
        Route::Cache(CacheKeys::Prefix(prefix)) => Some(Stale::Prefix(prefix)),
        _ => None,
    });
    stale.filter(|stale| seen.insert(stale.clone())).collect()
}

#[cfg(test)]
mod tests {
    use super::super::tests::directed;
    use super::*;
    use crate::policy::{Payload, routes_of};

    #[test]
    fn routes_to_the_cache_are_taken_each_once_in_order_and_the_others_are_left() {
        let key = |name: &str| Route::Cache(CacheKeys::One(name.into()));
        let prefix = |name: &str| Route::Cache(CacheKeys::Prefix(name.into()));
        let mut routes = routes_of([
            (0, 0, key("b")),
            directed(0, 0, "a", Payload::Row),
            (0, 1, key("b")),
            (1, 0, prefix("b")),
            (2, 0, key("a")),
            (3, 0, prefix("b")),
        ]);
        let stale = take_stale(&mut routes);
        assert_eq!(routes, routes_of([directed(0, 0, "a", Payload::Row)]));
        assert_eq!(stale, [Stale::Key("b".into()), Stale::Prefix("b".into()), Stale::Key("a".into())]);
    }
}
