//! One event as one line: zap's JSON, or its console form.

use std::fmt::{self, Write};

use crate::config::{LogFormat, LogLevel};

/// A value that is JSON already; [`Line::debug`] recognises the mark and checks the rest.
pub struct Json(pub serde_json::Value);

const JSON_MARK: char = '\u{1}';

impl fmt::Debug for Json {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{JSON_MARK}{}", self.0)
    }
}

/// An event while its parts are gathered.
#[derive(Debug, Default)]
pub struct Line {
    message: String,
    /// Encoded `"name":value` pairs.
    fields: Vec<String>,
}

impl Line {
    pub fn message(&mut self, text: &dyn fmt::Debug) {
        self.message.clear();
        push(&mut self.message, format_args!("{text:?}"));
    }

    pub fn text(&mut self, name: &str, value: &str) {
        let mut field = String::with_capacity(name.len() + value.len() + 5);
        quote(&mut field, name);
        field.push(':');
        quote(&mut field, value);
        self.fields.push(field);
    }

    /// A number or a boolean.
    pub fn plain(&mut self, name: &str, value: impl fmt::Display) {
        let mut field = String::new();
        quote(&mut field, name);
        push(&mut field, format_args!(":{value}"));
        self.fields.push(field);
    }

    pub fn debug(&mut self, name: &str, value: &dyn fmt::Debug) {
        let mut text = String::new();
        push(&mut text, format_args!("{value:?}"));
        // What only looks like JSON, perhaps because a client sent it, stays a text.
        match text
            .strip_prefix(JSON_MARK)
            .and_then(|json| serde_json::from_str::<serde_json::Value>(json).ok())
        {
            // An object's members become fields of the line itself.
            Some(serde_json::Value::Object(members)) => {
                members.iter().for_each(|(name, value)| self.plain(name, value));
            }
            Some(json) => self.plain(name, json),
            None => self.text(name, &text),
        }
    }

    /// The finished line, with its newline.
    pub fn finish(&self, format: LogFormat, level: LogLevel, time: &str, caller: &str, out: &mut String) {
        let level = match level {
            LogLevel::Debug => "debug",
            LogLevel::Info => "info",
            LogLevel::Warn => "warn",
            LogLevel::Error => "error",
            LogLevel::Fatal => "fatal",
        };
        match format {
            LogFormat::Json => {
                push(out, format_args!("{{\"level\":\"{level}\",\"ts\":\"{time}\",\"caller\":"));
                quote(out, caller);
                out.push_str(",\"msg\":");
                quote(out, &self.message);
                for field in &self.fields {
                    out.push(',');
                    out.push_str(field);
                }
                out.push('}');
            }
            LogFormat::Console => {
                push(out, format_args!("{time}\t{level}\t{caller}\t{}", self.message.replace('\n', "\\n")));
                if !self.fields.is_empty() {
                    push(out, format_args!("\t{{{}}}", self.fields.join(", ")));
                }
            }
        }
        out.push('\n');
    }

    pub fn message_text(&self) -> &str {
        &self.message
    }
}

fn push(out: &mut String, text: fmt::Arguments<'_>) {
    // A String takes everything; only a broken Display can fail, and its line is kept as far as it got.
    if out.write_fmt(text).is_err() {
        out.push_str("<unprintable>");
    }
}

fn quote(out: &mut String, text: &str) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if c < ' ' || c == '\u{7f}' => push(out, format_args!("\\u{:04x}", u32::from(c))),
            c => out.push(c),
        }
    }
    out.push('"');
}

/// The last two parts of a source path with the line, as zap's short caller.
pub fn caller(file: Option<&str>, line: Option<u32>) -> String {
    let Some(file) = file else { return "unknown".to_string() };
    let start = file.rmatch_indices('/').nth(1).map_or(0, |(at, _)| at + 1);
    format!("{}:{}", &file[start..], line.unwrap_or(0))
}
