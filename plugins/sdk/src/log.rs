//! Lines for the people who look after a plugin.
//!
//! In a component they go to the host, which bounds their length and rate; natively to stderr. A line is no effect: it
//! may be written again when a batch is tried again.

/// How much a line matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// For whoever looks for a fault.
    Debug,
    /// What happens in normal life.
    Info,
    /// What should be looked at.
    Warn,
    /// What went wrong.
    Error,
}

/// Writes a line.
pub fn write(level: Level, message: &str) {
    #[cfg(target_family = "wasm")]
    crate::bindings::write_log(level, message);
    #[cfg(not(target_family = "wasm"))]
    eprintln!("{level:?}: {message}");
}

/// Writes a line of the level debug.
pub fn debug(message: impl AsRef<str>) {
    write(Level::Debug, message.as_ref());
}

/// Writes a line of the level info.
pub fn info(message: impl AsRef<str>) {
    write(Level::Info, message.as_ref());
}

/// Writes a line of the level warn.
pub fn warn(message: impl AsRef<str>) {
    write(Level::Warn, message.as_ref());
}

/// Writes a line of the level error.
pub fn error(message: impl AsRef<str>) {
    write(Level::Error, message.as_ref());
}
