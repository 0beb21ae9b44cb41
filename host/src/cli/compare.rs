//! `twohop plugin check NAME FILE` and `twohop plugin shadow NAME FILE`: a candidate beside what is active.
//!
//! `twohop plugin check FILE` needs no server: see `alone`.

use anyhow::{Result, bail};
use clap::Args;
use hyper::Method;
use serde_json::Value;

use super::server::{self, Server};
use super::table::{cell, columns, head, plain, when};
use super::{alone, candidate};

/// How many changes a candidate is asked about, unless it is said.
const LAST: u64 = 1_000;

#[derive(Debug, Args)]
#[command(allow_missing_positional = true)]
pub(crate) struct Check {
    /// The plugin of a server that it would be; without it, the component is checked here, and no server is asked.
    name: Option<String>,
    #[command(flatten)]
    candidate: candidate::Candidate,
    /// How many of the server's newest changes it is asked about [default: 1000].
    #[arg(long, value_name = "N", requires = "name")]
    last: Option<u64>,
    #[command(flatten)]
    server: server::Where,
}

#[derive(Debug, Args)]
pub(crate) struct Shadow {
    /// The plugin that it stands beside.
    name: String,
    /// The component, or the digest of one that was uploaded.
    #[arg(value_name = "FILE|DIGEST", required_unless_present_any = ["report", "stop"])]
    component: Option<String>,
    #[command(flatten)]
    how: candidate::How,
    /// Show what it has found.
    #[arg(long, conflicts_with_all = ["stop", "component"])]
    report: bool,
    /// End it, and show what it has found.
    #[arg(long, conflicts_with = "component")]
    stop: bool,
    #[command(flatten)]
    server: server::Where,
}

/// Asks the server, and prints the comparison; or looks at the component here, if no plugin is named.
pub(crate) fn check(arguments: &Check) -> Result<()> {
    let Some(name) = &arguments.name else {
        if arguments.server.is_named() {
            bail!("a server is asked about a plugin: name it before the file, or leave the server out");
        }
        return alone::check(&arguments.candidate.alone()?, arguments.server.json);
    };
    let server = Server::of(&arguments.server)?;
    let body = arguments.candidate.body(&server)?;
    let path = format!("/v1/plugins/{name}/check?last={}", arguments.last.unwrap_or(LAST));
    let answer = server.send(Method::POST, &path, Some(&body))?;
    if arguments.server.json {
        println!("{answer}");
    } else {
        print!("{}", comparison(&answer));
    }
    Ok(())
}

/// Starts a shadow, shows its report, or ends it.
pub(crate) fn shadow(arguments: &Shadow) -> Result<()> {
    let server = Server::of(&arguments.server)?;
    let path = format!("/v1/plugins/{}/shadow", arguments.name);
    let answer = match &arguments.component {
        Some(component) => {
            let body = arguments.how.body_of(&server, component)?;
            let answer = server.send(Method::PUT, &path, Some(&body))?;
            if !arguments.server.json {
                println!("{} runs beside {}, without effects", digest(&answer), arguments.name);
                println!("next: twohop plugin shadow {} --report", arguments.name);
                return Ok(());
            }
            answer
        }
        None if arguments.report => server.get(&path)?,
        None => server.send(Method::DELETE, &path, None)?,
    };
    if arguments.server.json {
        println!("{answer}");
        return Ok(());
    }
    println!(
        "{} beside {}, by {} since {}; {} changes left out",
        digest(&answer),
        arguments.name,
        cell(&answer["by"]),
        when(&answer["since"]),
        answer["left_out"],
    );
    print!("{}", comparison(&answer["comparison"]));
    Ok(())
}

fn digest(answer: &Value) -> String {
    super::table::short(&answer["candidate"]["digest"])
}

/// The two sides, the first differences, and what it comes to.
fn comparison(answer: &Value) -> String {
    let mut rows = vec![head(&["", "asked", "effects", "only here", "faults", "ns each"])];
    for side in ["active", "candidate"] {
        let figures = &answer[side];
        let seen = figures["seen"].as_u64().unwrap_or(0);
        let each = figures["nanoseconds"].as_u64().unwrap_or(0).checked_div(seen);
        rows.push(vec![
            side.to_owned(),
            seen.to_string(),
            cell(&figures["effects"]),
            cell(&figures["only_here"]),
            cell(&figures["faults"]),
            each.map_or_else(|| "-".to_owned(), |each| each.to_string()),
        ]);
    }
    let mut text = columns(&rows);
    for example in answer["examples"].as_array().into_iter().flatten() {
        text.push_str(&format!(
            "\n{} {} {}\n",
            cell(&example["of"]),
            cell(&example["key"]),
            cell(&example["position"])
        ));
        for (sign, side) in [("-", "active"), ("+", "candidate")] {
            for effect in example[side].as_array().into_iter().flatten() {
                text.push_str(&format!("  {sign} {}\n", plain(effect.as_str().unwrap_or_default())));
            }
        }
    }
    let count = |name: &str| answer[name].as_u64().unwrap_or(0);
    let (seen, equal) = (count("seen"), count("equal"));
    let differ = count("different") + count("only_active") + count("only_candidate");
    let (faults, stopped) = (&answer["candidate"]["faults"], answer["stopped"] == true);
    text.push_str(&match stopped {
        true => format!("the candidate failed too often and was stopped: {faults} faults\n"),
        false => conclusion(seen, equal, differ),
    });
    text
}

/// What a comparison comes to, as its last line.
pub(super) fn conclusion(seen: u64, equal: u64, differ: u64) -> String {
    match differ {
        0 => format!("the same for all {equal} of {seen} changes\n"),
        differ => format!("different for {differ} of {seen} changes\n"),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_comparison_says_what_it_comes_to_in_its_last_line() {
        let side = |effects: u64, time: u64| json!({"seen": 4, "effects": effects, "only_here": 1, "faults": 0, "nanoseconds": time});
        let answer = json!({
            "seen": 4, "equal": 3, "different": 1, "only_active": 0, "only_candidate": 0, "stopped": false,
            "active": side(8, 400), "candidate": side(8, 800),
            "examples": [{"of": "orders", "key": "7", "position": "0/1#0", "active": ["message a"], "candidate": ["message b"]}],
        });
        assert_eq!(
            comparison(&answer),
            "           ASKED  EFFECTS  ONLY HERE  FAULTS  NS EACH\n\
             active     4      8        1          0       100\n\
             candidate  4      8        1          0       200\n\
             \norders 7 0/1#0\n  - message a\n  + message b\ndifferent for 1 of 4 changes\n"
        );
    }
}
