//! Every Rust file of a crate is reached: from a root, by `mod`, `#[path]` or `include!`. One that is not is never
//! compiled, and rots.
//!
//! Roots are those that cargo finds by itself, and every `path = "….rs"` of `Cargo.toml`.
//! Absent on purpose: macros that declare modules; there are none.

use std::collections::{BTreeMap, HashSet};

use super::lexer::{Kind, Token};
use super::links::join;
use super::{File, Finding, Tree};

pub(super) fn check(tree: &Tree) -> Vec<Finding> {
    let reached = reached(tree);
    let lost = tree
        .rust_files()
        .filter(|file| crate_of(tree, &file.path).is_some() && !reached.contains_key(&file.path));
    lost.map(|file| {
        file.finding(1, "no `mod` reaches this file, so it is never compiled; declare or remove it")
    })
    .collect()
}

/// Files that are compiled for tests only, since their `mod` is.
pub(super) fn test_files(tree: &Tree) -> HashSet<String> {
    reached(tree).into_iter().filter(|(_, is_test)| *is_test).map(|(path, _)| path).collect()
}

/// The folder of the crate that a file belongs to: the nearest with a `Cargo.toml`.
fn crate_of<'a>(tree: &Tree, path: &'a str) -> Option<&'a str> {
    let mut folder = path;
    while let Some((above, _)) = folder.rsplit_once('/') {
        folder = above;
        if tree.files.iter().any(|file| file.path == format!("{folder}/Cargo.toml")) {
            return Some(folder);
        }
    }
    None
}

/// Every file that is compiled, and whether only for tests.
fn reached(tree: &Tree) -> BTreeMap<String, bool> {
    let files: BTreeMap<&str, &File> = tree.rust_files().map(|file| (file.path.as_str(), file)).collect();
    let mut reached: BTreeMap<String, bool> = BTreeMap::new();
    let roots = files.keys().filter(|path| is_root(tree, path));
    let root = |path: &&str| Reached { path: (*path).to_owned(), is_test: false, is_mod_rs: true };
    let mut waiting: Vec<Reached> = roots.map(root).collect();
    while let Some(next) = waiting.pop() {
        let known = reached.get(&next.path).copied();
        // Reached once more matters only when the first time was for tests.
        if known.is_some_and(|known| !known || next.is_test) {
            continue;
        }
        let Some(file) = files.get(next.path.as_str()) else { continue };
        reached.insert(next.path.clone(), next.is_test);
        waiting.extend(
            children(file, &next).into_iter().filter(|child| files.contains_key(child.path.as_str())),
        );
    }
    reached
}

fn is_root(tree: &Tree, path: &str) -> bool {
    let Some(folder) = crate_of(tree, path) else { return false };
    let inside = &path[folder.len() + 1..];
    let parts: Vec<&str> = inside.split('/').collect();
    match parts[..] {
        ["build.rs"]
        | ["src", "lib.rs" | "main.rs"]
        | ["src", "bin", _]
        | ["tests" | "benches" | "examples", _] => true,
        ["src", "bin", _, "main.rs"] | ["tests" | "benches" | "examples", _, "main.rs"] => true,
        _ => {
            let manifest = tree.files.iter().find(|file| file.path == format!("{folder}/Cargo.toml"));
            let named = format!("path = \"{inside}\"");
            manifest.is_some_and(|manifest| manifest.text.lines().any(|line| line.trim().contains(&named)))
        }
    }
}

struct Reached {
    path: String,
    is_test: bool,
    /// A root or a `mod.rs`: its modules lie beside it, not in a folder of its name.
    is_mod_rs: bool,
}

/// What a file declares; both places where a module may lie.
fn children(file: &File, of: &Reached) -> Vec<Reached> {
    let (folder, name) = file.path.rsplit_once('/').unwrap_or(("", &file.path));
    let is_mod_rs = of.is_mod_rs || name == "mod.rs";
    let stem = name.strip_suffix(".rs").unwrap_or(name);
    let below = if is_mod_rs { folder.to_owned() } else { join(folder, stem) };
    let tokens = &file.tokens;
    let mut found = Vec::new();
    let mut inline: Vec<(&str, usize)> = Vec::new();
    let mut depth = 0_usize;
    for (at, token) in tokens.iter().enumerate() {
        match &token.kind {
            Kind::Mark('{') => depth += 1,
            Kind::Mark('}') => {
                depth = depth.saturating_sub(1);
                inline.pop_if(|(_, its)| *its == depth);
            }
            Kind::Word(word) if word == "mod" => {
                let Some(name) = tokens.get(at + 1).and_then(Token::word) else { continue };
                if tokens.get(at + 2).is_some_and(|next| next.is_mark('{')) {
                    inline.push((name, depth));
                    continue;
                }
                let is_test = of.is_test || token.is_test;
                let here = inline.iter().fold(below.clone(), |path, (name, _)| join(&path, name));
                if let Some(named) = path_attribute(tokens, at) {
                    found.push(Reached { path: join(folder, named), is_test, is_mod_rs: true });
                }
                found.push(Reached { path: join(&here, &format!("{name}.rs")), is_test, is_mod_rs: false });
                found.push(Reached {
                    path: join(&here, &format!("{name}/mod.rs")),
                    is_test,
                    is_mod_rs: true,
                });
            }
            Kind::Word(word) if word == "include" => {
                if let Some(Kind::Text(named)) = tokens.get(at + 3).map(|token| &token.kind) {
                    found.push(Reached { path: join(folder, named), is_test: of.is_test, is_mod_rs: true });
                }
            }
            _ => {}
        }
    }
    found
}

/// The `x` of `#[path = "x"] mod …` or `#[path = "x"] pub mod …`.
fn path_attribute(tokens: &[Token], keyword: usize) -> Option<&str> {
    let before = &tokens[keyword.saturating_sub(10)..keyword];
    let at = before.iter().rposition(|token| token.is_word("path"))?;
    // Of another item, if one ends in between.
    let ends = |token: &Token| token.is_mark(';') || token.is_mark('{') || token.is_mark('}');
    match before.get(at + 2).map(|token| &token.kind) {
        Some(Kind::Text(named)) if !before[at..].iter().any(ends) => Some(named),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::super::example::{found, tree};
    use super::*;

    #[test]
    fn a_file_that_nothing_declares_is_found() {
        let files = [
            ("c/Cargo.toml", ""),
            ("c/src/lib.rs", "mod a; // mod b;\n"),
            ("c/src/a.rs", ""),
            ("c/src/b.rs", ""),
        ];
        let what = "c/src/b.rs:1: no `mod` reaches this file, so it is never compiled; declare or remove it";
        assert_eq!(found(check, &files), [what]);
    }

    #[test]
    fn a_file_that_only_a_lost_file_declares_is_found() {
        let files =
            [("c/Cargo.toml", ""), ("c/src/lib.rs", ""), ("c/src/a.rs", "mod b;"), ("c/src/a/b.rs", "")];
        assert_eq!(found(check, &files).len(), 2);
    }

    #[test]
    fn every_way_of_reaching_a_file_is_followed() {
        let files = [
            ("c/Cargo.toml", "[lib]\npath = \"support/lib.rs\"\n"),
            ("c/support/lib.rs", "pub mod x;"),
            ("c/support/x.rs", "mod y { pub(crate) mod z; }"),
            ("c/support/x/y/z.rs", "#[path = \"../../odd.rs\"]\npub(crate) mod odd;"),
            ("c/support/odd.rs", "include!(\"more.rs\");"),
            ("c/support/more.rs", ""),
            ("c/src/main.rs", "mod room;"),
            ("c/src/room/mod.rs", "mod inner; #[cfg(test)] mod tests;"),
            ("c/src/room/inner.rs", "mod deep;"),
            ("c/src/room/inner/deep.rs", ""),
            ("c/src/room/tests.rs", "mod more;"),
            ("c/src/room/tests/more.rs", ""),
            ("c/benches/policy.rs", ""),
            ("c/build.rs", ""),
            ("script.rs", ""),
        ];
        assert_eq!(found(check, &files), [""; 0]);
    }

    #[test]
    fn files_whose_mod_is_for_tests_are_for_tests() {
        let files = [
            ("c/Cargo.toml", ""),
            ("c/src/lib.rs", "#[cfg(test)] mod tests; mod a;"),
            ("c/src/tests.rs", "mod more;"),
            ("c/src/tests/more.rs", ""),
            ("c/src/a.rs", ""),
        ];
        let mut found: Vec<String> = test_files(&tree(&files)).into_iter().collect();
        found.sort();
        assert_eq!(found, ["c/src/tests.rs", "c/src/tests/more.rs"]);
    }
}
