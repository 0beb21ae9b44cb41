//! Patterns of channels, in which a claim may stand for one part.
//!
//! In: the text of a pattern; then a request and claims. Out: whether the pattern covers all that is asked for. A name's
//! parts lie between its `:`. Always holds: a claim is a whole part and followed by `:` or the end, and what it is
//! compared with is one whole part of the channel's name. So a name that one value reaches no other value reaches, and
//! nothing in a value is ever read as a pattern.

use twohop_plugin::Request;

use crate::claims::Claims;

/// One pattern of a setting.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Pattern {
    /// As it was written.
    text: String,
    /// All parts, but the one that ends with `*`.
    parts: Vec<Part>,
    end: End,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Text(String),
    Claim(String),
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum End {
    /// After the parts the name ends.
    Exact,
    /// After the parts and a `:` comes this, and then anything or nothing.
    Prefix(String),
}

impl Pattern {
    /// # Errors
    /// What is wrong with it, and what would be right.
    pub(crate) fn parse(text: &str) -> Result<Self, &'static str> {
        let mut parts = Vec::new();
        let mut rest = text;
        let end = loop {
            if let Some(claim) = rest.strip_prefix('{') {
                let (claim, after) = claim.split_once('}').ok_or("a `{` lacks its `}`")?;
                if claim.is_empty() || claim.contains(['{', '*']) || claim.chars().any(char::is_control) {
                    return Err("name a claim between `{` and `}`, such as `{sub}`");
                }
                parts.push(Part::Claim(claim.to_owned()));
                match after.strip_prefix(':') {
                    Some(after) => rest = after,
                    None if after.is_empty() => break End::Exact,
                    None => return Err(WHOLE_PART),
                }
            } else if let Some((part, after)) = rest.split_once(':') {
                parts.push(Part::Text(plain(part)?));
                rest = after;
            } else if let Some(prefix) = rest.strip_suffix('*') {
                break End::Prefix(plain(prefix)?);
            } else {
                parts.push(Part::Text(plain(rest)?));
                break End::Exact;
            }
        };
        Ok(Self { text: text.to_owned(), parts, end })
    }

    /// Whether it covers the channel, or every channel of the prefix, that is asked for.
    pub(crate) fn covers(&self, request: &Request, claims: &Claims) -> bool {
        // What of the name is not compared yet; none after its last part.
        let mut rest = Some(request.channel.as_str());
        for part in &self.parts {
            let Some(name) = rest else { return false };
            let (found, after) = match name.split_once(':') {
                Some((found, after)) => (found, Some(after)),
                None => (name, None),
            };
            let is_equal = match part {
                Part::Text(text) => text == found,
                Part::Claim(claim) => claims.has(claim, found),
            };
            if !is_equal {
                return false;
            }
            rest = after;
        }
        match &self.end {
            End::Exact => rest.is_none() && !request.prefix,
            End::Prefix(prefix) => rest.is_some_and(|rest| rest.starts_with(prefix)),
        }
    }
}

const WHOLE_PART: &str = "a claim is all that stands between two `:`, such as `team:{teams}` or `team:{teams}:*`, since what follows it \
     would else go on with another value";

fn plain(part: &str) -> Result<String, &'static str> {
    if part.contains(['{', '}']) {
        return Err(WHOLE_PART);
    }
    if part.contains('*') {
        return Err("`*` stands only at the end of a pattern");
    }
    if part.chars().any(char::is_control) {
        return Err("a channel's name has no control characters");
    }
    Ok(part.to_owned())
}

/// Refuses patterns of which one has a claim where another has text, after the same beginning: whoever has that text as
/// the claim's value would reach what the other pattern is for.
///
/// # Errors
/// Which two, and what to do.
pub(crate) fn refuse_ambiguous(patterns: &[Pattern]) -> Result<(), String> {
    for with_claim in patterns {
        for other in patterns {
            if let Some((claim, text)) = claim_against_text(with_claim, other) {
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

/// The claim of the first, and what stands in its place in the second.
fn claim_against_text<'a>(with_claim: &'a Pattern, other: &'a Pattern) -> Option<(&'a str, &'a str)> {
    for (index, part) in with_claim.parts.iter().enumerate() {
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

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(text: &str) -> &'static str {
        Pattern::parse(text).expect_err("a pattern that is wrong")
    }

    fn overlap(patterns: &[&str]) -> Option<String> {
        let patterns: Vec<_> =
            patterns.iter().map(|text| Pattern::parse(text).expect("a pattern that is right")).collect();
        refuse_ambiguous(&patterns).err()
    }

    #[test]
    fn a_pattern_is_parts_and_an_end() {
        let claim = |name: &str| Part::Claim(name.to_owned());
        let text = |text: &str| Part::Text(text.to_owned());
        let parsed = |text| Pattern::parse(text).map(|pattern| (pattern.parts, pattern.end));
        assert_eq!(parsed("orders"), Ok((vec![text("orders")], End::Exact)));
        assert_eq!(parsed("*"), Ok((vec![], End::Prefix(String::new()))));
        assert_eq!(parsed("a:ord*"), Ok((vec![text("a")], End::Prefix("ord".to_owned()))));
        let both = vec![text("user"), claim("sub"), text("inbox")];
        assert_eq!(parsed("user:{sub}:inbox"), Ok((both, End::Exact)));
        let namespaced = vec![claim("https://a.example/team"), text("x")];
        assert_eq!(parsed("{https://a.example/team}:x"), Ok((namespaced, End::Exact)));
        assert_eq!(parsed("user:{sub}:"), Ok((vec![text("user"), claim("sub"), text("")], End::Exact)));
    }

    #[test]
    fn a_claim_that_is_not_a_whole_part_is_refused() {
        for text in ["team-{team}", "{team}*", "team:{team}*", "{a}{b}", "{team}-x", "a}", "x{", "a:b{c}:d"] {
            assert_eq!(refusal(text), WHOLE_PART, "{text}");
        }
        assert_eq!(refusal("user:{sub"), "a `{` lacks its `}`");
        assert!(refusal("user:{}").contains("name a claim"));
        assert!(refusal("user:{{sub}}").contains("name a claim"));
        assert!(refusal("{*}").contains("name a claim"));
    }

    #[test]
    fn a_star_in_the_middle_and_control_characters_are_refused() {
        for text in ["*:a", "a*b", "a**", "a*:*"] {
            assert_eq!(refusal(text), "`*` stands only at the end of a pattern", "{text}");
        }
        assert_eq!(refusal("a\nb"), "a channel's name has no control characters");
    }

    #[test]
    fn patterns_with_text_where_another_has_a_claim_are_refused() {
        assert_eq!(
            overlap(&["user:{sub}:*", "user:admin:{role}"]).as_deref(),
            Some(
                "the patterns `user:{sub}:*` and `user:admin:{role}` overlap: whoever has `admin` as the claim `sub` \
                 would reach what the other is for; let them begin differently"
            )
        );
        assert!(overlap(&["public:*", "{tenant}:*"]).is_some());
        assert!(overlap(&["room:lobby", "room:{rooms}"]).is_some());
        assert!(overlap(&["room:lob*", "room:{rooms}"]).is_some());
        assert!(overlap(&["{a}:{b}", "{a}:x:{c}"]).is_some());
    }

    #[test]
    fn patterns_that_only_claims_or_a_star_bring_together_are_not_refused() {
        for patterns in [
            &["public:*", "user:{sub}", "team:{teams}", "team:{teams}:*"][..],
            &["doc:{reads}", "doc:{writes}:x"],
            &["user:*", "user:{sub}", "*"],
            &["{tenant}:*", "{tenant}:x"],
            &["user", "user:{sub}"],
            &["a:b:c", "a:x:{c}"],
        ] {
            assert_eq!(overlap(patterns), None, "{patterns:?}");
        }
    }
}
