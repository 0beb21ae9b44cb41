//! From a core module to a component: encoded, described, checked, put in place.
//!
//! In: the module that rustc linked, and what its component shall say of itself. Out: the component's file, and its size
//! and digest. Always: the file is replaced by a rename, and only when module, description or encoder changed; the
//! same module gives the same bytes.

use std::fs;
use std::io::Write;
use std::path::Path;

use anyhow::{Context, Result, bail};
use sha2::{Digest, Sha256};
use wit_component::{ComponentEncoder, DecodedWasm, decode};

use crate::description::{Description, describe_as};

/// Part of what a component's record is compared by: to be raised when this file encodes differently.
/// The encoder's own version is pinned with that of the bindings.
const ENCODING: &str = "wit-component 0.258.3, 2";

/// How a component came to be where it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// It was there, and nothing had changed.
    Fresh,
    /// It was encoded just now.
    Built,
}

/// A component that is in place.
#[derive(Debug)]
pub struct Published {
    /// Its size.
    pub bytes: usize,
    /// SHA-256, in hexadecimal.
    pub digest: String,
    /// Whether it was made just now.
    pub origin: Origin,
}

/// Encodes the module at `core` into `file`, unless `record` says that this was done and `file` is still that.
pub(crate) fn publish(core: &Path, said: &Description, file: &Path, record: &Path) -> Result<Published> {
    let module = fs::read(core).with_context(|| format!("could not read {}", core.display()))?;
    let of = format!("{ENCODING}\nmodule {}\nsays {said:?}", digest(&module));
    keep(file, record, &of, || describe_as(&encode(&module)?, said))
}

/// Puts a component at `file`, unless `record` says that it is there already and made `of` the same.
/// # Errors
/// If it cannot be made or put there, or imports anything of WASI.
pub fn keep(
    file: &Path,
    record: &Path,
    of: &str,
    make: impl FnOnce() -> Result<Vec<u8>>,
) -> Result<Published> {
    let wanted = format!("{of}\ncomponent ");
    if let Ok(there) = fs::read(file) {
        let there_digest = digest(&there);
        if fs::read_to_string(record).is_ok_and(|recorded| recorded == format!("{wanted}{there_digest}\n")) {
            return Ok(Published { bytes: there.len(), digest: there_digest, origin: Origin::Fresh });
        }
    }
    let component = make()?;
    refuse_wasi(&component)?;
    let digest = digest(&component);
    put(file, &component)?;
    put(record, format!("{wanted}{digest}\n").as_bytes())?;
    Ok(Published { bytes: component.len(), digest, origin: Origin::Built })
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

/// SHA-256, in hexadecimal.
#[must_use]
pub fn digest(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::describe;

    /// The least core module: magic and version.
    const EMPTY: &[u8] = b"\0asm\x01\0\0\0";

    fn named(name: &str) -> Description {
        Description { name: Some(name.to_owned()), ..Description::default() }
    }

    #[test]
    fn a_component_is_encoded_once_and_again_when_the_module_or_the_file_changes() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        fs::write(at("core.wasm"), EMPTY).unwrap();
        let publish =
            |name| publish(&at("core.wasm"), &named(name), &at("plugins/p.wasm"), &at("encoded/p")).unwrap();
        let first = publish("p");
        assert_eq!(first.origin, Origin::Built);
        assert_eq!(publish("p").origin, Origin::Fresh);
        assert_eq!(publish("p").digest, first.digest);
        // A custom section named `x`.
        fs::write(at("core.wasm"), [EMPTY, b"\0\x02\x01x"].concat()).unwrap();
        assert_eq!(publish("p").origin, Origin::Built);
        fs::write(at("plugins/p.wasm"), "damaged").unwrap();
        assert_eq!(publish("p").origin, Origin::Built);
        assert_eq!(publish("renamed").origin, Origin::Built);
        assert_eq!(describe(&fs::read(at("plugins/p.wasm")).unwrap()).unwrap(), named("renamed"));
    }

    #[test]
    fn what_is_no_module_leaves_no_component() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        fs::write(at("core.wasm"), "not wasm").unwrap();
        assert!(publish(&at("core.wasm"), &named("p"), &at("p.wasm"), &at("p.record")).is_err());
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
