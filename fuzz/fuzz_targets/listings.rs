#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    portpool::testing::listings(bytes);
    portpool_kernel::testing::listings(bytes);
});
