//! Every bound of the program, with its unit in its type or name.
//!
//! Invariant: whatever grows, grows up to a number of this file. A bound that users may set has its default here.

use std::time::Duration;

/// A channel's name.
pub const CHANNEL_BYTES_MAX: usize = 255;
/// Different table versions that a decoder remembers before it forgets all and begins anew.
pub const DECODER_TABLES_MAX: usize = 4_096;

// Source.

/// A source's name, as a change carries it.
pub const SOURCE_NAME_BYTES_MAX: usize = 255;
/// A name in PostgreSQL.
pub const POSTGRES_NAME_BYTES_MAX: usize = 63;
/// One change, decoded. PostgreSQL's own limit for one value is 1 GiB; nothing that large belongs on a screen.
pub const CHANGE_BYTES_MAX: usize = 64 << 20;
/// Changes that a source holds while an append is under way; past it, it stops reading.
pub const SOURCE_PENDING_BYTES_MAX: usize = 16 << 20;
/// While an append is under way, how long a source leaves what trickles in to gather before it reads on; less than an
/// append takes on most disks.
pub const SOURCE_REST_TIME: Duration = Duration::from_millis(1);
/// Messages that come together; fewer trickle.
pub const SOURCE_TRICKLE_COUNT_MAX: usize = 64;
/// As a count, so that a batch stays one the pipeline likes.
pub const SOURCE_PENDING_COUNT_MAX: usize = 16_384;
/// Between two tries of what may heal by itself: a full disk, a server that restarts.
pub const RETRY_DELAY_MIN: Duration = Duration::from_millis(100);
/// The delay doubles up to this.
pub const RETRY_DELAY_MAX: Duration = Duration::from_secs(5);
/// One read of the replication connection.
pub const SOURCE_READ_BYTES: usize = 64 << 10;
/// A message of the server before the stream; a timeline's history is the longest.
pub const SOURCE_MESSAGE_BYTES_MAX: usize = 1 << 20;
/// Transactions in progress of one source, on disk, by default; past it, the server keeps each to its commit.
pub const SOURCE_SPILL_BYTES_MAX: u64 = 16 << 30;
/// What is gathered of one before it is written; past it, reading waits for the disk.
pub const SOURCE_SPILL_BLOCK_BYTES: usize = 256 << 10;
/// One read of what was written, unless a change is larger.
pub const SOURCE_SPILL_READ_BYTES: usize = 256 << 10;
/// Transactions in progress at once, each a file.
pub const SOURCE_SPILL_TRANSACTIONS_MAX: usize = 4_096;
/// Subtransactions of all of them; each takes some 40 bytes of memory.
pub const SOURCE_SPILL_PARTS_MAX: usize = 262_144;
/// Tables and types that the server may announce on one connection; past it, the source connects anew.
pub const SOURCE_RELATIONS_COUNT_MAX: usize = 16_384;
/// From the first packet until the server lets us in.
pub const SOURCE_CONNECT_TIME_MAX: Duration = Duration::from_secs(10);
/// How long a connection may be quiet before the kernel asks whether its peer is there.
pub const SOURCE_QUIET_TIME_MAX: Duration = Duration::from_secs(30);
/// How long the server may be silent before the connection counts as broken; it is asked to speak meanwhile.
pub const SOURCE_SILENCE_TIME_MAX: Duration = Duration::from_secs(60);
/// Between two signs of life that are asked of a server which makes a slot.
pub const SOURCE_PROBE_INTERVAL: Duration = Duration::from_secs(10);
/// Between two signs of life to the server: a quarter of the shortest `wal_sender_timeout` that is survived.
pub const SOURCE_STATUS_INTERVAL: Duration = Duration::from_millis(500);
/// Between two confirmations to the server, if there is something new to confirm.
pub const SOURCE_CONFIRM_INTERVAL: Duration = Duration::from_millis(200);
/// Between two places that are written down before they are confirmed; each costs a flush.
pub const SOURCE_RECORD_INTERVAL: Duration = Duration::from_millis(500);
/// Between two looks of a source whether a table is new.
pub const SOURCE_TABLES_INTERVAL: Duration = Duration::from_secs(2);
/// How long somebody who asks something of a source waits for its answer.
pub const SOURCE_ASK_TIME_MAX: Duration = Duration::from_secs(10);
/// What may have been asked of a source and is not taken yet.
pub const SOURCE_ASKED_COUNT_MAX: usize = 16;
/// Between two messages that a source writes into its database's log, at least.
pub const SOURCE_HEARTBEAT_INTERVAL_MIN: Duration = Duration::from_millis(100);
/// The same, at most.
pub const SOURCE_HEARTBEAT_INTERVAL_MAX: Duration = Duration::from_secs(3_600);
/// How long a start waits for a slot that a connection just lost may still hold.
pub const SOURCE_SLOT_WAIT_TIME_MAX: Duration = Duration::from_secs(10);
/// The server's log that a slot may keep before people are warned, in bytes.
pub const RETAINED_WAL_BYTES_WARNED: u64 = 1024 * 1024 * 1024;
/// How long a transaction may be open in the database before people are warned.
pub const OPEN_TRANSACTION_TIME_WARNED: Duration = Duration::from_secs(300);
/// How much the server's clock may differ from ours before people are warned.
pub const CLOCK_SKEW_WARNED: Duration = Duration::from_secs(2);
/// Rows of a table that a snapshot reads at once; the stream stands still meanwhile.
pub const SNAPSHOT_CHUNK_ROWS_MAX: usize = 8_192;
/// Their bytes; the row that reaches it is the last.
pub const SNAPSHOT_CHUNK_BYTES_MAX: usize = 4 << 20;
/// Rows that it reads the first time: those of a table may be large.
pub const SNAPSHOT_ROWS_MIN: usize = 512;
/// Blocks of a table without a key that it reads at once; a block of 8 KiB has at most 291 rows.
pub const SNAPSHOT_BLOCKS_MAX: u32 = 256;
/// Batches that the stream appends between two such parts, where it always has more.
pub const SNAPSHOT_BATCHES_BETWEEN: usize = 4;
/// How long the stream stands still for a transaction that it has brought and that is not over.
pub const SNAPSHOT_SETTLE_TIME_MAX: Duration = Duration::from_millis(100);
/// Between two tries of a snapshot that is too early, or whose table is held.
pub const SNAPSHOT_RETRY_INTERVAL: Duration = Duration::from_millis(200);
/// Transactions that the stream brought since the last part; with more the next one is due.
pub const SNAPSHOT_UNSETTLED_COUNT_MAX: usize = 65_536;
/// Keys that changed while rows wait that may be new; with more the rows are read again.
pub const SNAPSHOT_TOUCHED_COUNT_MAX: usize = 65_536;
/// Rows that a polling source takes at once.
pub const POLLING_ROWS_MAX: usize = 500;
/// Between two looks of a polling source that found little, by default.
pub const POLLING_INTERVAL: Duration = Duration::from_secs(1);
/// The shortest that may be set.
pub const POLLING_INTERVAL_MIN: Duration = Duration::from_millis(10);
/// The longest.
pub const POLLING_INTERVAL_MAX: Duration = Duration::from_secs(3_600);
/// Notifications between the connection and the source.
pub const NOTIFY_QUEUE_COUNT_MAX: usize = 1_024;
/// How long a source of notifications lets the server's queue wait before it listens no more.
pub const NOTIFY_STALL_TIME_MAX: Duration = Duration::from_secs(10);
/// How long an orderly end of the connection may take.
pub const SOURCE_CLOSE_TIME_MAX: Duration = Duration::from_secs(1);

// Configuration.

/// The name of a source or a plugin.
pub const NAME_BYTES_MAX: usize = 48;

// Change log.

/// The smallest segment worth a file.
pub const SEGMENT_BYTES_MIN: u64 = 1 << 20;

/// A segment file is closed once it holds this much.
pub const SEGMENT_BYTES_MAX: u64 = 64 << 20;
/// The whole change log, by default.
pub const LOG_BYTES_MAX: u64 = 8 << 30;
/// How long the change log keeps what everybody has committed, by default.
pub const LOG_AGE_MAX: Duration = Duration::from_secs(24 * 3_600);
/// Appends that wait for the writer.
pub const LOG_QUEUE_COUNT_MAX: usize = 1_024;
/// Recent records that stay in memory for readers that keep up.
pub const LOG_TAIL_BYTES_MAX: usize = 8 << 20;
/// Appends that share one flush, unless one alone is larger.
pub const LOG_GROUP_BYTES_MAX: u64 = 4 << 20;
/// A segment's header, which holds a position for each source.
pub const SEGMENT_HEADER_BYTES_MAX: usize = 1 << 20;
/// Sources whose last position the change log remembers.
pub const LOG_SOURCES_COUNT_MAX: usize = 256;
/// Between two places of a segment that the index knows.
pub const LOG_INDEX_BYTES: u64 = 64 << 10;
/// One read of a segment file, unless a record is larger.
pub const LOG_READ_BYTES: usize = 64 << 10;
/// Between two looks for segments that are too old.
pub const LOG_RETENTION_INTERVAL: Duration = Duration::from_secs(60);

// Pipeline and policy.

/// Changes in one call of a plugin.
pub const BATCH_COUNT_MAX: usize = 256;
/// Bytes of changes in one call of a plugin.
pub const BATCH_BYTES_MAX: usize = 4 << 20;
/// A plugin's component.
pub const PLUGIN_BYTES_MAX: usize = 8 << 20;
/// A plugin's linear memory.
pub const PLUGIN_MEMORY_BYTES_MAX: usize = 64 << 20;
/// Elements of all of a plugin's tables.
pub const PLUGIN_TABLE_ELEMENTS_MAX: usize = 20_000;
/// A plugin's stack.
pub const PLUGIN_STACK_BYTES_MAX: usize = 512 << 10;
/// One call of a plugin, on the wall clock.
pub const PLUGIN_CALL_TIME_MAX: Duration = Duration::from_millis(1_000);
/// One call of a plugin in a replay, which has no clock: about a second, on a machine of today.
pub const PLUGIN_CALL_INSTRUCTIONS_MAX: u64 = 1_000_000_000;
/// How often the clock of running plugins ticks; a call may overrun by one tick.
pub const PLUGIN_TICK: Duration = Duration::from_millis(10);
/// What one answer of a plugin may make the host allocate.
pub const PLUGIN_ANSWER_BYTES_MAX: usize = 16 << 20;
/// Routes of one change.
pub const ROUTES_PER_CHANGE_MAX: usize = 1_024;
/// One payload.
pub const PAYLOAD_BYTES_MAX: usize = 1 << 20;
/// The name of an event.
pub const EVENT_BYTES_MAX: usize = 128;
/// What names an author, an item or a user.
pub const ID_BYTES_MAX: usize = 255;
/// A topic; Kafka's own limit.
pub const TOPIC_BYTES_MAX: usize = 249;
/// The key of a cache entry or of a topic's record.
pub const KEY_BYTES_MAX: usize = 1_024;
/// A name or payload of a route where it is shown to people; the rest is cut off.
pub const SHOWN_PAYLOAD_BYTES_MAX: usize = 256;
/// Calls of one plugin that may fail within one evaluation; one more, and the evaluation stops. To find one change that
/// hurts among 256 takes ten.
pub const PLUGIN_FAULTS_MAX: usize = 32;
/// All that a gate is told in one call.
pub const GATE_BYTES_MAX: usize = 1 << 20;
/// Differences that a comparison shows in full; further ones are counted.
pub const COMPARISON_EXAMPLES_MAX: usize = 20;
/// Effects of one change in such an example, on either side; further ones are counted.
pub const COMPARISON_EFFECTS_MAX: usize = 16;
/// Plugins that run at once.
pub const PLUGINS_COUNT_MAX: usize = 256;
/// Instances beside those of the plugins that run: about to be put, checked, shadows, and the copies of what is active
/// that these are compared with.
pub const PLUGINS_BESIDE_COUNT_MAX: usize = 64;
/// A pattern of a grant.
pub const PATTERN_BYTES_MAX: usize = 256;
/// Subscriptions of one plugin.
pub const SUBSCRIPTIONS_COUNT_MAX: usize = 256;
/// Columns of one subscription.
pub const SUBSCRIPTION_COLUMNS_MAX: usize = 256;
/// One log line of a plugin; the rest is cut off.
pub const PLUGIN_LOG_LINE_BYTES_MAX: usize = 1_024;
/// Log lines of one plugin in one second; further ones are counted only.
pub const PLUGIN_LOG_LINES_PER_SECOND_MAX: u32 = 20;
/// Recent log lines of one plugin that are kept for people to look at.
pub const PLUGIN_LINES_COUNT_MAX: usize = 200;
/// Log lines that wait for who follows them.
pub const PLUGIN_LINES_QUEUE_COUNT_MAX: usize = 1_024;
/// One line of a file that is replayed. In JSON, a byte may take six.
pub const REPLAY_LINE_BYTES_MAX: u64 = 6 * CHANGE_BYTES_MAX as u64;
/// Core instances that one component is made of; `wit-component` makes three.
pub const PLUGIN_CORE_INSTANCES_MAX: u32 = 8;
/// Tables of all core instances of one component; `wit-component` makes two.
pub const PLUGIN_TABLES_MAX: u32 = 4;
/// Component-model handles that one plugin holds. The interface has no resources: this is for its own.
pub const PLUGIN_HANDLES_MAX: usize = 1_000;
/// Why a plugin rejects a change, or what it said before it trapped; the rest is cut off.
pub const REASON_BYTES_MAX: usize = 1_024;
/// Tables for which a plugin's policy remembers which subscription matches, before it forgets all and begins anew.
pub const MATCHED_TABLES_MAX: usize = 4_096;
/// The text of an answer that its channels share, which one of them keeps for as long as it lives; of a longer one each
/// channel copies its name.
pub const SHARED_TEXT_BYTES_MAX: usize = 16 << 10;
/// Compiled plugins that are kept on disk; the oldest go first.
pub const COMPILED_COUNT_MAX: usize = 512;
/// One compiled plugin.
pub const COMPILED_BYTES_MAX: u64 = 256 << 20;
/// What the child process that compiles a plugin may say; the rest is cut off.
pub const COMPILE_REPORT_BYTES_MAX: u64 = 16 << 10;
/// The child process that compiles a plugin: its memory.
pub const COMPILE_MEMORY_BYTES_MAX: u64 = 4 << 30;
/// The child process that compiles a plugin: its time.
pub const COMPILE_TIME_MAX: Duration = Duration::from_secs(60);

// Registry and deployments.

/// Uploaded components that are kept; past it the oldest that nothing active needs go.
pub const COMPONENTS_COUNT_MAX: usize = 512;
/// A component's name, version or description; the rest is cut off.
pub const COMPONENT_TEXT_BYTES_MAX: usize = 1_024;
/// Generations of all plugins that are remembered; past it the oldest that are not active go.
pub const GENERATIONS_COUNT_MAX: i64 = 10_000;
/// Records of which plugin set judged from which offset on; past it the oldest go.
pub const SETS_COUNT_MAX: i64 = 10_000;
/// Entries of the audit list; past it the oldest go.
pub const AUDIT_COUNT_MAX: i64 = 10_000;
/// Entries that wait for who follows the audit list.
pub const AUDIT_QUEUE_COUNT_MAX: usize = 1_024;
/// All settings of one plugin.
pub const SETTINGS_BYTES_MAX: usize = 64 << 10;
/// Patterns of one grant.
pub const PATTERNS_COUNT_MAX: usize = 256;
/// Candidates that run beside what is active.
pub const SHADOWS_COUNT_MAX: usize = 8;
/// Batches that wait for a shadow; past it they are left out.
pub const SHADOW_QUEUE_COUNT_MAX: usize = 8;
/// Deployments that wait for the pipeline.
pub const PIPELINE_QUEUE_COUNT_MAX: usize = 16;
/// Changes that one check reads.
pub const CHECK_COUNT_MAX: usize = 10_000;
/// Changes that one plugin may fail on within [`QUARANTINE_WINDOW`]; one more, and it is quarantined.
pub const QUARANTINE_FAULTS_MAX: usize = 100;
/// See [`QUARANTINE_FAULTS_MAX`].
pub const QUARANTINE_WINDOW: Duration = Duration::from_secs(60);

// The large profile, for plugins that bring a runtime. What is not here is as above.

/// A plugin's component. JavaScript's runtime makes it 12 MB, Python's 19 MB.
pub const LARGE_PLUGIN_BYTES_MAX: usize = 48 << 20;
/// A plugin's linear memory.
pub const LARGE_PLUGIN_MEMORY_BYTES_MAX: usize = 256 << 20;
/// One call of a plugin, on the wall clock.
pub const LARGE_PLUGIN_CALL_TIME_MAX: Duration = Duration::from_millis(2_000);
/// One call of a plugin in a replay.
pub const LARGE_PLUGIN_CALL_INSTRUCTIONS_MAX: u64 = 4_000_000_000;
/// Core instances that one component is made of; `componentize-py` makes 38, one for each of Python's libraries.
pub const LARGE_PLUGIN_CORE_INSTANCES_MAX: u32 = 128;
/// The child process that compiles a plugin: its time.
pub const LARGE_COMPILE_TIME_MAX: Duration = Duration::from_secs(180);

// Timelines.

/// Entries of a timeline, or of one author's posts, that are kept in memory; a page that goes further down reads the
/// disk.
pub const TIMELINE_SLOTS_COUNT_MAX: usize = 800;
/// Active timelines in memory, by default: some 30,000 full ones for each 512 MiB.
pub const TIMELINE_BYTES_MAX: usize = 256 << 20;
/// Authors' posts in memory, for who merges them when a timeline is read.
pub const TIMELINE_OUTBOX_BYTES_MAX: usize = 64 << 20;
/// Sets of followers in memory; the largest alone, of 100 million, has up to 50 MiB.
pub const TIMELINE_AUDIENCE_BYTES_MAX: usize = 256 << 20;
/// Active followers of an author up to which posts are pushed, by default; with more the host pulls.
pub const TIMELINE_PUSH_FOLLOWERS_MAX: u64 = 1_000_000;
/// Timelines into which a post is pushed before another post has its turn.
pub const TIMELINE_CHUNK_COUNT_MAX: usize = 1_000;
/// Posts that wait to be pushed; further ones are pulled.
pub const TIMELINE_FLIGHTS_COUNT_MAX: usize = 4_096;
/// Authors whose posts are being pushed at once, in turn: each holds a set of followers.
pub const TIMELINE_LANES_COUNT_MAX: usize = 64;
/// Authors whom a user began to follow since the timeline became active, and whose posts are merged when it is read;
/// with more it is built anew.
pub const TIMELINE_LACKING_COUNT_MAX: usize = 32;
/// Authors of whom is remembered that posts were pulled; past it all timelines are built anew when they are read next.
pub const TIMELINE_MARKS_COUNT_MAX: usize = 1_000_000;
/// Authors whose posts one reading may have to fetch from the disk; with more the timeline is built anew, which costs
/// about the same once and nothing later.
pub const TIMELINE_OUTBOXES_COUNT_MAX: usize = 16;
/// Posts of one author that a merge on the disk reads at once.
pub const TIMELINE_MERGE_READ_COUNT_MAX: usize = 128;
/// An author's posts of an hour that are counted.
pub const TIMELINE_RATE_COUNT_MAX: u32 = 10_000;
/// Entries of a page.
pub const TIMELINE_PAGE_COUNT_MAX: usize = 500;

// Bus.

/// Kept messages, by default. Each takes four bytes of memory, each of their channels about a hundred.
pub const HISTORY_COUNT_MAX: u64 = 1_000_000;
/// How long a message is kept, by default.
pub const HISTORY_AGE_MAX: Duration = Duration::from_secs(24 * 3_600);
/// Recent messages that stay in memory for followers that keep up.
pub const HISTORY_TAIL_BYTES_MAX: usize = 16 << 20;
/// Messages that are not kept and wait for a slow gateway.
pub const LIVE_QUEUE_COUNT_MAX: usize = 4_096;
/// Messages in one read of the history.
pub const HISTORY_READ_COUNT_MAX: usize = 512;
/// Messages that retention removes in one step; so many more than allowed may be there for a moment.
pub const HISTORY_SWEEP_COUNT_MAX: u64 = 512;
/// How often retention looks for messages that are too old while nothing new comes.
pub const HISTORY_SWEEP_INTERVAL: Duration = Duration::from_secs(1);
/// Messages that a filtered read looks at before it lets others in.
pub const HISTORY_SCAN_COUNT_MAX: usize = 16_384;
/// Channels that have a value for those who come new, by default; past it what was set least recently goes.
pub const VALUES_COUNT_MAX: u64 = 100_000;
/// Bytes of these values, by default, in memory and on the disk.
pub const VALUES_BYTES_MAX: u64 = 64 << 20;
/// One value, its bookkeeping included. A client may get one of each of its channels in one answer.
pub const VALUE_BYTES_MAX: usize = 256 << 10;
/// Set-aside changes that are kept; past it the oldest go.
pub const DEAD_LETTERS_COUNT_MAX: i64 = 10_000;

// Cache.

/// Commands that are sent to the Redis of the cache together.
pub const CACHE_COMMANDS_MAX: usize = 1_000;
/// From asking it for a connection until there is one.
pub const CACHE_CONNECT_TIME_MAX: Duration = Duration::from_secs(5);
/// From sending commands to their last answer; a Redis that stands still is one that is gone.
pub const CACHE_ANSWER_TIME_MAX: Duration = Duration::from_secs(5);
/// Between two looks whether it takes commands.
pub const CACHE_TRY_INTERVAL: Duration = Duration::from_secs(1);
/// How long nobody may fill a key after it was deleted, by default: longer than a commit needs to be seen.
pub const CACHE_HOLD: Duration = Duration::from_secs(1);
/// The shortest that may be set.
pub const CACHE_HOLD_MIN: Duration = Duration::from_millis(10);
/// The longest.
pub const CACHE_HOLD_MAX: Duration = Duration::from_secs(600);

// Dead letters.

/// Replays that were begun and are not applied; their letters stay, beyond [`DEAD_LETTERS_COUNT_MAX`] too.
pub const REPLAYS_COUNT_MAX: usize = 1_000;
/// Dead letters in one list.
pub const LETTERS_READ_COUNT_MAX: usize = 256;
/// Bytes of the changes of one list of dead letters, unless the first alone has more.
pub const LETTERS_READ_BYTES_MAX: usize = 4 << 20;
/// Changes of the log that a replay looks at, to tell whether its own is outdated.
pub const REPLAY_SCAN_COUNT_MAX: u64 = 1_000_000;

// State.

/// Jobs that wait for the committer.
pub const STATE_QUEUE_COUNT_MAX: usize = 256;
/// Jobs of one commit.
pub const STATE_GROUP_COUNT_MAX: usize = 64;
/// Reads at once; each has a connection.
pub const STATE_READERS_COUNT_MAX: usize = 4;
/// A page of the database: small, since a commit of one message writes a handful of them.
pub const STATE_PAGE_BYTES: u32 = 4_096;
/// Pages of the journal at which it is copied into the main file; a few more may come meanwhile.
pub const STATE_JOURNAL_PAGES_MAX: u32 = 2_048;
/// Pages of the journal at which readers wait until it is begun anew, since they kept that from happening so far.
pub const STATE_JOURNAL_PAGES_WAIT: u32 = 4 * STATE_JOURNAL_PAGES_MAX;
/// What the journal's file is cut to after it grew beyond it.
pub const STATE_JOURNAL_BYTES_KEPT_MAX: i64 = 64 << 20;
/// Pages that the committer keeps in memory.
pub const STATE_CACHE_BYTES_MAX: i64 = 32 << 20;
/// Pages that one reader keeps in memory.
pub const STATE_READER_CACHE_BYTES_MAX: i64 = 2 << 20;
/// Prepared statements of one connection.
pub const STATE_STATEMENTS_COUNT_MAX: usize = 64;
/// The check of the file at the start after an unclean end; it is cut short there.
pub const STATE_CHECK_TIME_MAX: Duration = Duration::from_secs(2);
/// Below it a failed flush is taken for a full disk.
pub const STATE_SPACE_BYTES_MIN: u64 = 1 << 20;

// Gateway.

/// Connections at once.
pub const CONNECTIONS_COUNT_MAX: usize = 20_000;
/// Channels of one connection.
pub const CHANNELS_PER_CONNECTION_MAX: usize = 128;
/// Frames that wait for one client; past it the client is served from the history, at its own pace.
pub const CONNECTION_QUEUE_COUNT_MAX: usize = 1_024;
/// Bytes of frames that wait for one client. Frames are shared: this bounds what a client keeps alive.
pub const CONNECTION_QUEUE_BYTES_MAX: usize = 4 << 20;
/// Messages that one client's replay holds at once.
pub const REPLAY_READ_COUNT_MAX: usize = 64;
/// How long a client may take nothing while something waits for it; past it the connection is cut, and the client
/// may resume. The largest frame must get through a slow line in it.
pub const CONNECTION_STALL_TIME_MAX: Duration = Duration::from_secs(60);
/// What the client of an event stream may say after its request, all of which is passed over, in bytes.
pub const STREAM_SAID_BYTES_MAX: usize = 4 * 1_024;
/// What the HTTP layer holds for one connection in one direction; a request's head must fit.
pub const CONNECTION_BUFFER_BYTES_MAX: usize = 64 << 10;
/// Connections past [`CONNECTIONS_COUNT_MAX`] that are being told so; further ones are closed without a word.
pub const REFUSALS_COUNT_MAX: usize = 256;
/// Addresses of which is remembered how often they ask, where that is bounded.
pub const RATED_ADDRESSES_COUNT_MAX: usize = 65_536;
/// Streams of one HTTP/2 connection.
pub const STREAMS_PER_CONNECTION_MAX: u32 = 128;
/// Streams of one HTTP/2 connection that were ended by its client before we came to them.
pub const RESETS_PER_CONNECTION_MAX: usize = 20;
/// How long a connection of HTTP/2 may have nothing going on.
pub const CONNECTION_IDLE_TIME_MAX: Duration = Duration::from_secs(60);
/// A file with a certificate and those above it, or with a key.
pub const TLS_FILE_BYTES_MAX: u64 = 256 << 10;
/// Between two looks whether the files of a certificate have changed.
pub const TLS_LOOK_INTERVAL: Duration = Duration::from_secs(5);
/// One command of a client over WebSocket; room for some hundred channels with their ids.
pub const SOCKET_MESSAGE_BYTES_MAX: usize = 64 << 10;
/// What is read of a WebSocket at once; every idle one holds so much, and commands are short.
pub const SOCKET_BUFFER_BYTES: usize = 1 << 10;
/// How long a WebSocket's client may say nothing, not even in answer to a ping, before it is taken for gone.
pub const SOCKET_SILENCE_TIME_MAX: Duration = Duration::from_secs(50);
/// From our word that a WebSocket ends until its connection is closed whatever the client does.
pub const SOCKET_CLOSE_TIME_MAX: Duration = Duration::from_secs(1);
/// How long a long-poll waits, if it does not say.
pub const POLL_WAIT: Duration = Duration::from_secs(25);
/// The longest that a long-poll may wait: proxies like to cut at a minute.
pub const POLL_WAIT_MAX: Duration = Duration::from_secs(55);
/// Messages of one answer to a long-poll.
pub const POLL_COUNT_MAX: usize = 256;
/// Bytes of the messages of such an answer, the last of them not counted.
pub const POLL_BYTES_MAX: usize = 1 << 20;
/// Messages of one page of a channel's history.
pub const HISTORY_PAGE_COUNT_MAX: usize = 1_000;
/// Bytes of the messages of such a page, the last of them not counted.
pub const HISTORY_PAGE_BYTES_MAX: usize = 1 << 20;
/// Deliveries that the hub makes before it lets others run.
pub const HUB_TURN_COUNT_MAX: usize = 1_024;
/// Members of a channel who are known by name; with more, only their number is told.
pub const PRESENCE_MEMBERS_COUNT_MAX: usize = 256;
/// Channels of which it is known who is there.
pub const PRESENCE_CHANNELS_COUNT_MAX: usize = 4_096;
/// How long a member whose connection was lost is still there, by default.
pub const PRESENCE_GRACE: Duration = Duration::from_secs(10);
/// The most that may be set.
pub const PRESENCE_GRACE_MAX: Duration = Duration::from_secs(300);
/// Between two frames that tell who came and went.
pub const PRESENCE_INTERVAL: Duration = Duration::from_millis(500);
/// Between two signs of life on a quiet connection.
pub const HEARTBEAT_INTERVAL: Duration = Duration::from_secs(15);
/// The shortest that may be set.
pub const HEARTBEAT_INTERVAL_MIN: Duration = Duration::from_secs(1);
/// The longest that may be set: the page takes a stream for dead after 50 s without one.
pub const HEARTBEAT_INTERVAL_MAX: Duration = Duration::from_secs(20);
/// What a client is told to wait before it connects again.
pub const RECONNECT_DELAY: Duration = Duration::from_secs(2);
/// From accepting a connection, from the end of its handshake of TLS, or from the last answer on it, to the end of a
/// request's head; and the handshake itself.
pub const REQUEST_HEAD_TIME_MAX: Duration = Duration::from_secs(10);
/// A resume id.
pub const RESUME_ID_BYTES_MAX: usize = 512;
/// Channels in one page of the list of channels.
pub const CHANNELS_PAGE_COUNT_MAX: usize = 1_000;

// Messages of clients.

/// A body with a message of a client; over WebSocket [`SOCKET_MESSAGE_BYTES_MAX`] counts.
pub const CLIENT_MESSAGE_BYTES_MAX: usize = 64 << 10;
/// From the end of a request's head to the end of such a body.
pub const CLIENT_MESSAGE_BODY_TIME_MAX: Duration = Duration::from_secs(10);
/// From the gate's word that a message is kept until it is, or nobody knows.
pub const CLIENT_MESSAGE_TIME_MAX: Duration = Duration::from_secs(10);
/// Messages of clients that wait for the change log; further ones are refused for now.
pub const CLIENT_QUEUE_COUNT_MAX: usize = 256;
/// Messages that one subject may send a second, or one address for who has no subject, by default.
pub const CLIENT_RATE: u32 = 10;
/// Messages that it may send at once after a pause, by default.
pub const CLIENT_BURST: u32 = 50;
/// The most of both that may be set.
pub const CLIENT_RATE_MAX: u32 = 1_000_000;
/// Subjects and addresses whose rate is counted at once.
pub const CLIENT_RATES_COUNT_MAX: usize = 65_536;
/// Ids of messages that are remembered, so that one which is sent again is kept once; past it the oldest are forgotten.
pub const CLIENT_IDS_COUNT_MAX: usize = 65_536;
/// How long they are.
pub const CLIENT_IDS_AGE_MAX: Duration = Duration::from_secs(300);
/// Records of the change log, from its end, that a start looks through for them.
pub const CLIENT_IDS_SCAN_COUNT_MAX: u64 = 1_000_000;
/// Records of one step of that.
pub const CLIENT_IDS_SCAN_STEP: u64 = 16_384;
/// One read of that, unless a record is larger.
pub const CLIENT_IDS_READ_BYTES: usize = 4 << 20;

// Who may listen.

/// A token.
pub const TOKEN_BYTES_MAX: usize = 8 << 10;
/// A secret of HS256: as long as its digest (RFC 7518, section 3.2).
pub const TOKEN_SECRET_BYTES_MIN: usize = 32;
/// Keys of one set.
pub const TOKEN_KEYS_COUNT_MAX: usize = 64;
/// A file or an answer that holds keys.
pub const TOKEN_KEYS_BYTES_MAX: usize = 256 << 10;
/// Between two readings of keys that may change.
pub const TOKEN_KEYS_READ_INTERVAL: Duration = Duration::from_secs(300);
/// Between two readings that tokens with unknown keys may cause.
pub const TOKEN_KEYS_READ_INTERVAL_MIN: Duration = Duration::from_secs(10);
/// One reading of keys.
pub const TOKEN_KEYS_READ_TIME_MAX: Duration = Duration::from_secs(5);
/// How far the clocks of who makes tokens and of this machine may differ, by default.
pub const TOKEN_LEEWAY: Duration = Duration::from_secs(5);
/// The most that may be set: a token lives so much longer than it says.
pub const TOKEN_LEEWAY_MAX: Duration = Duration::from_secs(300);
/// Channels that one token lists.
pub const TOKEN_CHANNELS_COUNT_MAX: usize = 256;
/// Tickets that are out, those that were used and have not ended included.
pub const TICKETS_COUNT_MAX: usize = 65_536;
/// What they hold.
pub const TICKETS_BYTES_MAX: usize = 64 << 20;
/// Unused tickets of one subject.
pub const TICKETS_PER_SUBJECT_COUNT_MAX: usize = 16;
/// How long a ticket counts.
pub const TICKET_TIME_MAX: Duration = Duration::from_secs(30);
/// Origins whose pages may read.
pub const ORIGINS_COUNT_MAX: usize = 256;
/// Questions to the gate at once; it has one instance.
pub const GATE_CALLS_AT_ONCE_MAX: usize = 1;
/// From asking the gate to its answer, the time in its queue included.
pub const GATE_TIME_MAX: Duration = Duration::from_secs(10);
/// Between two questions for the same stream because of the gate's own `until`.
pub const GATE_INTERVAL_MIN: Duration = Duration::from_secs(1);
/// How long a stream trusts that the clock was not set.
pub const PERMIT_LOOK_INTERVAL: Duration = Duration::from_secs(60);

// Admin listener.

/// Connections at once.
pub const ADMIN_CONNECTIONS_COUNT_MAX: usize = 64;
/// Uploads and checks at once: each holds a component.
pub const ADMIN_UPLOADS_COUNT_MAX: usize = 2;
/// What a form may have around a component.
pub const UPLOAD_FORM_BYTES_MAX: usize = 16 << 10;
/// A body of JSON.
pub const ADMIN_JSON_BYTES_MAX: usize = 256 << 10;
/// From the end of a request's head to the end of its body.
pub const ADMIN_BODY_TIME_MAX: Duration = Duration::from_secs(60);
/// A token that a person chose: shorter ones could be guessed.
pub const ADMIN_TOKEN_BYTES_MIN: usize = 16;
/// A token.
pub const ADMIN_TOKEN_BYTES_MAX: usize = 1_024;
/// The name of who asks.
pub const ADMIN_BY_BYTES_MAX: usize = 64;
/// Between two looks whether the dashboard's figures have changed.
pub const ADMIN_STATUS_INTERVAL: Duration = Duration::from_secs(1);
/// Entries of one page of the audit list.
pub const AUDIT_PAGE_COUNT_MAX: usize = 1_000;
/// Changes of the log that one request gets.
pub const CHANGES_COUNT_MAX: u64 = 100_000;

/// Between the ends of two streams when the server stops, and between their returns: a thousand a second.
pub const DRAIN_INTERVAL: Duration = Duration::from_millis(1);
/// The longest time to stop that may be set.
pub const GRACE_MAX: Duration = Duration::from_secs(300);
/// From the order to stop until connections are cut, by default.
pub const SHUTDOWN_TIME_MAX: Duration = Duration::from_secs(10);
