//! What a request says about who sends it.
//!
//! In: its head. Out: a token, a ticket, or nothing; one of them.
//!
//! Invariant: a request that says it twice is refused, since whatever stands before this server may have looked at the
//! other one. The header goes before the cookie, which browsers send unasked.

use hyper::HeaderMap;
use hyper::header::{AUTHORIZATION, COOKIE};

use super::refusal::{Flaw, Refusal};

/// What a request brings.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Credential<'a> {
    Nothing,
    Header(&'a str),
    Cookie(&'a str),
    Ticket(&'a str),
}

/// Looks for it. `cookie` is the name of the cookie that counts, if one does.
///
/// # Errors
/// If it is there twice, or cannot be read.
pub(super) fn credential<'a>(
    headers: &'a HeaderMap,
    ticket: Option<&'a str>,
    cookie: Option<&str>,
) -> Result<Credential<'a>, Refusal> {
    let mut said = headers.get_all(AUTHORIZATION).iter();
    match (said.next(), ticket) {
        (Some(_), Some(_)) => Err(Refusal::Twice),
        (Some(value), None) if said.next().is_none() => {
            let (scheme, token) =
                value.to_str().ok().and_then(|text| text.split_once(' ')).ok_or(Flaw::Malformed)?;
            if scheme.eq_ignore_ascii_case("bearer") {
                Ok(Credential::Header(token.trim()))
            } else {
                Err(Flaw::Malformed.into())
            }
        }
        (Some(_), None) => Err(Refusal::Twice),
        (None, Some(ticket)) => Ok(Credential::Ticket(ticket)),
        (None, None) => Ok(cookie
            .map_or(Ok(None), |name| in_cookies(headers, name))?
            .map_or(Credential::Nothing, Credential::Cookie)),
    }
}

/// The value of a cookie. HTTP/2 may bring them in several headers (RFC 9113, section 8.2.3).
fn in_cookies<'a>(headers: &'a HeaderMap, name: &str) -> Result<Option<&'a str>, Refusal> {
    let lines = headers.get_all(COOKIE).iter().filter_map(|value| value.to_str().ok());
    let pairs = lines.flat_map(|line| line.split(';')).filter_map(|pair| pair.trim().split_once('='));
    let mut values = pairs.filter(|(its, _)| *its == name).map(|(_, value)| value);
    match (values.next(), values.next()) {
        (_, Some(_)) => Err(Refusal::Twice),
        (value, None) => Ok(value.filter(|value| !value.is_empty())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(lines: &[(&'static str, &'static str)]) -> HeaderMap {
        let lines = lines.iter().map(|(name, value)| {
            let value = value.parse().expect("the value is right");
            (hyper::header::HeaderName::from_static(name), value)
        });
        lines.collect()
    }

    #[test]
    fn the_header_goes_before_the_cookie_and_what_stands_twice_is_refused() {
        let twice = Err(Refusal::Twice);
        let malformed = Err(Refusal::Token(Flaw::Malformed));
        for (lines, ticket, expected) in [
            (&[][..], None, Ok(Credential::Nothing)),
            (&[("authorization", "Bearer a.b.c")], None, Ok(Credential::Header("a.b.c"))),
            (&[("authorization", "bearer  a.b.c")], None, Ok(Credential::Header("a.b.c"))),
            (&[("authorization", "Basic a")], None, malformed),
            (&[("authorization", "Bearer")], None, Err(Refusal::Token(Flaw::Malformed))),
            (&[("authorization", "Bearer a"), ("authorization", "Bearer a")], None, twice),
            (&[("authorization", "Bearer a")], Some("t"), Err(Refusal::Twice)),
            (&[("cookie", "x=1; sid=a.b.c")], None, Ok(Credential::Cookie("a.b.c"))),
            (&[("cookie", "x=1"), ("cookie", "sid=a")], None, Ok(Credential::Cookie("a"))),
            (&[("cookie", "sid=a; sid=b")], None, Err(Refusal::Twice)),
            (&[("cookie", "sid="), ("cookie", "sidx=b")], None, Ok(Credential::Nothing)),
            (&[("cookie", "sid=a"), ("authorization", "Bearer b")], None, Ok(Credential::Header("b"))),
            (&[("cookie", "sid=a")], Some("t"), Ok(Credential::Ticket("t"))),
        ] {
            assert_eq!(credential(&headers(lines), ticket, Some("sid")), expected, "{lines:?} {ticket:?}");
        }
        let with_cookie = headers(&[("cookie", "sid=a")]);
        assert_eq!(credential(&with_cookie, None, None), Ok(Credential::Nothing));
    }
}
