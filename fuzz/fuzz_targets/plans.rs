//! Answers of fan-outs, see `policy::planned`.
#![no_main]

use twohop_fuzz::policy::planned::{Input, check};

libfuzzer_sys::fuzz_target!(|input: Input| check(&input));
