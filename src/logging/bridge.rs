//! From the two logging crates in the process to lines.

use std::fmt;

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
            tracing::Level::DEBUG if is_ours(metadata.target()) => LogLevel::Debug,
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

fn is_ours(target: &str) -> bool {
    target.starts_with("pinion") || target == "raft"
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
