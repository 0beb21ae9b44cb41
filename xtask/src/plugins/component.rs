//! From a core module to a component: encoded, checked, put in place; of other languages only the last two.
//!
//! In: the module that rustc linked, or whoever makes the component. Out: the component's file, and a line that says
//! its size and digest.
//! Always: the file is replaced by a rename, and only when what it is made of changed; the same module gives the same
//! bytes.

use std::fmt;
use std::fs;
use std::io::Write;
use std::path::Path;

use anyhow::{Context, Result, bail};
use sha2::{Digest, Sha256};
use wit_component::{ComponentEncoder, DecodedWasm, decode};

/// Part of what a component's record is compared by: to be raised when this file encodes differently.
/// The encoder's own version is pinned with that of the bindings.
const ENCODING: &str = "wit-component 0.258.3, 1";

/// How a component came to be where it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Origin {
    /// It was there, and nothing had changed.
    Fresh,
    /// It was encoded just now.
    Built,
}

/// What is said about a component.
#[derive(Debug)]
pub(super) struct Line {
    size: usize,
    digest: String,
    origin: Origin,
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let short = self.digest.get(..12).unwrap_or(&self.digest);
        let origin = match self.origin {
            Origin::Fresh => "fresh",
            Origin::Built => "built",
        };
        write!(f, "{:>9} B  sha256 {short}  {origin}", self.size)
    }
}

/// Encodes the module at `core` into `file`, unless `record` says that this was done and `file` is still that.
pub(super) fn publish(core: &Path, file: &Path, record: &Path) -> Result<Line> {
    let module = fs::read(core).with_context(|| format!("could not read {}", core.display()))?;
    keep(file, record, &format!("{ENCODING}\nmodule {}", digest(&module)), || encode(&module))
}

/// Puts a component at `file`, unless `record` says that it is there already and made `of` the same.
pub(super) fn keep(
    file: &Path,
    record: &Path,
    of: &str,
    make: impl FnOnce() -> Result<Vec<u8>>,
) -> Result<Line> {
    let wanted = format!("{of}\ncomponent ");
    if let Ok(there) = fs::read(file) {
        let there_digest = digest(&there);
        if fs::read_to_string(record).is_ok_and(|recorded| recorded == format!("{wanted}{there_digest}\n")) {
            return Ok(Line { size: there.len(), digest: there_digest, origin: Origin::Fresh });
        }
    }
    let component = make()?;
    refuse_wasi(&component)?;
    let digest = digest(&component);
    put(file, &component)?;
    put(record, format!("{wanted}{digest}\n").as_bytes())?;
    Ok(Line { size: component.len(), digest, origin: Origin::Built })
}

fn encode(module: &[u8]) -> Result<Vec<u8>> {
    ComponentEncoder::default().validate(true).module(module)?.encode()
}

/// The host grants nothing of WASI, so such a component would fail at its upload; here the author learns why.
fn refuse_wasi(component: &[u8]) -> Result<()> {
    let DecodedWasm::Component(resolve, world) = decode(component)? else {
        bail!("it is a package of interfaces, not a component");
    };
    let imports = resolve.worlds[world].imports.keys().map(|key| resolve.name_world_key(key));
    let wasi: Vec<String> = imports.filter(|name| name.starts_with("wasi:")).collect();
    if !wasi.is_empty() {
        bail!(
            "it imports {}: plugins get no WASI; remove what needs clocks, files, network or randomness",
            wasi.join(", ")
        );
    }
    Ok(())
}

fn put(file: &Path, contents: &[u8]) -> Result<()> {
    let folder = file.parent().context("a file needs a folder")?;
    fs::create_dir_all(folder).with_context(|| format!("could not make {}", folder.display()))?;
    let put = || -> Result<()> {
        let mut draft = tempfile::Builder::new().permissions(readable()).tempfile_in(folder)?;
        draft.write_all(contents)?;
        draft.persist(file)?;
        Ok(())
    };
    put().with_context(|| format!("could not write {}", file.display()))
}

/// As any build product; a temporary file would be for our eyes only.
fn readable() -> fs::Permissions {
    std::os::unix::fs::PermissionsExt::from_mode(0o644)
}

pub(super) fn digest(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The least core module: magic and version.
    const EMPTY: &[u8] = b"\0asm\x01\0\0\0";

    #[test]
    fn a_component_is_encoded_once_and_again_when_the_module_or_the_file_changes() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        fs::write(at("core.wasm"), EMPTY).unwrap();
        let publish = || publish(&at("core.wasm"), &at("plugins/p.wasm"), &at("encoded/p")).unwrap();
        let first = publish();
        assert_eq!(first.origin, Origin::Built);
        assert_eq!(publish().origin, Origin::Fresh);
        assert_eq!(publish().digest, first.digest);
        // A custom section named `x`.
        fs::write(at("core.wasm"), [EMPTY, b"\0\x02\x01x"].concat()).unwrap();
        assert_eq!(publish().origin, Origin::Built);
        fs::write(at("plugins/p.wasm"), "damaged").unwrap();
        assert_eq!(publish().origin, Origin::Built);
    }

    #[test]
    fn what_is_no_module_leaves_no_component() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        fs::write(at("core.wasm"), "not wasm").unwrap();
        assert!(publish(&at("core.wasm"), &at("p.wasm"), &at("p.record")).is_err());
        assert!(!at("p.wasm").exists());
    }

    #[test]
    fn a_component_that_imports_wasi_is_refused() {
        // (component (import "wasi:clocks/monotonic-clock@0.2.0" (instance)))
        let name = b"wasi:clocks/monotonic-clock@0.2.0";
        let mut component = b"\0asm\x0d\0\x01\0".to_vec();
        // Section 7, types: one, an instance type without declarations.
        component.extend([7, 3, 1, 0x42, 0]);
        // Section 10, imports: one, by plain name, an instance of type 0.
        let length = u8::try_from(name.len()).unwrap();
        component.extend([10, length + 5, 1, 0, length]);
        component.extend(name);
        component.extend([5, 0]);
        let error = refuse_wasi(&component).unwrap_err().to_string();
        assert!(
            error.starts_with("it imports wasi:clocks/monotonic-clock@0.2.0: plugins get no WASI"),
            "{error}"
        );
    }
}
