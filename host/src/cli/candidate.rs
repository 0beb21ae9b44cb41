//! What is to run: a file, which is uploaded first, or the digest of what was uploaded; and how.
//!
//! Out: the body that the admin listener takes. What is not said here is as in the active generation.

use std::path::Path;

use anyhow::{Context, Result, bail};
use clap::{Args, ValueEnum};
use serde_json::{Map, Value, json};

use super::server::Server;
use super::upload;

#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// The component, or the digest of one that was uploaded.
    #[arg(value_name = "FILE|DIGEST")]
    component: String,
    #[command(flatten)]
    how: How,
}

/// How it is to run.
#[derive(Debug, Args)]
struct How {
    /// A setting, in place of all settings of before.
    #[arg(long = "setting", value_name = "KEY=VALUE")]
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

impl Arguments {
    /// Uploads the component if it is a file, and gives the body.
    ///
    /// # Errors
    /// If it is neither, or the server refuses it.
    pub(super) fn body(&self, server: &Server) -> Result<Value> {
        let mut body = self.how.body()?;
        body.insert("digest".into(), self.digest(server)?.into());
        Ok(body.into())
    }

    fn digest(&self, server: &Server) -> Result<String> {
        let text = &self.component;
        if Path::new(text).exists() {
            let uploaded = upload::upload(server, Path::new(text), self.how.profile)?;
            return Ok(uploaded["digest"].as_str().context("the server's answer has no digest")?.to_owned());
        }
        if text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Ok(text.clone());
        }
        bail!("{text} is neither a file that is there nor a digest of 64 digits");
    }
}

impl How {
    fn body(&self) -> Result<Map<String, Value>> {
        let mut body = Map::new();
        if !self.settings.is_empty() {
            body.insert("settings".into(), settings(&self.settings)?.into());
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

fn settings(given: &[String]) -> Result<Map<String, Value>> {
    let mut settings = Map::new();
    for pair in given {
        let (key, value) = pair.split_once('=').with_context(|| format!("--setting {pair} has no `=`"))?;
        if settings.insert(key.to_owned(), value.into()).is_some() {
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
        assert_eq!(Value::from(settings(&texts(&["a=b=c", "d="])).unwrap()), json!({"a": "b=c", "d": ""}));
        assert!(settings(&texts(&["a"])).is_err() && settings(&texts(&["a=1", "a=2"])).is_err());
    }
}
