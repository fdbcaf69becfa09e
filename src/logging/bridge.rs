//! From the three logging crates in the process to lines.

use std::fmt;

use slog::Drain;
use tracing::field::{Field, Visit};
use tracing_subscriber::layer::Context;

use super::{
    FATAL,
    line::{self, Line},
    writer::WRITER,
};
use crate::config::LogLevel;

/// Events of `tracing`: our own.
pub struct Events;

impl<S: tracing::Subscriber> tracing_subscriber::Layer<S> for Events {
    fn on_event(&self, event: &tracing::Event<'_>, _: Context<'_, S>) {
        let Some(writer) = WRITER.get() else { return };
        let metadata = event.metadata();
        let level = match *metadata.level() {
            _ if metadata.target() == FATAL => LogLevel::Fatal,
            tracing::Level::ERROR => LogLevel::Error,
            tracing::Level::WARN => LogLevel::Warn,
            tracing::Level::INFO => LogLevel::Info,
            // Dependencies tell every frame at this level.
            tracing::Level::DEBUG if metadata.target().starts_with("pinion") => LogLevel::Debug,
            _ => return,
        };
        if !writer.admits(level) {
            return;
        }
        let mut line = Line::default();
        event.record(&mut Fields(&mut line));
        writer.write(level, &line::caller(metadata.file(), metadata.line()), &line);
    }
}

struct Fields<'a>(&'a mut Line);

impl Visit for Fields<'_> {
    fn record_str(&mut self, field: &Field, value: &str) {
        match field.name() {
            "message" => self.0.message(&format_args!("{value}")),
            name => self.0.text(name, value),
        }
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.0.plain(field.name(), value);
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.0.plain(field.name(), value);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.0.plain(field.name(), value);
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        if value.is_finite() {
            self.0.plain(field.name(), value);
        } else {
            self.0.text(field.name(), &value.to_string());
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        match field.name() {
            "message" => self.0.message(value),
            name => self.0.debug(name, value),
        }
    }
}

/// Records of the `log` crate: the executor's warnings.
pub struct Records;

impl log::Log for Records {
    fn enabled(&self, metadata: &log::Metadata<'_>) -> bool {
        WRITER.get().is_some_and(|writer| writer.admits(level_of_record(metadata.level())))
    }

    fn log(&self, record: &log::Record<'_>) {
        let Some(writer) = WRITER.get().filter(|_| self.enabled(record.metadata())) else { return };
        let mut line = Line::default();
        line.message(record.args());
        line.text("source", record.target());
        writer.write(level_of_record(record.level()), &line::caller(record.file(), record.line()), &line);
    }

    fn flush(&self) {}
}

fn level_of_record(level: log::Level) -> LogLevel {
    match level {
        log::Level::Error => LogLevel::Error,
        log::Level::Warn => LogLevel::Warn,
        log::Level::Info => LogLevel::Info,
        log::Level::Debug | log::Level::Trace => LogLevel::Debug,
    }
}

/// The logger to hand to raft-rs. Writes nothing while the log is not open.
pub fn raft_logger() -> slog::Logger {
    slog::Logger::root(RaftDrain.ignore_res(), slog::o!())
}

struct RaftDrain;

impl Drain for RaftDrain {
    type Ok = ();
    type Err = slog::Never;

    fn is_enabled(&self, level: slog::Level) -> bool {
        WRITER.get().is_some_and(|writer| writer.admits(level_of_raft(level)))
    }

    fn log(&self, record: &slog::Record<'_>, _: &slog::OwnedKVList) -> Result<(), slog::Never> {
        let Some(writer) = WRITER.get().filter(|_| self.is_enabled(record.level())) else { return Ok(()) };
        let mut line = Line::default();
        line.message(record.msg());
        let kept = slog::KV::serialize(&record.kv(), record, &mut RaftFields(&mut line));
        if let Err(error) = kept {
            line.text("fields", &error.to_string());
        }
        let caller = line::caller(Some(record.file()), Some(record.line()));
        writer.write(level_of_raft(record.level()), &caller, &line);
        Ok(())
    }
}

fn level_of_raft(level: slog::Level) -> LogLevel {
    match level {
        slog::Level::Critical | slog::Level::Error => LogLevel::Error,
        slog::Level::Warning => LogLevel::Warn,
        slog::Level::Info => LogLevel::Info,
        slog::Level::Debug | slog::Level::Trace => LogLevel::Debug,
    }
}

struct RaftFields<'a>(&'a mut Line);

impl slog::Serializer for RaftFields<'_> {
    fn emit_arguments(&mut self, key: slog::Key, value: &fmt::Arguments<'_>) -> slog::Result {
        self.0.text(key, &value.to_string());
        Ok(())
    }

    fn emit_u64(&mut self, key: slog::Key, value: u64) -> slog::Result {
        self.0.plain(key, value);
        Ok(())
    }

    fn emit_i64(&mut self, key: slog::Key, value: i64) -> slog::Result {
        self.0.plain(key, value);
        Ok(())
    }

    fn emit_bool(&mut self, key: slog::Key, value: bool) -> slog::Result {
        self.0.plain(key, value);
        Ok(())
    }
}
