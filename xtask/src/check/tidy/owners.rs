//! Each outside library is known to one room of the host, so that replacing it touches one folder.
//!
//! The same holds in tests, but for the environment: a test may start itself as a child and tell it what to do. To add a library that one room shall own: a row in [`TABLE`].

use std::collections::HashSet;

use super::paths::{self, Path};
use super::{File, Finding, Tree, reached};

const SOURCE: &str = "host/src/";

struct Owned {
    /// Its name in paths; `std::env` is owned like a library.
    library: &'static [&'static str],
    owners: &'static [Owner],
}

enum Owner {
    /// A room, or a folder or file of one: everything at or below `host/src/THIS`.
    Room(&'static str),
    /// In any room, the module of this name.
    AnyRooms(&'static str),
}

use Owner::{AnyRooms, Room};

const ENVIRONMENT: &[&str] = &["std", "env"];
/// What reads it; what else is there (the current executable, the temporary folder) is open to all.
const READS_ENVIRONMENT: &[&str] =
    &["*", "var", "vars", "var_os", "vars_os", "set_var", "remove_var", "args", "args_os"];

const TABLE: &[Owned] = &[
    Owned { library: &["tokio_postgres"], owners: &[Room("source")] },
    Owned { library: &["postgres_protocol"], owners: &[Room("source")] },
    // A client's, for databases, and a server's.
    Owned { library: &["rustls"], owners: &[Room("source"), Room("http")] },
    Owned { library: &["rustls_native_certs"], owners: &[Room("source")] },
    Owned { library: &["tokio_rustls"], owners: &[Room("source"), Room("http")] },
    Owned { library: &["rdkafka"], owners: &[Room("log")] },
    Owned { library: &["wasmtime"], owners: &[Room("policy")] },
    // The embedded stores keep their tables in the one database that `state` opens.
    Owned { library: &["rusqlite"], owners: &[Room("state"), AnyRooms("local"), AnyRooms("embedded")] },
    Owned { library: &["roaring"], owners: &[Room("timeline")] },
    Owned { library: &["parking_lot"], owners: &[Room("timeline")] },
    Owned { library: &["redis"], owners: &[AnyRooms("redis")] },
    Owned { library: &["warp"], owners: &[Room("http"), Room("gateway"), Room("admin")] },
    Owned {
        library: &["hyper"],
        owners: &[Room("http"), Room("gateway"), Room("admin"), Room("cli"), Room("access")],
    },
    Owned {
        library: &["hyper_util"],
        owners: &[Room("http"), Room("gateway"), Room("admin"), Room("cli"), Room("access")],
    },
    Owned {
        library: &["http_body_util"],
        owners: &[Room("http"), Room("gateway"), Room("admin"), Room("cli"), Room("access")],
    },
    // Signatures of tokens, and the way to their keys.
    Owned { library: &["ring"], owners: &[Room("access")] },
    Owned { library: &["hyper_rustls"], owners: &[Room("access")] },
    Owned { library: &["tokio_tungstenite"], owners: &[Room("gateway")] },
    Owned { library: &["toml"], owners: &[Room("config")] },
    Owned { library: ENVIRONMENT, owners: &[Room("config"), Room("main")] },
    Owned { library: &["clap"], owners: &[Room("main"), Room("cli")] },
];

pub(super) fn check(tree: &Tree) -> Vec<Finding> {
    let files = tree.rust_files().filter(|file| file.path.starts_with(SOURCE));
    let of_tests = reached::test_files(tree);
    let mut findings: Vec<Finding> = files.flat_map(|file| check_file(file, &of_tests)).collect();
    findings.sort();
    findings.dedup();
    findings
}

fn check_file(file: &File, of_tests: &HashSet<String>) -> Vec<Finding> {
    let inside = file.path.strip_prefix(SOURCE).unwrap_or(&file.path);
    let module = paths::module_of(inside);
    let who =
        if module.is_empty() { vec![inside.trim_end_matches(".rs").to_owned()] } else { module.clone() };
    let named = paths::paths(&file.tokens, &module);
    let refused = named.iter().filter_map(|path| {
        let owned = TABLE.iter().find(|owned| uses(path, owned))?;
        // A module of that name hides the library.
        let is_hidden =
            file.tokens.windows(2).any(|pair| pair[0].is_word("mod") && pair[1].is_word(owned.library[0]));
        let is_free = owned.library == ENVIRONMENT && (path.is_test || of_tests.contains(&file.path));
        let is_owner = owned.owners.iter().any(|owner| owner.is(&who));
        (!is_hidden && !is_free && !is_owner).then(|| {
            let owners: Vec<String> = owned.owners.iter().map(Owner::words).collect();
            let library = owned.library.join("::");
            let what = format!("`{library}` belongs to {}; ask there for what is needed", owners.join(", "));
            file.finding(path.line, what)
        })
    });
    refused.collect()
}

fn uses(path: &Path, owned: &Owned) -> bool {
    let item = path.segments.get(owned.library.len()).map(String::as_str);
    path.starts_with(owned.library)
        && (owned.library != ENVIRONMENT || item.is_some_and(|item| READS_ENVIRONMENT.contains(&item)))
}

impl Owner {
    fn is(&self, module: &[String]) -> bool {
        match self {
            Owner::Room(room) => {
                room.split('/').zip(module).filter(|(wanted, its)| wanted == its).count()
                    == room.split('/').count()
            }
            Owner::AnyRooms(name) => module.iter().skip(1).any(|its| its == name),
        }
    }

    fn words(&self) -> String {
        match self {
            Owner::Room(room) => format!("`{room}`"),
            Owner::AnyRooms(name) => format!("any room's `{name}`"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::example::found;
    use super::*;

    #[test]
    fn a_library_outside_of_its_room_is_found_however_it_is_written() {
        for text in [
            "use warp::Filter;",
            "use {std::fmt, warp};",
            "fn f() -> warp::Reply {}",
            "fn f() { ::warp::any() }",
            "extern crate x; #[cfg(test)] mod tests { use warp as w; }",
        ] {
            let what = "host/src/app.rs:1: `warp` belongs to `http`, `gateway`, `admin`; ask there for what is needed";
            assert_eq!(found(check, &[("host/src/app.rs", text)]), [what], "{text}");
        }
    }

    #[test]
    fn a_library_in_its_room_is_fine() {
        for (path, text) in [
            ("host/src/gateway/sse.rs", "use warp::Filter; use hyper_util::rt;"),
            ("host/src/gateway.rs", "use warp::Filter;"),
            ("host/src/bus/local/mod.rs", "use rusqlite::Connection;"),
            ("host/src/timeline/embedded.rs", "use rusqlite::Connection;"),
            ("host/src/state/mod.rs", "use rusqlite::Connection;"),
            ("host/src/bus/redis.rs", "use redis::Client;"),
            ("host/src/main.rs", "use clap::Parser; fn f() { std::env::args() }"),
            ("tests/main.rs", "use tokio_postgres::Client;"),
        ] {
            assert_eq!(found(check, &[(path, text)]), [""; 0], "{path}");
        }
    }

    #[test]
    fn a_database_is_no_matter_of_the_room_around_its_folder() {
        assert_eq!(
            found(check, &[("host/src/bus/mod.rs", "use rusqlite::Connection;")]),
            [
                "host/src/bus/mod.rs:1: `rusqlite` belongs to `state`, any room's `local`, any room's `embedded`; ask there \
             for what is needed"
            ]
        );
        assert_eq!(found(check, &[("host/src/local.rs", "use rusqlite::Connection;")]).len(), 1);
    }

    #[test]
    fn the_environment_is_read_in_one_place() {
        let text = "use std::{env, fs};\nfn f() { env::current_exe(); env!(\"CARGO_PKG_VERSION\") }\nfn g() { env::var(\"X\") }";
        assert_eq!(
            found(check, &[("host/src/app.rs", text)]),
            ["host/src/app.rs:3: `std::env` belongs to `config`, `main`; ask there for what is needed"]
        );
        assert!(found(check, &[("host/src/config.rs", text)]).is_empty());
    }

    #[test]
    fn a_test_may_read_the_environment() {
        let text = "#[cfg(test)] mod tests { fn f() { std::env::var(\"X\") } }";
        assert_eq!(found(check, &[("host/src/policy/compile.rs", text)]), [""; 0]);
        let text = "#[cfg(test)] mod tests { use wasmtime::Engine; }";
        assert_eq!(found(check, &[("host/src/app.rs", text)]).len(), 1);
    }

    #[test]
    fn a_module_of_the_librarys_name_is_not_the_library() {
        assert!(found(check, &[("host/src/bus/mod.rs", "mod redis; pub use redis::Redis;")]).is_empty());
    }
}
