//! The interface of plugins never changes under those who built against it: `wit/frozen.txt` has the digest of each
//! package's text without its comments, which may be made better.
//!
//! To add an interface: a new package version in a file of its own beside the old one, and its line in the list.

use std::fmt::Write;

use sha2::{Digest, Sha256};

use super::{File, Finding, Tree};

const FOLDER: &str = "wit/";
const LIST: &str = "wit/frozen.txt";

pub(super) fn check(tree: &Tree) -> Vec<Finding> {
    let interfaces: Vec<&File> = tree
        .files
        .iter()
        .filter(|file| file.path.starts_with(FOLDER) && file.path.ends_with(".wit"))
        .collect();
    let Some(list) = tree.files.iter().find(|file| file.path == LIST) else {
        return interfaces.iter().map(|file| file.finding(1, unlisted(file))).collect();
    };
    let frozen: Vec<(&str, &str)> = list.text.lines().filter_map(|line| line.split_once(' ')).collect();
    let mut findings = Vec::new();
    for file in &interfaces {
        match frozen.iter().find(|(path, _)| *path == file.path) {
            None => findings.push(file.finding(1, unlisted(file))),
            Some((_, digest)) if *digest != meaning(&file.text) => findings.push(file.finding(
                1,
                "is frozen, and plugins built against it must go on working; take the change back, and add a new version beside it",
            )),
            Some(_) => {}
        }
    }
    let gone = frozen.iter().filter(|(path, _)| !interfaces.iter().any(|file| file.path == *path));
    findings.extend(
        gone.map(|(path, _)| list.finding(1, format!("{path} is frozen but not there; bring it back"))),
    );
    findings
}

fn unlisted(file: &File) -> String {
    format!("is not frozen; add the line `{} {}` to {LIST}", file.path, meaning(&file.text))
}

/// The digest of what is left without comments and blank space at the ends of lines.
fn meaning(text: &str) -> String {
    let mut hasher = Sha256::new();
    for line in text.lines() {
        let line = line.split_once("//").map_or(line, |(code, _)| code).trim();
        if !line.is_empty() {
            hasher.update(line.as_bytes());
            hasher.update(b"\n");
        }
    }
    hasher.finalize().iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").expect("writing to a string cannot fail");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::super::example::found;
    use super::*;

    const WIT: &str = "package a:b@1.0.0;\n/// One.\ninterface c {}\n";

    fn list() -> String {
        format!("wit/a.wit {}\n", meaning(WIT))
    }

    #[test]
    fn an_interface_whose_comments_change_is_the_same() {
        let better = WIT.replace("One.", "The one.").replace("interface", "  interface");
        assert_eq!(found(check, &[("wit/a.wit", &better), (LIST, &list())]), Vec::<String>::new());
    }

    #[test]
    fn an_interface_that_changes_is_found() {
        let other = WIT.replace("interface c", "interface d");
        let findings = found(check, &[("wit/a.wit", &other), (LIST, &list())]);
        assert!(findings[0].starts_with("wit/a.wit:1: is frozen"), "{findings:?}");
    }

    #[test]
    fn an_interface_without_a_line_and_a_line_without_an_interface_are_found() {
        assert_eq!(found(check, &[("wit/b.wit", WIT), (LIST, &list())]).len(), 2);
        assert_eq!(found(check, &[("wit/b.wit", WIT)]).len(), 1);
    }
}
