//! Records of the change log, see `records`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| twohop_fuzz::records::check(data));
