//! The paths that a Rust file names, wherever it names them.
//!
//! In: tokens. Out: every path of two or more segments and every imported one, `use` trees taken apart, `self` and
//! `super` resolved, and a first segment that a `use` of the file binds replaced by what it is bound to.
//! Absent on purpose: scopes. A name bound anywhere in a file counts in all of it, which is stricter than Rust.

use std::collections::HashMap;

use super::lexer::{Kind, Token};

/// A path as a file names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Path {
    /// From `crate` or the name of a library; the last is `*` for a glob.
    pub(super) segments: Vec<String>,
    pub(super) line: usize,
    /// In an item that is compiled for tests only.
    pub(super) is_test: bool,
}

impl Path {
    /// Whether it begins with these segments.
    pub(super) fn starts_with(&self, first: &[&str]) -> bool {
        self.segments.len() >= first.len()
            && self.segments.iter().zip(first).all(|(its, wanted)| its == wanted)
    }
}

/// The paths of a file that is the module `module` (segments after `crate`).
pub(super) fn paths(tokens: &[Token], module: &[String]) -> Vec<Path> {
    let mut reader = Reader { tokens, module, inline: Vec::new(), bound: HashMap::new(), paths: Vec::new() };
    reader.read_imports();
    reader.read_all();
    reader.paths
}

/// The module that a file of a crate's `src` is: `log/segments/mod.rs` → `log`, `segments`.
pub(super) fn module_of(path_in_src: &str) -> Vec<String> {
    let stem = path_in_src.strip_suffix(".rs").unwrap_or(path_in_src);
    let mut module: Vec<String> = stem.split('/').map(str::to_owned).collect();
    let is_root = module.len() == 1 && matches!(stem, "lib" | "main");
    if is_root || module.last().is_some_and(|last| last == "mod") {
        module.pop();
    }
    module
}

struct Reader<'a> {
    tokens: &'a [Token],
    module: &'a [String],
    /// Inline modules around the current place: the name, and the depth of braces at which it ends.
    inline: Vec<(String, usize)>,
    bound: HashMap<String, Vec<String>>,
    paths: Vec<Path>,
}

/// A leaf of a tree such as `a::{b, c::{self, d as e}, f::*}`.
struct Leaf {
    segments: Vec<String>,
    alias: Option<String>,
    line: usize,
}

impl Reader<'_> {
    /// First the names, so that uses above a late `use` are seen too.
    fn read_imports(&mut self) {
        self.walk(|reader, at| {
            if !reader.tokens[at].is_word("use") {
                return at + 1;
            }
            let (leaves, end) = reader.tree(reader.after_colons(at + 1), &[]);
            for leaf in leaves {
                let bound = leaf.alias.clone().or_else(|| leaf.segments.last().cloned());
                let segments = reader.absolute(leaf.segments);
                if let Some(bound) = bound.filter(|name| name != "*" && name != "_") {
                    reader.bound.insert(bound, segments.clone());
                }
                reader.paths.push(Path { segments, line: leaf.line, is_test: reader.tokens[at].is_test });
            }
            end
        });
        // `use a::b; use b::c;`
        let bound = self.bound.clone();
        for path in &mut self.paths {
            resolve(&mut path.segments, &bound);
        }
    }

    /// Then the paths outside `use`.
    fn read_all(&mut self) {
        self.walk(|reader, at| {
            let token = &reader.tokens[at];
            if token.is_word("use") {
                return reader.tree(reader.after_colons(at + 1), &[]).1;
            }
            let before = at.checked_sub(1).map(|before| &reader.tokens[before]);
            let continues = before.is_some_and(|before| before.is_mark('.'))
                || (before.is_some_and(|before| before.kind == Kind::Colons)
                    && at > 1
                    && reader.ends_segment(at - 2));
            let is_path = token.word().is_some_and(|word| !is_keyword(word)) && !continues;
            if !is_path || reader.tokens.get(at + 1).is_none_or(|next| next.kind != Kind::Colons) {
                return at + 1;
            }
            let mut segments = Vec::new();
            let mut end = at;
            while let Some(word) = reader.tokens.get(end).and_then(Token::word) {
                segments.push(word.to_owned());
                end += 1;
                if reader.tokens.get(end).is_none_or(|next| next.kind != Kind::Colons) {
                    break;
                }
                end += 1;
            }
            let mut segments = reader.absolute(segments);
            resolve(&mut segments, &reader.bound);
            reader.paths.push(Path { segments, line: token.line, is_test: token.is_test });
            end
        });
    }

    /// Whether the token could end a segment of a path that `::` continues; else `::` begins one.
    fn ends_segment(&self, at: usize) -> bool {
        match &self.tokens[at].kind {
            Kind::Word(word) => !is_keyword(word),
            // Not of `->` or `=>`.
            Kind::Mark('>') => {
                !self.tokens[..at].last().is_some_and(|its| its.is_mark('-') || its.is_mark('='))
            }
            _ => false,
        }
    }

    /// Calls `step` at every place, with the inline modules around it known.
    fn walk(&mut self, step: impl Fn(&mut Self, usize) -> usize) {
        let (mut at, mut depth) = (0, 0_usize);
        while at < self.tokens.len() {
            let next = step(self, at).max(at + 1);
            for place in at..next {
                match self.tokens.get(place).map(|token| &token.kind) {
                    Some(Kind::Mark('{')) => {
                        if let Some(name) = self.module_that_opens(place) {
                            self.inline.push((name, depth));
                        }
                        depth += 1;
                    }
                    Some(Kind::Mark('}')) => {
                        depth = depth.saturating_sub(1);
                        self.inline.pop_if(|(_, its)| *its == depth);
                    }
                    _ => {}
                }
            }
            at = next;
        }
        self.inline.clear();
    }

    fn module_that_opens(&self, brace: usize) -> Option<String> {
        let (keyword, name) = (self.tokens.get(brace.checked_sub(2)?)?, self.tokens.get(brace - 1)?);
        keyword.is_word("mod").then(|| name.word().map(str::to_owned))?
    }

    fn after_colons(&self, at: usize) -> usize {
        if self.tokens.get(at).is_some_and(|token| token.kind == Kind::Colons) { at + 1 } else { at }
    }

    /// Reads a tree; gives its leaves and the first place after it.
    fn tree(&self, mut at: usize, before: &[String]) -> (Vec<Leaf>, usize) {
        let mut segments = before.to_vec();
        let mut line = self.tokens.get(at).map_or(0, |token| token.line);
        while let Some(token) = self.tokens.get(at) {
            match &token.kind {
                Kind::Word(word) if word == "as" => {
                    let alias = self.tokens.get(at + 1).and_then(Token::word).map(str::to_owned);
                    return (vec![Leaf { segments, alias, line }], at + 2);
                }
                Kind::Word(word) => {
                    line = token.line;
                    // `a::{self}` is `a`.
                    if word != "self" || segments.is_empty() {
                        segments.push(word.clone());
                    }
                }
                Kind::Mark('*') => segments.push("*".to_owned()),
                Kind::Colons => {}
                Kind::Mark('{') => return self.branches(at + 1, &segments),
                _ => break,
            }
            at += 1;
        }
        (vec![Leaf { segments, alias: None, line }], at)
    }

    fn branches(&self, mut at: usize, before: &[String]) -> (Vec<Leaf>, usize) {
        let mut leaves = Vec::new();
        while let Some(token) = self.tokens.get(at) {
            match token.kind {
                Kind::Mark('}') => return (leaves, at + 1),
                Kind::Mark(',') => at += 1,
                Kind::Word(_) | Kind::Mark('*') | Kind::Colons => {
                    let (found, end) = self.tree(at, before);
                    leaves.extend(found);
                    at = end;
                }
                _ => break,
            }
        }
        (leaves, at)
    }

    /// `self` and `super` from the module at the current place, as a path from `crate`.
    fn absolute(&self, segments: Vec<String>) -> Vec<String> {
        let relative =
            segments.iter().take_while(|segment| matches!(segment.as_str(), "self" | "super")).count();
        if relative == 0 {
            return segments;
        }
        let mut module: Vec<String> = self.module.to_vec();
        module.extend(self.inline.iter().map(|(name, _)| name.clone()));
        for segment in &segments[..relative] {
            if segment == "super" {
                module.pop();
            }
        }
        let mut absolute = vec!["crate".to_owned()];
        absolute.extend(module);
        absolute.extend(segments.into_iter().skip(relative));
        absolute
    }
}

/// A keyword that a path may follow, and that is no segment of one.
fn is_keyword(word: &str) -> bool {
    matches!(
        word,
        "use" | "return" | "in" | "as" | "dyn" | "impl" | "mut" | "where" | "else" | "match" | "if"
    )
}

/// Replaces the first segment by what a `use` binds it to.
fn resolve(segments: &mut Vec<String>, bound: &HashMap<String, Vec<String>>) {
    let Some(target) = segments.first().and_then(|first| bound.get(first)) else { return };
    if target.first() == segments.first() {
        return;
    }
    segments.splice(..1, target.iter().cloned());
}

#[cfg(test)]
mod tests {
    use super::super::lexer::tokens;
    use super::*;

    fn read(module: &str, text: &str) -> Vec<String> {
        let found = paths(&tokens(text), &module_of(module));
        found.into_iter().map(|path| format!("{}:{}", path.line, path.segments.join("::"))).collect()
    }

    #[test]
    fn a_tree_is_taken_apart_over_lines() {
        let text = "use crate::{log::{self, Record as R}, bus::*,\n event};\npub(crate) use ::std::fs;";
        let expected =
            ["1:crate::log", "1:crate::log::Record", "1:crate::bus::*", "2:crate::event", "3:std::fs"];
        assert_eq!(read("app.rs", text), expected);
    }

    #[test]
    fn inline_paths_are_seen_and_methods_and_fields_are_not() {
        let text =
            "fn f(x: crate::log::Record) { a.log::<u8>(); <X as crate::bus::Bus>::f(); b::c::<d::E>() }";
        let expected = ["1:crate::log::Record", "1:crate::bus::Bus", "1:b::c", "1:d::E"];
        assert_eq!(read("app.rs", text), expected);
    }

    #[test]
    fn super_is_resolved_by_the_file_and_its_inline_modules() {
        assert_eq!(read("log/mod.rs", "use super::bus;"), ["1:crate::bus"]);
        assert_eq!(read("log/segments/mod.rs", "use super::super::bus;"), ["1:crate::bus"]);
        assert_eq!(
            read("log/segment.rs", "mod tests { use super::*; use super::super::X; }"),
            ["1:crate::log::segment::*", "1:crate::log::X"]
        );
        assert_eq!(read("log/segment.rs", "mod a { } use self::b;"), ["1:crate::log::segment::b"]);
    }

    #[test]
    fn what_a_use_binds_is_followed() {
        assert_eq!(read("app.rs", "use std::env; fn f() { env::var() }"), ["1:std::env", "1:std::env::var"]);
        assert_eq!(
            read("app.rs", "use crate::log as l; fn f() { l::X }"),
            ["1:crate::log", "1:crate::log::X"]
        );
        assert_eq!(read("app.rs", "use redis; fn f() { redis::X }"), ["1:redis", "1:redis::X"]);
    }

    #[test]
    fn a_path_may_begin_with_colons() {
        assert_eq!(read("app.rs", "fn f() { return ::redis::x() }"), ["1:redis::x"]);
        assert_eq!(read("app.rs", "fn f() -> ::redis::X {}"), ["1:redis::X"]);
    }

    #[test]
    fn visibility_is_no_path_and_a_broken_tree_ends() {
        assert!(read("app.rs", "pub(crate) fn f() {}").is_empty());
        read("app.rs", "use a::{b, 5");
        read("app.rs", "use");
        read("app.rs", "a::");
    }
}
