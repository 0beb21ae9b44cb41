//! `multipart/form-data` (RFC 7578), as far as an upload needs it: the one field `component`.
//!
//! In: the header `Content-Type`, the whole body. Out: the field's bytes, a part of the body without a copy.
//!
//! Invariant: a body that is cut, or has no such field, is an error, never a part of a component.

use bytes::Bytes;

/// The field that holds the component.
const FIELD: &str = "component";

/// Why there is no component in a form.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum FormError {
    #[error("the header Content-Type of a form has no boundary")]
    Boundary,
    #[error("the form is cut, or is not multipart/form-data")]
    Syntax,
    #[error("the form has no field `{FIELD}`: put the .wasm file there")]
    NoField,
}

/// The boundary, if the header says that the body is a form.
pub(super) fn boundary(content_type: &str) -> Option<Result<&str, FormError>> {
    let (kind, parameters) = content_type.split_once(';').unwrap_or((content_type, ""));
    if !kind.trim().eq_ignore_ascii_case("multipart/form-data") {
        return None;
    }
    let boundary = parameters.split(';').find_map(|parameter| parameter_of(parameter, "boundary"));
    Some(boundary.filter(|text| !text.is_empty() && text.len() <= 70).ok_or(FormError::Boundary))
}

fn parameter_of<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let (own, value) = text.split_once('=')?;
    own.trim().eq_ignore_ascii_case(name).then(|| value.trim().trim_matches('"'))
}

/// The bytes of the field.
pub(super) fn component(body: &Bytes, boundary: &str) -> Result<Bytes, FormError> {
    let first = format!("--{boundary}");
    let delimiter = format!("\r\n{first}");
    let mut at = find(body, first.as_bytes(), 0).ok_or(FormError::Syntax)? + first.len();
    loop {
        let rest = body.get(at..).ok_or(FormError::Syntax)?;
        if rest.starts_with(b"--") {
            return Err(FormError::NoField);
        }
        let head = find(body, b"\r\n", at).ok_or(FormError::Syntax)? + 2;
        let head_end = find(body, b"\r\n\r\n", at).ok_or(FormError::Syntax)?;
        let content = head_end + 4;
        let end = find(body, delimiter.as_bytes(), content.saturating_sub(2)).ok_or(FormError::Syntax)?;
        let head = body.get(head..head_end).and_then(|head| std::str::from_utf8(head).ok());
        if head.is_some_and(is_field) {
            return if content <= end { Ok(body.slice(content..end)) } else { Err(FormError::Syntax) };
        }
        at = end + delimiter.len();
    }
}

fn is_field(head: &str) -> bool {
    head.lines().any(|line| {
        let Some((name, value)) = line.split_once(':') else { return false };
        name.trim().eq_ignore_ascii_case("content-disposition")
            && value.split(';').any(|parameter| parameter_of(parameter, "name") == Some(FIELD))
    })
}

fn find(within: &[u8], what: &[u8], from: usize) -> Option<usize> {
    let mut at = from;
    loop {
        // The first byte of what is looked for is rare: this is quick enough for 48 MiB.
        let step = within.get(at..)?.iter().position(|byte| *byte == what[0])?;
        at += step;
        if within[at..].starts_with(what) {
            return Some(at);
        }
        at += 1;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn form(content: &[u8]) -> Bytes {
        let mut body =
            b"preamble\r\n--xyz\r\nContent-Disposition: form-data; name=\"note\"\r\n\r\nhello\r\n--xyz\r\n\
            Content-Disposition: form-data; name=\"component\"; filename=\"a.wasm\"\r\n\
            Content-Type: application/wasm\r\n\r\n"
                .to_vec();
        body.extend_from_slice(content);
        body.extend_from_slice(b"\r\n--xyz--\r\n");
        body.into()
    }

    #[test]
    fn the_field_is_found_among_others() {
        for content in [&b""[..], b"\0asm\r\n\r\n--xy", b"\r\n"] {
            assert_eq!(component(&form(content), "xyz").expect("it is there"), content);
        }
    }

    #[test]
    fn a_form_without_the_field_says_so() {
        let body =
            Bytes::from_static(b"--b\r\nContent-Disposition: form-data; name=\"x\"\r\n\r\n1\r\n--b--\r\n");
        assert_eq!(component(&body, "b"), Err(FormError::NoField));
        assert_eq!(component(&Bytes::new(), "b"), Err(FormError::Syntax));
    }

    #[test]
    fn the_boundary_is_that_of_the_header() {
        assert_eq!(boundary("application/wasm"), None);
        assert_eq!(boundary("multipart/form-data; charset=x; boundary=\"a b\""), Some(Ok("a b")));
        assert_eq!(boundary("Multipart/Form-Data;Boundary=ab"), Some(Ok("ab")));
        assert_eq!(boundary("multipart/form-data"), Some(Err(FormError::Boundary)));
    }

    proptest! {
        #[test]
        fn a_cut_form_never_gives_a_part(cut in 0usize..210) {
            let whole = form(b"0123456789");
            let end = whole.windows(7).rposition(|w| w == b"\r\n--xyz").expect("it is there") + 7;
            let cut = cut.min(end - 1);
            prop_assert!(component(&whole.slice(..cut), "xyz").is_err());
        }

        #[test]
        fn no_body_makes_it_panic(body in prop::collection::vec(prop::sample::select(b"-b\r\n:;=\"an".to_vec()), 0..80)) {
            let _ = component(&body.into(), "b");
        }
    }
}
