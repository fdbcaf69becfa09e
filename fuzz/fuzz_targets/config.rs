//! Flags and environment variables, separated by zero bytes: any text gives a configuration or an error.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pinion::config;

fuzz_target!(|bytes: &[u8]| {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    // A configuration file would be read from this machine's disk.
    if text.contains("config-file") || text.contains("CONFIG_FILE") {
        return;
    }
    let words: Vec<&str> = text.split('\0').collect();
    let (args, variables) = words.split_at(words.len() / 2);
    let args: Vec<_> = args.iter().map(Into::into).collect();
    let variables: Vec<_> = variables
        .iter()
        .filter_map(|pair| pair.split_once('='))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
    drop(config::load(&args, &variables));
});
