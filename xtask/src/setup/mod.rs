//! What a chore needs that is not Rust: found where it is, else installed by apt where we may, else named.
//!
//! In: what is needed. Out: paths of programs. What is installed is said, with its reason, before it happens.
//! Always: nothing is downloaded outside a package manager, and no configuration of the user is changed for good.
//! To add a need: a function here that looks first and calls [`apt::install`] second.

pub mod apt;
mod postgres;
mod quiet;
mod versions;

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::{env, fs};

use anyhow::{Context, Result, bail};

use crate::place::{self, find_program, is_executable};
use crate::process;
use crate::test::Length;

pub use postgres::binaries as postgres_binaries;
pub use versions::{binaries as postgres_binaries_of, majors as postgres_majors};

/// Names a Chromium where the one in `PATH` is not wanted.
const CHROMIUM_VARIABLE: &str = "XTASK_CHROMIUM";
/// Names a Redis server where the one in `PATH` is not wanted.
const REDIS_VARIABLE: &str = "XTASK_REDIS";

/// The folder with `initdb` and `postgres`; installs PostgreSQL if there is none.
///
/// # Errors
/// There is none, and it cannot be installed: the message says what to install.
pub fn postgres() -> Result<PathBuf> {
    if let Some(found) = postgres_binaries()? {
        return Ok(found);
    }
    postgres::install()?;
    postgres_binaries()?
        .context("PostgreSQL was installed, but neither /usr/lib/postgresql nor PATH has its `initdb`")
}

/// Servers of the other versions of PostgreSQL that a suite of this length meets.
///
/// # Errors
/// They cannot be installed.
pub fn postgres_versions(length: Length) -> Result<()> {
    node()?;
    versions::install(length)
}

/// A Redis server; installs Debian's if there is none, without its service.
///
/// # Errors
/// There is none, and it cannot be installed: the message says what to install.
pub fn redis() -> Result<PathBuf> {
    if let Some(found) = find_redis()? {
        return Ok(found);
    }
    quiet::install("redis-server", "redis-server", "the cache of the tests, and the comparison with Redis")?;
    find_redis()?.context("redis-server was installed, but PATH has no `redis-server`")
}

/// A Redis server, if there is one: `XTASK_REDIS`, else `redis-server` in `PATH`.
///
/// # Errors
/// The variable names something that cannot be executed.
pub fn find_redis() -> Result<Option<PathBuf>> {
    named_or_found(REDIS_VARIABLE, &["redis-server"])
}

/// Where Debian has nchan.
pub const NCHAN_MODULE: &str = "/usr/lib/nginx/modules/ngx_nchan_module.so";

/// Where nchan wants to keep bodies, whatever its configuration says; only root can make it.
const NCHAN_FOLDER: &str = "/var/lib/nginx/body";

/// nginx with nchan; installs Debian's if there is none, without its service.
///
/// # Errors
/// There is none, and it cannot be installed: the message says what to install.
pub fn nchan() -> Result<()> {
    if find_nginx().is_none() || !Path::new(NCHAN_MODULE).exists() {
        quiet::install("libnginx-mod-nchan", "nginx", "the comparison with nchan")?;
        quiet::install("nginx", "nginx", "the comparison with nchan")?;
    }
    let folder = Path::new(NCHAN_FOLDER);
    match apt::Root::find() {
        Some(root) if !folder.exists() => root.make_folder(folder),
        _ => Ok(()),
    }
}

/// nginx, if there is one; its folder is not in everybody's `PATH`.
#[must_use]
pub fn find_nginx() -> Option<PathBuf> {
    find_program("nginx")
        .or_else(|| Some(PathBuf::from("/usr/sbin/nginx")).filter(|path| is_executable(path)))
}

/// A Chromium; installs Debian's if there is none.
///
/// # Errors
/// There is none, and it cannot be installed: the message says what to install.
pub fn chromium() -> Result<PathBuf> {
    if let Some(found) = find_chromium()? {
        return Ok(found);
    }
    apt::install(&["chromium"], "the test of the page in a real browser")?;
    find_chromium()?.context("chromium was installed, but PATH has no `chromium`")
}

/// A Chromium, if there is one: `XTASK_CHROMIUM`, else the first of its usual names in `PATH`.
///
/// # Errors
/// The variable names something that cannot be executed.
pub fn find_chromium() -> Result<Option<PathBuf>> {
    named_or_found(CHROMIUM_VARIABLE, &["chromium", "chromium-browser", "google-chrome"])
}

/// The program that a variable names, else the first of these in `PATH`.
fn named_or_found(variable: &str, names: &[&str]) -> Result<Option<PathBuf>> {
    if let Some(named) = env::var_os(variable).map(PathBuf::from) {
        if !is_executable(&named) {
            bail!("{variable} names {}, which cannot be executed", named.display());
        }
        return Ok(Some(named));
    }
    Ok(names.iter().copied().find_map(find_program))
}

/// A Python that can make virtual environments; installs what is missing of it.
///
/// # Errors
/// It is missing and cannot be installed: the message says what to install.
pub fn python() -> Result<PathBuf> {
    let found = || {
        let python = find_program("python3")?;
        // Debian has it in a package of its own.
        let has_pip = Command::new(&python).args(["-c", "import ensurepip"]).stderr(Stdio::null()).status();
        has_pip.is_ok_and(|status| status.success()).then_some(python)
    };
    if let Some(python) = found() {
        return Ok(python);
    }
    apt::install(&["python3", "python3-venv"], "plugins in Python, and the test suite of WebSocket")?;
    found().context("python3-venv was installed, but `python3 -c 'import ensurepip'` fails")
}

/// The `curl` that the tutorial tells people to run; installs it if it is missing.
///
/// # Errors
/// It is missing and cannot be installed: the message says what to install.
pub fn curl() -> Result<()> {
    if find_program("curl").is_none() {
        apt::install(&["curl"], "the test of the tutorial, which follows a stream with it")?;
    }
    Ok(())
}

/// The test suite of WebSocket, as locked by `tests/websocket/requirements.txt`, in the target folder.
///
/// # Errors
/// It cannot be installed.
pub fn kosoku() -> Result<PathBuf> {
    let requirements = place::root().join("tests/websocket/requirements.txt");
    let folder = place::target()?.join("kosoku");
    install_from_pypi(&requirements, &folder, "the test suite of WebSocket")?;
    Ok(folder.join("bin/kosoku"))
}

/// An environment of Python with exactly what is locked; made anew only when that has changed.
///
/// # Errors
/// It cannot be installed.
fn install_from_pypi(requirements: &Path, folder: &Path, purpose: &str) -> Result<()> {
    let wanted = fs::read_to_string(requirements)
        .with_context(|| format!("could not read {}", requirements.display()))?;
    let mark = folder.join("installed");
    if fs::read_to_string(&mark).is_ok_and(|installed| installed == wanted) {
        return Ok(());
    }
    if folder.exists() {
        fs::remove_dir_all(folder).context("could not remove the tools of before")?;
    }
    let python = python()?;
    println!("  pip install for {purpose}");
    process::run(Command::new(python).args(["-m", "venv"]).arg(folder))?;
    let mut pip = Command::new(folder.join("bin/python"));
    pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--require-hashes"]);
    pip.args(["--only-binary=:all:", "--requirement"]).arg(requirements);
    process::run(pip.stdin(Stdio::null()))?;
    fs::write(mark, wanted).context("could not mark the tools as installed")
}

/// Node.js with npm; installs what is missing of them.
///
/// # Errors
/// One is missing and cannot be installed: the message says what to install.
pub fn node() -> Result<()> {
    let programs = [("node", "nodejs"), ("npm", "npm")];
    let missing: Vec<&str> =
        programs.iter().filter(|(name, _)| find_program(name).is_none()).map(|(_, p)| *p).collect();
    if missing.is_empty() {
        return Ok(());
    }
    apt::install(
        &missing,
        "the test of the page in a real browser, plugins in JavaScript, and versions of PostgreSQL",
    )
}
