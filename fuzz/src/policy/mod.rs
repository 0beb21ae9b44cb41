//! The policy's ways in and out of a plugin, without a plugin.
//!
//! What is here besides the checks stands in for what the host's files name of others.

#[path = "../../../host/src/policy/answer/mod.rs"]
#[allow(dead_code, unreachable_pub, unused_imports, missing_docs, reason = "only parts are used")]
mod answer;
#[path = "../../../host/src/policy/batch.rs"]
#[allow(dead_code, reason = "only parts are used")]
mod batch;
mod bindings;
#[path = "../../../host/src/policy/error.rs"]
#[allow(dead_code, unreachable_pub, missing_docs, reason = "only parts are used")]
mod error;
#[path = "../../../host/src/policy/matches.rs"]
#[allow(dead_code, reason = "only parts are used")]
mod matches;
#[path = "../../../host/src/policy/profile.rs"]
#[allow(dead_code, reason = "only parts are used")]
mod profile;
#[path = "../../../host/src/policy/route.rs"]
#[allow(dead_code, unreachable_pub, missing_docs, reason = "only parts are used")]
mod route;
#[path = "../../../host/src/policy/subscription.rs"]
#[allow(dead_code, unreachable_pub, missing_docs, reason = "only parts are used")]
mod subscription;

mod handed;
pub mod lowered;
pub mod outcome;
pub mod planned;
mod spans;
pub mod verdicts;

/// Stands in for the profile of `activation`.
#[derive(Debug, Clone, Copy)]
#[allow(dead_code, reason = "nothing is loaded here")]
enum Profile {
    Small,
    Large,
}

impl Profile {
    fn as_str(self) -> &'static str {
        match self {
            Self::Small => "small",
            Self::Large => "large",
        }
    }
}

/// Stands in for the room of instances.
mod instance {
    /// As the engine's side has it.
    #[derive(Debug)]
    pub(super) enum Stage {}

    impl std::fmt::Display for Stage {
        fn fmt(&self, _: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            match *self {}
        }
    }
}
