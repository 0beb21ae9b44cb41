//! The license of every dependency, of whatever platform, against the list of those that we allow.
//!
//! In: `cargo metadata`. Out: an error that names each crate that may not be used, its license, and who pulls it in.
//! Always: an expression is allowed if a choice that it offers is (`OR`: one side, `AND`: both).

use std::collections::{HashMap, VecDeque};
use std::process::Stdio;

use anyhow::{Context, Result, ensure};
use serde::Deserialize;

use crate::place;

/// Licenses that ask for no more than their own text: fit for a program under MIT or Apache-2.0.
const ALLOWED: &[&str] = &[
    "0BSD",
    "Apache-2.0",
    // Of the compiler that wasmtime brings: may be linked into anything.
    "Apache-2.0 WITH LLVM-exception",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "BSL-1.0",
    // Given to the public domain; the second is its wording by the Creative Commons.
    "Unlicense",
    "CC0-1.0",
    "ISC",
    "MIT",
    "MIT-0",
    // Tables of the Unicode consortium, in every crate that knows about letters: asks for its notice only.
    "Unicode-3.0",
    "Zlib",
];

/// Crates whose license is not on the list and that may be used all the same: name, license, reason.
const EXCEPTIONS: &[(&str, &str, &str)] = &[];

#[derive(Debug, Deserialize)]
struct Metadata {
    packages: Vec<Package>,
    resolve: Resolve,
    workspace_members: Vec<String>,
}

#[derive(Debug, Deserialize)]
struct Package {
    id: String,
    name: String,
    version: String,
    license: Option<String>,
    license_file: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Resolve {
    nodes: Vec<Node>,
}

#[derive(Debug, Deserialize)]
struct Node {
    id: String,
    dependencies: Vec<String>,
}

/// Looks at every dependency; fails if one may not be used, or if `Cargo.lock` is not current.
pub(super) fn run() -> Result<()> {
    let mut cargo = place::cargo();
    cargo.args(["metadata", "--format-version", "1", "--locked"]).stderr(Stdio::inherit());
    let output = cargo.output().context("could not run cargo metadata")?;
    ensure!(
        output.status.success(),
        "cargo metadata failed; if Cargo.lock is not current, run `cargo check` and commit it"
    );
    let metadata =
        serde_json::from_slice(&output.stdout).context("could not read what cargo metadata printed")?;
    let refused = refused(&metadata);
    for line in &refused {
        println!("{line}");
    }
    ensure!(refused.is_empty(), "{} of {} crates may not be used", refused.len(), metadata.packages.len());
    println!("  {} crates", metadata.packages.len());
    Ok(())
}

fn refused(metadata: &Metadata) -> Vec<String> {
    let mut refused = Vec::new();
    for package in &metadata.packages {
        let excepted = EXCEPTIONS
            .iter()
            .any(|(name, license, _)| *name == package.name && package.license.as_deref() == Some(license));
        let why = match &package.license {
            Some(expression) => match is_allowed(expression) {
                Some(true) => continue,
                Some(false) => format!("its license is `{expression}`, which is not on the list"),
                None => format!("its license `{expression}` is no expression that SPDX knows"),
            },
            None => match &package.license_file {
                Some(file) => format!("it names no license, only the file `{file}`"),
                None => "it names no license".to_owned(),
            },
        };
        if !excepted {
            let way = way_to(metadata, &package.id).join(" → ");
            refused.push(format!("{} {}: {why}; pulled in by {way}", package.name, package.version));
        }
    }
    refused
}

/// The shortest way from a member of the workspace, by names.
fn way_to<'a>(metadata: &'a Metadata, wanted: &str) -> Vec<&'a str> {
    let names: HashMap<&str, &str> =
        metadata.packages.iter().map(|its| (its.id.as_str(), its.name.as_str())).collect();
    let nodes: HashMap<&str, &Node> =
        metadata.resolve.nodes.iter().map(|node| (node.id.as_str(), node)).collect();
    let mut from: HashMap<&str, Option<&str>> = HashMap::new();
    let mut waiting: VecDeque<&str> = metadata.workspace_members.iter().map(String::as_str).collect();
    from.extend(waiting.iter().map(|member| (*member, None)));
    while let Some(next) = waiting.pop_front() {
        for dependency in nodes.get(next).into_iter().flat_map(|node| &node.dependencies) {
            if !from.contains_key(dependency.as_str()) {
                from.insert(dependency, Some(next));
                waiting.push_back(dependency);
            }
        }
    }
    let mut way = Vec::new();
    let mut at = from.get_key_value(wanted).map(|(id, _)| *id);
    while let Some(id) = at {
        way.push(names.get(id).copied().unwrap_or(id));
        at = from.get(id).copied().flatten();
    }
    way.reverse();
    way
}

/// Whether an SPDX expression (its annex D) offers a choice that we allow; nothing if it is none.
/// Cargo once wrote `/` for `OR`, and some crates still do.
fn is_allowed(expression: &str) -> Option<bool> {
    let spaced = expression.replace('(', " ( ").replace(')', " ) ").replace('/', " OR ");
    let words: Vec<&str> = spaced.split_whitespace().collect();
    let mut rest = words.as_slice();
    let allowed = any_of(&mut rest)?;
    rest.is_empty().then_some(allowed)
}

/// `OR` binds least.
fn any_of(rest: &mut &[&str]) -> Option<bool> {
    let mut allowed = all_of(rest)?;
    while take(rest, "OR") {
        allowed |= all_of(rest)?;
    }
    Some(allowed)
}

fn all_of(rest: &mut &[&str]) -> Option<bool> {
    let mut allowed = one(rest)?;
    while take(rest, "AND") {
        allowed &= one(rest)?;
    }
    Some(allowed)
}

fn one(rest: &mut &[&str]) -> Option<bool> {
    if take(rest, "(") {
        let allowed = any_of(rest)?;
        return take(rest, ")").then_some(allowed);
    }
    let name = word(rest)?;
    if !take(rest, "WITH") {
        return Some(ALLOWED.contains(&name));
    }
    let exception = word(rest)?;
    // An exception only adds permissions.
    Some(ALLOWED.contains(&name) || ALLOWED.contains(&format!("{name} WITH {exception}").as_str()))
}

fn take(rest: &mut &[&str], wanted: &str) -> bool {
    let [first, after @ ..] = *rest else { return false };
    let is = *first == wanted;
    if is {
        *rest = after;
    }
    is
}

fn word<'a>(rest: &mut &[&'a str]) -> Option<&'a str> {
    let [first, after @ ..] = *rest else { return None };
    let is_word = !matches!(*first, "(" | ")" | "OR" | "AND" | "WITH");
    is_word.then(|| {
        *rest = after;
        *first
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_side_of_or_is_enough_and_and_needs_both() {
        for (expression, expected) in [
            ("MIT", Some(true)),
            ("GPL-3.0-only", Some(false)),
            ("MIT/Apache-2.0", Some(true)),
            ("GPL-2.0-only OR MIT", Some(true)),
            ("GPL-2.0-only AND MIT", Some(false)),
            ("MIT AND BSD-3-Clause", Some(true)),
            ("MIT OR GPL-2.0-only AND LGPL-3.0-only", Some(true)),
            ("(MIT OR GPL-2.0-only) AND LGPL-3.0-only", Some(false)),
            ("(MIT OR Apache-2.0) AND Unicode-3.0", Some(true)),
            ("Apache-2.0 WITH LLVM-exception OR Apache-2.0 OR MIT", Some(true)),
            ("GPL-2.0-only WITH Classpath-exception-2.0", Some(false)),
        ] {
            assert_eq!(is_allowed(expression), expected, "{expression}");
        }
    }

    #[test]
    fn what_is_no_expression_is_refused() {
        for expression in ["", "MIT OR", "(MIT", "MIT)", "MIT Apache-2.0", "OR MIT", "MIT WITH", "()", "AND"]
        {
            assert_eq!(is_allowed(expression), None, "{expression}");
        }
    }

    fn metadata(licenses: [Option<&str>; 3]) -> Metadata {
        let package = |(index, license): (usize, Option<&str>)| Package {
            id: format!("id{index}"),
            name: ["ours", "middle", "deep"][index].to_owned(),
            version: "1.0.0".to_owned(),
            license: license.map(str::to_owned),
            license_file: None,
        };
        let node = |index: usize, dependencies: &[&str]| Node {
            id: format!("id{index}"),
            dependencies: dependencies.iter().map(|id| (*id).to_owned()).collect(),
        };
        Metadata {
            packages: licenses.into_iter().enumerate().map(package).collect(),
            resolve: Resolve { nodes: vec![node(0, &["id1"]), node(1, &["id2"]), node(2, &["id1"])] },
            workspace_members: vec!["id0".to_owned()],
        }
    }

    #[test]
    fn a_crate_that_may_not_be_used_is_named_with_who_pulls_it_in() {
        assert_eq!(
            refused(&metadata([Some("MIT"), None, Some("AGPL-3.0-only")])),
            [
                "middle 1.0.0: it names no license; pulled in by ours → middle",
                "deep 1.0.0: its license is `AGPL-3.0-only`, which is not on the list; pulled in by ours → middle → deep",
            ]
        );
    }

    #[test]
    fn crates_with_good_licenses_are_fine() {
        assert!(refused(&metadata([Some("MIT"), Some("ISC"), Some("Zlib")])).is_empty());
    }
}
