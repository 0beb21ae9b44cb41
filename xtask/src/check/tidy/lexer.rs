//! Rust text as tokens, as far as the checks need it.
//!
//! In: the text of a file. Out: words, marks and literals with their lines; comments are gone.
//! Always: every token knows whether it stands under `#[cfg(test)]` or `#[test]`. Text that is no Rust gives some
//! tokens, and never a panic.
//! Absent on purpose: a syntax tree; the checks look at paths and single words.

/// A piece of Rust.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Token {
    pub(super) kind: Kind,
    /// From 1.
    pub(super) line: usize,
    /// In an item that is compiled for tests only.
    pub(super) is_test: bool,
}

/// What a token is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// An identifier or keyword; a raw one without its `r#`.
    Word(String),
    /// `::`
    Colons,
    /// Any other mark, one character each.
    Mark(char),
    /// A string of any kind, without quotes and as written.
    Text(String),
    /// A character, a lifetime, a number.
    Other,
}

impl Token {
    pub(super) fn word(&self) -> Option<&str> {
        match &self.kind {
            Kind::Word(word) => Some(word),
            _ => None,
        }
    }

    pub(super) fn is_word(&self, word: &str) -> bool {
        self.word() == Some(word)
    }

    pub(super) fn is_mark(&self, mark: char) -> bool {
        self.kind == Kind::Mark(mark)
    }
}

/// Cuts a text into tokens.
pub(super) fn tokens(text: &str) -> Vec<Token> {
    let mut lexer = Lexer { rest: text, line: 1, tokens: Vec::new() };
    while lexer.step() {}
    mark_tests(&mut lexer.tokens);
    lexer.tokens
}

struct Lexer<'a> {
    rest: &'a str,
    line: usize,
    tokens: Vec<Token>,
}

impl Lexer<'_> {
    /// Takes one token, comment or blank; false at the end.
    fn step(&mut self) -> bool {
        let Some(first) = self.rest.chars().next() else { return false };
        if self.rest.starts_with("//") {
            self.skip(self.rest.find('\n').unwrap_or(self.rest.len()));
        } else if self.rest.starts_with("/*") {
            self.skip(comment_length(self.rest));
        } else if let Some((hashes, quote)) = raw_string(self.rest) {
            let closing = format!("\"{}", "#".repeat(hashes));
            let body = &self.rest[quote + 1..];
            let length = body.find(&closing).unwrap_or(body.len());
            self.push(Kind::Text(body[..length].to_owned()), quote + 1 + length + closing.len());
        } else if let Some(quote) = plain_string(self.rest) {
            let length = string_length(&self.rest[quote + 1..]);
            let body = self.rest[quote + 1..][..length].to_owned();
            self.push(Kind::Text(body), quote + 1 + length + 1);
        } else if first == '\'' {
            self.push(Kind::Other, quoted_length(self.rest));
        } else if first.is_ascii_digit() {
            self.push(Kind::Other, word_length(self.rest));
        } else if is_word_part(first) {
            let raw = if self.rest.starts_with("r#") { 2 } else { 0 };
            let length = word_length(&self.rest[raw..]);
            self.push(Kind::Word(self.rest[raw..][..length].to_owned()), raw + length);
        } else if self.rest.starts_with("::") {
            self.push(Kind::Colons, 2);
        } else if first.is_whitespace() {
            self.skip(first.len_utf8());
        } else {
            self.push(Kind::Mark(first), first.len_utf8());
        }
        true
    }

    fn push(&mut self, kind: Kind, length: usize) {
        self.tokens.push(Token { kind, line: self.line, is_test: false });
        self.skip(length);
    }

    fn skip(&mut self, length: usize) {
        let (taken, rest) = self.rest.split_at(length.min(self.rest.len()));
        self.line += taken.matches('\n').count();
        self.rest = rest;
    }
}

fn is_word_part(character: char) -> bool {
    character == '_' || character.is_alphanumeric()
}

fn word_length(text: &str) -> usize {
    text.find(|character| !is_word_part(character)).unwrap_or(text.len())
}

/// Comments of this kind nest.
fn comment_length(text: &str) -> usize {
    let mut depth = 0_usize;
    let mut at = 0;
    while at < text.len() {
        let rest = &text[at..];
        if rest.starts_with("/*") {
            depth += 1;
            at += 2;
        } else if rest.starts_with("*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return at;
            }
        } else {
            at += rest.chars().next().map_or(1, char::len_utf8);
        }
    }
    text.len()
}

/// The number of `#` of a raw string that begins here, and where its quote is.
fn raw_string(text: &str) -> Option<(usize, usize)> {
    let prefix = ["r", "br", "cr"]
        .into_iter()
        .find(|prefix| text.strip_prefix(prefix).is_some_and(|rest| rest.starts_with(['#', '"'])))?;
    let hashes = text[prefix.len()..].find(|character| character != '#')?;
    let quote = prefix.len() + hashes;
    text[quote..].starts_with('"').then_some((hashes, quote))
}

/// Where the quote of a string with escapes is, if one begins here.
fn plain_string(text: &str) -> Option<usize> {
    ["\"", "b\"", "c\""].into_iter().find(|start| text.starts_with(start)).map(|start| start.len() - 1)
}

/// Up to the closing quote.
fn string_length(body: &str) -> usize {
    let mut escaped = false;
    for (at, character) in body.char_indices() {
        match character {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return at,
            _ => {}
        }
    }
    body.len()
}

/// A character or a lifetime.
fn quoted_length(text: &str) -> usize {
    let mut characters = text.char_indices().skip(1);
    match characters.next() {
        Some((_, '\\')) => {
            characters.next();
            text[2..]
                .char_indices()
                .skip(1)
                .find(|(_, its)| *its == '\'')
                .map_or(text.len(), |(at, _)| at + 3)
        }
        Some((_, first)) => match characters.next() {
            Some((at, '\'')) => at + 1,
            _ if is_word_part(first) => 1 + word_length(&text[1..]),
            _ => 1,
        },
        None => 1,
    }
}

/// Marks what stands under an attribute for tests: the attribute, further ones, and the item after them.
fn mark_tests(tokens: &mut [Token]) {
    let mut at = 0;
    while at < tokens.len() {
        let Some(end) = attribute_end(tokens, at) else {
            at += 1;
            continue;
        };
        if !is_for_tests(&tokens[at..end]) {
            at = end;
            continue;
        }
        let end = item_end(tokens, end);
        tokens[at..end].iter_mut().for_each(|token| token.is_test = true);
        at = end;
    }
}

/// The first place after the attribute `#[…]` or `#![…]` that begins at `at`.
fn attribute_end(tokens: &[Token], at: usize) -> Option<usize> {
    let mark = |place: usize, mark| tokens.get(place).is_some_and(|token| token.is_mark(mark));
    let bracket = if mark(at + 1, '!') { at + 2 } else { at + 1 };
    (mark(at, '#') && mark(bracket, '[')).then(|| group_end(tokens, bracket))
}

/// The first place after the bracket that closes the one at `at`.
fn group_end(tokens: &[Token], at: usize) -> usize {
    let mut depth = 0_usize;
    for (place, token) in tokens.iter().enumerate().skip(at) {
        match token.kind {
            Kind::Mark('(' | '[' | '{') => depth += 1,
            Kind::Mark(')' | ']' | '}') => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth == 0 {
            return place + 1;
        }
    }
    tokens.len()
}

/// `#[test]`, `#[tokio::test]`, `#[cfg(test)]`, `#[cfg(all(test, …))]`: not `not(test)`, and not `any(test, …)`,
/// which is compiled elsewhere too.
fn is_for_tests(attribute: &[Token]) -> bool {
    let words: Vec<&str> = attribute.iter().filter_map(Token::word).collect();
    match words.first() {
        Some(&"cfg") => words.contains(&"test") && !words.contains(&"not") && !words.contains(&"any"),
        _ => words.last() == Some(&"test") || words.starts_with(&["tokio", "test"]),
    }
}

/// The first place after an item: its `;`, or the `}` of its first block outside parentheses.
fn item_end(tokens: &[Token], mut at: usize) -> usize {
    while let Some(end) = attribute_end(tokens, at) {
        at = end;
    }
    while let Some(token) = tokens.get(at) {
        match token.kind {
            Kind::Mark(';') => return at + 1,
            Kind::Mark('{') => return group_end(tokens, at),
            Kind::Mark('(' | '[') => at = group_end(tokens, at),
            _ => at += 1,
        }
    }
    tokens.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<String> {
        tokens(text).iter().filter_map(|token| token.word().map(str::to_owned)).collect()
    }

    fn test_words(text: &str) -> Vec<String> {
        let all = tokens(text);
        all.iter().filter(|token| token.is_test).filter_map(|token| token.word().map(str::to_owned)).collect()
    }

    #[test]
    fn comments_and_strings_hold_no_words() {
        let text =
            "a // b\n/* c /* d */ e */ f \"g \\\" h\" i r#\"j \" k\"# l b\"m\" 'n' '\\'' '\"' o 0x1f r#fn";
        assert_eq!(words(text), ["a", "f", "i", "l", "o", "fn"]);
    }

    #[test]
    fn a_lifetime_is_no_character() {
        assert_eq!(words("&'a str, 'b: loop { 'x' } '\\u{1f600}' '\\\\' end"), ["str", "loop", "end"]);
    }

    #[test]
    fn lines_are_counted_through_strings_and_comments() {
        let text = "\"a\nb\" /*\n*/ c\n// d\ne";
        let lines: Vec<usize> = tokens(text).iter().map(|token| token.line).collect();
        assert_eq!(lines, [1, 3, 5]);
    }

    #[test]
    fn the_body_of_a_string_is_kept_as_written() {
        let kinds: Vec<Kind> = tokens(r#""a\n" r"b\c""#).into_iter().map(|token| token.kind).collect();
        assert_eq!(kinds, [Kind::Text("a\\n".into()), Kind::Text("b\\c".into())]);
    }

    #[test]
    fn what_is_compiled_for_tests_only_is_marked() {
        assert_eq!(test_words("a; #[cfg(test)] mod tests { b } c"), ["cfg", "test", "mod", "tests", "b"]);
        assert_eq!(test_words("#[cfg(test)] #[path = \"x\"] mod d; e"), ["cfg", "test", "path", "mod", "d"]);
        assert_eq!(test_words("#[tokio::test] async fn f(x: [u8; 2]) { g } h").last().unwrap(), "g");
        assert!(test_words("#[cfg(not(test))] fn f() {} #[cfg(any(test, x))] fn g() {}").is_empty());
        assert!(test_words("#[derive(Debug)] struct Test; #[cfg(unix)] fn test() {}").is_empty());
    }

    #[test]
    fn text_that_is_no_rust_gives_no_panic() {
        for text in
            ["\"", "'", "'\\", "/*", "r#\"", "#[cfg(test)]", "#[", "r#", "b'", "é'", "'é", "}}}", "*/"]
        {
            tokens(text);
        }
    }
}
