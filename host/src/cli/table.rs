//! Answers for people: aligned columns, times that can be read.

use serde_json::Value;

/// Rows of text, the first of which has the names of the columns, as lines whose columns stand under one another.
pub(super) fn columns(rows: &[Vec<String>]) -> String {
    let count = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |at: usize| rows.iter().filter_map(|row| row.get(at)).map(|cell| cell.chars().count()).max();
    let widths: Vec<usize> = (0..count).map(|at| width(at).unwrap_or(0)).collect();
    let mut text = String::new();
    for row in rows {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(&widths) {
            line.push_str(cell);
            line.extend(std::iter::repeat_n(' ', width + 2 - cell.chars().count()));
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

/// A row of the names of columns.
pub(super) fn head(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| name.to_uppercase()).collect()
}

/// A value as a cell: texts as they are, nothing as `-`.
pub(super) fn cell(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::String(text) if text.is_empty() => "-".to_owned(),
        Value::String(text) => plain(text),
        other => other.to_string(),
    }
}

/// What others wrote, without what would move the cursor.
pub(super) fn plain(text: &str) -> String {
    text.chars().map(|character| if character.is_control() { ' ' } else { character }).collect()
}

/// The beginning of a digest, which suffices for people.
pub(super) fn short(digest: &Value) -> String {
    cell(digest).chars().take(12).collect()
}

/// `name=value` for each, or `-`.
pub(super) fn pairs(value: &Value) -> String {
    let pairs = value.as_object().into_iter().flatten();
    let pairs: Vec<_> = pairs.map(|(name, value)| format!("{}={}", plain(name), cell(value))).collect();
    if pairs.is_empty() { "-".to_owned() } else { pairs.join(" ") }
}

/// Microseconds since the Unix epoch, in UTC and to the second: `2026-11-24 08:51:08Z`.
pub(super) fn when(value: &Value) -> String {
    let Some(micros) = value.as_i64() else { return "-".to_owned() };
    let seconds = micros.div_euclid(1_000_000);
    let (days, second) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    let (year, month, day) = date(days);
    let (hour, minute, second) = (second / 3_600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02}Z")
}

/// Days since the Unix epoch as year, month and day of the Gregorian calendar. Years begin in March here, so that the
/// day that some years have more is the last one.
fn date(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let (era, day) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    (era * 400 + year + i64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn columns_stand_under_one_another() {
        let rows =
            [head(&["name", "n"]), vec!["row-router".into(), "1".into()], vec!["ä".into(), "12".into()]];
        assert_eq!(columns(&rows), "NAME        N\nrow-router  1\nä           12\n");
    }

    #[test]
    fn a_time_is_the_calendars() {
        for (seconds, text) in [
            (0, "1970-01-01 00:00:00Z"),
            (951_782_400, "2000-02-29 00:00:00Z"),
            (1_795_510_268, "2026-11-24 08:51:08Z"),
            (4_107_542_399, "2100-02-28 23:59:59Z"),
            (4_107_542_400, "2100-03-01 00:00:00Z"),
        ] {
            assert_eq!(when(&json!(seconds * 1_000_000_i64)), text);
        }
    }

    #[test]
    fn what_a_plugin_wrote_cannot_move_the_cursor() {
        assert_eq!(cell(&json!("a\u{1b}[2Jb\n")), "a [2Jb ");
    }
}
