//! Times as PostgreSQL writes them.
//!
//! In: text such as `2024-01-02 03:04:05.678+00`, `2024-01-02T03:04:05Z`, `2024-01-02`. Out: microseconds since the
//! epoch; a time without an offset is taken for UTC. Absent on purpose: years before 1 and after 9999, `infinity`, and
//! leap seconds, which PostgreSQL does not have.

use twohop_plugin::Time;

const MICROS_PER_SECOND: i64 = 1_000_000;
const SECONDS_PER_DAY: i64 = 86_400;

/// None for what is no time.
pub(crate) fn parse(text: &str) -> Option<Time> {
    let (date, rest) = text.split_at_checked("2024-01-02".len())?;
    let days = days(date)?;
    let Some(clock) = rest.strip_prefix([' ', 'T']) else {
        return rest.is_empty().then(|| time(days * SECONDS_PER_DAY, 0));
    };
    let (clock, rest) = clock.split_at_checked("03:04:05".len())?;
    let seconds = seconds(clock)?;
    let (micros, offset) = match rest.strip_prefix('.') {
        Some(fraction) => {
            let end = fraction.find(|character: char| !character.is_ascii_digit()).unwrap_or(fraction.len());
            (micros(&fraction[..end])?, &fraction[end..])
        }
        None => (0, rest),
    };
    Some(time(days * SECONDS_PER_DAY + seconds - self::offset(offset)?, micros))
}

fn time(seconds: i64, micros: i64) -> Time {
    Time::from_micros(seconds * MICROS_PER_SECOND + micros)
}

/// Since the epoch.
fn days(date: &str) -> Option<i64> {
    let (year, month, day) = (number(date.get(..4)?)?, number(date.get(5..7)?)?, number(date.get(8..)?)?);
    let is_leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let february = if is_leap { 29 } else { 28 };
    let lengths = [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let length = lengths.get(usize::try_from(month).ok()?.checked_sub(1)?)?;
    if date.as_bytes()[4] != b'-' || date.as_bytes()[7] != b'-' || year == 0 || !(1..=*length).contains(&day)
    {
        return None;
    }
    let years = year - 1;
    let before_the_year = years * 365 + years / 4 - years / 100 + years / 400;
    let before_the_month: i64 = lengths[..month as usize - 1].iter().sum();
    /// From the first day of the year 1 to that of 1970.
    const EPOCH: i64 = 719_162;
    Some(before_the_year + before_the_month + day - 1 - EPOCH)
}

/// Of the day.
fn seconds(clock: &str) -> Option<i64> {
    let (hour, minute, second) =
        (number(clock.get(..2)?)?, number(clock.get(3..5)?)?, number(clock.get(6..)?)?);
    let is_right =
        clock.as_bytes()[2] == b':' && clock.as_bytes()[5] == b':' && hour < 24 && minute < 60 && second < 60;
    is_right.then_some(hour * 3_600 + minute * 60 + second)
}

/// The digits after the point; those past the sixth are cut off.
fn micros(digits: &str) -> Option<i64> {
    let six = &digits[..digits.len().min(6)];
    let scale = 10_i64.pow(6 - u32::try_from(six.len()).ok()?);
    Some(number(six)? * scale)
}

/// Seconds east of UTC: `+00`, `-03:30`, `+05:53:28`, `Z`, or nothing.
fn offset(text: &str) -> Option<i64> {
    if matches!(text, "" | "Z") {
        return Some(0);
    }
    let (sign, rest) = match text.split_at_checked(1)? {
        ("+", rest) => (1, rest),
        ("-", rest) => (-1, rest),
        _ => return None,
    };
    let mut seconds = 0;
    let mut unit = 3_600;
    for part in rest.split(':') {
        let number = number(part).filter(|number| part.len() == 2 && unit > 0 && *number < 60)?;
        seconds += number * unit;
        unit /= 60;
    }
    Some(sign * seconds)
}

/// Digits only, so few that they fit.
fn number(digits: &str) -> Option<i64> {
    let is_right = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    if is_right { digits.parse().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn micros_of(text: &str) -> Option<i64> {
        parse(text).map(Time::micros)
    }

    #[test]
    fn times_as_a_source_writes_them_are_read() {
        for (text, micros) in [
            ("1970-01-01 00:00:00+00", 0),
            ("2024-01-02 03:04:05.678+00", 1_704_164_645_678_000),
            ("2024-01-02 03:04:05", 1_704_164_645_000_000),
            ("2024-01-02T03:04:05.000001Z", 1_704_164_645_000_001),
            ("2024-01-02 03:04:05.1234567-03:30", 1_704_177_245_123_456),
            ("2024-01-02 03:04:05+05:53:28", 1_704_143_437_000_000),
            ("2024-01-02", 1_704_153_600_000_000),
            ("2024-02-29", 1_709_164_800_000_000),
            ("1969-12-31 23:59:59.999999+00", -1),
            ("0001-01-01", -62_135_596_800_000_000),
            ("9999-12-31 23:59:59+00", 253_402_300_799_000_000),
        ] {
            assert_eq!(micros_of(text), Some(micros), "{text}");
        }
    }

    #[test]
    fn what_is_no_time_is_none() {
        for text in [
            "",
            "infinity",
            "-infinity",
            "1700000000",
            "2024-13-01",
            "2024-00-01",
            "2024-02-30",
            "2023-02-29",
            "1900-02-29",
            "2024-01-00",
            "0000-01-01",
            "2024-1-2 03:04:05",
            "2024-01-02 24:00:00",
            "2024-01-02 03:60:00",
            "2024-01-02 03:04:60",
            "2024-01-02 03:04",
            "2024-01-02 03:04:05.",
            "2024-01-02 03:04:05+0",
            "2024-01-02x",
            "2024-01-02 03:04:05 BC",
            "12024-01-02 03:04:05",
            "2024-01-02 03:04:05+01:02:03:04",
            "2024-01-02 03:04:05+",
            "2024/01/02",
            "+024-01-02",
            "2024-01-02 03:04:05Z+01",
            "2024-01-0ä 03:04:05",
            "2024-01-02 03:04:0ä",
        ] {
            assert_eq!(micros_of(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn no_text_panics(text in ".*", like in "[0-9]{4}-[0-9]{2}-[0-9]{2}[ T][0-9:.+ä-]{0,20}") {
            parse(&text);
            parse(&like);
        }

        #[test]
        fn a_day_later_is_a_day_more(days in 0_i64..3_000_000) {
            // The slow way: one day after the other, from a year before.
            let date = date(days);
            prop_assert_eq!(super::days(&date), Some(days - 719_162), "{}", date);
        }
    }

    /// The date so many days after the first of the year 1, counted year by year and month by month.
    fn date(mut days: i64) -> String {
        let mut year = 1;
        let is_leap = |year: i64| year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
        while days >= 365 + i64::from(is_leap(year)) {
            days -= 365 + i64::from(is_leap(year));
            year += 1;
        }
        let mut month = 1;
        loop {
            let length = match month {
                2 => 28 + i64::from(is_leap(year)),
                4 | 6 | 9 | 11 => 30,
                _ => 31,
            };
            if days < length {
                return format!("{year:04}-{month:02}-{:02}", days + 1);
            }
            days -= length;
            month += 1;
        }
    }
}
