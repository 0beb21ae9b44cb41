//! What a plugin's crate may be called: what cargo, rustc and the host's configuration all take.

use anyhow::{Result, ensure};

/// As in the host's configuration.
const BYTES_MAX: usize = 48;

/// Names that mean something else to Rust, and those of the crates that a plugin is built with.
const TAKEN: &[&str] = &[
    "abstract",
    "alloc",
    "as",
    "async",
    "await",
    "become",
    "box",
    "break",
    "const",
    "continue",
    "core",
    "crate",
    "do",
    "dyn",
    "else",
    "enum",
    "extern",
    "false",
    "final",
    "fn",
    "for",
    "gen",
    "if",
    "impl",
    "in",
    "let",
    "loop",
    "macro",
    "match",
    "mod",
    "move",
    "mut",
    "override",
    "priv",
    "proc_macro",
    "pub",
    "ref",
    "return",
    "self",
    "static",
    "std",
    "struct",
    "super",
    "test",
    "trait",
    "true",
    "try",
    "twohop_plugin",
    "type",
    "typeof",
    "unsafe",
    "unsized",
    "use",
    "virtual",
    "where",
    "while",
    "wit_bindgen",
    "yield",
];

/// Refuses a name that one of them would not take.
pub(crate) fn check(name: &str) -> Result<()> {
    let fits = |character: char| {
        character.is_ascii_lowercase() || character.is_ascii_digit() || "-_".contains(character)
    };
    let is_name = name.starts_with(|first: char| first.is_ascii_lowercase()) && name.chars().all(fits);
    ensure!(
        is_name && name.len() <= BYTES_MAX,
        "`{name}` cannot be the name of a plugin's crate: take a letter, then at most {} of a-z, 0-9, - and _",
        BYTES_MAX - 1
    );
    ensure!(
        !TAKEN.contains(&name.replace('-', "_").as_str()),
        "`{name}` cannot be the name of a plugin's crate, since it means something else to Rust: take another"
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_crates_are_taken() {
        for name in ["a", "orders", "order-status", "orders_2", &"a".repeat(BYTES_MAX)] {
            assert!(check(name).is_ok(), "{name}");
        }
    }

    #[test]
    fn what_is_no_name_of_a_crate_is_refused() {
        let long = "a".repeat(BYTES_MAX + 1);
        for name in ["", "Orders", "2orders", "-a", "_a", "a b", "../a", "a/b", "a.b", "\u{e9}t\u{e9}", &long]
        {
            let error = check(name).unwrap_err().to_string();
            assert!(error.contains("take a letter"), "{error}");
        }
        for name in ["match", "test", "twohop-plugin", "proc-macro"] {
            assert!(check(name).unwrap_err().to_string().contains("take another"), "{name}");
        }
    }
}
