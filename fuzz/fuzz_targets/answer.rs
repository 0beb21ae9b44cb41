//! Answers of routers, see `policy::outcome`.
#![no_main]

use twohop_fuzz::policy::outcome::{Input, check};

libfuzzer_sys::fuzz_target!(|input: Input| check(&input));
