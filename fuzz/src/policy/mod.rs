//! The policy's ways in and out of a plugin, without a plugin.

#[path = "../../../host/src/policy/answer.rs"]
#[allow(dead_code, unreachable_pub, missing_docs, reason = "only parts are used")]
mod answer;
#[path = "../../../host/src/policy/batch.rs"]
#[allow(dead_code, reason = "only parts are used")]
mod batch;
mod bindings;
#[path = "../../../host/src/policy/error.rs"]
#[allow(dead_code, unreachable_pub, missing_docs, reason = "only parts are used")]
mod error;
#[path = "../../../host/src/policy/subscription.rs"]
#[allow(dead_code, unreachable_pub, missing_docs, reason = "only parts are used")]
mod subscription;

pub mod lowered;
pub mod outcome;
