//! Numbers in the words of Go: read as `strconv` and `time` do, with their errors.

use crate::config::value::{self, Kind, Value};

/// `strconv.ParseInt(text, 0, 64)`.
pub fn int(text: &str) -> Result<i64, String> {
    match Kind::Int.parse(text) {
        Ok(Value::Int(number)) => Ok(number),
        refused => Err(number_error("ParseInt", text, refused)),
    }
}

/// `strconv.ParseUint(text, 0, 64)`.
pub fn uint(text: &str) -> Result<u64, String> {
    match Kind::Uint.parse(text) {
        Ok(Value::Uint(number)) => Ok(number),
        refused => Err(number_error("ParseUint", text, refused)),
    }
}

/// `strconv.ParseBool`.
pub fn switch(text: &str) -> Result<bool, String> {
    value::parse_bool(text).ok_or_else(|| format!("strconv.ParseBool: parsing {text:?}: invalid syntax"))
}

/// `time.ParseDuration`, in nanoseconds.
pub fn duration(text: &str) -> Result<i64, String> {
    value::parse_duration(text).ok_or_else(|| format!("time: invalid duration {text:?}"))
}

fn number_error(call: &str, text: &str, refused: Result<Value, String>) -> String {
    let why = match refused {
        Err(why) if why == value::RANGE => value::RANGE,
        _ => "invalid syntax",
    };
    format!("strconv.{call}: parsing {text:?}: {why}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_go_reads_them() {
        assert_eq!(int("-0x10"), Ok(-16));
        assert_eq!(int("x"), Err("strconv.ParseInt: parsing \"x\": invalid syntax".into()));
        assert_eq!(uint("-1"), Err("strconv.ParseUint: parsing \"-1\": invalid syntax".into()));
        let large = "99999999999999999999";
        assert_eq!(uint(large), Err(format!("strconv.ParseUint: parsing \"{large}\": value out of range")));
        assert_eq!(switch("T"), Ok(true));
        assert!(switch("yes").is_err() && duration("5").is_err() && duration("5s").is_ok());
    }
}
