//! Patterns of channels, in which a claim may stand for one part: `user:{sub}`, `orgs:{claims.org}:*`.
//!
//! In: the text of a pattern; then a channel or a prefix, and claims. Out: whether the pattern covers all of it.
//!
//! Invariant: a claim is a whole part between two `:`, and what it is compared with is one whole part of the name. So
//! a name that one value reaches no other value reaches, and nothing in a value is ever read as a pattern. The
//! plugin `claims-gate` reads patterns in the same way.

use serde_json::{Map, Value};

use super::Wanted;
use crate::limits::{PATTERN_BYTES_MAX, PATTERNS_COUNT_MAX};
use crate::policy::Scope;

/// Claims, as a token has them.
pub(super) type Claims = Map<String, Value>;

/// What covers channels.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Pattern {
    text: Box<str>,
    /// All parts, but the one that ends with `*`.
    parts: Vec<Part>,
    end: End,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Text(Box<str>),
    Claim(Box<str>),
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum End {
    /// After the parts the name ends.
    Exact,
    /// After the parts and a `:` comes this, and then anything or nothing.
    Prefix(Box<str>),
}

/// Patterns of channels for everybody alike, in which no claim has a place.
#[derive(Debug, Clone, Default)]
pub struct Patterns(Vec<Pattern>);

impl Patterns {
    /// Reads patterns.
    ///
    /// # Errors
    /// What is wrong with one of them.
    pub fn new(texts: &[String]) -> Result<Self, String> {
        if texts.len() > PATTERNS_COUNT_MAX {
            return Err(format!("has {} patterns, at most {PATTERNS_COUNT_MAX} are allowed", texts.len()));
        }
        let patterns = texts.iter().map(|text| Pattern::parse(text)).collect::<Result<Vec<_>, _>>()?;
        match patterns.iter().find(|pattern| pattern.has_claims()) {
            Some(pattern) => {
                Err(format!("the pattern `{}` has a claim, which means nothing here", pattern.text))
            }
            None => Ok(Self(patterns)),
        }
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether one of them covers a channel.
    #[must_use]
    pub fn cover(&self, channel: &str) -> bool {
        if self.is_empty() {
            return false;
        }
        let (wanted, claims) = (Wanted::channel(channel), Claims::new());
        self.0.iter().any(|pattern| pattern.covers(&wanted, &claims))
    }
}

const WHOLE_PART: &str = "a claim is all that stands between two `:`, such as `team:{claims.team}` or \
    `team:{claims.team}:*`, since what follows it would else go on with another value";

impl Pattern {
    /// Reads a pattern.
    ///
    /// # Errors
    /// What is wrong with it, and what would be right.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let at_fault = |what: &str| format!("the pattern `{text}`: {what}");
        if text.is_empty() {
            return Err("a pattern is empty: name a channel, or `*` for all".into());
        }
        if text.len() > PATTERN_BYTES_MAX {
            return Err(format!(
                "a pattern has {} bytes, at most {PATTERN_BYTES_MAX} are allowed",
                text.len()
            ));
        }
        let mut parts = Vec::new();
        let mut rest = text;
        let end = loop {
            if let Some(claim) = rest.strip_prefix('{') {
                let (claim, after) = claim.split_once('}').ok_or_else(|| at_fault("a `{` lacks its `}`"))?;
                parts.push(Part::Claim(claim_name(claim).map_err(|what| at_fault(&what))?.into()));
                match after.strip_prefix(':') {
                    Some(after) => rest = after,
                    None if after.is_empty() => break End::Exact,
                    None => return Err(at_fault(WHOLE_PART)),
                }
            } else if let Some((part, after)) = rest.split_once(':') {
                parts.push(Part::Text(plain(part).map_err(at_fault)?));
                rest = after;
            } else if let Some(prefix) = rest.strip_suffix('*') {
                break End::Prefix(plain(prefix).map_err(at_fault)?);
            } else {
                parts.push(Part::Text(plain(rest).map_err(at_fault)?));
                break End::Exact;
            }
        };
        Ok(Self { text: text.into(), parts, end })
    }

    /// As it was written.
    pub(super) fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether a claim has a place in it.
    pub(super) fn has_claims(&self) -> bool {
        self.parts.iter().any(|part| matches!(part, Part::Claim(_)))
    }

    /// Whether it covers every channel there can be.
    pub(super) fn is_every(&self) -> bool {
        &*self.text == "*"
    }

    /// Whether it covers all that is wanted.
    pub(super) fn covers(&self, wanted: &Wanted, claims: &Claims) -> bool {
        // What of the name is not compared yet; none after its last part.
        let mut rest = Some(&*wanted.name);
        for part in &self.parts {
            let Some(name) = rest else { return false };
            let (found, after) = match name.split_once(':') {
                Some((found, after)) => (found, Some(after)),
                None => (name, None),
            };
            // The last part of a prefix may go on: it is no whole part.
            let is_whole = after.is_some() || wanted.scope == Scope::Channel;
            let is_equal = match part {
                Part::Text(text) => **text == *found,
                Part::Claim(claim) => claims.get(&**claim).is_some_and(|value| has(value, found)),
            };
            if !is_equal || !is_whole {
                return false;
            }
            rest = after;
        }
        match &self.end {
            End::Exact => rest.is_none() && wanted.scope == Scope::Channel,
            End::Prefix(prefix) => rest.is_some_and(|rest| rest.starts_with(&**prefix)),
        }
    }

    /// The claim of this pattern, and the text that stands in its place in the other, after the same beginning.
    fn against<'a>(&'a self, other: &'a Self) -> Option<(&'a str, &'a str)> {
        for (index, part) in self.parts.iter().enumerate() {
            match (part, other.parts.get(index), &other.end) {
                (Part::Claim(claim), Some(Part::Text(text)), _) => return Some((claim, text)),
                (Part::Claim(claim), None, End::Prefix(text)) if !text.is_empty() => {
                    return Some((claim, text));
                }
                (Part::Text(text), Some(Part::Text(same)), _) if text == same => {}
                (Part::Claim(_), Some(Part::Claim(_)), _) => {}
                _ => return None,
            }
        }
        None
    }
}

/// Whether a name is covered by a text that a token lists: a name, or with `*` at its end all that begin so.
pub(super) fn listed(text: &str, wanted: &Wanted) -> bool {
    match text.strip_suffix('*') {
        Some(prefix) => wanted.name.starts_with(prefix),
        None => wanted.scope == Scope::Channel && *text == *wanted.name,
    }
}

/// Refuses patterns of which one has a claim where another has text, after the same beginning: whoever has that text
/// as the claim's value would reach what the other is for.
///
/// # Errors
/// Which two, and what to do.
pub(super) fn refuse_ambiguous<'a>(
    patterns: impl Iterator<Item = &'a Pattern> + Clone,
) -> Result<(), String> {
    for with_claim in patterns.clone() {
        for other in patterns.clone() {
            if let Some((claim, text)) = with_claim.against(other) {
                return Err(format!(
                    "the patterns `{}` and `{}` overlap: whoever has `{text}` as the claim `{claim}` would reach what \
                     the other is for; let them begin differently",
                    with_claim.text, other.text
                ));
            }
        }
    }
    Ok(())
}

/// The claim that `sub` or `claims.NAME` names.
fn claim_name(written: &str) -> Result<&str, String> {
    let name = if written == "sub" { Some(written) } else { written.strip_prefix("claims.") };
    let fits =
        |name: &&str| !name.is_empty() && !name.contains(['{', '*']) && !name.chars().any(char::is_control);
    name.filter(fits).ok_or_else(|| "a claim is written `{sub}` or `{claims.NAME}`".to_owned())
}

fn plain(part: &str) -> Result<Box<str>, &'static str> {
    if part.contains(['{', '}']) {
        return Err(WHOLE_PART);
    }
    if part.contains('*') {
        return Err("`*` stands only at the end of a pattern");
    }
    if part.chars().any(char::is_control) {
        return Err("a channel's name has no control characters");
    }
    Ok(part.into())
}

/// Whether a claim has this value. Texts and whole numbers are values, by themselves or in an array; one that is
/// empty or has a character of patterns counts as not there.
fn has(claim: &Value, wanted: &str) -> bool {
    match claim {
        Value::String(text) => text == wanted && is_plain(text),
        Value::Number(number) if !number.is_f64() => number.to_string() == wanted,
        Value::Array(values) => values.iter().any(|value| !value.is_array() && has(value, wanted)),
        _ => false,
    }
}

fn is_plain(value: &str) -> bool {
    !value.is_empty() && !value.contains([':', '*', '{', '}']) && !value.chars().any(char::is_control)
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn pattern(text: &str) -> Pattern {
        Pattern::parse(text).expect("the pattern is right")
    }

    fn claims(value: &Value) -> Claims {
        value.as_object().expect("claims are an object").clone()
    }

    #[test]
    fn a_pattern_reaches_what_it_says_and_no_more() {
        let ann = claims(&json!({"sub": "ann", "org": ["red", 7], "x": 1.5, "y": {"sub": "z"}}));
        for (text, reached, not_reached) in [
            ("orders", &["orders"][..], &["orders:1", "order", ""][..]),
            ("orders:*", &["orders:1", "orders:", "orders:a:b"], &["orders", "order"]),
            ("*", &["a", "a:b", ""], &[]),
            ("user:{sub}", &["user:ann"], &["user:bob", "user:ann:x", "user:", "user"]),
            (
                "orgs:{claims.org}:*",
                &["orgs:red:x", "orgs:7:", "orgs:red:a:b"],
                &["orgs:red", "orgs:blue:x", "orgs:red2:x"],
            ),
            ("a:{claims.x}", &[], &["a:1.5", "a:1"]),
            ("a:{claims.y}", &[], &["a:z"]),
            ("a:{claims.none}", &[], &["a:", "a"]),
        ] {
            for name in reached {
                assert!(pattern(text).covers(&Wanted::channel(name), &ann), "{text} {name}");
            }
            for name in not_reached {
                assert!(!pattern(text).covers(&Wanted::channel(name), &ann), "{text} {name}");
            }
        }
    }

    #[test]
    fn patterns_for_everybody_have_no_claims() {
        let rooms = Patterns::new(&["room:*".into(), "lobby".into()]).expect("they are right");
        assert!(rooms.cover("room:1") && rooms.cover("lobby") && !rooms.cover("lobby:1"));
        assert!(!Patterns::default().cover("room:1"));
        assert!(Patterns::new(&["user:{sub}".into()]).is_err_and(|said| said.contains("claim")));
    }

    #[test]
    fn a_prefix_is_reached_only_where_all_of_it_is() {
        let ann = claims(&json!({"sub": "ann"}));
        for (text, reached, not_reached) in [
            ("orders:*", &["orders:", "orders:1"][..], &["orders", "", "o"][..]),
            ("user:{sub}:*", &["user:ann:", "user:ann:x"], &["user:ann", "user:", "user:a"]),
            ("user:{sub}", &[], &["user:ann", "user:"]),
            ("*", &["", "a"], &[]),
        ] {
            for name in reached {
                assert!(pattern(text).covers(&Wanted::prefix(name), &ann), "{text} {name}");
            }
            for name in not_reached {
                assert!(!pattern(text).covers(&Wanted::prefix(name), &ann), "{text} {name}");
            }
        }
    }

    #[test]
    fn what_is_no_pattern_is_refused_with_what_would_be_right() {
        for text in ["team-{sub}", "{sub}*", "{sub}{sub}", "{sub}-x", "a}", "a:b{sub}:d"] {
            assert!(Pattern::parse(text).expect_err("it is wrong").contains(WHOLE_PART), "{text}");
        }
        for text in ["{}", "{org}", "{claims.}", "{{sub}}", "{*}", "user:{claims.a*}"] {
            assert!(Pattern::parse(text).expect_err("it is wrong").contains("{claims.NAME}"), "{text}");
        }
        for text in ["*:a", "a*b", "a**"] {
            assert!(Pattern::parse(text).expect_err("it is wrong").contains("only at the end"), "{text}");
        }
        assert!(Pattern::parse("user:{sub").expect_err("it is wrong").contains("lacks its"));
        assert!(Pattern::parse("").is_err() && Pattern::parse("a\nb").is_err());
        assert!(Pattern::parse(&"x".repeat(PATTERN_BYTES_MAX + 1)).is_err());
    }

    #[test]
    fn patterns_with_text_where_another_has_a_claim_are_refused() {
        let overlap = |texts: &[&str]| {
            let patterns: Vec<_> = texts.iter().map(|text| pattern(text)).collect();
            refuse_ambiguous(patterns.iter()).err()
        };
        for texts in [
            ["public:*", "{claims.tenant}:*"],
            ["user:{sub}:*", "user:admin:{claims.role}"],
            ["room:lob*", "room:{claims.rooms}"],
        ] {
            assert!(overlap(&texts).is_some_and(|said| said.contains("overlap")), "{texts:?}");
        }
        for texts in [&["public:*", "user:{sub}", "user:{sub}:*"][..], &["user:*", "user:{sub}", "*"]] {
            assert_eq!(overlap(texts), None, "{texts:?}");
        }
    }

    proptest! {
        #[test]
        fn a_value_with_a_character_of_patterns_reaches_nothing(
            before in ".{0,3}", trick in prop::sample::select(vec![":", "*", "{", "}", "\n", "\0"]), after in ".{0,3}",
            channel in ".{0,8}", is_own: bool,
        ) {
            let value = format!("{before}{trick}{after}");
            let channel = if is_own { format!("user:{value}") } else { channel };
            let claims = claims(&json!({"sub": value}));
            let reaches = pattern("user:{sub}").covers(&Wanted::channel(&channel), &claims);
            prop_assert!(!reaches);
        }

        #[test]
        fn a_prefix_that_is_reached_reaches_every_channel_that_begins_so(
            text in prop::sample::select(vec!["*", "a*", "a:*", "a:{sub}:*", "{sub}:b*", "a:b"]),
            parts in vec("[ab]{0,2}", 1..4), rest in "[ab:]{0,3}",
        ) {
            let claims = claims(&json!({"sub": ["a", "b"]}));
            let prefix = parts.join(":");
            if pattern(text).covers(&Wanted::prefix(&prefix), &claims) {
                prop_assert!(pattern(text).covers(&Wanted::channel(&(prefix + &rest)), &claims));
            }
        }
    }
}
