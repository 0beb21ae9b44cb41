//! The SDK as it goes into every new crate, since it is on no registry: its sources, the interface, its licenses, and a
//! `Cargo.toml` that needs no workspace around it.
//!
//! In: the files of this repository, as they were when this was built. Out: paths and contents. Always: the copy is the
//! SDK that the binary was built beside; only the manifest and the path of the interface differ.

use anyhow::{Context, Result};
use toml::{Table, Value};

include!(concat!(env!("OUT_DIR"), "/embedded.rs"));

const MANIFEST: &str = include_str!("../../sdk/Cargo.toml");
const WORKSPACE: &str = include_str!("../../../Cargo.toml");
const LICENSES: [(&str, &str); 2] = [
    ("LICENSE-APACHE", include_str!("../../../LICENSE-APACHE")),
    ("LICENSE-MIT", include_str!("../../../LICENSE-MIT")),
];

/// Where the interface is to the SDK's macros: in the repository, and in a copy.
const INTERFACE_HERE: &str = "path: \"../../wit\"";
const INTERFACE_THERE: &str = "path: \"wit\"";

/// Every file of the SDK, by its path in the SDK's folder.
pub(crate) fn files() -> Result<Vec<(String, String)>> {
    let sources = SOURCES
        .iter()
        .map(|(path, text)| (format!("src/{path}"), text.replace(INTERFACE_HERE, INTERFACE_THERE)));
    let interface = INTERFACE.iter().map(|(path, text)| (format!("wit/{path}"), (*text).to_owned()));
    let licenses = LICENSES.map(|(path, text)| (path.to_owned(), text.to_owned()));
    let manifest = manifest(MANIFEST, WORKSPACE)?;
    let said = "# Written by `twohop plugin new`: the SDK that this crate is built against.\n";
    let manifest = ("Cargo.toml".to_owned(), format!("{said}{manifest}"));
    Ok([manifest].into_iter().chain(licenses).chain(interface).chain(sources).collect())
}

/// The oldest Rust that the SDK is for.
pub(crate) fn rust_version() -> Result<String> {
    let manifest: Table = manifest(MANIFEST, WORKSPACE)?.parse()?;
    let version = manifest["package"].get("rust-version").and_then(Value::as_str);
    version.map(str::to_owned).context("the SDK does not say for which Rust it is")
}

/// The crates that the SDK is built with, in a component or natively; not those of its own tests.
pub(crate) fn dependencies() -> Result<Vec<String>> {
    let mut manifest: Table = MANIFEST.parse()?;
    let mut names = Vec::new();
    let mut tables = vec![manifest.remove("dependencies")];
    if let Some(Value::Table(targets)) = manifest.remove("target") {
        tables.extend(targets.into_iter().map(|(_, mut of)| of.as_table_mut()?.remove("dependencies")));
    }
    for table in tables.into_iter().flatten() {
        names.extend(table.as_table().into_iter().flat_map(Table::keys).cloned());
    }
    Ok(names)
}

/// A member's manifest without its workspace: what it inherits is written out. Lints are left out; they are for those
/// who work on the SDK.
fn manifest(member: &str, workspace: &str) -> Result<String> {
    let mut member: Table = member.parse().context("the SDK's Cargo.toml")?;
    let workspace: Table = workspace.parse().context("the workspace's Cargo.toml")?;
    let inherited =
        workspace["workspace"].as_table().context("the workspace's Cargo.toml has no workspace")?;
    member.remove("lints");
    if let (Some(Value::Table(package)), Some(Value::Table(from))) =
        (member.get_mut("package"), inherited.get("package"))
    {
        write_out(package, from)?;
    }
    let from = inherited.get("dependencies").and_then(Value::as_table).context("it has no dependencies")?;
    write_out_dependencies(&mut member, from)?;
    if let Some(Value::Table(targets)) = member.get_mut("target") {
        for target in targets.iter_mut().filter_map(|(_, target)| target.as_table_mut()) {
            write_out_dependencies(target, from)?;
        }
    }
    Ok(toml::to_string(&member)?)
}

fn write_out_dependencies(of: &mut Table, from: &Table) -> Result<()> {
    for kind in ["dependencies", "dev-dependencies", "build-dependencies"] {
        if let Some(Value::Table(dependencies)) = of.get_mut(kind) {
            write_out(dependencies, from)?;
        }
    }
    Ok(())
}

/// Replaces each `KEY.workspace = true` by what the workspace has for that key.
fn write_out(table: &mut Table, from: &Table) -> Result<()> {
    for (key, value) in table.iter_mut() {
        if value.get("workspace").is_some() {
            *value = from.get(key).with_context(|| format!("the workspace has no `{key}`"))?.clone();
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_member_inherits_is_written_out() {
        let workspace = "[workspace.package]\nversion = \"2.0.0\"\n[workspace.dependencies]\n\
                         a = \"=1\"\nb = { version = \"3\", default-features = false }\n";
        let member = "[package]\nname = \"m\"\nversion.workspace = true\n[dev-dependencies]\na.workspace = true\n\
                      [target.'cfg(x)'.dependencies]\nb.workspace = true\n[lints]\nworkspace = true\n";
        let expected = "[package]\nname = \"m\"\nversion = \"2.0.0\"\n[dev-dependencies]\na = \"=1\"\n\
                        [target.'cfg(x)'.dependencies.b]\nversion = \"3\"\ndefault-features = false\n";
        let written: Table = manifest(member, workspace).unwrap().parse().unwrap();
        assert_eq!(written, expected.parse::<Table>().unwrap());
    }

    #[test]
    fn a_key_that_the_workspace_lacks_is_an_error() {
        let error =
            manifest("[package]\nversion.workspace = true", "[workspace.package]\n[workspace.dependencies]");
        assert_eq!(error.unwrap_err().to_string(), "the workspace has no `version`");
    }

    #[test]
    fn the_copy_is_whole_and_points_to_nothing_outside_of_it() {
        let files = files().unwrap();
        let text = |path: &str| &files.iter().find(|(its, _)| its == path).unwrap().1;
        for path in ["src/lib.rs", "src/testing/sample.rs", "LICENSE-MIT"] {
            assert!(!text(path).is_empty(), "{path}");
        }
        assert_eq!(text("wit/policy.wit"), include_str!("../../../wit/policy.wit"));
        assert!(text("src/bindings.rs").contains(INTERFACE_THERE));
        assert!(!text("Cargo.toml").contains("workspace"), "{}", text("Cargo.toml"));
        let code = |path: &str| path.starts_with("src/") || path == "Cargo.toml";
        for (path, text) in files.iter().filter(|(path, _)| code(path)) {
            assert!(!text.contains("\"../") && !text.contains("include_"), "{path}");
        }
    }

    #[test]
    fn the_crates_of_a_component_are_pinned() {
        assert_eq!(dependencies().unwrap(), ["wit-bindgen"]);
        let manifest: Table = manifest(MANIFEST, WORKSPACE).unwrap().parse().unwrap();
        let target = manifest["target"].as_table().unwrap().values().next().unwrap();
        assert!(target["dependencies"]["wit-bindgen"]["version"].as_str().unwrap().starts_with('='));
    }
}
