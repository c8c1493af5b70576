#![no_main]
#![allow(
    dead_code,
    reason = "files of a program, of which this looks at a part"
)]

#[path = "../../crates/portpool-cli/src/grant.rs"]
mod grant;
#[path = "../../crates/portpool-cli/src/selectors.rs"]
mod selectors;
#[path = "../../crates/portpool-cli/src/template.rs"]
mod template;
#[path = "../../crates/portpool-cli/src/testing.rs"]
mod testing;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| testing::template(bytes));
