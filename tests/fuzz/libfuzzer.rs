//! A target under libFuzzer; which one says the name of the executable.
#![no_main]

use std::sync::LazyLock;

use slipway_fuzz::Target;

static TARGET: LazyLock<&'static Target> =
    LazyLock::new(|| slipway_fuzz::target(env!("CARGO_BIN_NAME")));

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    (TARGET.run)(bytes);
});
