//! Sizes and durations as people write them: `8GiB`, `24h`.

use std::time::Duration;

use serde::de::Error;
use serde::{Deserialize, Deserializer};

#[derive(Deserialize)]
#[serde(untagged)]
enum NumberOrText {
    Number(u64),
    Text(String),
}

/// Bytes: a number, or a number with `KiB`, `MiB` or `GiB`.
pub(super) fn bytes<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
    let units = [("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30), ("TiB", 1 << 40)];
    match NumberOrText::deserialize(deserializer)? {
        NumberOrText::Number(number) => Ok(Some(number)),
        NumberOrText::Text(text) => parse(&text, &units)
            .map(Some)
            .ok_or_else(|| D::Error::custom(format!("`{text}` is not a size such as `512MiB`"))),
    }
}

/// A duration: a number with `ms`, `s`, `m`, `h` or `d`.
pub(super) fn duration<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
    let units = [("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000)];
    let text = String::deserialize(deserializer)?;
    parse(&text, &units)
        .map(|millis| Some(Duration::from_millis(millis)))
        .ok_or_else(|| D::Error::custom(format!("`{text}` is not a duration such as `15s` or `24h`")))
}

fn parse(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let digits = text.find(|character: char| !character.is_ascii_digit())?;
    let number: u64 = text[..digits].parse().ok()?;
    let unit = text[digits..].trim();
    let (_, factor) = units.iter().find(|(name, _)| *name == unit)?;
    number.checked_mul(*factor)
}
