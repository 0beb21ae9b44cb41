//! The parameters of a request's address.
//!
//! Invariant: a parameter that a route does not know is refused, with those that it knows: a misspelt one that is
//! ignored is one that is not there.

use std::str::FromStr;

use super::refusal::Refusal;

/// Name and value, percent-decoded, each name once.
#[derive(Debug, Default)]
pub(super) struct Query(Vec<(String, String)>);

impl Query {
    /// # Errors
    /// If it is not of that form, or has a name that is not among `known`, or twice.
    pub(super) fn of(raw: &str, known: &[&str]) -> Result<Self, Refusal> {
        let mut pairs: Vec<(String, String)> = Vec::new();
        for pair in raw.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let (Some(name), Some(value)) = (decode(name), decode(value)) else {
                return Err(Refusal::invalid("the query is name=value, joined by &, percent-encoded"));
            };
            if !known.contains(&&*name) {
                let known = if known.is_empty() { "none".into() } else { known.join(", ") };
                return Err(Refusal::invalid(format!("there is no parameter `{name}`: there are {known}")));
            }
            if pairs.iter().any(|(other, _)| *other == name) {
                return Err(Refusal::invalid(format!("the parameter `{name}` comes twice")));
            }
            pairs.push((name, value));
        }
        Ok(Self(pairs))
    }

    pub(super) fn text(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(own, _)| own == name).map(|(_, value)| value.as_str())
    }

    /// # Errors
    /// If it is there and no such number.
    pub(super) fn number<N: FromStr>(&self, name: &str) -> Result<Option<N>, Refusal> {
        let parse = |text: &str| {
            text.parse().map_err(|_| Refusal::invalid(format!("`{name}` is not such a number: `{text}`")))
        };
        self.text(name).map(parse).transpose()
    }

    /// A count from 1 to `max`.
    ///
    /// # Errors
    /// If it is there and no such number.
    pub(super) fn count(&self, name: &str, default: usize, max: usize) -> Result<usize, Refusal> {
        let count = self.number(name)?.unwrap_or(default);
        if (1..=max).contains(&count) {
            return Ok(count);
        }
        Err(Refusal::invalid(format!("`{name}` is a number from 1 to {max}")))
    }

    /// # Errors
    /// If it is there and neither `true` nor `false`.
    pub(super) fn is(&self, name: &str) -> Result<bool, Refusal> {
        match self.text(name) {
            None | Some("false") => Ok(false),
            Some("true") => Ok(true),
            Some(_) => Err(Refusal::invalid(format!("`{name}` is true or false"))),
        }
    }
}

fn decode(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        match byte {
            b'+' => bytes.push(b' '),
            b'%' => {
                let digits = [rest.next()?, rest.next()?];
                let digits =
                    digits.map(|digit| char::from(digit).to_digit(16).and_then(|d| u8::try_from(d).ok()));
                let [Some(high), Some(low)] = digits else { return None };
                bytes.push(high * 16 + low);
            }
            byte => bytes.push(byte),
        }
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_decoded_and_unknown_ones_refused() {
        let query = Query::of("after=7&plugin=a%2Db+c&follow=true", &["after", "plugin", "follow"]);
        let query = query.expect("all are known");
        assert_eq!(query.number("after"), Ok(Some(7_u64)));
        assert_eq!(query.text("plugin"), Some("a-b c"));
        assert_eq!(query.is("follow"), Ok(true));
        let message = Query::of("aftr=7", &["after", "limit"]).expect_err("it is misspelt").message;
        assert_eq!(message, "there is no parameter `aftr`: there are after, limit");
        for wrong in ["a=%", "a=%4", "a=%zz", "a=%ff", "a=1&a=2", "b"] {
            assert!(Query::of(wrong, &["a"]).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_count_is_within_its_bounds() {
        let count = |raw: &str| Query::of(raw, &["n"]).expect("it is known").count("n", 5, 10);
        assert_eq!(count(""), Ok(5));
        assert_eq!(count("n=10"), Ok(10));
        assert!(count("n=0").is_err() && count("n=11").is_err() && count("n=x").is_err());
    }
}
