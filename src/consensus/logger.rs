//! Hands raft-rs's slog records to `tracing`. Its routine per-message lines stay at debug level.

use slog::{Drain, KV, Level, Logger, Never, OwnedKVList, Record};
use tracing::{debug, error, info, trace, warn};

struct ToTracing;

#[derive(Default)]
struct Fields(String);

impl slog::Serializer for Fields {
    fn emit_arguments(&mut self, key: slog::Key, value: &std::fmt::Arguments<'_>) -> slog::Result {
        use std::fmt::Write;
        write!(self.0, " {key}={value}").map_err(slog::Error::from)
    }
}

impl Drain for ToTracing {
    type Ok = ();
    type Err = Never;

    fn log(&self, record: &Record<'_>, _: &OwnedKVList) -> Result<(), Never> {
        let enabled = match record.level() {
            Level::Critical | Level::Error => true,
            Level::Warning => tracing::enabled!(tracing::Level::WARN),
            Level::Info => tracing::enabled!(tracing::Level::INFO),
            Level::Debug => tracing::enabled!(tracing::Level::DEBUG),
            Level::Trace => tracing::enabled!(tracing::Level::TRACE),
        };
        if !enabled {
            return Ok(());
        }
        let mut fields = Fields::default();
        if record.kv().serialize(record, &mut fields).is_err() {
            fields.0.push_str(" (fields lost)");
        }
        let text = format!("{}{}", record.msg(), fields.0);
        match record.level() {
            Level::Critical | Level::Error => error!(target: "raft", "{text}"),
            Level::Warning => warn!(target: "raft", "{text}"),
            Level::Info => info!(target: "raft", "{text}"),
            Level::Debug => debug!(target: "raft", "{text}"),
            Level::Trace => trace!(target: "raft", "{text}"),
        }
        Ok(())
    }
}

pub fn logger() -> Logger {
    Logger::root(ToTracing.fuse(), slog::o!())
}
