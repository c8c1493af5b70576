#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| portpool::testing::owner_file(bytes));
