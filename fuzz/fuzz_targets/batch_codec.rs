//! Batches for plugins, see `policy::lowered`.
#![no_main]

use twohop_fuzz::policy::lowered::{Input, check};

libfuzzer_sys::fuzz_target!(|input: Input| check(&input));
