//! A file has at most 600 lines that are not for tests, a `main.rs` at most 100.
//!
//! What stands under `#[cfg(test)]` does not count, and neither do files whose `mod` stands there. How long a
//! function may be is clippy's (`too-many-lines-threshold`).

use std::collections::HashSet;

use super::{File, Finding, Tree, reached};

const LINES_MAX: usize = 600;
const MAIN_LINES_MAX: usize = 100;
/// Programs that bring other engines to compare with, in workspaces of their own.
const COMPARISONS: &str = "benches/";

pub(super) fn check(tree: &Tree) -> Vec<Finding> {
    let of_tests = reached::test_files(tree);
    tree.rust_files().filter(|file| !of_tests.contains(&file.path)).filter_map(check_file).collect()
}

fn check_file(file: &File) -> Option<Finding> {
    // A comparison is one program in one file; every other binary is a door to its library.
    let is_door = file.path.ends_with("src/main.rs") && !file.path.starts_with(COMPARISONS);
    let lines_max = if is_door { MAIN_LINES_MAX } else { LINES_MAX };
    let count = counted(file);
    let what = format!(
        "{count} lines without tests, at most {lines_max} are allowed; look for the seam and split it"
    );
    (count > lines_max).then(|| file.finding(1, what))
}

fn counted(file: &File) -> usize {
    let mut of_tests = HashSet::new();
    let mut run: Option<usize> = None;
    for token in &file.tokens {
        // Blank lines and comments between two tokens of a test belong to it.
        let first = run.filter(|_| token.is_test).unwrap_or(token.line);
        if token.is_test {
            of_tests.extend(first..=token.line);
        }
        run = token.is_test.then_some(token.line);
    }
    file.text.lines().count() - of_tests.len()
}

#[cfg(test)]
mod tests {
    use super::super::example::found;
    use super::*;

    fn file(lines: usize, test_lines: usize) -> String {
        let tests = format!("#[cfg(test)]\nmod tests {{{}}}\n", "\n// a comment\n".repeat(test_lines / 2));
        "x;\n".repeat(lines) + &tests
    }

    #[test]
    fn a_file_of_more_than_600_lines_is_found() {
        let what = "a.rs:1: 601 lines without tests, at most 600 are allowed; look for the seam and split it";
        assert_eq!(found(check, &[("a.rs", &file(601, 10))]), [what]);
    }

    #[test]
    fn a_main_of_more_than_100_lines_is_found() {
        assert_eq!(found(check, &[("host/src/main.rs", &file(101, 0))]).len(), 1);
        assert!(found(check, &[("host/src/main.rs", &file(100, 0))]).is_empty());
        assert!(found(check, &[("benches/stores/src/main.rs", &file(300, 0))]).is_empty());
    }

    #[test]
    fn tests_do_not_count() {
        let tests = "x;\n".repeat(700);
        let files = [
            ("c/Cargo.toml", ""),
            ("c/src/lib.rs", "mod a;"),
            ("c/src/a/mod.rs", &file(600, 800)),
            ("c/src/a/tests.rs", &tests),
        ];
        assert_eq!(found(check, &files).len(), 1, "reached by no `#[cfg(test)] mod`, it counts");
        let with_mod = file(600, 0) + "#[cfg(test)] mod tests;\n";
        let files = [files[0], files[1], ("c/src/a/mod.rs", &with_mod), files[3]];
        assert!(found(check, &files).is_empty(), "{:?}", found(check, &files));
    }
}
