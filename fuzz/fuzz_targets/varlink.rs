#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| portpool_fuzz::varlink(bytes));
