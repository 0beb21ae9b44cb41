//! What a person does who has the program and no repository: makes a plugin, tests it, builds it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use twohop_build::{Stage, describe};
use wit_component::{DecodedWasm, decode};
use xtask::{place, process};

/// A folder whose path stays, so that nothing is built again that a run before this one has built.
fn workshop() -> Result<PathBuf> {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("new_plugin");
    fs::create_dir_all(&folder)?;
    Ok(folder)
}

/// A program that builds into the suite's target folder, with no crate but those that are here already.
fn at_home(mut command: Command, folder: &Path) -> Result<Command> {
    command.current_dir(folder).env("CARGO_TARGET_DIR", place::target()?).env("CARGO_NET_OFFLINE", "true");
    Ok(command)
}

fn twohop(arguments: &[&str], folder: &Path) -> Result<String> {
    let mut command = at_home(Command::new(place::host_binary()?), folder)?;
    process::capture(command.args(arguments))
}

fn exports(component: &[u8]) -> Result<Vec<String>> {
    let DecodedWasm::Component(resolve, world) = decode(component)? else { bail!("it is no component") };
    let exports = &resolve.worlds[world].exports;
    Ok(exports.keys().map(|key| resolve.name_world_key(key)).collect())
}

#[test]
fn a_new_plugin_of_each_stage_passes_its_tests_and_becomes_a_component() -> Result<()> {
    let workshop = workshop()?;
    for stage in Stage::ALL {
        let name = format!("made-{}", stage.word());
        let folder = workshop.join(&name);
        // Of the run before.
        if folder.exists() {
            fs::remove_dir_all(&folder)?;
        }
        twohop(&["plugin", "new", &name, "--stage", stage.word()], &workshop)?;
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let tested = process::capture(at_home(Command::new(cargo), &folder)?.arg("test"))?;
        assert!(tested.contains("test result: ok. 3 passed"), "{tested}");

        let said = twohop(&["plugin", "build"], &folder)?;
        let component = said.lines().find(|line| line.ends_with(".wasm"));
        let component = Path::new(component.with_context(|| format!("no component in: {said}"))?);
        assert!(component.ends_with(Path::new("plugins").join(&name).with_extension("wasm")), "{said}");
        let bytes = fs::read(component)?;
        let stages = exports(&bytes)?;
        for interface in ["plugin", stage.word()] {
            assert!(stages.contains(&format!("twohop:policy/{interface}@1.0.0")), "{stages:?}");
        }
        let description = describe(&bytes)?;
        assert_eq!(description.name, Some(name));
        assert_eq!(description.version.as_deref(), Some("0.1.0"));
        assert!(description.description.is_some_and(|said| said.contains(' ')));
        let compiled = folder.join("compiled");
        let files = [component, &compiled].map(|file| file.to_string_lossy().into_owned());
        twohop(&["compile-plugin", "small", "clock", &files[0], &files[1]], &folder)?;
        assert!(compiled.is_file());
    }
    Ok(())
}

#[test]
fn a_second_plugin_of_a_name_is_refused_and_leaves_the_first_as_it_is() -> Result<()> {
    let folder = tempfile::tempdir()?;
    fs::create_dir(folder.path().join("orders"))?;
    let error = twohop(&["plugin", "new", "orders"], folder.path()).err().context("it was not refused")?;
    assert!(error.to_string().contains("orders is there already"), "{error}");
    assert_eq!(fs::read_dir(folder.path().join("orders"))?.count(), 0);
    Ok(())
}
