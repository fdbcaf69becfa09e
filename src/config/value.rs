//! Values as Go's `flag` and `strconv` packages read them, so that a command line that works with
//! etcd means the same here.

use super::url::{self, Url};

/// What a flag holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Bool,
    Int,
    Uint,
    Uint32,
    /// Go's `1h30m`, `100ms`.
    Duration,
    Text,
    /// One of the given words.
    Choice(&'static [&'static str]),
    /// Comma-separated words out of the given ones.
    Choices(&'static [&'static str]),
    /// Comma-separated, sorted, without duplicates; the empty text keeps the default.
    Urls,
    /// As `Urls`; the given text is also accepted and stands for itself.
    UrlsOr(&'static str),
    /// Comma-separated, in order.
    List,
    /// Comma-separated, sorted, without duplicates.
    Set,
    /// `name=bool` pairs.
    Gates,
}

/// A parsed flag value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    Bool(bool),
    Int(i64),
    Uint(u64),
    /// Nanoseconds, as Go's `time.Duration`.
    Duration(i64),
    Text(String),
    Urls(Vec<Url>),
    List(Vec<String>),
    /// Named switches in the order given.
    Gates(Vec<(String, bool)>),
}

const SYNTAX: &str = "parse error";
/// Go's `strconv.ErrRange`.
pub const RANGE: &str = "value out of range";

impl Kind {
    /// May the flag stand alone, without a value?
    pub fn is_switch(self) -> bool {
        matches!(self, Kind::Bool)
    }

    /// The error is the text Go prints behind `invalid value "..." for flag -name: `.
    pub fn parse(self, text: &str) -> Result<Value, String> {
        match self {
            Kind::Bool => parse_bool(text).map(Value::Bool).ok_or_else(|| SYNTAX.to_string()),
            Kind::Int => parse_int(text).map(Value::Int).map_err(str::to_string),
            Kind::Uint => parse_uint(text, u64::MAX).map(Value::Uint).map_err(str::to_string),
            Kind::Uint32 => parse_uint(text, u64::from(u32::MAX)).map(Value::Uint).map_err(|error| {
                let error = if error == SYNTAX { "invalid syntax" } else { error };
                format!("strconv.ParseUint: parsing {text:?}: {error}")
            }),
            Kind::Duration => parse_duration(text).map(Value::Duration).ok_or_else(|| SYNTAX.to_string()),
            Kind::Text => Ok(Value::Text(text.to_string())),
            Kind::Choice(words) if words.contains(&text) => Ok(Value::Text(text.to_string())),
            Kind::Choice(_) => Err("invalid value".to_string()),
            Kind::Choices(words) => match text.split(',').find(|word| !words.contains(word)) {
                Some(word) => Err(format!("invalid value {word:?}")),
                None => Ok(Value::Text(text.to_string())),
            },
            Kind::Urls => url::parse_list(text).map(Value::Urls),
            Kind::UrlsOr(word) if text == word || text.is_empty() => Ok(Value::Text(text.to_string())),
            Kind::UrlsOr(_) => url::parse_list(text).map(Value::Urls),
            Kind::List => Ok(Value::List(split(text))),
            Kind::Set => {
                let mut words = split(text);
                words.sort();
                words.dedup();
                Ok(Value::List(words))
            }
            Kind::Gates => parse_gates(text).map(Value::Gates),
        }
    }
}

fn split(text: &str) -> Vec<String> {
    if text.is_empty() { Vec::new() } else { text.split(',').map(str::to_string).collect() }
}

/// Go's `strconv.ParseBool`.
pub fn parse_bool(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}

/// Go's `strconv.ParseUint(text, 0, 64)`: base by prefix, underscores between digits.
fn parse_uint(text: &str, max: u64) -> Result<u64, &'static str> {
    let lower = text.to_ascii_lowercase();
    let (base, digits, prefixed) = match lower.as_bytes() {
        [b'0', b'x', ..] => (16, &lower[2..], true),
        [b'0', b'o', ..] => (8, &lower[2..], true),
        [b'0', b'b', ..] => (2, &lower[2..], true),
        [b'0', _, ..] => (8, &lower[1..], true),
        _ => (10, &lower[..], false),
    };
    let mut number: u64 = 0;
    let mut too_large = false;
    // An underscore may stand only between digits, or between a base prefix and a digit.
    let mut underscore_allowed = prefixed;
    let mut digit_seen = false;
    for c in digits.chars() {
        if c == '_' && underscore_allowed {
            underscore_allowed = false;
            digit_seen = false;
            continue;
        }
        let digit = c.to_digit(base).ok_or(SYNTAX)?;
        match number.checked_mul(u64::from(base)).and_then(|n| n.checked_add(u64::from(digit))) {
            Some(next) => number = next,
            None => too_large = true,
        }
        underscore_allowed = true;
        digit_seen = true;
    }
    if !digit_seen {
        return Err(SYNTAX);
    }
    if too_large || number > max { Err(RANGE) } else { Ok(number) }
}

fn parse_int(text: &str) -> Result<i64, &'static str> {
    let (negative, digits) = match text.as_bytes() {
        [b'-', ..] => (true, &text[1..]),
        [b'+', ..] => (false, &text[1..]),
        _ => (false, text),
    };
    let magnitude = parse_uint(digits, u64::MAX)?;
    let number = if negative { -i128::from(magnitude) } else { i128::from(magnitude) };
    i64::try_from(number).map_err(|_| RANGE)
}

/// Go's `time.ParseDuration`, in nanoseconds.
pub fn parse_duration(text: &str) -> Option<i64> {
    let (negative, mut rest) = match text.as_bytes() {
        [b'-', ..] => (true, &text[1..]),
        [b'+', ..] => (false, &text[1..]),
        _ => (false, text),
    };
    if rest == "0" {
        return Some(0);
    }
    if rest.is_empty() {
        return None;
    }
    let mut total: u128 = 0;
    while !rest.is_empty() {
        let whole_len = rest.bytes().take_while(u8::is_ascii_digit).count();
        let (whole, after) = rest.split_at(whole_len);
        let (fraction, after) = match after.strip_prefix('.') {
            Some(after) => after.split_at(after.bytes().take_while(u8::is_ascii_digit).count()),
            None => ("", after),
        };
        if whole.is_empty() && fraction.is_empty() {
            return None;
        }
        let unit_len = after.find(|c: char| c == '.' || c.is_ascii_digit()).unwrap_or(after.len());
        let (unit, after) = after.split_at(unit_len);
        let scale: u128 = match unit {
            "ns" => 1,
            "us" | "\u{b5}s" | "\u{3bc}s" => 1_000,
            "ms" => 1_000_000,
            "s" => 1_000_000_000,
            "m" => 60_000_000_000,
            "h" => 3_600_000_000_000,
            _ => return None,
        };
        if whole.len() > 19 {
            return None;
        }
        let whole: u128 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
        // Digits past the 18th are below a nanosecond even for hours.
        let fraction = &fraction[..fraction.len().min(18)];
        let tail = if fraction.is_empty() {
            0
        } else {
            fraction.parse::<u128>().ok()? * scale / 10u128.pow(fraction.len() as u32)
        };
        total = total.checked_add(whole.checked_mul(scale)?)?.checked_add(tail)?;
        rest = after;
    }
    let limit = i64::MAX as u128 + u128::from(negative);
    if total > limit {
        return None;
    }
    let total = total as i128;
    i64::try_from(if negative { -total } else { total }).ok()
}

/// Go's `Duration.String`: `1m40s`, `1.5s`, `300ms`, `0s`.
pub fn format_duration(nanos: i64) -> String {
    let sign = if nanos < 0 { "-" } else { "" };
    let magnitude = nanos.unsigned_abs();
    let decimal = |value: u64, unit: u64, name: &str| {
        let (whole, rest) = (value / unit, value % unit);
        let width = unit.ilog10() as usize;
        let fraction = format!("{rest:0width$}");
        let fraction = fraction.trim_end_matches('0');
        match fraction {
            "" => format!("{whole}{name}"),
            _ => format!("{whole}.{fraction}{name}"),
        }
    };
    let text = match magnitude {
        0 => return "0s".to_string(),
        1..1_000 => format!("{magnitude}ns"),
        1_000..1_000_000 => decimal(magnitude, 1_000, "\u{b5}s"),
        1_000_000..1_000_000_000 => decimal(magnitude, 1_000_000, "ms"),
        _ => {
            let seconds = magnitude / 1_000_000_000;
            let (hours, minutes) = (seconds / 3_600, seconds / 60 % 60);
            let tail = decimal(magnitude % 60_000_000_000, 1_000_000_000, "s");
            match (hours, minutes) {
                (0, 0) => tail,
                (0, _) => format!("{minutes}m{tail}"),
                _ => format!("{hours}h{minutes}m{tail}"),
            }
        }
    };
    format!("{sign}{text}")
}

fn parse_gates(text: &str) -> Result<Vec<(String, bool)>, String> {
    let mut gates = Vec::new();
    for pair in text.split(',').filter(|pair| !pair.is_empty()) {
        let (name, value) = match pair.split_once('=') {
            Some((name, value)) => (name.trim(), value.trim()),
            None => return Err(format!("missing bool value for {}", pair.trim())),
        };
        if !super::gates::is_known(name) {
            return Err(format!("unrecognized feature gate: {name}"));
        }
        let value = parse_bool(value).ok_or_else(|| {
            format!(
                "invalid value of {name}={value}, err: strconv.ParseBool: parsing {value:?}: invalid syntax"
            )
        })?;
        gates.push((name.to_string(), value));
    }
    Ok(gates)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_as_go_reads_them() {
        assert_eq!(parse_uint("0", u64::MAX), Ok(0));
        assert_eq!(parse_uint("0x_10", u64::MAX), Ok(16));
        assert_eq!(parse_uint("017", u64::MAX), Ok(15));
        assert_eq!(parse_uint("1_0", u64::MAX), Ok(10));
        assert_eq!(parse_uint("0b11", u64::MAX), Ok(3));
        for bad in ["", "-1", "+1", "1.0", "0x", "_1", "0x1_", "08", "1k"] {
            assert_eq!(parse_uint(bad, u64::MAX), Err(SYNTAX), "{bad}");
        }
        assert_eq!(parse_uint("18446744073709551616", u64::MAX), Err(RANGE));
        assert_eq!(parse_int("-9223372036854775808"), Ok(i64::MIN));
        assert_eq!(parse_int("9223372036854775808"), Err(RANGE));
        assert_eq!(
            Kind::Uint32.parse("4294967296").unwrap_err(),
            "strconv.ParseUint: parsing \"4294967296\": value out of range"
        );
    }

    #[test]
    fn durations_as_go_reads_and_writes_them() {
        for (text, nanos) in [
            ("0", 0),
            ("300ms", 300_000_000),
            ("1h30m", 5_400_000_000_000),
            ("1.5s", 1_500_000_000),
            (".5s", 500_000_000),
            ("1.s", 1_000_000_000),
            ("-1m0.001s", -60_001_000_000),
            ("1us", 1_000),
            ("9223372036854775807ns", i64::MAX),
            ("-9223372036854775808ns", i64::MIN),
        ] {
            assert_eq!(parse_duration(text), Some(nanos), "{text}");
        }
        for bad in ["", "5", "s", "1x", "1.2.3s", "-", ".s", "9223372036854775808ns", "1 s"] {
            assert_eq!(parse_duration(bad), None, "{bad}");
        }
        for text in ["0s", "1ns", "1.5\u{b5}s", "300ms", "1.5s", "1m40s", "2h0m0s", "1h0m0.001s", "-20s"] {
            assert_eq!(format_duration(parse_duration(text).expect(text)), text);
        }
    }

    #[test]
    fn gates_are_named_switches() {
        assert_eq!(Kind::Gates.parse("Nope=true").unwrap_err(), "unrecognized feature gate: Nope");
        assert_eq!(
            Kind::Gates.parse("CompactHashCheck").unwrap_err(),
            "missing bool value for CompactHashCheck"
        );
        assert_eq!(
            Kind::Gates.parse("CompactHashCheck=1,,LeaseCheckpoint=f"),
            Ok(Value::Gates(vec![
                ("CompactHashCheck".to_string(), true),
                ("LeaseCheckpoint".to_string(), false)
            ]))
        );
    }
}
