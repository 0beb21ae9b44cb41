//! Compiled plugins on disk, so that a start does not compile them again.
//!
//! ```text
//! FOLDER/SHA256-ENGINE.cwasm         machine code
//! FOLDER/SHA256-ENGINE.cwasm.sha256  its checksum in hexadecimal
//! ```
//! SHA256 is the component's digest, ENGINE a hash of all that the code depends on. Loading runs the code with all
//! rights of the host, so: the folder is ours alone (mode 0700), nothing is ever taken into it from outside, and the
//! bytes that are loaded are the bytes that were checked. The checksum is against torn writes and bad disks, not
//! against somebody who can write into the folder: they can do worse.
//!
//! Invariant: a file is there whole or not at all; what does not check is compiled again.

use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use wasmtime::component::Component;

use super::compile::compile_in_child;
use super::digest::Digest;
use super::engine::Engine;
use super::{PluginError, PolicyError};
use crate::limits::{COMPILED_BYTES_MAX, COMPILED_COUNT_MAX};

/// The folder of compiled plugins.
#[derive(Debug)]
pub(super) struct Cache {
    folder: PathBuf,
}

impl Cache {
    /// Opens the folder, and makes it if it is not there.
    ///
    /// # Errors
    /// If it cannot be made or made ours alone.
    pub(super) fn open(folder: &Path) -> Result<Self, PolicyError> {
        let ours = || {
            fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
            fs::set_permissions(folder, fs::Permissions::from_mode(0o700))
        };
        ours().map_err(|source| PolicyError::Cache { folder: folder.into(), source })?;
        Ok(Self { folder: folder.into() })
    }

    /// The code of a component: loaded, or compiled by `program` and kept.
    ///
    /// # Errors
    /// If it does not compile, or the folder cannot be written.
    pub(super) fn component(
        &self,
        engine: &Engine,
        program: &Path,
        wasm: &[u8],
        digest: Digest,
    ) -> Result<Component, PluginError> {
        let path = self.path(engine, digest);
        if let Some(code) = load(&path) {
            return deserialize(engine, &code);
        }
        let work = tempfile_beside(&path).map_err(PluginError::Compiler)?;
        let compiled = (|| {
            let input = work.join("plugin.wasm");
            let output = work.join("plugin.cwasm");
            // The bytes whose digest is known; the file they came from may have changed since.
            fs::write(&input, wasm).map_err(PluginError::Compiler)?;
            compile_in_child(program, engine.profile(), engine.meter(), &input, &output)?;
            read_bounded(&output, COMPILED_BYTES_MAX).map_err(PluginError::Compiler)
        })();
        // What is left over there would be in nobody's way.
        let _ = fs::remove_dir_all(&work);
        let code = compiled?;
        self.store(&path, &code).map_err(PluginError::Compiler)?;
        self.prune().map_err(PluginError::Compiler)?;
        deserialize(engine, &code)
    }

    fn path(&self, engine: &Engine, digest: Digest) -> PathBuf {
        let mut hasher = DefaultHasher::new();
        engine.wasmtime().precompile_compatibility_hash().hash(&mut hasher);
        self.folder.join(format!("{digest}-{:016x}.cwasm", hasher.finish()))
    }

    fn store(&self, path: &Path, code: &[u8]) -> io::Result<()> {
        // The code last: a checksum without code is nothing, and a crash in between leaves a pair that does not check.
        write_whole(&checksum_path(path), Digest::of(code).to_string().as_bytes())?;
        write_whole(path, code)?;
        fs::File::open(&self.folder)?.sync_all()
    }

    /// As if the compiler had made it.
    #[cfg(test)]
    pub(super) fn seed(&self, engine: &Engine, wasm: &[u8], code: &[u8]) {
        self.store(&self.path(engine, Digest::of(wasm)), code).expect("the cache is writable");
    }

    /// Keeps the newest.
    fn prune(&self) -> io::Result<()> {
        let mut compiled = Vec::new();
        for entry in fs::read_dir(&self.folder)? {
            let entry = entry?;
            if entry.path().extension().is_some_and(|extension| extension == "cwasm") {
                compiled.push((entry.metadata()?.modified()?, entry.path()));
            }
        }
        compiled.sort_unstable();
        let surplus = compiled.len().saturating_sub(COMPILED_COUNT_MAX);
        for (_, path) in compiled.drain(..surplus) {
            fs::remove_file(&path)?;
            fs::remove_file(checksum_path(&path))?;
        }
        Ok(())
    }
}

/// Nothing, if it is not there or does not check.
fn load(path: &Path) -> Option<Vec<u8>> {
    let expected = fs::read_to_string(checksum_path(path)).ok()?;
    let code = read_bounded(path, COMPILED_BYTES_MAX).ok()?;
    if Digest::of(&code).to_string() == expected.trim() {
        Some(code)
    } else {
        tracing::warn!(path = %path.display(), "a compiled plugin is damaged and is compiled again");
        None
    }
}

/// Code of the right engine, which the file's name says, fails to load only if it would exceed a limit.
#[allow(
    unsafe_code,
    reason = "loads machine code that this program compiled itself, after a check of its sum"
)]
fn deserialize(engine: &Engine, code: &[u8]) -> Result<Component, PluginError> {
    // SAFETY: the bytes came from `Engine::precompile_component` in a child of this program. They were read from a
    // folder that only this program's user may enter and into which nothing else is written, and agree with the
    // checksum that was written with them. The engine refuses code of another version or configuration of itself.
    let component = unsafe { Component::deserialize(engine.wasmtime(), code) };
    component.map_err(|error| PluginError::Limits(format!("{error:#}")))
}

fn checksum_path(path: &Path) -> PathBuf {
    path.with_extension("cwasm.sha256")
}

/// A folder of our own for the compiler, on the same file system.
fn tempfile_beside(path: &Path) -> io::Result<PathBuf> {
    let folder = path.with_extension(format!("{}.work", std::process::id()));
    match fs::remove_dir_all(&folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => {}
    }
    fs::DirBuilder::new().mode(0o700).create(&folder)?;
    Ok(folder)
}

fn write_whole(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let new = path.with_added_extension("new");
    let mut file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&new)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&new, path)
}

fn read_bounded(path: &Path, bytes_max: u64) -> io::Result<Vec<u8>> {
    use io::Read;
    let mut bytes = Vec::new();
    fs::File::open(path)?.take(bytes_max + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > bytes_max {
        return Err(io::Error::other(format!("{} has more than {bytes_max} bytes", path.display())));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::compile::precompile;
    use crate::policy::fixtures::{Guest, engine};

    const NO_COMPILER: &str = "/nowhere/twohop";

    fn seeded() -> (tempfile::TempDir, Cache, Vec<u8>, Digest) {
        let folder = tempfile::tempdir().expect("there is a temporary folder");
        let cache = Cache::open(&folder.path().join("plugins/cache")).expect("it can be made");
        let wasm = Guest::default().component();
        let digest = Digest::of(&wasm);
        let code = precompile(&wasm, engine().meter()).expect("it compiles");
        cache.store(&cache.path(engine(), digest), &code).expect("it can be written");
        (folder, cache, wasm, digest)
    }

    #[test]
    fn what_was_compiled_is_loaded_without_the_compiler() {
        let (_folder, cache, wasm, digest) = seeded();
        cache.component(engine(), Path::new(NO_COMPILER), &wasm, digest).expect("it is in the cache");
    }

    #[test]
    fn a_damaged_file_is_not_loaded_but_compiled_again() {
        let (_folder, cache, wasm, digest) = seeded();
        let path = cache.path(engine(), digest);
        let code = fs::read(&path).expect("it is there");
        let damages: [&dyn Fn(); 4] = [
            &|| fs::write(&path, &code[..code.len() / 2]).expect("it is ours"),
            &|| {
                let mut code = code.clone();
                let middle = code.len() / 2;
                code[middle] ^= 1;
                fs::write(&path, code).expect("it is ours");
            },
            &|| fs::write(checksum_path(&path), "").expect("it is ours"),
            &|| fs::remove_file(checksum_path(&path)).expect("it is ours"),
        ];
        for damage in damages {
            cache.store(&path, &code).expect("it can be written");
            damage();
            let error = cache.component(engine(), Path::new(NO_COMPILER), &wasm, digest);
            assert!(matches!(error, Err(PluginError::Compiler(_))), "the compiler was asked");
        }
    }

    #[test]
    fn the_folder_is_ours_alone_and_has_no_leftovers_of_a_compiler_that_failed() {
        let (_folder, cache, wasm, _) = seeded();
        let mode = fs::metadata(&cache.folder).expect("it is there").permissions().mode();
        assert_eq!(mode & 0o777, 0o700);
        let before = fs::read_dir(&cache.folder).expect("it is there").count();
        let other = Digest::of(b"another");
        assert!(cache.component(engine(), Path::new(NO_COMPILER), &wasm, other).is_err());
        assert_eq!(fs::read_dir(&cache.folder).expect("it is there").count(), before);
    }

    #[test]
    fn the_oldest_go_when_there_are_too_many() {
        let (_folder, cache, _, _) = seeded();
        for number in 0..COMPILED_COUNT_MAX {
            let path = cache.folder.join(format!("{number}.cwasm"));
            fs::write(&path, "").expect("the folder is writable");
            fs::write(checksum_path(&path), "").expect("the folder is writable");
            let old = std::time::SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(number as u64);
            fs::File::options()
                .write(true)
                .open(&path)
                .expect("it is there")
                .set_modified(old)
                .expect("it is ours");
        }
        cache.prune().expect("it is ours");
        assert!(!cache.folder.join("0.cwasm").exists());
        assert!(!cache.folder.join("0.cwasm.sha256").exists());
        assert!(cache.folder.join("1.cwasm").exists());
    }
}
