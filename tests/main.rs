//! The suite that needs real services: a PostgreSQL and a host for each test, started by the test.
//!
//! Run it by `cargo xtask test`, which installs and builds what is needed. Contents:

/// A row committed in PostgreSQL reaches a client through a policy: order, wholeness, kinds of changes, resuming.
mod main_job;

/// `kill -9` of the host and of PostgreSQL, restarts under load: nothing lost, nothing twice.
mod crash;

/// WebSocket, long-poll and history over `kill -9`, and the suite of RFC 6455.
mod websocket;

/// Random faults, one after the other: the change log is what the database committed, whole and in order.
mod oracle;

/// Transactions in progress, on their way before they commit; slots that are quiet, gone, or not what they were.
mod streaming;

/// Rows that are there, among the changes of those who write meanwhile: whole, in order, over faults; read again.
mod snapshots;

/// What PostgreSQL is told of, and when.
mod confirming;

/// Columns that change while they are read.
mod schema;

/// What depends on the server's version, on several of them.
mod versions;

/// Every type of value, from a snapshot and from the stream, and the page of types.
mod types;
/// Outboxes, captured and polled, and `NOTIFY`: rows and notifications as messages.
mod outbox;

/// Encrypted connections, and who is let in by what.
mod encryption;

/// Other generations of plugins while the host dies.
mod swap;

/// Plugins change while the host runs, by HTTP and by the command line.
mod admin;

/// Clients that flood, and what that costs the server's memory.
mod abuse;

/// Hostile plugins beside a good one: the server answers, the good one's effects are exact.
mod hostile;

/// Posts and follows become timelines.
mod feeds;

/// Keys of a cache go before anybody hears of the change, over `kill -9` of both, and nothing stale is filled in.
mod cache;

/// Who may listen: tokens, tickets, the gate, and the end of each.
mod access;

/// What clients send: kept before it is acknowledged, once, and what is not kept.
mod publishing;

/// Pages zeroed as power loss does, and disks that fill.
mod disk;

/// What cannot work is refused with what is wrong, where, and what to do.
mod refusals;

/// What is wrong with a database is named with what mends it, before it becomes a source.
mod doctor;

/// One policy in Rust, JavaScript and Python: the same routes, the same refusals.
mod languages;

/// The page and the dashboard in a real browser.
mod browser;

/// The browser's client, in Node.js and in a real browser, while servers, networks, tokens and tabs end.
mod client;

/// The tutorial, command by command.
mod first_plugin;

/// `twohop plugin new` and `build`: a crate that tests at once, and a component that says its name.
mod new_plugin;
