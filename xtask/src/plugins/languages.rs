//! The plugins under `examples/plugins/`, in languages that bring a runtime.
//!
//! In: a folder a language, with the policy, the module that it is written with, and the lock of the tools that build
//! it. Out: `row-router-LANGUAGE.wasm` beside the other components, and a line for each.
//! Always: tools are installed into the target folder's `languages/`, exactly as locked; a component is made again only
//! when its sources, its interface or its tools changed; none imports anything of WASI.
//! To add a language: a [`Language`], its tools in [`install`], its command in [`command`].

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result};

use twohop_build::{Built, Published};

use super::line;
use crate::{place, process, setup};

/// One of `examples/plugins/`.
#[derive(Clone, Copy, Debug)]
enum Language {
    JavaScript,
    Python,
}

impl Language {
    fn name(self) -> &'static str {
        match self {
            Language::JavaScript => "javascript",
            Language::Python => "python",
        }
    }

    /// What the tools are installed by.
    fn locks(self) -> &'static [&'static str] {
        match self {
            Language::JavaScript => &["package.json", "package-lock.json"],
            Language::Python => &["requirements.txt"],
        }
    }

    fn sources(self) -> &'static [&'static str] {
        match self {
            Language::JavaScript => &["row-router.js", "twohop.js"],
            Language::Python => &["row_router.py", "twohop.py"],
        }
    }
}

/// What one build works with.
struct Place {
    sources: PathBuf,
    interface: PathBuf,
    tools: PathBuf,
}

/// Builds them all.
///
/// # Errors
/// Node.js or Python is missing (the message says what to install), a registry cannot be reached, or a plugin is no
/// component that the host takes.
pub fn build_all() -> Result<Vec<Built>> {
    [Language::JavaScript, Language::Python].into_iter().map(build).collect()
}

fn build(language: Language) -> Result<Built> {
    let examples =
        place::root().canonicalize().context("the repository's root is gone")?.join("examples/plugins");
    let languages = place::target()?.join("languages");
    let place = Place {
        sources: examples.join(language.name()),
        interface: examples.join("wit"),
        tools: languages.join(language.name()),
    };
    let name = format!("row-router-{}", language.name());
    let file = place::target()?.join("plugins").join(&name).with_extension("wasm");
    let record = languages.join(format!("{name}.record"));
    let kept = twohop_build::keep(&file, &record, &ingredients(language, &place)?, || {
        install(language, &place).with_context(|| format!("cannot install what builds {name}"))?;
        let made = place.tools.join(&name).with_extension("wasm");
        process::run(&mut command(language, &place, &made))?;
        fs::read(&made).with_context(|| format!("could not read {}", made.display()))
    });
    let Published { bytes, digest, origin } = kept.with_context(|| format!("plugin {name}"))?;
    let built = Built { name, file, bytes, digest, origin };
    println!("  {}", line(&built));
    Ok(built)
}

/// Digests of all that a component is made of.
fn ingredients(language: Language, place: &Place) -> Result<String> {
    let interface = ["row-router.wit", "deps/policy.wit"].map(|file| place.interface.join(file));
    let own = language.locks().iter().chain(language.sources()).map(|file| place.sources.join(file));
    let digest = |file: PathBuf| {
        let contents = fs::read(&file).with_context(|| format!("could not read {}", file.display()))?;
        Ok(twohop_build::digest(&contents))
    };
    Ok(own.chain(interface).map(digest).collect::<Result<Vec<_>>>()?.join("\n"))
}

/// Installs the tools, unless that was done from the same locks.
fn install(language: Language, place: &Place) -> Result<()> {
    let mut wanted = String::new();
    for lock in language.locks() {
        let lock = place.sources.join(lock);
        let contents = fs::read_to_string(&lock);
        wanted += &contents.with_context(|| format!("could not read {}", lock.display()))?;
    }
    let mark = place.tools.join("installed");
    if fs::read_to_string(&mark).is_ok_and(|installed| installed == wanted) {
        return Ok(());
    }
    if place.tools.exists() {
        fs::remove_dir_all(&place.tools).context("could not remove the tools of before")?;
    }
    fs::create_dir_all(&place.tools).with_context(|| format!("could not make {}", place.tools.display()))?;
    match language {
        Language::JavaScript => install_from_npm(place)?,
        Language::Python => install_from_pypi(place)?,
    }
    fs::write(mark, wanted).context("could not mark the tools as installed")
}

fn install_from_npm(place: &Place) -> Result<()> {
    setup::node()?;
    for lock in Language::JavaScript.locks() {
        fs::copy(place.sources.join(lock), place.tools.join(lock))
            .with_context(|| format!("could not copy {lock}"))?;
    }
    println!("  npm ci for plugins in JavaScript");
    let mut npm = Command::new("npm");
    npm.args(["ci", "--ignore-scripts", "--no-audit", "--no-fund", "--no-progress", "--loglevel=error"]);
    process::run(npm.current_dir(&place.tools).stdin(Stdio::null()))
}

fn install_from_pypi(place: &Place) -> Result<()> {
    let python = setup::python()?;
    println!("  pip install for plugins in Python");
    process::run(Command::new(python).args(["-m", "venv"]).arg(&place.tools))?;
    let mut pip = Command::new(place.tools.join("bin/python"));
    pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--require-hashes"]);
    pip.args(["--only-binary=:all:", "--requirement"]).arg(place.sources.join("requirements.txt"));
    process::run(pip.stdin(Stdio::null()))
}

/// What makes the component, as its README says.
fn command(language: Language, place: &Place, made: &Path) -> Command {
    let world = "row-router";
    match language {
        Language::JavaScript => {
            let mut command = Command::new(place.tools.join("node_modules/.bin/componentize-js"));
            command.arg(place.sources.join("row-router.js")).arg("--wit").arg(&place.interface);
            command.args(["--world-name", world, "--out"]).arg(made);
            // Without them nothing of WASI is imported.
            command.args(["--disable", "stdio", "random", "clocks", "http", "fetch-event"]);
            command
        }
        Language::Python => {
            let mut command = Command::new(place.tools.join("bin/componentize-py"));
            command.arg("--quiet").arg("--wit-path").arg(&place.interface).args(["--world", world]);
            command.args(["componentize", "--stub-wasi", "--output"]).arg(made);
            command.arg("--python-path").arg(&place.sources).arg("row_router");
            // It reads the sources, and must leave nothing beside them.
            command.env("PYTHONDONTWRITEBYTECODE", "1");
            command
        }
    }
}
