//! Activations and sets as the database keeps them: JSON, with the words that people write.
//!
//! In and out: plain values. The same value always gives the same text.
//!
//! Invariant: what was written by this program is read again as it was. What is read and makes no sense is an error,
//! never a default.
//!
//! To add a field to an activation: a field of [`Kept`] with `#[serde(default)]`, so that older texts are read.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::set::{Member, PluginSet, Standing};
use crate::policy::{Activation, Grants, NoDigest, PatternError, UnknownWord};

/// A text that this program did not write.
#[derive(Debug, thiserror::Error)]
pub(super) enum TextError {
    #[error(transparent)]
    Json(#[from] serde_json::Error),
    #[error(transparent)]
    Digest(#[from] NoDigest),
    #[error(transparent)]
    Pattern(#[from] PatternError),
    #[error(transparent)]
    Word(#[from] UnknownWord),
}

/// All of an activation but plugin and generation.
#[derive(Serialize, Deserialize)]
struct Kept {
    digest: String,
    order: i32,
    settings: BTreeMap<String, String>,
    channels: Vec<String>,
    audience: bool,
    topics: Vec<String>,
    cache: Vec<String>,
    profile: String,
    on_fault: String,
}

pub(super) fn of_activation(activation: &Activation) -> String {
    let Activation { plugin: _, generation: _, digest, order, settings, grants, profile, on_fault } =
        activation;
    let Grants { channels, audience, topics, cache } = grants;
    let texts = |patterns: &[_]| patterns.iter().map(ToString::to_string).collect();
    json(&Kept {
        digest: digest.to_string(),
        order: *order,
        settings: settings.clone(),
        channels: texts(channels),
        audience: *audience,
        topics: texts(topics),
        cache: texts(cache),
        profile: profile.as_str().into(),
        on_fault: on_fault.as_str().into(),
    })
}

pub(super) fn activation(plugin: &str, generation: u64, text: &str) -> Result<Activation, TextError> {
    let kept: Kept = serde_json::from_str(text)?;
    let patterns =
        |texts: Vec<String>| texts.iter().map(|text| text.parse()).collect::<Result<Vec<_>, PatternError>>();
    Ok(Activation {
        plugin: plugin.into(),
        generation,
        digest: kept.digest.parse()?,
        order: kept.order,
        settings: kept.settings,
        grants: Grants {
            channels: patterns(kept.channels)?,
            audience: kept.audience,
            topics: patterns(kept.topics)?,
            cache: patterns(kept.cache)?,
        },
        profile: kept.profile.parse()?,
        on_fault: kept.on_fault.parse()?,
    })
}

pub(super) fn of_settings(settings: &BTreeMap<String, String>) -> String {
    json(settings)
}

pub(super) fn settings(text: &str) -> Result<BTreeMap<String, String>, TextError> {
    Ok(serde_json::from_str(text)?)
}

/// Plugin, generation, whether it is quarantined.
type KeptMember = (String, u64, bool);

pub(super) fn of_set(set: &PluginSet) -> String {
    let kept = |Member { plugin, generation, standing }: &Member| -> KeptMember {
        (plugin.to_string(), *generation, *standing == Standing::Quarantined)
    };
    json(&set.members().iter().map(kept).collect::<Vec<_>>())
}

pub(super) fn set(text: &str) -> Result<PluginSet, TextError> {
    let members: Vec<KeptMember> = serde_json::from_str(text)?;
    let member = |(plugin, generation, is_quarantined): KeptMember| Member {
        plugin: plugin.into(),
        generation,
        standing: if is_quarantined { Standing::Quarantined } else { Standing::Running },
    };
    Ok(members.into_iter().map(member).collect())
}

fn json(value: &impl Serialize) -> String {
    serde_json::to_string(value).expect("texts, numbers and lists are JSON")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::{OnFault, Profile};
    use crate::registry::tests;

    #[test]
    fn an_activation_is_read_as_it_was_written() {
        let mut activation = tests::activation("p", 7, "x");
        activation.order = -3;
        activation.grants = Grants {
            channels: vec!["orders:*".parse().expect("it is one"), "all".parse().expect("it is one")],
            audience: true,
            topics: vec!["t".parse().expect("it is one")],
            cache: Vec::new(),
        };
        activation.profile = Profile::Large;
        activation.on_fault = OnFault::Pause;
        let text = of_activation(&activation);
        assert_eq!(super::activation("p", 7, &text).expect("we wrote it"), activation);
    }

    #[test]
    fn a_text_that_makes_no_sense_is_an_error() {
        let text = of_activation(&tests::activation("p", 1, "x"));
        for (from, to) in [("small", "tiny"), ("\"*\"", "\"\""), ("set-aside", ""), ("{", "")] {
            assert!(activation("p", 1, &text.replacen(from, to, 1)).is_err(), "{from} as {to}");
        }
    }
}
