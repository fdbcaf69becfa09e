//! Time of day as the log writes it.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Seconds and microseconds since 1970.
pub fn now() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO)
}

/// `2006-01-02T15:04:05.000000Z` or with the offset of the machine's zone, as etcd's log.
pub fn format(time: Duration) -> String {
    format_in(time, offset_seconds(time))
}

/// Seconds the machine's zone is east of UTC at that time.
fn offset_seconds(time: Duration) -> i64 {
    let Ok(seconds) = libc::time_t::try_from(time.as_secs()) else { return 0 };
    // SAFETY: `tm` is plain data for which zero bytes are valid.
    let mut parts: libc::tm = unsafe { std::mem::zeroed() };
    // SAFETY: both pointers refer to locals that live through the call; localtime_r keeps neither.
    let filled = unsafe { libc::localtime_r(&seconds, &mut parts) };
    if filled.is_null() { 0 } else { parts.tm_gmtoff }
}

fn format_in(time: Duration, offset: i64) -> String {
    let seconds = i64::try_from(time.as_secs()).unwrap_or(i64::MAX - 86_400).saturating_add(offset);
    let (days, second) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    let (year, month, day) = date(days);
    let (hour, minute, second) = (second / 3_600, second / 60 % 60, second % 60);
    let micros = time.subsec_micros();
    let zone = match offset {
        0 => "Z".to_string(),
        _ => {
            let sign = if offset < 0 { '-' } else { '+' };
            let minutes = offset.abs() / 60;
            format!("{sign}{:02}{:02}", minutes / 60, minutes % 60)
        }
    };
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{micros:06}{zone}")
}

/// Year, month and day of a day counted from 1970-01-01, in the Gregorian calendar.
fn date(days: i64) -> (i64, i64, i64) {
    // Counted from 0000-03-01, a 400-year era has 146097 days and leap days end a year.
    let days = days + 719_468;
    let (era, day_of_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    (era * 400 + year_of_era + i64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_dates_and_zones() {
        for (seconds, offset, text) in [
            (0, 0, "1970-01-01T00:00:00.000000Z"),
            (951_782_400, 0, "2000-02-29T00:00:00.000000Z"),
            (1_709_164_800, 7_200, "2024-02-29T02:00:00.000000+0200"),
            (1_735_689_600, -12_600, "2024-12-31T20:30:00.000000-0330"),
            (4_102_444_799, 0, "2099-12-31T23:59:59.000000Z"),
        ] {
            assert_eq!(format_in(Duration::from_secs(seconds), offset), text);
        }
        assert!(format_in(Duration::from_micros(1_000_001), 0).ends_with("01.000001Z"));
    }
}
