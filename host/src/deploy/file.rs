//! The configuration file, applied when it changes.
//!
//! In: what it said at the last start, what it says now, what is active. Out: what is to be done. Pure.
//!
//! Invariant: what the file says about a plugin is done once, when it says something new. An activation or a roll-back
//! by HTTP therefore outlives restarts, until somebody edits the plugin's part of the file or its component.

use std::sync::Arc;

use super::Request;
use crate::policy::Activation;

/// What the file wants changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Wish {
    /// This is to judge, as a new generation.
    Put(Request),
    /// The plugin of this name is to judge no more.
    Remove(Arc<str>),
}

/// What is to be done so that what is new in the file holds. The generations in `before` say nothing.
pub(super) fn wishes(before: &[Activation], now: &[Request], active: &[Activation]) -> Vec<Wish> {
    let find = |all: &[Activation], name: &str| all.iter().find(|one| *one.plugin == *name).map(Request::of);
    let gone = before.iter().filter(|said| now.iter().all(|request| request.plugin != said.plugin));
    let removed = gone.filter(|said| find(active, &said.plugin).is_some());
    let removed = removed.map(|said| Wish::Remove(said.plugin.clone()));
    let is_new = |request: &&Request| find(before, &request.plugin).as_ref() != Some(*request);
    let is_wanted = |request: &&Request| find(active, &request.plugin).as_ref() != Some(*request);
    let put = now.iter().filter(is_new).filter(is_wanted).cloned().map(Wish::Put);
    removed.chain(put).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::Digest;

    fn request(plugin: &str, setting: &str) -> Request {
        let settings = [("setting".to_owned(), setting.to_owned())].into();
        Request { settings, ..Request::new(plugin, Digest::of(b"component")) }
    }

    /// Each argument is (plugin, setting).
    fn wishes_of(before: &[(&str, &str)], now: &[(&str, &str)], active: &[(&str, &str)]) -> Vec<Wish> {
        let requests = |all: &[(&str, &str)]| -> Vec<_> {
            all.iter().map(|(plugin, setting)| request(plugin, setting)).collect()
        };
        let activations = |all: &[(&str, &str)], generation| -> Vec<_> {
            requests(all).iter().map(|request| request.activation(generation)).collect()
        };
        wishes(&activations(before, 0), &requests(now), &activations(active, 7))
    }

    #[test]
    fn a_plugin_that_is_new_in_the_file_is_activated() {
        assert_eq!(wishes_of(&[], &[("p", "1")], &[]), [Wish::Put(request("p", "1"))]);
    }

    #[test]
    fn what_the_file_said_before_is_not_done_again_whatever_was_activated_since() {
        assert_eq!(wishes_of(&[("p", "1")], &[("p", "1")], &[("p", "1")]), []);
        assert_eq!(wishes_of(&[("p", "1")], &[("p", "1")], &[("p", "2")]), []);
        assert_eq!(wishes_of(&[("p", "1")], &[("p", "1")], &[]), []);
    }

    #[test]
    fn what_changed_in_the_file_is_activated_unless_it_is_already() {
        assert_eq!(wishes_of(&[("p", "1")], &[("p", "2")], &[("p", "9")]), [Wish::Put(request("p", "2"))]);
        assert_eq!(wishes_of(&[("p", "1")], &[("p", "2")], &[("p", "2")]), []);
    }

    #[test]
    fn a_plugin_that_left_the_file_is_deactivated_and_one_that_never_was_in_it_stays() {
        let active = [("p", "1"), ("uploaded", "1")];
        assert_eq!(wishes_of(&[("p", "1")], &[], &active), [Wish::Remove("p".into())]);
        assert_eq!(wishes_of(&[("p", "1")], &[], &[("uploaded", "1")]), []);
    }
}
