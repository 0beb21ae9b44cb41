//! The URL's words about encryption, which `tokio-postgres` does not know.
//!
//! In: a URL, or a list of `key=value` as libpq has it. Out: those words, and the text without them.
//!
//! Invariant: no error has anything of the URL in it but a word that is known.

use super::transport::{SslMode, Tls};

const KEYS: [&str; 4] = ["sslmode", "sslrootcert", "sslcert", "sslkey"];
/// Words of libpq that would make a connection safer, and that this program does not have.
const UNKNOWN: [&str; 5] =
    ["sslcrl", "sslcrldir", "sslpassword", "ssl_min_protocol_version", "sslnegotiation"];

/// Takes the words about encryption out.
///
/// # Errors
/// With what is wrong.
pub(super) fn take_tls(url: &str) -> Result<(String, Tls), String> {
    let mut tls = Tls::default();
    let is_url = ["postgres://", "postgresql://"].iter().any(|scheme| url.starts_with(scheme));
    let rest = if is_url { take_from_url(url, &mut tls)? } else { take_from_list(url, &mut tls)? };
    tls.check()?;
    Ok((rest, tls))
}

fn take_from_url(url: &str, tls: &mut Tls) -> Result<String, String> {
    let Some((before, query)) = url.split_once('?') else { return Ok(url.to_owned()) };
    let mut kept = Vec::new();
    for pair in query.split('&') {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        let value = || decoded(value).ok_or_else(|| "has a value that is not percent-encoded".to_owned());
        if !take(key, value, tls)? {
            kept.push(pair);
        }
    }
    Ok(if kept.is_empty() { before.to_owned() } else { format!("{before}?{}", kept.join("&")) })
}

fn take_from_list(list: &str, tls: &mut Tls) -> Result<String, String> {
    let (mut kept, mut rest) = (String::new(), list.trim_start());
    while let Some((key, after)) = rest.split_once('=') {
        let (value, after) = list_value(after.trim_start());
        let pair = &rest[..rest.len() - after.len()];
        if !take(key.trim(), || Ok(value), tls)? {
            kept.push_str(pair);
            kept.push(' ');
        }
        rest = after.trim_start();
    }
    // What is no pair is for the parser to refuse.
    kept.push_str(rest);
    Ok(kept.trim_end().to_owned())
}

/// A value, within quotes or up to a space, without its backslashes; and what follows it.
fn list_value(text: &str) -> (String, &str) {
    let (quoted, text) = text.strip_prefix('\'').map_or((false, text), |text| (true, text));
    let mut value = String::new();
    let mut letters = text.char_indices();
    while let Some((at, letter)) = letters.next() {
        match letter {
            '\\' => value.extend(letters.next().map(|(_, letter)| letter)),
            '\'' if quoted => return (value, &text[at + 1..]),
            space if !quoted && space.is_whitespace() => return (value, &text[at..]),
            letter => value.push(letter),
        }
    }
    (value, "")
}

/// Whether it was a word about encryption.
fn take(key: &str, value: impl FnOnce() -> Result<String, String>, tls: &mut Tls) -> Result<bool, String> {
    if let Some(unknown) = UNKNOWN.iter().find(|unknown| **unknown == key) {
        return Err(format!("has {unknown}, which this program does not know: take it out"));
    }
    if !KEYS.contains(&key) {
        return Ok(false);
    }
    let value = value()?;
    let file = || (!value.is_empty()).then(|| value.clone().into());
    match key {
        "sslmode" => tls.mode = SslMode::parse(&value)?,
        "sslrootcert" => tls.root = file(),
        "sslcert" => tls.certificate = file(),
        _ => tls.key = file(),
    }
    Ok(true)
}

fn decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((byte, after)) = rest.split_first() {
        rest = after;
        if *byte != b'%' {
            bytes.push(*byte);
            continue;
        }
        let (digits, after) = rest.split_at_checked(2)?;
        let digits = std::str::from_utf8(digits)
            .ok()
            .filter(|text| text.bytes().all(|byte| byte.is_ascii_hexdigit()))?;
        bytes.push(u8::from_str_radix(digits, 16).ok()?);
        rest = after;
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(url: &str) -> (String, Tls) {
        take_tls(url).expect("it is right")
    }

    #[test]
    fn the_words_of_a_url_are_taken_and_the_others_stay() {
        let (rest, tls) =
            taken("postgres://a:b@h/d?sslmode=verify-full&options=-c%20x%3D1&sslrootcert=%2Fa%20b");
        assert_eq!(rest, "postgres://a:b@h/d?options=-c%20x%3D1");
        assert_eq!((tls.mode, tls.root), (SslMode::VerifyFull, Some("/a b".into())));
        assert_eq!(taken("postgres://a@h/d?sslmode=require").0, "postgres://a@h/d");
        assert_eq!(taken("postgres://a@h/d"), ("postgres://a@h/d".to_owned(), Tls::default()));
    }

    #[test]
    fn the_words_of_a_list_are_taken_and_the_others_stay() {
        let list = r"host=h sslmode = verify-ca password='it\'s sslmode=x' sslcert='/a b' sslkey=/k user=a";
        let (rest, tls) = taken(list);
        assert_eq!(rest, r"host=h password='it\'s sslmode=x' user=a");
        assert_eq!(tls.mode, SslMode::VerifyCa);
        assert_eq!((tls.certificate, tls.key), (Some("/a b".into()), Some("/k".into())));
    }

    #[test]
    fn what_is_wrong_is_told_without_the_url() {
        for (url, part) in [
            ("postgres://a:s3cret@h/d?sslmode=s3cret", "none of disable, prefer"),
            ("postgres://a:s3cret@h/d?sslkey=/k", "go together"),
            ("postgres://a:s3cret@h/d?sslcrl=/k", "sslcrl"),
            ("postgres://a:s3cret@h/d?sslkey=%zz", "percent-encoded"),
            ("host=h sslmode=s3cret", "none of disable, prefer"),
        ] {
            let error = take_tls(url).expect_err("it is wrong");
            assert!(error.contains(part) && !error.contains("s3cret"), "{error}");
        }
    }
}
