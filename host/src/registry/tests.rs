//! The registry over its state, against a model; and what others need to test with it.

use std::sync::Arc;

use crate::policy::{Activation, Digest, Grants, OnFault, Profile};

/// Activations with one name and setting differ in their number alone.
pub(crate) fn activation(plugin: &str, generation: u64, setting: &str) -> Activation {
    Activation {
        plugin: Arc::from(plugin),
        generation,
        digest: Digest::of(b"component"),
        order: 0,
        settings: [("setting".to_owned(), setting.to_owned())].into(),
        grants: Grants::default(),
        profile: Profile::default(),
        on_fault: OnFault::default(),
    }
}
