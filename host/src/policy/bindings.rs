//! What `wit/policy.wit` means in Rust, generated.
//!
//! Lists go in borrowed, so that a batch is copied once: from its buffers into the guest's memory.
//! Absent on purpose: the whole-world binding is generated, but not used, since it refuses a plugin that lacks a stage.
#![allow(missing_docs, unreachable_pub, reason = "generated")]

wasmtime::component::bindgen!({
    path: "../wit",
    world: "policy-plugin",
    ownership: Borrowing { duplicate_if_necessary: false },
});
