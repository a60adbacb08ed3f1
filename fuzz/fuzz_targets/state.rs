#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| plegd_fuzz::state::check(bytes));
