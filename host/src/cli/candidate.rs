//! What is to run: a file, which is uploaded first, or the digest of what was uploaded; and how.
//!
//! Out: the body that the admin listener takes. What is not said here is as in the active generation.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use clap::{Args, ValueEnum};
use serde_json::{Map, Value, json};
use twohop::policy;

use super::server::Server;
use super::upload;

#[derive(Debug, Args)]
pub(crate) struct Candidate {
    /// The component, or the digest of one that was uploaded.
    #[arg(value_name = "FILE|DIGEST")]
    component: String,
    #[command(flatten)]
    how: How,
}

/// How it is to run.
#[derive(Debug, Args)]
pub(crate) struct How {
    /// A setting, in place of all settings of before.
    #[arg(long = "setting", alias = "set", value_name = "KEY=VALUE")]
    settings: Vec<String>,
    /// What its routes may touch, in place of all grants of before: `channels=orders:*,users`, `audience`, `topics=…`,
    /// `cache=…`.
    #[arg(long = "grant", value_name = "WHAT")]
    grants: Vec<String>,
    /// Plugins run in this order, those of one order by name.
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    order: Option<i32>,
    /// What happens with a change that it fails on.
    #[arg(long, value_enum)]
    on_fault: Option<OnFault>,
    /// Which limits it runs under.
    #[arg(long, value_enum)]
    profile: Option<upload::Profile>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum OnFault {
    /// It becomes a dead letter.
    SetAside,
    /// The pipeline stops until somebody decides.
    Pause,
}

/// A component where there is no server.
#[derive(Debug)]
pub(super) struct Alone {
    pub(super) file: PathBuf,
    pub(super) settings: BTreeMap<String, String>,
    pub(super) profile: policy::Profile,
}

impl Candidate {
    /// Uploads the component if it is a file, and gives the body.
    ///
    /// # Errors
    /// If it is neither, or the server refuses it.
    pub(super) fn body(&self, server: &Server) -> Result<Value> {
        self.how.body_of(server, &self.component)
    }

    /// The component as a file, and how it runs where there is no server.
    ///
    /// # Errors
    /// If something was said that only a server can heed.
    pub(super) fn alone(&self) -> Result<Alone> {
        let How { settings: given, grants, order, on_fault, profile } = &self.how;
        for (flag, is_given) in [
            ("--grant", !grants.is_empty()),
            ("--order", order.is_some()),
            ("--on-fault", on_fault.is_some()),
        ] {
            if is_given {
                bail!(
                    "{flag} is for a plugin of a server: name the plugin before the file, or leave {flag} out"
                );
            }
        }
        Ok(Alone {
            file: self.component.clone().into(),
            settings: settings(given)?,
            profile: profile.map(Into::into).unwrap_or_default(),
        })
    }
}

impl How {
    /// As [`Candidate::body`], for this file or digest.
    ///
    /// # Errors
    /// As [`Candidate::body`].
    pub(super) fn body_of(&self, server: &Server, component: &str) -> Result<Value> {
        let mut body = self.body()?;
        body.insert("digest".into(), self.digest(server, component)?.into());
        Ok(body.into())
    }

    fn digest(&self, server: &Server, text: &str) -> Result<String> {
        if Path::new(text).exists() {
            let uploaded = upload::upload(server, Path::new(text), self.profile)?;
            return Ok(uploaded["digest"].as_str().context("the server's answer has no digest")?.to_owned());
        }
        if text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Ok(text.to_owned());
        }
        bail!("{text} is neither a file that is there nor a digest of 64 digits");
    }

    fn body(&self) -> Result<Map<String, Value>> {
        let mut body = Map::new();
        if !self.settings.is_empty() {
            body.insert("settings".into(), json!(settings(&self.settings)?));
        }
        if !self.grants.is_empty() {
            body.insert("grants".into(), grants(&self.grants)?.into());
        }
        if let Some(order) = self.order {
            body.insert("order".into(), order.into());
        }
        if let Some(on_fault) = self.on_fault {
            let name = match on_fault {
                OnFault::SetAside => "set-aside",
                OnFault::Pause => "pause",
            };
            body.insert("on_fault".into(), name.into());
        }
        if let Some(profile) = self.profile {
            body.insert("profile".into(), profile.name().into());
        }
        Ok(body)
    }
}

/// Settings as they were given, `KEY=VALUE` each.
///
/// # Errors
/// If one has no value, or comes twice.
pub(super) fn settings(given: &[String]) -> Result<BTreeMap<String, String>> {
    let mut settings = BTreeMap::new();
    for pair in given {
        let (key, value) = pair.split_once('=').with_context(|| format!("--setting {pair} has no `=`"))?;
        if settings.insert(key.to_owned(), value.to_owned()).is_some() {
            bail!("--setting {key} comes twice");
        }
    }
    Ok(settings)
}

fn grants(given: &[String]) -> Result<Map<String, Value>> {
    let mut grants = Map::new();
    for grant in given {
        match grant.split_once('=') {
            None if grant == "audience" => {
                grants.insert("audience".into(), true.into());
            }
            Some((kind @ ("channels" | "topics" | "cache"), patterns)) => {
                let list = grants.entry(kind).or_insert_with(|| json!([]));
                let patterns = patterns.split(',').filter(|pattern| !pattern.is_empty()).map(Value::from);
                list.as_array_mut().context("it is a list")?.extend(patterns);
            }
            _ => bail!(
                "--grant {grant} is none: there are channels=PATTERN,…, audience, topics=PATTERN,… and cache=PATTERN,…"
            ),
        }
    }
    Ok(grants)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(texts: &[&str]) -> Vec<String> {
        texts.iter().map(|text| (*text).to_owned()).collect()
    }

    #[test]
    fn grants_add_up_and_others_are_refused() {
        let given = texts(&["channels=a,b:*", "channels=c", "audience"]);
        assert_eq!(
            Value::from(grants(&given).unwrap()),
            json!({"channels": ["a", "b:*", "c"], "audience": true})
        );
        assert_eq!(Value::from(grants(&texts(&["channels="])).unwrap()), json!({"channels": []}));
        for wrong in ["chanels=a", "audience=yes", "topics"] {
            assert!(grants(&texts(&[wrong])).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_setting_is_a_pair_and_comes_once() {
        assert_eq!(json!(settings(&texts(&["a=b=c", "d="])).unwrap()), json!({"a": "b=c", "d": ""}));
        assert!(settings(&texts(&["a"])).is_err() && settings(&texts(&["a=1", "a=2"])).is_err());
    }
}
