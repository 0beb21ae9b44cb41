//! `claims-gate`: which channels a connection may listen to and send on, by the claims of its token and whom it follows.
//!
//! In: patterns of channels from the settings, in which a claim may stand between two `:`; then a connection with its
//! verified claims, what it asks for, and whether it follows that. Out: a grant until the token ends, or why not. Always holds: what a claim says
//! is compared with one whole part of a channel's name, and never read as a pattern; claims that cannot be read grant
//! nothing. Absent on purpose: verifying tokens, which the host has done, and a clock. Documented for those who deploy
//! it in `docs/plugins/claims-gate.md`.

mod claims;
mod pattern;

use twohop_plugin::{
    Configured, Connection, Gate, Grant, Plugin, Reception, Refusal, Request, Settings, export,
};

use claims::Claims;
use pattern::Pattern;

/// The policy.
#[derive(Debug)]
pub struct ClaimsGate {
    subscribe: Vec<Pattern>,
    /// For those who follow whom the channel is of.
    followers: Vec<Pattern>,
    publish: Vec<Pattern>,
    presence: Vec<Pattern>,
    /// Events that are not kept; one that ends with `*` means all that begin so.
    ephemeral: Vec<String>,
}

impl Plugin for ClaimsGate {
    fn configure(settings: &Settings) -> Configured<Self> {
        let followers = patterns("followers", settings.optional_list("followers")?)?;
        let subscribe = match followers.as_slice() {
            [] => settings.list("subscribe")?,
            _ => settings.optional_list("subscribe")?,
        };
        let subscribe = patterns("subscribe", subscribe)?;
        let publish = patterns("publish", settings.optional_list("publish")?)?;
        let presence = patterns("presence", settings.optional_list("presence")?)?;
        let ephemeral =
            settings.optional_list("ephemeral")?.into_iter().map(event).collect::<Result<_, _>>()?;
        pattern::refuse_ambiguous(&[&subscribe[..], &followers, &publish, &presence].concat())?;
        Ok((Self { subscribe, followers, publish, presence, ephemeral }, vec![]))
    }
}

impl Gate for ClaimsGate {
    fn admit(&self, connection: &Connection, request: &Request) -> Result<Grant, Refusal> {
        let claims = claims_of(connection)?;
        let covered = |patterns: &[Pattern]| patterns.iter().any(|pattern| pattern.covers(request, &claims));
        let is_for_followers = covered(&self.followers);
        if !(covered(&self.subscribe) || is_for_followers && request.follows) {
            let why = if is_for_followers {
                "only those who follow may listen to this channel"
            } else {
                "the claims of this connection do not cover all that it asks to listen to"
            };
            return Err(refusal(connection, why));
        }
        Ok(Grant {
            history: true,
            presence: covered(&self.presence),
            publish: covered(&self.publish),
            until: claims.until(),
        })
    }

    fn receive(&self, connection: &Connection, request: &Request, _: &[u8]) -> Result<Reception, Refusal> {
        if request.prefix {
            return Err(Refusal::Invalid(
                "a message goes to one channel, not to a prefix of several".to_owned(),
            ));
        }
        let claims = claims_of(connection)?;
        if !self.publish.iter().any(|pattern| pattern.covers(request, &claims)) {
            return Err(refusal(
                connection,
                "the claims of this connection do not let it send on this channel",
            ));
        }
        let fits = |pattern: &String| match pattern.strip_suffix('*') {
            Some(prefix) => request.event.starts_with(prefix),
            None => request.event == *pattern,
        };
        Ok(if self.ephemeral.iter().any(fits) { Reception::Ephemeral } else { Reception::Keep })
    }
}

/// Those of a connection without a subject count for nothing, whatever they are.
fn claims_of(connection: &Connection) -> Result<Claims, Refusal> {
    match connection.subject {
        Some(_) => Claims::parse(&connection.claims).map_err(|why| {
            Refusal::Forbidden(format!("the claims of this connection cannot be read: {why}"))
        }),
        None => Ok(Claims::none()),
    }
}

fn refusal(connection: &Connection, why: &str) -> Refusal {
    match connection.subject {
        Some(_) => Refusal::Forbidden(why.to_owned()),
        None => Refusal::Unauthenticated,
    }
}

fn patterns(setting: &str, entries: Vec<&str>) -> Result<Vec<Pattern>, String> {
    let pattern = |entry| {
        Pattern::parse(entry)
            .map_err(|why| format!("the setting `{setting}` has the pattern `{entry}`: {why}"))
    };
    entries.into_iter().map(pattern).collect()
}

fn event(entry: &str) -> Result<String, String> {
    match entry.strip_suffix('*').unwrap_or(entry) {
        event if event.contains('*') => {
            Err(format!("the setting `ephemeral` names the event `{entry}`: `*` stands only at its end"))
        }
        _ => Ok(entry.to_owned()),
    }
}

export!(ClaimsGate: gate);

#[cfg(test)]
mod tests;
