//! Words that must not be committed: unfinished work, switched-off tests, sleeps that wait for something, bare
//! `unwrap()`, and paths of somebody's machine.
//!
//! To ban a word: a row in [`WORDS`]; to allow one somewhere, a row in [`ALLOWED`] with the reason.

use std::collections::HashSet;

use super::lexer::{Kind, Token};
use super::{File, Finding, Tree, paths, reached};

struct Banned {
    /// As tokens: what looks like it in a comment or a string is not meant.
    tokens: &'static [&'static str],
    place: Place,
    remedy: &'static str,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    Everywhere,
    /// What users run: host and plugins, without their tests.
    Shipped,
}

const WORDS: &[Banned] = &[
    Banned { tokens: &["todo", "!"], place: Place::Everywhere, remedy: "do it, or file an issue" },
    Banned { tokens: &["unimplemented", "!"], place: Place::Everywhere, remedy: "do it, or return an error" },
    Banned { tokens: &["dbg", "!"], place: Place::Everywhere, remedy: "remove it, or trace it" },
    Banned {
        tokens: &["#", "[", "ignore"],
        place: Place::Everywhere,
        remedy: "make the test run, or remove it",
    },
    Banned {
        tokens: &[".", "unwrap", "(", ")"],
        place: Place::Shipped,
        remedy: "return an error, or state with `expect` what always holds",
    },
];

/// The folder whose tests need services, and where waiting by sleeping tempts most.
const SERVICE_TESTS: &str = "tests/";
const SLEEPS: &[&[&str]] = &[&["thread", "sleep"], &["time", "sleep"], &["time", "sleep_until"]];

/// Folders that are somebody's, not the project's. Taken apart, so that this file is clean itself.
const MACHINE_FOLDERS: &[&str] =
    &[concat!("/", "home/"), concat!("/", "work/"), concat!("/", "root/"), concat!("/", "Users/")];

/// Path, word, reason.
const ALLOWED: &[(&str, &str, &str)] = &[];

pub(super) fn check(tree: &Tree) -> Vec<Finding> {
    let of_tests = reached::test_files(tree);
    let in_rust = tree.rust_files().flat_map(|file| words(file, &of_tests).into_iter().chain(sleeps(file)));
    in_rust.chain(tree.files.iter().flat_map(machine_folders)).collect()
}

fn is_allowed(file: &File, word: &str) -> bool {
    ALLOWED.iter().any(|(path, allowed, _)| *path == file.path && *allowed == word)
}

fn words(file: &File, of_tests: &HashSet<String>) -> Vec<Finding> {
    let is_shipped = file.path.split_once("/src/").is_some_and(|(package, _)| {
        package == "host" || package.starts_with("plugins/") || package.starts_with("examples/")
    });
    let mut found = Vec::new();
    for banned in WORDS {
        let word = banned.tokens.concat();
        for at in 0..file.tokens.len().saturating_sub(banned.tokens.len() - 1) {
            let token = &file.tokens[at];
            let counts = match banned.place {
                Place::Everywhere => true,
                Place::Shipped => is_shipped && !token.is_test && !of_tests.contains(&file.path),
            };
            if counts && matches(&file.tokens[at..], banned.tokens) && !is_allowed(file, &word) {
                found.push(
                    file.finding(token.line, format!("`{word}` must not be committed; {}", banned.remedy)),
                );
            }
        }
    }
    found
}

fn matches(tokens: &[Token], wanted: &[&str]) -> bool {
    let is = |token: &Token, wanted: &str| match &token.kind {
        Kind::Word(word) => word == wanted,
        Kind::Mark(mark) => wanted.starts_with(*mark),
        _ => false,
    };
    tokens.iter().zip(wanted).all(|(token, wanted)| is(token, wanted))
}

fn sleeps(file: &File) -> Vec<Finding> {
    if !file.path.starts_with(SERVICE_TESTS) {
        return Vec::new();
    }
    let ends_so = |path: &paths::Path| {
        SLEEPS.iter().find(|sleep| {
            let segments: Vec<&str> = path.segments.iter().map(String::as_str).collect();
            segments.ends_with(sleep)
        })
    };
    let found = paths::paths(&file.tokens, &[]).into_iter().filter_map(|path| {
        let word = ends_so(&path)?.join("::");
        let what = format!("`{word}` in a test; wait for the thing itself, bounded by a timeout");
        (!is_allowed(file, &word)).then(|| file.finding(path.line, what))
    });
    found.collect()
}

fn machine_folders(file: &File) -> Vec<Finding> {
    let mut found = Vec::new();
    for (index, line) in file.text.lines().enumerate() {
        let named = MACHINE_FOLDERS.iter().find(|folder| begins_a_path(line, folder));
        if let Some(folder) = named.filter(|folder| !is_allowed(file, folder)) {
            let what = format!("`{folder}` is a folder of somebody's machine; name a path of the repository");
            found.push(file.finding(index + 1, what));
        }
    }
    found
}

/// Whether the folder stands in the line, not as the end of a longer path or address.
fn begins_a_path(line: &str, folder: &str) -> bool {
    line.match_indices(folder).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        before.is_none_or(|before| {
            !before.is_alphanumeric() && !matches!(before, '/' | '.' | '_' | '-' | '~' | '}' | ')' | '*')
        })
    })
}

#[cfg(test)]
mod tests {
    use super::super::example::found;
    use super::*;

    #[test]
    fn unfinished_work_and_switched_off_tests_are_found() {
        let text = "fn f() { todo!() }\nfn g() { unimplemented!(); dbg!(x) }\n#[test]\n#[ignore = \"slow\"]\nfn h() {}\n";
        assert_eq!(
            found(check, &[("xtask/src/a.rs", text)]),
            [
                "xtask/src/a.rs:1: `todo!` must not be committed; do it, or file an issue",
                "xtask/src/a.rs:2: `dbg!` must not be committed; remove it, or trace it",
                "xtask/src/a.rs:2: `unimplemented!` must not be committed; do it, or return an error",
                "xtask/src/a.rs:4: `#[ignore` must not be committed; make the test run, or remove it",
            ]
        );
    }

    #[test]
    fn a_bare_unwrap_in_what_users_run_is_found() {
        let text = "fn f() { a.unwrap_or(b);\n c.unwrap() }";
        let what =
            "`.unwrap()` must not be committed; return an error, or state with `expect` what always holds";
        for path in ["host/src/log/a.rs", "plugins/sdk/src/a.rs", "examples/orders/plugin/src/a.rs"] {
            assert_eq!(found(check, &[(path, text)]), [format!("{path}:2: {what}")]);
        }
    }

    #[test]
    fn an_unwrap_in_tests_and_chores_is_fine() {
        let tests = "//! `x.unwrap()`\n#[cfg(test)] mod tests { fn f() { a.unwrap() } }";
        let files = [
            ("host/Cargo.toml", ""),
            ("host/src/lib.rs", tests),
            ("host/src/main.rs", "#[cfg(test)] mod tests;"),
            ("host/src/tests.rs", "fn f() { a.unwrap() }"),
            ("tests/a.rs", "fn f() { a.unwrap() }"),
            ("host/benches/policy.rs", "fn f() { a.unwrap() }"),
        ];
        assert_eq!(found(check, &files), [""; 0]);
    }

    #[test]
    fn sleeps_of_service_tests_are_found() {
        let text = "use std::thread::sleep;\nuse tokio::time;\nfn f() { time::sleep(x).await }\nfn g() { time::timeout(x, y) }";
        assert_eq!(
            found(check, &[("tests/kill.rs", text)]),
            [
                "tests/kill.rs:1: `thread::sleep` in a test; wait for the thing itself, bounded by a timeout",
                "tests/kill.rs:3: `time::sleep` in a test; wait for the thing itself, bounded by a timeout",
            ]
        );
        assert!(found(check, &[("host/src/log/a.rs", text)]).is_empty());
    }

    #[test]
    fn a_path_of_somebodys_machine_is_found_in_any_text() {
        let folder = MACHINE_FOLDERS[0];
        let text = format!("see\nlink: {folder}me/x\n");
        let expected =
            format!("a.toml:2: `{folder}` is a folder of somebody's machine; name a path of the repository");
        assert_eq!(found(check, &[("a.toml", &text)]), [expected]);
    }

    #[test]
    fn the_end_of_a_longer_path_is_fine() {
        let work = MACHINE_FOLDERS[1];
        let text = format!("https://example.org{work}x a{work}b ..{work} ${{TMP}}{work}");
        assert_eq!(found(check, &[("a.md", &text)]), [""; 0]);
    }
}
