//! The encoder that the decoder's own tests use.

#[path = "../../../host/src/source/postgres/tests/encode.rs"]
#[allow(dead_code, reason = "only parts are used")]
pub(super) mod encode;
