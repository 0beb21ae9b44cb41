//! Messages of the replication connection, see `pgoutput`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| twohop_fuzz::pgoutput::check(data));
