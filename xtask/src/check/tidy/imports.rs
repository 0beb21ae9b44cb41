//! Who may import whom in `host/src`: stores know nobody, movers know stores, the judge knows nobody, the pipeline
//! introduces them, the app composes. No arrow runs back.
//!
//! Also: through doors. Another room names `crate::room::Item`, never `crate::room::inner::Item`.
//! The same holds in tests, but for one door more: tests may name what another room's `tests` or `contract` offers
//! them. To add a room: a row in [`TABLE`], and in ARCHITECTURE.md the reason for each new arrow.

use std::collections::HashSet;

use super::paths::{self, Path};
use super::{File, Finding, Tree, reached};

const SOURCE: &str = "host/src/";

enum May {
    /// These rooms alone.
    Only(&'static [&'static str]),
    /// Those of [`EVERYBODY`], and these.
    Import(&'static [&'static str]),
    /// Those of [`EVERYBODY`], and of any room the types named `Config` or `…Config`.
    ImportConfigs,
    /// Every room.
    ImportAll,
}

impl May {
    /// The rooms by name, where it goes by them.
    fn rooms(&self) -> Option<Vec<&'static str>> {
        match self {
            May::Only(rooms) => Some(rooms.to_vec()),
            May::Import(rooms) => Some([EVERYBODY, *rooms].concat()),
            May::ImportConfigs | May::ImportAll => None,
        }
    }
}

/// The vocabulary, the bounds, the order to stop, how long to wait, and the names of metrics: any room may import
/// them, but for those whose own row says less.
const EVERYBODY: &[&str] = &["backoff", "event", "limits", "shutdown", "telemetry"];

/// A folder's row stands before its room's; everyone may import what is in the own room.
const TABLE: &[(&str, May)] = &[
    // The vocabulary.
    ("limits", May::Only(&[])),
    ("event", May::Only(&["limits"])),
    ("shutdown", May::Only(&["limits"])),
    ("backoff", May::Only(&["limits"])),
    ("telemetry", May::Only(&["limits"])),
    ("failpoint", May::Only(&[])),
    // Stores know nobody, but for the database that the embedded ones share.
    ("state", May::Import(&[])),
    ("log", May::Import(&[])),
    ("bus/local", May::Import(&["state"])),
    ("bus", May::Import(&[])),
    ("timeline/embedded", May::Import(&["state"])),
    ("timeline", May::Import(&[])),
    ("cache", May::Import(&[])),
    // The judge knows nobody.
    ("policy", May::Import(&[])),
    // What is deployed, kept.
    ("registry", May::Import(&["failpoint", "policy", "state"])),
    // Movers know stores.
    ("source", May::Import(&["failpoint", "log"])),
    ("effects", May::Import(&["bus", "timeline", "policy"])),
    // What both listeners speak.
    ("http", May::Import(&[])),
    // Who may listen: by claims, and beyond them by a judge.
    ("access", May::Import(&["policy"])),
    // What clients say, into the change log.
    ("intake", May::Import(&["log"])),
    ("gateway", May::Import(&["access", "http", "bus", "timeline", "intake"])),
    ("letters", May::Import(&["log", "bus"])),
    // The pipeline introduces them.
    (
        "pipeline",
        May::Import(&["failpoint", "log", "policy", "registry", "effects", "bus", "timeline", "cache"]),
    ),
    // Who deploys tells the pipeline, and reads what it reads.
    ("deploy", May::Import(&["failpoint", "log", "policy", "registry", "pipeline"])),
    // What people tell whom. It tells the pipeline nothing but through those who deploy.
    ("admin", May::Import(&["http", "log", "policy", "registry", "bus", "letters", "deploy", "source"])),
    // What feeds would cost, by running the store of timelines.
    ("simulate", May::Import(&["timeline"])),
    // The app composes.
    ("config", May::ImportConfigs),
    ("app", May::ImportAll),
    ("cli", May::ImportAll),
    ("lib", May::ImportAll),
    ("main", May::ImportAll),
];

/// Folders of one kind each (a database, a store). To who composes, they are doors of their own; all others know the
/// room alone.
const KINDS: &[&str] = &["source/postgres", "log/segments", "bus/local", "timeline/embedded"];

pub(super) fn check(tree: &Tree) -> Vec<Finding> {
    let files = tree.rust_files().filter(|file| file.path.starts_with(SOURCE));
    let modules = modules(tree);
    let of_tests = reached::test_files(tree);
    let mut findings: Vec<Finding> = files.flat_map(|file| check_file(file, &of_tests, &modules)).collect();
    findings.sort();
    findings.dedup();
    findings
}

/// Every module that has a file of its own, as `room/module`.
fn modules(tree: &Tree) -> HashSet<String> {
    let inside = tree.rust_files().filter_map(|file| file.path.strip_prefix(SOURCE));
    inside.map(|path| paths::module_of(path).join("/")).collect()
}

fn check_file(file: &File, of_tests: &HashSet<String>, modules: &HashSet<String>) -> Vec<Finding> {
    let inside = file.path.strip_prefix(SOURCE).unwrap_or(&file.path);
    let module = paths::module_of(inside);
    let who = if module.is_empty() { inside.trim_end_matches(".rs").to_owned() } else { module.join("/") };
    let Some((row, may)) = TABLE.iter().find(|(row, _)| is_within(&who, row)) else {
        let what =
            format!("`{who}` has no row in the import table; add one in xtask/src/check/tidy/imports.rs");
        return vec![file.finding(1, what)];
    };
    let own = module.first().map_or("", String::as_str);
    let named = paths::paths(&file.tokens, &module).into_iter().filter_map(from_crate);
    let foreign = named.filter(|path| path.segments[0] != own);
    let refused = foreign.filter_map(|mut path| {
        path.is_test |= of_tests.contains(&file.path);
        let door = door(&path.segments, may);
        let refused = refusal(&path.segments, door, row, may);
        let what = refused.or_else(|| through_the_wall(&path, door, modules))?;
        Some(file.finding(path.line, what))
    });
    refused.collect()
}

/// How many segments are the door that a path goes through: a room, or a kind.
fn door(segments: &[String], may: &May) -> usize {
    let composes = may.rooms().is_none();
    let is_kind = segments.get(..2).is_some_and(|kind| KINDS.contains(&kind.join("/").as_str()));
    if composes && is_kind { 2 } else { 1 }
}

/// The segments after `crate`, if there are any. To the binary, the library is `twohop`.
fn from_crate(mut path: Path) -> Option<Path> {
    let first = path.segments.first()?;
    if path.segments.len() < 2 || !matches!(first.as_str(), "crate" | "twohop") {
        return None;
    }
    path.segments.remove(0);
    Some(path)
}

fn is_within(module: &str, row: &str) -> bool {
    module.strip_prefix(row).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

fn refusal(segments: &[String], door: usize, row: &str, may: &May) -> Option<String> {
    let room = segments[0].as_str();
    let Some(allowed) = may.rooms() else {
        let is_config = segments.get(door).is_none_or(|item| item.ends_with("Config"));
        if matches!(may, May::ImportAll) || EVERYBODY.contains(&room) || is_config {
            return None;
        }
        return Some(format!("`{row}` may name only the `Config` of `{room}`; let `app` do what needs more"));
    };
    if room == "*" {
        return Some("this imports everything; name the rooms".to_owned());
    }
    let allowed_words = if allowed.is_empty() { "nobody".to_owned() } else { allowed.join(", ") };
    (!allowed.contains(&room)).then(|| {
        format!(
            "`{row}` may not import `{room}` (it may import {allowed_words}); let `pipeline` or `app` bring the two together"
        )
    })
}

fn through_the_wall(path: &Path, door: usize, modules: &HashSet<String>) -> Option<String> {
    let inside = path.segments.get(..=door)?;
    let helps_tests = matches!(inside[door].as_str(), "tests" | "contract");
    let is_kind = KINDS.contains(&inside.join("/").as_str());
    if !modules.contains(&inside.join("/")) || (helps_tests && path.is_test) {
        return None;
    }
    let (room, wall) = (inside[..door].join("/"), inside.join("::"));
    let remedy = if is_kind { "let `app` or `config` name it, or " } else { "" };
    Some(format!("`crate::{wall}` is inside of `{room}`; {remedy}name what {room}/mod.rs exports"))
}

#[cfg(test)]
mod tests {
    use super::super::example::found;
    use super::*;

    fn of(path: &str, text: &str) -> Vec<String> {
        let rooms = [
            ("host/src/log/mod.rs", ""),
            ("host/src/log/segments/mod.rs", ""),
            ("host/src/bus/local.rs", ""),
        ];
        let files: Vec<_> =
            rooms.into_iter().filter(|(room, _)| *room != path).chain([(path, text)]).collect();
        found(check, &files)
    }

    #[test]
    fn a_store_that_imports_another_is_found() {
        assert_eq!(
            of("host/src/bus/mod.rs", "use std::fmt;\nuse crate::{event::X,\n log::Record};\n"),
            [
                "host/src/bus/mod.rs:3: `bus` may not import `log` (it may import backoff, event, limits, shutdown, telemetry); let \
             `pipeline` or `app` bring the two together"
            ]
        );
    }

    #[test]
    fn arrows_that_run_back_are_found_however_they_are_written() {
        for text in [
            "use crate::gateway::Hub;",
            "fn f() { crate::gateway::serve() }",
            "use super::gateway;",
            "mod tests { use super::super::gateway::Hub; }",
            "#[cfg(test)] mod tests { use crate::{app as a}; }",
            "use crate::pipeline;",
            "use crate::*;",
            "use crate::config::Config;",
        ] {
            assert_eq!(of("host/src/effects/mod.rs", text).len(), 1, "{text}");
        }
    }

    #[test]
    fn nobody_imports_gateway_admin_or_app_but_the_app_and_the_pipeline_only_who_deploys() {
        for (who, may) in TABLE {
            if let Some(allowed) = may.rooms() {
                let top = ["gateway", "admin", "app", "config", "main", "lib"];
                assert!(!allowed.iter().any(|room| top.contains(room)), "{who}");
                assert!(!allowed.contains(&"pipeline") || *who == "deploy", "{who}");
            }
        }
        assert!(
            of("host/src/app.rs", "use crate::{gateway, pipeline, config::Config, log::Log};").is_empty()
        );
        assert!(of("host/src/main.rs", "use twohop::app;").is_empty());
    }

    #[test]
    fn the_table_has_no_circle() {
        // Rows of folders are not followed: what they may import more is a store that knows nobody.
        let mut below: Vec<&str> = Vec::new();
        for _ in TABLE {
            for (who, may) in TABLE {
                let is_settled = |rooms: &[&str]| rooms.iter().all(|room| below.contains(room));
                if let Some(rooms) = may.rooms()
                    && !below.contains(who)
                    && is_settled(&rooms)
                {
                    below.push(who);
                }
            }
        }
        let lost: Vec<_> =
            TABLE.iter().filter(|(who, may)| may.rooms().is_some() && !below.contains(who)).collect();
        assert!(lost.is_empty(), "{:?}", lost.iter().map(|(who, _)| who).collect::<Vec<_>>());
    }

    #[test]
    fn the_embedded_folders_may_use_the_database_and_their_rooms_may_not() {
        assert!(of("host/src/bus/local.rs", "use crate::state::Batch;").is_empty());
        assert!(of("host/src/bus/local/follow.rs", "use crate::state::Batch;").is_empty());
        assert_eq!(of("host/src/bus/localized.rs", "use crate::state::Batch;").len(), 1);
        assert_eq!(of("host/src/bus/mod.rs", "use crate::state::Batch;").len(), 1);
    }

    #[test]
    fn config_may_name_configs_only() {
        let text = "use crate::{limits, gateway::Config, log::{self, RetentionConfig}};\nfn f() -> log::Config { log::open() }";
        assert_eq!(
            of("host/src/config.rs", text),
            [
                "host/src/config.rs:2: `config` may name only the `Config` of `log`; let `app` do what needs more"
            ]
        );
    }

    #[test]
    fn a_path_through_the_wall_is_found_and_one_at_home_is_fine() {
        let what = "`crate::event::codec` is inside of `event`; name what event/mod.rs exports";
        for text in
            ["use crate::event::codec::encode;", "use crate::event; fn f() { event::codec::encode() }"]
        {
            let files = [("host/src/event/codec.rs", ""), ("host/src/app.rs", text)];
            assert_eq!(found(check, &files), [format!("host/src/app.rs:1: {what}")]);
        }
        assert!(of("host/src/log/reader.rs", "use crate::log::segments::Segment;").is_empty());
        assert!(of("host/src/app.rs", "use crate::log::{Segment, open};").is_empty());
    }

    #[test]
    fn a_kind_is_named_only_by_who_composes() {
        assert!(of("host/src/app.rs", "use crate::log::segments::{self, Segments};").is_empty());
        assert!(
            of("host/src/config/mod.rs", "use crate::log::segments; type X = segments::Config;").is_empty()
        );
        assert_eq!(of("host/src/config/mod.rs", "use crate::log::segments::Segments;").len(), 1);
        assert_eq!(
            of("host/src/pipeline.rs", "use crate::log::segments::Segments;"),
            [
                "host/src/pipeline.rs:1: `crate::log::segments` is inside of `log`; let `app` or `config` name it, or name \
             what log/mod.rs exports"
            ]
        );
        let files = [
            ("host/src/log/segments/file.rs", ""),
            ("host/src/app.rs", "use crate::log::segments::file::F;"),
        ];
        assert_eq!(
            found(check, &files),
            [
                "host/src/app.rs:1: `crate::log::segments::file` is inside of `log/segments`; name what log/segments/mod.rs \
             exports"
            ]
        );
    }

    #[test]
    fn tests_may_use_the_helpers_of_other_rooms_tests() {
        let text = "use crate::log::tests::sample;";
        let files = [("host/src/log/tests.rs", ""), ("host/src/app.rs", text)];
        assert_eq!(found(check, &files).len(), 1);
        let text = "#[cfg(test)] mod tests { use crate::log::tests::sample; }";
        assert_eq!(found(check, &[files[0], ("host/src/app.rs", text)]), [""; 0]);
    }

    #[test]
    fn a_room_without_a_row_is_found() {
        let what = "`attic` has no row in the import table; add one in xtask/src/check/tidy/imports.rs";
        assert_eq!(of("host/src/attic.rs", ""), [format!("host/src/attic.rs:1: {what}")]);
    }

    #[test]
    fn comments_and_strings_import_nothing() {
        let text = "//! [`crate::gateway::Hub`]\n// use crate::app;\nconst X: &str = \"crate::app::x\";";
        assert!(of("host/src/bus/mod.rs", text).is_empty());
    }
}
