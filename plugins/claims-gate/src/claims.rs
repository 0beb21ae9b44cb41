//! What a token says, as far as a pattern can use it.
//!
//! In: a JSON object that the host has verified. Out: for each claim its values, and when the token ends. Always holds:
//! a value is not empty and has no `:`, `*`, `{`, `}` or control character, so it is no more than one part of a
//! channel's name; any other is left out, as if the token did not have it. An object that names a claim twice is
//! refused, since whoever verified it may have read the other one.

use std::fmt;

use serde::de::{Deserialize, Deserializer, Error, MapAccess, Visitor};
use serde_json::{Number, Value};
use twohop_plugin::Time;

const MICROS_PER_SECOND: i64 = 1_000_000;

/// The claims of one connection.
#[derive(Debug)]
pub(crate) struct Claims {
    values: Vec<(String, Vec<String>)>,
    until: Option<Time>,
}

impl Claims {
    /// Those of somebody unknown.
    pub(crate) const fn none() -> Self {
        Self { values: Vec::new(), until: None }
    }

    /// # Errors
    /// If it is no JSON object, names a claim twice, or its `exp` is no number; in words that tell nothing of its values.
    pub(crate) fn parse(json: &str) -> Result<Self, &'static str> {
        let Ok(Object(claims)) = serde_json::from_str(json) else {
            return Err("they are no JSON object, or name a claim twice");
        };
        let until = match claims.iter().find(|(claim, _)| claim == "exp") {
            Some((_, Value::Number(seconds))) => Some(time(seconds)),
            Some(_) => return Err("`exp` is not a number"),
            None => None,
        };
        let values = claims.into_iter().map(|(claim, value)| (claim, values(value))).collect();
        Ok(Self { values, until })
    }

    /// Whether the claim, or one of its values where it has several, is that.
    pub(crate) fn has(&self, claim: &str, value: &str) -> bool {
        self.values.iter().any(|(name, values)| name == claim && values.iter().any(|one| one == value))
    }

    /// When the token ends, if it does.
    pub(crate) const fn until(&self) -> Option<Time> {
        self.until
    }
}

/// Texts and whole numbers, by themselves or in an array.
fn values(value: Value) -> Vec<String> {
    let values = match value {
        Value::Array(values) => values,
        value => vec![value],
    };
    let text = |value| match value {
        Value::String(text) => Some(text),
        Value::Number(number) if !number.is_f64() => Some(number.to_string()),
        _ => None,
    };
    values.into_iter().filter_map(text).filter(|text| is_one_part(text)).collect()
}

fn is_one_part(value: &str) -> bool {
    let is_harmless =
        |character: char| !matches!(character, ':' | '*' | '{' | '}') && !character.is_control();
    !value.is_empty() && value.chars().all(is_harmless)
}

/// Seconds since the epoch, perhaps with a fraction: a NumericDate of RFC 7519, section 2.
fn time(seconds: &Number) -> Time {
    let micros = match (seconds.as_i64(), seconds.as_f64()) {
        (Some(whole), _) => whole.saturating_mul(MICROS_PER_SECOND),
        // Saturates; and rounds down, so that no grant outlives its token.
        (None, Some(seconds)) => (seconds * MICROS_PER_SECOND as f64).floor() as i64,
        (None, None) => i64::MIN,
    };
    Time::from_micros(micros)
}

/// A JSON object in which no name comes twice.
struct Object(Vec<(String, Value)>);

impl<'de> Deserialize<'de> for Object {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Entries;

        impl<'de> Visitor<'de> for Entries {
            type Value = Object;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Object, A::Error> {
                let mut entries: Vec<(String, Value)> = Vec::new();
                while let Some((name, value)) = map.next_entry::<String, Value>()? {
                    if entries.iter().any(|(known, _)| *known == name) {
                        return Err(A::Error::custom("a name comes twice"));
                    }
                    entries.push((name, value));
                }
                Ok(Object(entries))
            }
        }

        deserializer.deserialize_map(Entries)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values_of(json: &str) -> Vec<String> {
        let claims = Claims::parse(&format!("{{\"c\":{json}}}")).expect("an object");
        claims.values.into_iter().flat_map(|(_, values)| values).collect()
    }

    fn until(exp: &str) -> Result<Option<i64>, &'static str> {
        Claims::parse(&format!("{{\"exp\":{exp}}}")).map(|claims| claims.until().map(Time::micros))
    }

    #[test]
    fn texts_and_whole_numbers_are_values_and_an_array_has_several() {
        assert_eq!(values_of("\"ann\""), ["ann"]);
        assert_eq!(values_of("-7"), ["-7"]);
        assert_eq!(values_of("18446744073709551615"), ["18446744073709551615"]);
        assert_eq!(values_of("[\"a\",7,\"b c\",\"ä\"]"), ["a", "7", "b c", "ä"]);
    }

    #[test]
    fn anything_else_is_no_value() {
        for json in ["null", "true", "1.0", "1e3", "{\"a\":1}", "[[\"a\"]]", "[]", "\"\"", "[null,{}]"] {
            assert_eq!(values_of(json), [""; 0], "{json}");
        }
    }

    #[test]
    fn what_would_be_more_than_one_part_of_a_name_is_no_value() {
        for text in ["a:b", ":", "*", "a*", "{sub}", "{", "}", "a\\n", "\\u0000", "\\u007f", "\\u0085"] {
            assert_eq!(values_of(&format!("\"{text}\"")), [""; 0], "{text}");
        }
        assert_eq!(values_of("[\"a:b\",\"c\"]"), ["c"]);
    }

    #[test]
    fn the_end_of_a_token_is_in_seconds_and_never_later_than_it_says() {
        assert_eq!(until("1700000000"), Ok(Some(1_700_000_000_000_000)));
        assert_eq!(until("1.25"), Ok(Some(1_250_000)));
        assert_eq!(until("0.0000019"), Ok(Some(1)));
        assert_eq!(until("-0.0000001"), Ok(Some(-1)));
        assert_eq!(until("9223372036854775807"), Ok(Some(i64::MAX)));
        assert_eq!(until("18446744073709551615"), Ok(Some(i64::MAX)));
        assert_eq!(until("-1e300"), Ok(Some(i64::MIN)));
        for exp in ["\"1700000000\"", "null", "[1]", "true"] {
            assert_eq!(until(exp), Err("`exp` is not a number"), "{exp}");
        }
        assert_eq!(Claims::parse("{}").map(|claims| claims.until()), Ok(None));
    }

    #[test]
    fn what_is_no_object_or_names_a_claim_twice_is_refused() {
        let deep = format!("{{\"a\":{}{}}}", "[".repeat(100_000), "]".repeat(100_000));
        for json in ["", "null", "[]", "\"a\"", "{", "{\"a\":1}x", "{\"sub\":1,\"\\u0073ub\":2}", &deep] {
            assert_eq!(Claims::parse(json).err(), Some("they are no JSON object, or name a claim twice"));
        }
    }
}
