//! The `grpc-timeout` header (gRPC over HTTP/2: at most eight digits and a unit), and whether that time is over.

use std::{future::Future, pin::Pin, task::Context, time::Duration};

pub(super) fn is_over(
    timer: &mut Option<impl Future<Output = ()> + Unpin>,
    context: &mut Context<'_>,
) -> bool {
    timer.as_mut().is_some_and(|timer| Pin::new(timer).poll(context).is_ready())
}

/// Or what grpc-go says of it.
pub(super) fn parse(header: &[u8]) -> Result<Duration, String> {
    let header = String::from_utf8_lossy(header);
    let text = |what| format!("transport: timeout {what}: {header:?}");
    let (digits, unit) = match header.len() {
        0 | 1 => return Err(text("string is too short")),
        // The unit may be of several bytes, which makes it none.
        2..=9 => header.char_indices().next_back().map_or(("", ""), |(at, _)| header.split_at(at)),
        _ => return Err(text("string is too long")),
    };
    let nanos: u64 = match unit {
        "H" => 3_600_000_000_000,
        "M" => 60_000_000_000,
        "S" => 1_000_000_000,
        "m" => 1_000_000,
        "u" => 1_000,
        "n" => 1,
        _ => return Err(text("unit is not recognized")),
    };
    if digits.is_empty() || !digits.bytes().all(|digit| digit.is_ascii_digit()) {
        return Err(format!("strconv.ParseUint: parsing {digits:?}: invalid syntax"));
    }
    let amount = digits.bytes().fold(0u64, |amount, digit| amount * 10 + u64::from(digit - b'0'));
    // Longer than anything lives.
    Ok(Duration::from_nanos(amount.saturating_mul(nanos)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units() {
        for (header, nanos) in [
            ("1H", 3_600_000_000_000),
            ("2M", 120_000_000_000),
            ("3S", 3_000_000_000),
            ("4999960u", 4_999_960_000),
            ("5m", 5_000_000),
            ("00000006n", 6),
        ] {
            assert_eq!(parse(header.as_bytes()), Ok(Duration::from_nanos(nanos)), "{header}");
        }
        assert_eq!(parse(b"99999999H"), Ok(Duration::from_nanos(u64::MAX)));
    }

    /// Texts of upstream 3.7.1 to the same headers.
    #[test]
    fn nonsense_is_named() {
        for (header, text) in [
            ("", "transport: timeout string is too short: \"\""),
            ("S", "transport: timeout string is too short: \"S\""),
            ("123456789n", "transport: timeout string is too long: \"123456789n\""),
            ("1s", "transport: timeout unit is not recognized: \"1s\""),
            ("10", "transport: timeout unit is not recognized: \"10\""),
            ("-1S", "strconv.ParseUint: parsing \"-1\": invalid syntax"),
            ("1 S", "strconv.ParseUint: parsing \"1 \": invalid syntax"),
            ("1.5S", "strconv.ParseUint: parsing \"1.5\": invalid syntax"),
        ] {
            assert_eq!(parse(header.as_bytes()), Err(text.to_owned()), "{header}");
        }
    }
}
