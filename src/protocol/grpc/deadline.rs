//! The `grpc-timeout` header (gRPC over HTTP/2: at most eight digits and a unit).

use std::time::Duration;

/// `None` if there is no such header, or none that makes sense: it is then as if there were no bound.
pub(super) fn parse(header: Option<&[u8]>) -> Option<Duration> {
    let (unit, digits) = header?.split_last()?;
    if digits.is_empty() || digits.len() > 8 || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let amount = digits.iter().fold(0u64, |amount, digit| amount * 10 + u64::from(digit - b'0'));
    match unit {
        b'H' => Some(Duration::from_secs(amount * 3600)),
        b'M' => Some(Duration::from_secs(amount * 60)),
        b'S' => Some(Duration::from_secs(amount)),
        b'm' => Some(Duration::from_millis(amount)),
        b'u' => Some(Duration::from_micros(amount)),
        b'n' => Some(Duration::from_nanos(amount)),
        _ => None,
    }
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
            assert_eq!(parse(Some(header.as_bytes())), Some(Duration::from_nanos(nanos)), "{header}");
        }
        assert_eq!(parse(Some(b"99999999H")), Some(Duration::from_secs(99_999_999 * 3600)));
    }

    #[test]
    fn nonsense_is_no_bound() {
        for header in ["", "S", "1", "-1S", "1 S", "1s", "123456789n", "1.5S"] {
            assert_eq!(parse(Some(header.as_bytes())), None, "{header}");
        }
        assert_eq!(parse(None), None);
    }
}
