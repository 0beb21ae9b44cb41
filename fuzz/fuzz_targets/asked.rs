//! What clients ask for, see `gateway`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| twohop_fuzz::gateway::check_asked(bytes));
