//! The value of every flag and whether somebody set it, whatever the source.

use std::collections::BTreeMap;

use super::{
    Error, Notice,
    flags::{self, Flag, Renamed},
    url::Url,
    value::{Kind, Value},
};

pub struct Settings {
    values: BTreeMap<&'static str, Entry>,
}

struct Entry {
    value: Value,
    explicit: bool,
}

impl Settings {
    /// All defaults.
    pub fn new() -> Settings {
        let values = flags::all().map(|flag| {
            let value = match flag.kind {
                Kind::Choices(_) => Value::Text(flag.default.to_string()),
                kind => kind.parse(flag.default).expect("the table's defaults parse"),
            };
            (flag.name, Entry { value, explicit: false })
        });
        Settings { values: values.collect() }
    }

    /// Sets a flag from text. The error is the reason alone.
    pub fn set(&mut self, flag: &'static Flag, text: &str) -> Result<(), String> {
        let value = flag.kind.parse(text)?;
        self.set_value(flag, value);
        Ok(())
    }

    pub fn set_value(&mut self, flag: &'static Flag, value: Value) {
        let entry = self.values.get_mut(flag.name).expect("every row has a value");
        entry.explicit = true;
        match (&mut entry.value, value) {
            // As in etcd, an empty list of URLs leaves the default in place.
            (Value::Urls(_), Value::Urls(urls)) if urls.is_empty() => {}
            (Value::Gates(old), Value::Gates(new)) => old.extend(new),
            (slot, value) => *slot = value,
        }
    }

    /// Follows an `--experimental-` name to what it is called today.
    pub fn set_renamed(
        &mut self,
        name: &str,
        text: &str,
        notices: &mut Vec<Notice>,
    ) -> Option<Result<(), String>> {
        let (flag, text, today) = match flags::renamed(name)? {
            Renamed::Flag(today) => (flags::find(today)?, text.to_string(), format!("--{today}")),
            Renamed::Gate(gate) => (
                flags::find("feature-gates")?,
                format!("{gate}={text}"),
                format!("--feature-gates={gate}={text}"),
            ),
        };
        notices.push(renamed_notice(name, &today));
        Some(self.set(flag, &text))
    }

    pub fn is_explicit(&self, name: &str) -> bool {
        self.entry(name).explicit
    }

    pub fn value(&self, name: &str) -> &Value {
        &self.entry(name).value
    }

    pub fn bool(&self, name: &str) -> bool {
        match self.value(name) {
            Value::Bool(value) => *value,
            other => unreachable!("--{name} is {other:?}"),
        }
    }

    pub fn int(&self, name: &str) -> i64 {
        match self.value(name) {
            Value::Int(value) => *value,
            other => unreachable!("--{name} is {other:?}"),
        }
    }

    pub fn uint(&self, name: &str) -> u64 {
        match self.value(name) {
            Value::Uint(value) => *value,
            other => unreachable!("--{name} is {other:?}"),
        }
    }

    /// Nanoseconds.
    pub fn duration(&self, name: &str) -> i64 {
        match self.value(name) {
            Value::Duration(value) => *value,
            other => unreachable!("--{name} is {other:?}"),
        }
    }

    pub fn text(&self, name: &str) -> &str {
        match self.value(name) {
            Value::Text(value) => value,
            other => unreachable!("--{name} is {other:?}"),
        }
    }

    pub fn urls(&self, name: &str) -> &[Url] {
        match self.value(name) {
            Value::Urls(value) => value,
            other => unreachable!("--{name} is {other:?}"),
        }
    }

    pub fn list(&self, name: &str) -> &[String] {
        match self.value(name) {
            Value::List(value) => value,
            other => unreachable!("--{name} is {other:?}"),
        }
    }

    pub fn gates(&self) -> &[(String, bool)] {
        match self.value("feature-gates") {
            Value::Gates(value) => value,
            other => unreachable!("--feature-gates is {other:?}"),
        }
    }

    fn entry(&self, name: &str) -> &Entry {
        self.values.get(name).unwrap_or_else(|| unreachable!("--{name} is not in the table"))
    }
}

pub fn renamed_notice(name: &str, today: &str) -> Notice {
    Notice::warn(format!("--{name} is deprecated, use {today}"))
}

/// A duration that must not be negative, for which etcd has no text of its own.
pub fn positive(settings: &Settings, name: &str) -> Result<std::time::Duration, Error> {
    u64::try_from(settings.duration(name))
        .map(std::time::Duration::from_nanos)
        .map_err(|_| Error::Refused(format!("--{name} must not be negative")))
}
