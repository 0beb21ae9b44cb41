//! Which pages may ask: origins (RFC 6454) and what browsers are told about them (the Fetch standard, "CORS protocol").
//!
//! In: a request's head. Out: whether its page may, and the headers that say so.
//!
//! Invariant: a request whose browser adds a cookie is served only if its page is of this origin or a listed one.

use hyper::HeaderMap;
use hyper::header::{
    ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS,
    ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, HeaderValue, ORIGIN,
    VARY,
};

use super::refusal::Refusal;
use crate::limits::ORIGINS_COUNT_MAX;

/// What a request is about to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Deed {
    /// It reads, by GET: the browser keeps the answer from pages that may not have it.
    Read,
    /// It changes something, by POST.
    Write,
    /// It opens a WebSocket, for which no browser asks beforehand: the check here is the only one.
    Socket,
}

/// The origins whose pages may.
#[derive(Debug, Clone, Default)]
pub(super) struct Origins {
    listed: Vec<HeaderValue>,
    is_every: bool,
    with_cookies: bool,
}

impl Origins {
    /// Reads a list. `cookie` says whether cookies count.
    ///
    /// # Errors
    /// If an entry is no origin, or all may come with cookies.
    pub(super) fn new(texts: &[String], with_cookies: bool) -> Result<Self, String> {
        if texts.len() > ORIGINS_COUNT_MAX {
            return Err(format!("has {} origins, at most {ORIGINS_COUNT_MAX} are allowed", texts.len()));
        }
        let is_every = texts.iter().any(|text| text == "*");
        if is_every && with_cookies {
            return Err(
                "is `*` while a cookie counts: any page could then listen as its visitor; name the origins"
                    .into(),
            );
        }
        let listed = texts.iter().filter(|text| *text != "*").map(|text| {
            let rest = text.split_once("://").filter(|(scheme, _)| matches!(*scheme, "http" | "https"));
            let fits =
                rest.is_some_and(|(_, host)| !host.is_empty() && !host.contains(['/', '@', '?', '#', '*']));
            let lower = text.to_ascii_lowercase();
            HeaderValue::from_str(&lower)
                .ok()
                .filter(|_| fits)
                .ok_or_else(|| format!("has `{text}`, which is no origin such as `https://shop.example`"))
        });
        Ok(Self { listed: listed.collect::<Result<_, _>>()?, is_every, with_cookies })
    }

    /// Checks the page that a request comes from. `authority` is the host that was asked.
    ///
    /// # Errors
    /// If it may not do this.
    pub(super) fn check(
        &self,
        headers: &HeaderMap,
        authority: Option<&str>,
        deed: Deed,
        by_cookie: bool,
    ) -> Result<(), Refusal> {
        if !by_cookie && deed != Deed::Socket {
            return Ok(());
        }
        let mut origins = headers.get_all(ORIGIN).iter();
        let may = match (origins.next(), origins.next()) {
            // Browsers leave it out only where a page reads from its own origin.
            (None, _) => deed == Deed::Read || !by_cookie,
            (Some(origin), None) => self.allows(origin) || is_same(origin, authority),
            (Some(_), Some(_)) => false,
        };
        if may { Ok(()) } else { Err(Refusal::Origin) }
    }

    fn allows(&self, origin: &HeaderValue) -> bool {
        self.is_every || self.listed.contains(origin)
    }

    /// What a browser is told, so that a listed page may read the answer.
    pub(super) fn mark(&self, asked: &HeaderMap, answer: &mut HeaderMap) {
        if self.listed.is_empty() && !self.is_every {
            return;
        }
        // A cache must not give one origin the answer for another.
        answer.append(VARY, HeaderValue::from_static("Origin"));
        let Some(origin) = asked.get(ORIGIN).filter(|origin| self.allows(origin)) else { return };
        if self.is_every {
            answer.insert(ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
        } else {
            answer.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
        }
        if self.with_cookies {
            answer.insert(ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true"));
        }
        answer.insert(ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static("Retry-After"));
    }

    /// Answers the question that a browser asks beforehand.
    ///
    /// # Errors
    /// If its page may not.
    pub(super) fn preflight(&self, asked: &HeaderMap, answer: &mut HeaderMap) -> Result<(), Refusal> {
        if !asked.get(ORIGIN).is_some_and(|origin| self.allows(origin)) {
            return Err(Refusal::Origin);
        }
        answer.insert(ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static("GET, POST"));
        let names = "authorization, cache-control, content-type, idempotency-key, last-event-id";
        answer.insert(ACCESS_CONTROL_ALLOW_HEADERS, HeaderValue::from_static(names));
        answer.insert(ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("7200"));
        Ok(())
    }
}

/// Whether the page is of the host that was asked. The scheme is not compared: TLS may end before this server.
fn is_same(origin: &HeaderValue, authority: Option<&str>) -> bool {
    let host = origin.to_str().ok().and_then(|text| text.split_once("://")).map(|(_, host)| host);
    host.zip(authority).is_some_and(|(host, authority)| host.eq_ignore_ascii_case(authority))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn origins(texts: &[&str], with_cookies: bool) -> Result<Origins, String> {
        let texts: Vec<_> = texts.iter().map(|text| (*text).to_owned()).collect();
        Origins::new(&texts, with_cookies)
    }

    fn head(origins: &[&'static str]) -> HeaderMap {
        origins.iter().map(|origin| (ORIGIN, HeaderValue::from_static(origin))).collect()
    }

    #[test]
    fn with_a_cookie_only_pages_of_here_and_of_the_list_may() {
        let list = origins(&["https://shop.example"], true).expect("the list is right");
        let here = Some("live.example:8080");
        for (origin, deed, may) in [
            (&["https://shop.example"][..], Deed::Read, true),
            (&["https://live.example:8080"], Deed::Write, true),
            (&["https://LIVE.example:8080"], Deed::Socket, true),
            (&[], Deed::Read, true),
            (&[], Deed::Write, false),
            (&[], Deed::Socket, false),
            (&["https://evil.example"], Deed::Read, false),
            (&["http://shop.example"], Deed::Read, false),
            (&["https://shop.example.evil.example"], Deed::Socket, false),
            (&["null"], Deed::Read, false),
            (&["https://shop.example", "https://shop.example"], Deed::Read, false),
        ] {
            assert_eq!(list.check(&head(origin), here, deed, true).is_ok(), may, "{origin:?} {deed:?}");
        }
    }

    #[test]
    fn without_a_cookie_only_sockets_are_looked_at() {
        let list = origins(&["https://shop.example"], false).expect("the list is right");
        let evil = head(&["https://evil.example"]);
        assert_eq!(list.check(&evil, None, Deed::Read, false), Ok(()));
        assert_eq!(list.check(&evil, None, Deed::Write, false), Ok(()));
        assert_eq!(list.check(&evil, None, Deed::Socket, false), Err(Refusal::Origin));
        assert_eq!(list.check(&head(&[]), None, Deed::Socket, false), Ok(()));
        let every = origins(&["*"], false).expect("the list is right");
        assert_eq!(every.check(&evil, None, Deed::Socket, false), Ok(()));
    }

    #[test]
    fn an_answer_names_the_origin_that_may_read_it_and_no_other() {
        let marked = |list: &Origins, origin: &'static str| {
            let mut answer = HeaderMap::new();
            list.mark(&head(&[origin]), &mut answer);
            let text = |name| {
                answer.get(name).map(|value: &HeaderValue| value.to_str().expect("it is text").to_owned())
            };
            (text(ACCESS_CONTROL_ALLOW_ORIGIN), text(ACCESS_CONTROL_ALLOW_CREDENTIALS), text(VARY))
        };
        let own = |text: &str| Some(text.to_owned());
        let with_cookies = origins(&["https://Shop.example"], true).expect("the list is right");
        assert_eq!(
            marked(&with_cookies, "https://shop.example"),
            (own("https://shop.example"), own("true"), own("Origin"))
        );
        assert_eq!(marked(&with_cookies, "https://evil.example"), (None, None, own("Origin")));
        let every = origins(&["*"], false).expect("the list is right");
        assert_eq!(marked(&every, "https://evil.example"), (own("*"), None, own("Origin")));
        assert_eq!(marked(&Origins::default(), "https://shop.example"), (None, None, None));
    }

    #[test]
    fn what_is_no_origin_is_refused() {
        for text in [
            "shop.example",
            "https://",
            "https://shop.example/",
            "ftp://x",
            "https://*.example",
            "https://a@b",
        ] {
            assert!(origins(&[text], false).is_err(), "{text}");
        }
        assert!(origins(&["*"], true).expect_err("it is wrong").contains("cookie"));
    }
}
