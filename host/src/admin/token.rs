//! The token without which nobody is let in.
//!
//! In: a text of the configuration, or a file of the data folder, made at the first start. Out: yes or no.
//!
//! Invariants: a comparison takes the same time wherever two tokens differ; the token is in no log line and no
//! message; the file is for this user alone.

use std::fs;
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use crate::limits::{ADMIN_TOKEN_BYTES_MAX, ADMIN_TOKEN_BYTES_MIN};

/// The name of the file in the data folder.
pub const TOKEN_FILE: &str = "admin-token";

/// The token. It keeps a digest, so that it cannot be shown by mistake.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Token([u8; 32]);

/// Why there is no token.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// It could be guessed, or is no header.
    #[error(
        "the admin token has {ADMIN_TOKEN_BYTES_MIN} to {ADMIN_TOKEN_BYTES_MAX} letters, digits and signs of ASCII, and \
         no space: set admin.token to such a text, or to none, and one is made"
    )]
    Text,
    /// The file cannot be read or made.
    #[error("cannot use the file of the admin token, {}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Its content is none.
    #[error("{} holds no admin token: remove the file, and the next start makes one", path.display())]
    Content {
        /// The file.
        path: PathBuf,
    },
}

impl Token {
    /// The token that a person chose.
    ///
    /// # Errors
    /// If it is too short, too long, or cannot stand in a header.
    pub fn new(text: &str) -> Result<Self, TokenError> {
        let fits = (ADMIN_TOKEN_BYTES_MIN..=ADMIN_TOKEN_BYTES_MAX).contains(&text.len())
            && text.bytes().all(|byte| byte.is_ascii_graphic());
        if fits { Ok(Self::digest(text)) } else { Err(TokenError::Text) }
    }

    /// The token of a data folder, made if there is none.
    ///
    /// # Errors
    /// If the file cannot be made or read, or holds something else.
    pub fn of_folder(data: &Path) -> Result<Self, TokenError> {
        let path = data.join(TOKEN_FILE);
        let text = match fs::read_to_string(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => make(&path),
            read => read,
        };
        let text = text.map_err(|source| TokenError::File { path: path.clone(), source })?;
        Self::new(text.trim()).map_err(|_| TokenError::Content { path })
    }

    /// Whether a text is the token.
    pub(super) fn is(&self, text: &str) -> bool {
        let given = Self::digest(text).0;
        let differences = self.0.iter().zip(given).fold(0, |all, (own, given)| all | (own ^ given));
        std::hint::black_box(differences) == 0
    }

    fn digest(text: &str) -> Self {
        Self(Sha256::digest(text).into())
    }
}

fn make(path: &Path) -> io::Result<String> {
    let mut random = [0; 32];
    fs::File::open("/dev/urandom")?.read_exact(&mut random)?;
    let text: String = random.iter().map(|byte| format!("{byte:02x}")).collect();
    let new = path.with_extension("new");
    let mut file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&new)?;
    writeln!(file, "{text}")?;
    file.sync_all()?;
    fs::rename(&new, path)?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_token_is_made_once_for_this_user_alone() {
        let home = tempfile::tempdir().expect("there is a temporary folder");
        let token = Token::of_folder(home.path()).expect("it can be made");
        let path = home.path().join(TOKEN_FILE);
        let mode = fs::metadata(&path).expect("it is there").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let text = fs::read_to_string(&path).expect("it is there");
        assert_eq!(text.trim().len(), 64);
        assert!(token.is(text.trim()));
        assert_eq!(Token::of_folder(home.path()).expect("it is there"), token);
        let other = tempfile::tempdir().expect("there is a temporary folder");
        assert_ne!(Token::of_folder(other.path()).expect("it can be made"), token);
    }

    #[test]
    fn only_the_whole_token_is_it() {
        let token = Token::new("0123456789abcdef").expect("it is long enough");
        assert!(token.is("0123456789abcdef"));
        for other in ["", "0123456789abcde", "0123456789abcdef0", "0123456789abcdeF"] {
            assert!(!token.is(other), "{other}");
        }
        assert!(!format!("{token:?}").contains("abcdef"), "it is not shown");
    }

    #[test]
    fn what_could_be_guessed_or_is_no_header_is_refused() {
        for text in ["", "short", "with a space, but long enough", "0123456789abcde\u{e9}"] {
            assert!(matches!(Token::new(text), Err(TokenError::Text)), "{text}");
        }
    }

    #[test]
    fn a_file_without_a_token_is_named() {
        let home = tempfile::tempdir().expect("there is a temporary folder");
        fs::write(home.path().join(TOKEN_FILE), "\n").expect("there is space");
        let message = Token::of_folder(home.path()).expect_err("it is empty").to_string();
        assert!(message.ends_with("holds no admin token: remove the file, and the next start makes one"));
    }
}
