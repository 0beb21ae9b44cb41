//! Every relative link of a Markdown file leads to a file or folder of the repository.
//!
//! Links of both kinds: `[text](target)` and `[label]: target`. What stands in code is no link.
//! Absent on purpose: links to other sites (a check must not need the network) and the headings behind `#`.

use std::collections::HashSet;

use super::{File, Finding, Tree};

pub(super) fn check(tree: &Tree) -> Vec<Finding> {
    let files =
        tree.files.iter().map(|file| file.path.as_str()).chain(tree.binaries.iter().map(String::as_str));
    let mut known: HashSet<&str> = HashSet::from([""]);
    for path in files {
        known.insert(path);
        known.extend(path.match_indices('/').map(|(at, _)| &path[..at]));
    }
    let documents = tree.files.iter().filter(|file| file.path.ends_with(".md"));
    documents.flat_map(|file| check_file(file, &known)).collect()
}

fn check_file(file: &File, known: &HashSet<&str>) -> Vec<Finding> {
    let folder = file.path.rsplit_once('/').map_or("", |(folder, _)| folder);
    let lost = links(&file.text).into_iter().filter(|(_, target)| {
        let path = target.split(['#', '?']).next().unwrap_or_default();
        is_relative(target) && !path.is_empty() && !known.contains(join(folder, path).as_str())
    });
    lost.map(|(line, target)| {
        file.finding(line, format!("`{target}` is not in the repository; mend the link or add the file"))
    })
    .collect()
}

fn is_relative(target: &str) -> bool {
    let scheme = target.split_once(':').map_or("", |(scheme, _)| scheme);
    let has_scheme = !scheme.is_empty() && scheme.chars().all(|character| character.is_ascii_alphanumeric());
    !has_scheme && !target.starts_with("//")
}

/// Lines, from 1, and targets.
fn links(text: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    let mut fence: Option<&str> = None;
    for (index, line) in text.lines().enumerate() {
        let marks = ["```", "~~~"].into_iter().find(|marks| line.trim_start().starts_with(marks));
        match (fence, marks) {
            (None, Some(_)) => fence = marks,
            (Some(open), Some(marks)) if open == marks => fence = None,
            (Some(_), _) => {}
            (None, None) => {
                found.extend(targets(&without_code(line)).into_iter().map(|target| (index + 1, target)))
            }
        }
    }
    found
}

/// Every other part between backticks is code.
fn without_code(line: &str) -> String {
    let parts: Vec<&str> = line.split('`').collect();
    let is_open = parts.len().is_multiple_of(2);
    let last = parts.len() - 1;
    let outside = parts.iter().enumerate().filter(|(at, _)| at.is_multiple_of(2) || (is_open && *at == last));
    outside.map(|(_, part)| *part).collect::<Vec<_>>().join("`")
}

fn targets(line: &str) -> Vec<String> {
    let definition = line.trim_start().strip_prefix('[').and_then(|rest| rest.split_once("]: "));
    let mut rest = line;
    let mut found: Vec<&str> =
        definition.iter().filter(|(label, _)| !label.contains(']')).map(|(_, target)| *target).collect();
    while let Some((_, after)) = rest.split_once("](") {
        found.push(after.split_once(')').map_or(after, |(target, _)| target));
        rest = after;
    }
    // A title may follow the target; the target may stand in angle brackets.
    let first = |target: &str| {
        target.trim().split(' ').next().unwrap_or_default().trim_matches(['<', '>']).to_owned()
    };
    found.into_iter().map(first).collect()
}

/// The path of `name` as seen from `folder`, both from the repository's root; `..` beyond it stays and finds nothing.
pub(super) fn join(folder: &str, name: &str) -> String {
    let mut parts: Vec<&str> = if name.starts_with('/') { Vec::new() } else { folder.split('/').collect() };
    for part in name.split('/') {
        match part {
            "." | "" => {}
            ".." if parts.iter().any(|part| !part.is_empty() && *part != "..") => drop(parts.pop()),
            _ => parts.push(part),
        }
    }
    parts.retain(|part| !part.is_empty());
    parts.join("/")
}

#[cfg(test)]
mod tests {
    use super::super::example::found;
    use super::*;

    #[test]
    fn links_that_lead_nowhere_are_found() {
        let text = "# A\n[x](b.md) and ![y](../img/c.png)\n\n[z]: <gone/> \"title\"\n[up](../../out.md)\n";
        assert_eq!(
            found(check, &[("docs/a.md", text)]),
            [
                "docs/a.md:2: `../img/c.png` is not in the repository; mend the link or add the file",
                "docs/a.md:2: `b.md` is not in the repository; mend the link or add the file",
                "docs/a.md:4: `gone/` is not in the repository; mend the link or add the file",
                "docs/a.md:5: `../../out.md` is not in the repository; mend the link or add the file",
            ]
        );
    }

    #[test]
    fn links_that_lead_somewhere_are_fine() {
        let text = "[x](../README.md#start \"title\") [f](decisions/) [h](#here) [s](https://a.b/c) [m](mailto:a@b)\n\
                    [root](/README.md) [self](.) [z]: a.md\n[z]: decisions/1.md\n";
        let files =
            [("docs/a.md", text), ("README.md", "[d](docs) [c](./docs/a.md)"), ("docs/decisions/1.md", "")];
        assert_eq!(found(check, &files), [""; 0]);
    }

    #[test]
    fn code_holds_no_links() {
        let text = "`[x](gone)` a\n```rust\n[x](gone)\n```\n~~~\n```\n[x](gone)\n~~~\n";
        assert!(found(check, &[("a.md", text)]).is_empty());
        assert_eq!(found(check, &[("a.md", "a ` [x](gone)\n")]).len(), 1, "a single backtick opens no code");
    }
}
