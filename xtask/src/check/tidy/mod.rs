//! `cargo xtask tidy`: the rules of CONTRIBUTING.md that a machine can hold.
//!
//! In: every file that git tracks or would track. Out: `path:line: what, what to do`, a line each.
//! Always: a check is a pure function of the files, so that its test can show it failing on a small example.
//! Absent on purpose: what rustfmt, clippy and rustc hold already (function length, documentation, `todo!`).
//!
//! To add a check: a file here with a `pub(super) fn check(&Tree) -> Vec<Finding>` and its tests, a line in
//! [`CHECKS`].

mod banned;
mod frozen;
mod heads;
mod imports;
mod lexer;
mod links;
mod owners;
mod paths;
mod reached;
mod sizes;

use std::fmt;
use std::fs;
use std::io::ErrorKind;
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::{place, process};
use lexer::Token;

type Check = fn(&Tree) -> Vec<Finding>;

/// What each holds is in the head of its file.
const CHECKS: &[(&str, Check)] = &[
    ("head comments", heads::check),
    ("sizes", sizes::check),
    ("imports", imports::check),
    ("owners of libraries", owners::check),
    ("banned words", banned::check),
    ("unreachable files", reached::check),
    ("links", links::check),
    ("frozen interfaces", frozen::check),
];

/// Something that breaks a rule.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Finding {
    path: String,
    /// From 1.
    line: usize,
    /// What is wrong, and what to do.
    what: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.path, self.line, self.what)
    }
}

/// A text file of the repository.
#[derive(Debug)]
struct File {
    /// From the repository's root, with `/`.
    path: String,
    text: String,
    /// Of a `.rs` file.
    tokens: Vec<Token>,
}

impl File {
    fn new(path: &str, text: String) -> File {
        let is_rust = path.rsplit_once('.').is_some_and(|(_, extension)| extension == "rs");
        let tokens = if is_rust { lexer::tokens(&text) } else { Vec::new() };
        File { path: path.to_owned(), text, tokens }
    }

    fn finding(&self, line: usize, what: impl Into<String>) -> Finding {
        Finding { path: self.path.clone(), line, what: what.into() }
    }
}

/// All files of the repository, sorted by path.
#[derive(Debug)]
struct Tree {
    /// Text files.
    files: Vec<File>,
    /// Paths of the others.
    binaries: Vec<String>,
}

impl Tree {
    /// What git tracks or would track, as it is on the disk: people and CI see the same.
    fn of_repository() -> Result<Tree> {
        let root = place::root();
        let mut git = Command::new("git");
        git.args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"]).current_dir(&root);
        let listed = process::capture(&mut git).context("could not list the files of the repository")?;
        let mut paths: Vec<&str> = listed.split_terminator('\0').collect();
        paths.sort_unstable();
        paths.dedup();
        let mut tree = Tree { files: Vec::new(), binaries: Vec::new() };
        for path in paths {
            let bytes = match fs::read(root.join(path)) {
                Ok(bytes) => bytes,
                // Deleted, and not yet committed as such; or a link to a folder.
                Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::IsADirectory) => {
                    continue;
                }
                Err(error) => return Err(error).with_context(|| format!("could not read {path}")),
            };
            match String::from_utf8(bytes) {
                Ok(text) => tree.files.push(File::new(path, text)),
                Err(_) => tree.binaries.push(path.to_owned()),
            }
        }
        Ok(tree)
    }

    fn rust_files(&self) -> impl Iterator<Item = &File> {
        self.files.iter().filter(|file| file.path.ends_with(".rs"))
    }
}

/// Runs every check, prints what they find, and fails if that is anything.
pub(super) fn run() -> Result<()> {
    let tree = Tree::of_repository()?;
    let mut count = 0;
    for (name, check) in CHECKS {
        let mut findings = check(&tree);
        findings.sort();
        for finding in &findings {
            println!("{finding} [{name}]");
        }
        count += findings.len();
    }
    ensure!(count == 0, "{count} findings in {} files", tree.files.len());
    Ok(())
}

#[cfg(test)]
mod example {
    //! Small trees for the tests of the checks.

    use super::{Check, File, Tree};

    pub(super) fn tree(files: &[(&str, &str)]) -> Tree {
        let files = files.iter().map(|(path, text)| File::new(path, (*text).to_owned())).collect();
        Tree { files, binaries: Vec::new() }
    }

    /// What a check finds in a tree, as a person reads it.
    pub(super) fn found(check: Check, files: &[(&str, &str)]) -> Vec<String> {
        let mut findings = check(&tree(files));
        findings.sort();
        findings.iter().map(ToString::to_string).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tree_of_the_repository_holds_this_file_and_no_built_one() {
        let tree = Tree::of_repository().unwrap();
        let has = |path: &str| tree.files.iter().any(|file| file.path == path);
        assert!(has("xtask/src/check/tidy/mod.rs"));
        assert!(!tree.files.iter().any(|file| file.path.starts_with("target/")));
    }

    #[test]
    fn a_finding_reads_like_a_compilers() {
        let file = File::new("a/b.rs", String::new());
        assert_eq!(file.finding(3, "no, do this").to_string(), "a/b.rs:3: no, do this");
    }
}
