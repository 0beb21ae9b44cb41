//! `twohop plugin new`: a crate of a plugin that builds and tests at once.
//!
//! In: a name, a stage, the folder to make it in. Out: a folder of that name with a workspace of its own: the policy and
//! its test, the SDK in `sdk/`, a `Cargo.lock` with what both need. Always: the folder is made whole beside its place
//! and then renamed, so that a failure leaves nothing, and what is there already is never touched.
//!
//! To add a stage: a variant of [`Stage`], its arms, a policy in `templates/`, its `mod` in the tests.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

use crate::{lock, name, sdk};

const MANIFEST: &str = include_str!("../templates/manifest.toml");
const README: &str = include_str!("../templates/README.md");
const IGNORED: &str = "/target/\n";
/// Of a new crate.
const VERSION: &str = "0.1.0";

/// What a plugin decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Which changes go on, and with which columns hidden.
    Filter,
    /// Where each change goes.
    Router,
    /// How each post reaches its audience.
    Fanout,
    /// Who may listen and what a client may say.
    Gate,
}

impl Stage {
    /// Every stage.
    pub const ALL: [Stage; 4] = [Stage::Filter, Stage::Router, Stage::Fanout, Stage::Gate];

    /// Its name in the interface and on the command line.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Stage::Filter => "filter",
            Stage::Router => "router",
            Stage::Fanout => "fanout",
            Stage::Gate => "gate",
        }
    }

    /// The description of a new crate.
    fn description(self) -> &'static str {
        match self {
            Stage::Filter => "Hides columns of a table, and drops its private rows",
            Stage::Router => "Each row of a table goes to the channel of one column's value",
            Stage::Fanout => "Posts of authors with few followers are pushed, all others pulled",
            Stage::Gate => "Public channels for everybody, and for each user a channel of their own",
        }
    }

    /// The settings of the policy, with the values that it has without them.
    fn settings(self) -> &'static str {
        match self {
            Stage::Filter => "table = \"customers\", hide = \"email\", private = \"private\"",
            Stage::Router => "table = \"orders\", column = \"status\"",
            Stage::Fanout => "push_below = \"10000\"",
            Stage::Gate => "public = \"public:\", own = \"user:\"",
        }
    }

    fn policy(self) -> &'static str {
        match self {
            Stage::Filter => include_str!("../templates/filter.rs"),
            Stage::Router => include_str!("../templates/router.rs"),
            Stage::Fanout => include_str!("../templates/fanout.rs"),
            Stage::Gate => include_str!("../templates/gate.rs"),
        }
    }
}

/// Makes the crate `name` in the folder `within`; gives its folder.
///
/// # Errors
/// The name is no crate's name, something of that name is there already, or the folder cannot be written to.
pub fn new_crate(name: &str, stage: Stage, within: &Path) -> Result<PathBuf> {
    name::check(name)?;
    let folder = within.join(name);
    // A link that leads nowhere is there too.
    let is_free = folder.symlink_metadata().is_err();
    ensure!(is_free, "{} is there already: take another name, or remove it", folder.display());
    let files = files(name, stage)?;
    let write = || -> Result<()> {
        let mut draft = tempfile::Builder::new();
        let draft =
            draft.prefix(".twohop-new-").permissions(fs::Permissions::from_mode(0o755)).tempdir_in(within)?;
        for (path, text) in &files {
            let file = draft.path().join(path);
            fs::create_dir_all(file.parent().context("a file needs a folder")?)?;
            fs::write(file, text)?;
        }
        fs::rename(draft.path(), &folder)?;
        // It has gone to its place: there is nothing left to remove.
        let _ = draft.keep();
        Ok(())
    };
    write().with_context(|| format!("could not make {}", folder.display()))?;
    Ok(folder)
}

fn files(name: &str, stage: Stage) -> Result<Vec<(String, String)>> {
    let rust_version = sdk::rust_version()?;
    let fill = |template: &str| {
        [
            ("{name}", name),
            ("{version}", VERSION),
            ("{rust-version}", &rust_version),
            ("{stage}", stage.word()),
            ("{description}", stage.description()),
            ("{settings}", stage.settings()),
        ]
        .into_iter()
        .fold(template.to_owned(), |text, (word, value)| text.replace(word, value))
    };
    let mut files: Vec<(String, String)> = sdk::files()?;
    files.iter_mut().for_each(|(path, _)| path.insert_str(0, "sdk/"));
    files.extend([
        ("Cargo.toml".to_owned(), fill(MANIFEST)),
        ("Cargo.lock".to_owned(), lock::of(name, VERSION)?),
        ("README.md".to_owned(), fill(README)),
        (".gitignore".to_owned(), IGNORED.to_owned()),
        ("src/lib.rs".to_owned(), stage.policy().to_owned()),
    ]);
    Ok(files)
}

// The policies are compiled and tested here as they are there.
#[cfg(test)]
#[path = "../templates/fanout.rs"]
mod fanout;
#[cfg(test)]
#[path = "../templates/filter.rs"]
mod filter;
#[cfg(test)]
#[path = "../templates/gate.rs"]
mod gate;
#[cfg(test)]
#[path = "../templates/router.rs"]
mod router;

#[cfg(test)]
mod tests {
    use super::*;

    fn entries(folder: &Path) -> Vec<String> {
        let names = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name());
        let mut names: Vec<String> = names.map(|name| name.into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn a_crate_is_whole_and_nothing_else_is_left() {
        let within = tempfile::tempdir().unwrap();
        for stage in Stage::ALL {
            let name = format!("my-{}", stage.word());
            let folder = new_crate(&name, stage, within.path()).unwrap();
            let expected = [".gitignore", "Cargo.lock", "Cargo.toml", "README.md", "sdk", "src"];
            assert_eq!(entries(&folder), expected);
            let manifest: toml::Table =
                fs::read_to_string(folder.join("Cargo.toml")).unwrap().parse().unwrap();
            assert_eq!(manifest["package"]["name"].as_str(), Some(name.as_str()));
            assert_eq!(fs::read_to_string(folder.join("src/lib.rs")).unwrap(), stage.policy());
            assert_eq!(fs::metadata(&folder).unwrap().permissions().mode() & 0o700, 0o700);
        }
        assert_eq!(entries(within.path()), ["my-fanout", "my-filter", "my-gate", "my-router"]);
    }

    #[test]
    fn nothing_is_left_to_be_filled_in() {
        for stage in Stage::ALL {
            let files = files("orders", stage).unwrap();
            let written = |path: &str| &files.iter().find(|(its, _)| its == path).unwrap().1;
            for path in ["Cargo.toml", "README.md"] {
                for word in
                    ["{name}", "{version}", "{rust-version}", "{stage}", "{description}", "{settings}"]
                {
                    assert!(!written(path).contains(word), "{word} in {path}");
                }
            }
        }
    }

    #[test]
    fn what_is_there_already_is_not_touched() {
        let within = tempfile::tempdir().unwrap();
        fs::write(within.path().join("orders"), "mine").unwrap();
        let error = new_crate("orders", Stage::Router, within.path()).unwrap_err().to_string();
        assert!(error.ends_with("orders is there already: take another name, or remove it"), "{error}");
        assert_eq!(fs::read_to_string(within.path().join("orders")).unwrap(), "mine");
        assert_eq!(entries(within.path()), ["orders"]);
    }

    #[test]
    fn a_folder_that_cannot_be_written_to_is_named_and_left_as_it_was() {
        let within = tempfile::tempdir().unwrap();
        let error =
            new_crate("orders", Stage::Router, &within.path().join("nowhere")).unwrap_err().to_string();
        assert!(error.starts_with("could not make ") && error.ends_with("nowhere/orders"), "{error}");
        assert!(entries(within.path()).is_empty());
    }

    #[test]
    fn a_name_that_leads_elsewhere_is_refused() {
        let within = tempfile::tempdir().unwrap();
        assert!(new_crate("../orders", Stage::Router, within.path()).is_err());
        assert!(entries(within.path()).is_empty());
    }
}
