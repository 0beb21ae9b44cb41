//! Every Rust file opens with `//!`: what it is, what goes in and comes out, what always holds, what is absent.

use super::{File, Finding, Tree};

/// Files that a program writes; none is committed yet.
const GENERATED: &[&str] = &[];
/// A head of fewer words says nothing.
const WORDS_MIN: usize = 3;

pub(super) fn check(tree: &Tree) -> Vec<Finding> {
    let written = tree.rust_files().filter(|file| !GENERATED.contains(&file.path.as_str()));
    written.filter_map(check_file).collect()
}

fn check_file(file: &File) -> Option<Finding> {
    let head: Vec<&str> = file.text.lines().map_while(|line| line.strip_prefix("//!")).collect();
    if head.is_empty() {
        let what = "the file does not open with a `//!` comment; say what it is, what goes in and comes out, what \
                    always holds, and what is absent on purpose";
        return Some(file.finding(1, what));
    }
    let words = head.iter().flat_map(|line| line.split_whitespace()).count();
    (words < WORDS_MIN).then(|| file.finding(1, "the head comment says nothing; say what the file is"))
}

#[cfg(test)]
mod tests {
    use super::super::example::found;
    use super::*;

    #[test]
    fn a_file_without_a_head_is_found() {
        let found =
            found(check, &[("a.rs", "use x;\n//! Too late, this is the wrong place.\n"), ("b.rs", "")]);
        assert_eq!(found.len(), 2);
        assert!(found[0].starts_with("a.rs:1: the file does not open with a `//!` comment;"), "{found:?}");
    }

    #[test]
    fn a_head_that_says_nothing_is_found() {
        assert_eq!(
            found(check, &[("a.rs", "//! x\n")]),
            ["a.rs:1: the head comment says nothing; say what the file is"]
        );
    }

    #[test]
    fn a_file_with_a_head_is_fine_and_other_files_need_none() {
        let files = [("a.rs", "//! The slot: made, moved on, dropped.\n"), ("b.toml", "")];
        assert!(found(check, &files).is_empty());
    }
}
