//! Answers of filters, see `policy::verdicts`.
#![no_main]

use twohop_fuzz::policy::verdicts::{Input, check};

libfuzzer_sys::fuzz_target!(|input: Input| check(&input));
