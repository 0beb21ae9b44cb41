//! Whether a plugin's routes touch only what it was granted.
//!
//! Invariant: a route that is not covered is dropped, never followed in part; the match has no arm for the rest, so
//! that a new kind of route has to be thought about here.

use super::activation::{Grants, Pattern};
use super::answer::{Directed, Routes};
use super::route::{CacheKeys, Kind, Route};

impl Grants {
    /// Whether a plugin with these grants may have a route followed.
    #[must_use]
    pub fn cover(&self, route: &Route) -> bool {
        match route {
            Route::Channel { channel, .. } => any(&self.channels, channel.as_str()),
            Route::Audience(_)
            | Route::Inbox { .. }
            | Route::Retract { .. }
            | Route::Follow { .. }
            | Route::Unfollow { .. } => self.audience,
            Route::Cache(CacheKeys::One(key)) => any(&self.cache, key),
            Route::Cache(CacheKeys::Prefix(prefix)) => {
                self.cache.iter().any(|granted| granted.covers(prefix))
            }
            Route::Topic { topic, .. } => any(&self.topics, topic),
        }
    }

    /// Drops the routes from that one on that are not covered, and says how many these are.
    pub(super) fn drop_uncovered(&self, routes: &mut Routes, from: usize) -> usize {
        // The commonest, without a look at its name.
        let every_channel = self.channels.iter().any(Pattern::is_every);
        routes.drop_from(from, |directed| self.covers(directed, every_channel))
    }

    fn covers(&self, directed: &Directed<'_>, every_channel: bool) -> bool {
        if every_channel && directed.kind() == Kind::Channel {
            return true;
        }
        match directed.channel_name() {
            Some(name) => any(&self.channels, name),
            None => self.cover(&directed.route()),
        }
    }
}

fn any(granted: &[Pattern], name: &str) -> bool {
    granted.iter().any(|granted| granted.matches(name))
}

#[cfg(test)]
mod tests {
    use super::super::answer::routes_of;
    use super::super::route::{Entry, Payload};
    use super::*;
    use crate::event::{Channel, Micros, Retention};

    fn grants(channels: &[&str], topics: &[&str], cache: &[&str]) -> Grants {
        let patterns = |texts: &[&str]| texts.iter().map(|text| text.parse().expect("a pattern")).collect();
        Grants {
            channels: patterns(channels),
            audience: false,
            topics: patterns(topics),
            cache: patterns(cache),
        }
    }

    fn channel(name: &str) -> Route {
        Route::Channel {
            channel: Channel::new(name).expect("it is one"),
            event: "".into(),
            payload: Payload::Nothing,
            retention: Retention::Kept,
        }
    }

    fn topic(topic: &str) -> Route {
        Route::Topic { topic: topic.into(), key: "".into(), payload: Payload::Nothing }
    }

    #[test]
    fn by_default_every_channel_is_granted_and_nothing_else() {
        let default = Grants::default();
        assert!(default.cover(&channel("orders:1")));
        let entry =
            Box::new(Entry { author: "a".into(), item: "1".into(), payload: Payload::Row, time: Micros(0) });
        let user = || "u".into();
        for refused in [
            Route::Audience(entry.clone()),
            Route::Inbox { user: user(), entry },
            Route::Retract { author: user(), item: user() },
            Route::Follow { follower: user(), followee: user() },
            Route::Unfollow { follower: user(), followee: user() },
            Route::Cache(CacheKeys::One(user())),
            Route::Cache(CacheKeys::Prefix("".into())),
            topic("t"),
        ] {
            assert!(!default.cover(&refused), "{refused}");
        }
        assert!(Grants { audience: true, ..default }.cover(&Route::Retract { author: user(), item: user() }));
    }

    #[test]
    fn what_a_pattern_covers_is_granted() {
        let some = grants(&["orders:*", "news"], &["out"], &["user:*"]);
        assert!(some.cover(&channel("orders:1")) && some.cover(&channel("news")));
        assert!(!some.cover(&channel("orders")) && !some.cover(&channel("news:1")));
        assert!(some.cover(&topic("out")) && !some.cover(&topic("outer")));
        assert!(some.cover(&Route::Cache(CacheKeys::One("user:1".into()))));
        assert!(some.cover(&Route::Cache(CacheKeys::Prefix("user:1".into()))));
        assert!(!some.cover(&Route::Cache(CacheKeys::Prefix("use".into()))));
    }

    #[test]
    fn only_what_is_not_covered_is_dropped_and_only_from_there_on() {
        let names = ["b", "a:1", "b", "a:2", "b"].into_iter().enumerate();
        let mut routes = routes_of(names.map(|(at, name)| (at, 0, channel(name))));
        assert_eq!(grants(&["a:*"], &[], &[]).drop_uncovered(&mut routes, 1), 2);
        let left: Vec<_> = routes.iter().map(|directed| directed.change()).collect();
        assert_eq!(left, [0, 1, 3]);
        assert_eq!(Grants::default().drop_uncovered(&mut routes, 0), 0);
    }
}
