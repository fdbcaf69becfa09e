//! The log: one line per event in the shape etcd's tooling reads, as JSON or for people.
//!
//! Lines come from `tracing` (ours) and from the `log` crate (the executor's warnings). Both end in
//! one process-wide writer that is opened once; before that, and in tests, nothing is written. Lines are written at once and by the thread that logs, so an output that blocks (a
//! full pipe) blocks that thread, as in etcd; what repeats is sampled to bound that, also as in etcd.
//!
//! Not here: metrics, and deciding what is worth a line.

mod bridge;
mod clock;
mod line;
mod sampler;
mod writer;

use std::fmt;

use tracing_subscriber::layer::SubscriberExt;

use writer::{WRITER, Writer};

use crate::config::{self, LogLevel};

/// `error!(target: FATAL, ...)` writes the level `fatal`: what ends the process.
pub const FATAL: &str = "fatal";

#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// etcd's words for it.
    #[error("open sink {path:?}: {source}; choose another path in --log-outputs or make it writable")]
    Open { path: String, source: std::io::Error },
    #[error("the log is already open")]
    AlreadyOpen,
}

/// Opens the outputs and directs everything there. Once per process.
pub fn open(options: &config::Log) -> Result<(), Error> {
    let writer = Writer::open(options)?;
    let level = match options.level {
        LogLevel::Debug => tracing::level_filters::LevelFilter::DEBUG,
        LogLevel::Info => tracing::level_filters::LevelFilter::INFO,
        LogLevel::Warn => tracing::level_filters::LevelFilter::WARN,
        LogLevel::Error | LogLevel::Fatal => tracing::level_filters::LevelFilter::ERROR,
    };
    WRITER.set(writer).map_err(|_| Error::AlreadyOpen)?;
    let subscriber = tracing_subscriber::registry().with(bridge::Events).with(level);
    tracing::subscriber::set_global_default(subscriber).map_err(|_| Error::AlreadyOpen)?;
    log::set_logger(&bridge::Records).map_err(|_| Error::AlreadyOpen)?;
    // Dependencies log their warnings; their chatter stays off.
    log::set_max_level(log::LevelFilter::Warn);
    Ok(())
}

/// A panic is a broken law: it is logged and stops the process before anything builds on it.
pub fn stop_on_panic() {
    std::panic::set_hook(Box::new(|panic| {
        let message = panic.payload_as_str().unwrap_or("panic");
        let at = panic.location().map(ToString::to_string).unwrap_or_default();
        let backtrace = std::backtrace::Backtrace::force_capture().to_string();
        if WRITER.get().is_some() {
            tracing::error!(target: FATAL, at, stacktrace = backtrace, "panic: {message}");
        } else {
            eprintln!("panic: {message} at {at}\n{backtrace}");
        }
        std::process::abort();
    }));
}

/// A message of level `fatal` from a signal handler: it is written as it is and holds nothing that would have to be
/// escaped. Says whether an output took it.
pub fn last_words(message: &[u8]) -> bool {
    WRITER.get().is_some_and(|writer| writer.last_words(message))
}

/// A list as a JSON array: `"listen-client-urls" = ?list(&urls)`.
pub fn list<T: fmt::Display>(items: &[T]) -> impl fmt::Debug {
    let items: Vec<String> = items.iter().map(ToString::to_string).collect();
    line::Json(serde_json::Value::from(items))
}

/// A time since 1970 as the log writes it.
pub fn time(since_1970: std::time::Duration) -> String {
    clock::format(since_1970)
}

/// Named values as further fields of the line: `fields = ?object(&map)`, whatever the field's name.
pub fn object(values: &std::collections::BTreeMap<&'static str, String>) -> impl fmt::Debug {
    let values = values.iter().map(|(name, value)| (name.to_string(), value.as_str().into()));
    line::Json(serde_json::Value::Object(values.collect()))
}

#[cfg(test)]
mod tests;
