//! What a component says of itself: name, version and description, written when it is built, read from any bytes.
//!
//! Where: the name in the section `component-name`, version and description in custom sections of these names, as all
//! tools for WebAssembly have them; only the outermost component's count. Always: reading never panics, whatever the
//! bytes are, and copies no more than these texts. Absent on purpose: a bound on their lengths, which is the reader's.

use wasm_encoder::{CustomSection, Section};
use wasm_metadata::{AddMetadata, AddMetadataField};
use wasmparser::{ComponentName, ComponentNameSectionReader, Encoding, KnownCustom, Parser, Payload};

const VERSION: &str = "version";
const DESCRIPTION: &str = "description";

/// What a component says of itself. Any tool may have written it: nothing is promised of its characters or lengths.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Description {
    /// Its name; of a crate's component, the package's.
    pub name: Option<String>,
    /// Its version.
    pub version: Option<String>,
    /// What it does, in a sentence.
    pub description: Option<String>,
}

/// Why nothing can be read.
#[derive(Debug, thiserror::Error)]
pub enum DescriptionError {
    /// A core module, for example.
    #[error("it is no component: build it with `twohop plugin build`")]
    NotAComponent,
    /// The sections cannot be told apart, or a text is not UTF-8.
    #[error("its sections cannot be read: {0}")]
    Malformed(String),
}

/// Reads what a component says of itself. What it does not say is none.
///
/// # Errors
/// The bytes are no component, or are damaged up to their last section.
pub fn describe(component: &[u8]) -> Result<Description, DescriptionError> {
    let mut found = Description::default();
    // How many modules and components are open around the current section, within the outermost component.
    let mut depth = 0_usize;
    for payload in Parser::new(0).parse_all(component) {
        match payload.map_err(malformed)? {
            Payload::Version { encoding: Encoding::Module, .. } if depth == 0 => {
                return Err(DescriptionError::NotAComponent);
            }
            Payload::ModuleSection { .. } | Payload::ComponentSection { .. } => depth += 1,
            Payload::End(_) => depth = depth.saturating_sub(1),
            Payload::CustomSection(section) if depth == 0 => match section.as_known() {
                KnownCustom::ComponentName(names) => found.name = name_in(names)?.or(found.name),
                _ if section.name() == VERSION => found.version = Some(text(section.data())?),
                _ if section.name() == DESCRIPTION => found.description = Some(text(section.data())?),
                _ => {}
            },
            _ => {}
        }
    }
    Ok(found)
}

fn name_in(names: ComponentNameSectionReader<'_>) -> Result<Option<String>, DescriptionError> {
    for name in names {
        if let ComponentName::Component { name, .. } = name.map_err(malformed)? {
            return Ok(Some(name.to_owned()));
        }
    }
    Ok(None)
}

fn text(bytes: &[u8]) -> Result<String, DescriptionError> {
    std::str::from_utf8(bytes)
        .map(str::to_owned)
        .map_err(|error| DescriptionError::Malformed(error.to_string()))
}

fn malformed(error: wasmparser::BinaryReaderError) -> DescriptionError {
    DescriptionError::Malformed(error.to_string())
}

/// A component that says this of itself, where before it said nothing.
pub(crate) fn describe_as(component: &[u8], description: &Description) -> anyhow::Result<Vec<u8>> {
    let mut metadata = AddMetadata::default();
    if let Some(name) = &description.name {
        metadata.name = AddMetadataField::Set(name.clone());
    }
    let mut described = metadata.to_wasm(component)?;
    for (name, said) in [(VERSION, &description.version), (DESCRIPTION, &description.description)] {
        if let Some(said) = said {
            CustomSection { name: name.into(), data: said.as_bytes().into() }.append_to(&mut described);
        }
    }
    Ok(described)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The least component: magic, version and layer.
    const EMPTY: &[u8] = b"\0asm\x0d\0\x01\0";
    /// The least core module.
    const MODULE: &[u8] = b"\0asm\x01\0\0\0";

    fn full() -> Description {
        Description {
            name: Some("orders".to_owned()),
            version: Some("1.2.0".to_owned()),
            description: Some("Orders go to their status's channel \u{2192} live".to_owned()),
        }
    }

    #[test]
    fn what_was_written_is_read() {
        let described = describe_as(EMPTY, &full()).unwrap();
        assert_eq!(describe(&described).unwrap(), full());
        let name_only = Description { name: Some("x".to_owned()), ..Description::default() };
        assert_eq!(describe(&describe_as(EMPTY, &name_only).unwrap()).unwrap(), name_only);
    }

    #[test]
    fn a_component_that_says_nothing_has_no_name() {
        assert_eq!(describe(EMPTY).unwrap(), Description::default());
    }

    #[test]
    fn what_a_component_within_says_does_not_count() {
        let within = describe_as(EMPTY, &full()).unwrap();
        let length = u8::try_from(within.len()).unwrap();
        // Section 4: a component. Its length takes two bytes from 128 on.
        assert!(length < 128, "{length}");
        let around = [EMPTY, &[4, length], &within].concat();
        assert_eq!(describe(&around).unwrap(), Description::default());
    }

    #[test]
    fn a_core_module_is_no_component() {
        assert!(matches!(describe(MODULE), Err(DescriptionError::NotAComponent)));
    }

    #[test]
    fn damaged_bytes_are_an_error_and_never_a_panic() {
        let described = describe_as(EMPTY, &full()).unwrap();
        for bytes in [&b""[..], b"text", b"\0asm"] {
            assert!(matches!(describe(bytes), Err(DescriptionError::Malformed(_))), "{bytes:?}");
        }
        for at in 0..described.len() {
            // Cut short anywhere, and with any byte turned over: an answer or an error.
            let _ = describe(&described[..at]);
            let mut turned = described.clone();
            turned[at] ^= 0xff;
            let _ = describe(&turned);
        }
        let version = CustomSection { name: VERSION.into(), data: (&[0xff][..]).into() };
        let mut component = EMPTY.to_vec();
        version.append_to(&mut component);
        assert!(matches!(describe(&component), Err(DescriptionError::Malformed(_))));
    }
}
