//! Puts the SDK's sources and the interface's files into the binary: lists every file under `plugins/sdk/src` and
//! `wit`, by its path there, as `&[(&str, &str)]`. A file that comes, goes or changes is seen by the next build.

use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::{env, fs, io};

fn main() -> io::Result<()> {
    let here = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").expect("cargo sets it"));
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets it"));
    let mut lists = String::new();
    for (name, folder) in [("SOURCES", "../sdk/src"), ("INTERFACE", "../../wit")] {
        let folder = here.join(folder).canonicalize()?;
        println!("cargo::rerun-if-changed={}", folder.display());
        writeln!(lists, "pub(crate) const {name}: &[(&str, &str)] = &[").expect("a string takes all");
        for file in files(&folder)? {
            let inside = file.strip_prefix(&folder).expect("it is below the folder");
            writeln!(lists, "    ({inside:?}, include_str!({file:?})),").expect("a string takes all");
        }
        lists.push_str("];\n");
    }
    fs::write(out.join("embedded.rs"), lists)
}

/// Every file at and below a folder, sorted, so that the same files make the same binary.
fn files(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            found.extend(files(&path)?);
        } else {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}
