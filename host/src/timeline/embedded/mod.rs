//! Timelines on one machine: posts and edges in the embedded state, active timelines in memory.
//!
//! ```text
//! along() ─► the bus's commit: posts, edges, offset ─► memory: marks ─► pusher: chunk by chunk into active timelines
//! read ──► memory: shelf + marked authors' posts, filtered by the graph of now ─► state: payloads
//!                   └── below what memory has: the state alone, merged from all whom the user follows
//! ```
//! Invariants: see `memory` for what may be in memory and why an answer never depends on it, `tables` for what is
//! durable. Memory learns of writes on the committer's thread, in the order of the commits.
//!
//! Absent on purpose: a removal of posts by age; a post stays until it is retracted.

mod census;
mod edges;
mod kept;
mod listen;
mod memory;
mod merge;
mod shelf;
mod tables;
#[cfg(test)]
pub(super) mod tests;

use std::sync::atomic::Ordering;
use std::sync::{Arc, OnceLock};
use std::thread::JoinHandle;

use parking_lot::{Condvar, Mutex, MutexGuard};

pub use census::{Census, count_graph};
pub use listen::{Connected, Listeners, Sources};
pub use memory::Activity;

use self::edges::Side;
use self::memory::{FoundHome, Look, Memory};
use self::merge::Merge;
use self::shelf::Slot;
use self::tables::Written;
use super::{Cursor, Entry, Facts, Page, Place, TimelineError, UserId};
use crate::event::{FeedWrite, Message, Micros};
use crate::limits::{
    TIMELINE_BYTES_MAX, TIMELINE_CHUNK_COUNT_MAX, TIMELINE_LACKING_COUNT_MAX, TIMELINE_MARKS_COUNT_MAX,
    TIMELINE_OUTBOXES_COUNT_MAX, TIMELINE_PUSH_FOLLOWERS_MAX, TIMELINE_SLOTS_COUNT_MAX,
};
use crate::state::sql::{self, Connection};
use crate::state::{Along, State, StateError};
use crate::telemetry::TimelineMetrics;

/// What a person may set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Config {
    /// Active timelines in memory.
    pub bytes_max: usize,
    /// Active followers of an author up to which posts are pushed; with more they are pulled, whatever the plan says.
    pub push_followers_max: u64,
    sizes: Sizes,
}

/// Bounds that tests make small.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Sizes {
    slots: usize,
    chunk: usize,
    lacking: usize,
    marks: usize,
    outboxes: usize,
}

impl Config {
    /// With these two, and all other bounds as in `limits`.
    #[must_use]
    pub fn new(bytes_max: usize, push_followers_max: u64) -> Self {
        let sizes = Sizes {
            slots: TIMELINE_SLOTS_COUNT_MAX,
            chunk: TIMELINE_CHUNK_COUNT_MAX,
            lacking: TIMELINE_LACKING_COUNT_MAX,
            marks: TIMELINE_MARKS_COUNT_MAX,
            outboxes: TIMELINE_OUTBOXES_COUNT_MAX,
        };
        Self { bytes_max, push_followers_max, sizes }
    }
}

impl Default for Config {
    fn default() -> Self {
        Self::new(TIMELINE_BYTES_MAX, TIMELINE_PUSH_FOLLOWERS_MAX)
    }
}

/// A post to be planned, of whose author facts are wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Asked<'a> {
    /// Who made it known.
    pub author: &'a str,
    /// Its id.
    pub item: &'a str,
    /// When the change was committed in its database.
    pub committed_at: Micros,
}

/// The store of timelines on one machine. Clones share it; the last one to go ends the pusher.
#[derive(Clone)]
pub struct Timelines(Arc<Inner>);

struct Inner {
    state: State,
    shared: Arc<Shared>,
    pusher: Option<JoinHandle<()>>,
}

struct Shared {
    memory: Mutex<Memory>,
    /// There is something to push.
    work: Condvar,
    /// Who is told of edges.
    turns: OnceLock<Turns>,
    metrics: Arc<TimelineMetrics>,
}

/// Told who follows whom from now on, or no more.
type Turns = Box<dyn Fn(&str, &str) + Send + Sync>;

impl From<StateError> for TimelineError {
    fn from(error: StateError) -> Self {
        Self::Store(Box::new(error))
    }
}

impl Timelines {
    /// Opens the timelines of a state, and makes their tables if they are not there.
    ///
    /// # Errors
    /// If the state refuses.
    pub async fn open(state: State, config: Config) -> Result<Self, TimelineError> {
        Self::open_counted(state, config, Arc::default()).await
    }

    /// The same, and says where to count.
    ///
    /// # Errors
    /// If the state refuses.
    pub async fn open_counted(
        state: State,
        config: Config,
        metrics: Arc<TimelineMetrics>,
    ) -> Result<Self, TimelineError> {
        let mut timelines = Self::open_idle(state, config, metrics).await?;
        if let Some(inner) = Arc::get_mut(&mut timelines.0) {
            let shared = inner.shared.clone();
            let pusher = std::thread::Builder::new().name("timeline-push".into());
            let pusher = pusher.spawn(move || shared.push());
            inner.pusher = Some(pusher.map_err(|error| TimelineError::Store(Box::new(error)))?);
        }
        Ok(timelines)
    }

    /// Without anybody who pushes.
    async fn open_idle(
        state: State,
        config: Config,
        metrics: Arc<TimelineMetrics>,
    ) -> Result<Self, TimelineError> {
        let version = state.commit(tables::create).await?;
        let memory = Mutex::new(Memory::new(config, version, metrics.clone()));
        let shared = Arc::new(Shared { memory, work: Condvar::new(), turns: OnceLock::new(), metrics });
        Ok(Self(Arc::new(Inner { state, shared, pusher: None })))
    }

    /// What writes posts and edges in the commit of somebody else, says what the history has to carry of it in the same
    /// commit, and tells memory of them after it.
    #[must_use]
    pub fn along(&self) -> Along<[FeedWrite], Vec<Message>> {
        let shared = self.0.shared.clone();
        Along::new(move |connection: &Connection, writes: &[FeedWrite]| {
            let mut written = tables::write(connection, writes)?;
            let news = std::mem::take(&mut written.news);
            let shared = shared.clone();
            Ok((news, Box::new(move || shared.apply(written))))
        })
    }

    /// Makes writes in a commit of their own: for who has no bus, whose offset would keep them from coming twice, and
    /// whose history would carry them to those who are there.
    ///
    /// # Errors
    /// If the state refuses; none of them is made then.
    pub async fn apply(&self, writes: Vec<FeedWrite>) -> Result<(), TimelineError> {
        let along = self.along();
        let work = move |connection: &Connection| Ok(along.write(connection, &writes)?.1);
        Ok(self.0.state.commit_then(work, |then| then()).await?)
    }

    /// What is known of the audience of posts, each: none of a post that is an edit, or was taken back, and needs no
    /// plan. It is what was committed when this is called.
    ///
    /// # Errors
    /// If the state refuses.
    pub async fn facts(&self, posts: &[Asked<'_>]) -> Result<Vec<Option<Facts>>, TimelineError> {
        let asked: Vec<_> = posts
            .iter()
            .map(|post| (Box::<str>::from(post.author), Box::<str>::from(post.item), post.committed_at))
            .collect();
        let look = move |connection: &Connection| {
            let look = |(author, item, committed_at): &(Box<str>, Box<str>, Micros)| {
                let Some(author) = tables::author(connection, author, *committed_at)? else {
                    return Ok((true, None));
                };
                Ok((tables::is_new(connection, author.user, item)?, Some(author)))
            };
            asked.iter().map(look).collect::<sql::Result<Vec<_>>>()
        };
        let mut facts = Vec::with_capacity(posts.len());
        for (is_new, author) in self.0.state.read(look).await? {
            let nobody = Facts { followers: 0, online: 0, active: 0, rate: 0, previous: None };
            let fact = match author {
                _ if !is_new => None,
                None => Some(nobody),
                Some(author) => {
                    let [followers, online, active] = self.audience(author.user).await?;
                    let tables::Author { rate, previous, .. } = author;
                    Some(Facts { followers, online, active, rate, previous })
                }
            };
            facts.push(fact);
        }
        Ok(facts)
    }

    async fn audience(&self, author: UserId) -> Result<[u64; 3], TimelineError> {
        let known = self.memory().audience(author);
        if let Some(known) = known {
            return Ok(known);
        }
        let found = self.build_audience(author).await?;
        let known = self.memory().audience(author);
        // It was evicted at once: then nobody can be pushed to, and the figure that matters is how many follow.
        Ok(known.unwrap_or([found.len(), 0, 0]))
    }

    /// A page of a user's timeline, below a cursor or from the newest on. The timeline is active afterwards.
    ///
    /// # Errors
    /// If the state refuses.
    pub async fn read(
        &self,
        user: &str,
        before: Option<Cursor>,
        count_max: usize,
    ) -> Result<Page, TimelineError> {
        let metrics = &self.0.shared.metrics;
        metrics.reads.fetch_add(1, Ordering::Relaxed);
        let version = self.memory().version();
        let mut page = Page { entries: Vec::new(), next: None, version };
        let Some(id) = self.user(user).await? else { return Ok(page) };
        let mut before = before.map_or(Place::NEWEST, |cursor| cursor.0);
        // What is built may be evicted before it is looked at; the disk always answers.
        let mut builds_left = 2;
        while page.entries.len() < count_max {
            let wanted = count_max - page.entries.len();
            let look = self.memory().look(id, before, wanted);
            match look {
                Look::Slice(slice) => {
                    before = slice.end;
                    page.entries.extend(self.entries(slice.numbers).await?);
                    if slice.is_last {
                        break;
                    }
                }
                Look::NoHome if builds_left > 0 => {
                    builds_left -= 1;
                    self.build_home(id, user).await?;
                }
                Look::NoOutboxes(authors) if builds_left > 0 => {
                    builds_left -= 1;
                    self.build_outboxes(authors).await?;
                }
                Look::NoHome | Look::NoOutboxes(_) | Look::Disk => {
                    metrics.disk_reads.fetch_add(1, Ordering::Relaxed);
                    let rest = move |connection: &Connection| merge::page(connection, id, before, wanted);
                    page.entries.extend(self.0.state.read(rest).await?);
                    break;
                }
            }
        }
        if page.entries.len() == count_max {
            page.next = page.entries.last().map(|last| Cursor(last.place));
        }
        Ok(page)
    }

    /// Lets a user's timeline go. The next one who reads it makes it active again.
    ///
    /// # Errors
    /// If the state refuses.
    pub async fn release(&self, user: &str) -> Result<(), TimelineError> {
        if let Some(id) = self.user(user).await? {
            self.memory().evict(id);
        }
        Ok(())
    }

    /// Has somebody told of each edge that comes or goes, once whoever asks can see it, and before anybody is told a
    /// message of the same batch. `turned` gets who follows, and whom; it is called on the committer's thread, so it is
    /// short and waits for nobody. It is set once.
    pub fn on_turn(&self, turned: impl Fn(&str, &str) + Send + Sync + 'static) {
        let is_first = self.0.shared.turns.set(Box::new(turned)).is_ok();
        debug_assert!(is_first, "one is told");
    }

    /// Whether a user follows each of these.
    ///
    /// # Errors
    /// If the state refuses.
    pub async fn follows(&self, user: &str, followees: &[&str]) -> Result<Vec<bool>, TimelineError> {
        let Some(user) = self.user(user).await? else { return Ok(vec![false; followees.len()]) };
        let followees: Vec<Box<str>> = followees.iter().map(|&followee| followee.into()).collect();
        let look = move |connection: &Connection| {
            let follows = |followee: &str| match tables::user(connection, followee)? {
                Some(followee) => edges::has(connection, user, followee),
                None => Ok(false),
            };
            followees.iter().map(|followee| follows(followee)).collect::<sql::Result<Vec<_>>>()
        };
        Ok(self.0.state.read(look).await?)
    }

    /// Posts that are being pushed, or wait for it.
    #[must_use]
    pub fn flights_count(&self) -> usize {
        self.memory().flights_count()
    }

    /// What is in memory now. It counts entries one timeline after the other, so it is not for every moment.
    #[must_use]
    pub fn activity(&self) -> Activity {
        self.memory().activity()
    }

    fn memory(&self) -> MutexGuard<'_, Memory> {
        self.0.shared.memory.lock()
    }

    async fn user(&self, name: &str) -> Result<Option<UserId>, TimelineError> {
        let known = self.memory().user(name);
        if known.is_some() {
            return Ok(known);
        }
        let name = name.to_owned();
        Ok(self.0.state.read(move |connection| tables::user(connection, &name)).await?)
    }

    async fn entries(&self, numbers: Vec<u64>) -> Result<Vec<Entry>, TimelineError> {
        if numbers.is_empty() {
            return Ok(Vec::new());
        }
        Ok(self.0.state.read(move |connection: &Connection| merge::posts(connection, &numbers)).await?)
    }

    async fn build_home(&self, user: UserId, name: &str) -> Result<(), TimelineError> {
        let Some((build, slots_max)) = self.memory().begin_home(user, name) else { return Ok(()) };
        let building = Building { of: self, what: What::Home(user), build };
        let found =
            self.0.state.read(move |connection: &Connection| find_home(connection, user, slots_max)).await?;
        self.memory().install_home(user, build, found);
        drop(building);
        Ok(())
    }

    async fn build_outboxes(&self, authors: Vec<UserId>) -> Result<(), TimelineError> {
        let mut buildings = Vec::new();
        let mut slots_max = 0;
        for author in authors {
            if let Some((build, max)) = self.memory().begin_outbox(author) {
                slots_max = max;
                buildings.push((author, Building { of: self, what: What::Outbox(author), build }));
            }
        }
        let authors: Vec<UserId> = buildings.iter().map(|(author, _)| *author).collect();
        let find = move |connection: &Connection| {
            let find = |author: &UserId| find_outbox(connection, *author, slots_max);
            authors.iter().map(find).collect::<sql::Result<Vec<_>>>()
        };
        let found = self.0.state.read(find).await?;
        let mut memory = self.memory();
        for ((author, building), found) in buildings.iter().zip(&found) {
            memory.install_outbox(*author, building.build, found);
        }
        drop(memory);
        drop(buildings);
        Ok(())
    }
}

/// What the disk has of a timeline.
fn find_home(connection: &Connection, user: UserId, slots_max: usize) -> sql::Result<FoundHome> {
    let version = tables::version(connection)?;
    let followed: Vec<UserId> = edges::set(connection, Side::Followed, user)?.iter().map(UserId).collect();
    let merge = Merge::new(connection, user, followed.iter().copied(), Place::NEWEST)?;
    let (slots, floor) = merge::newest(merge, slots_max)?;
    Ok(FoundHome { version, followed, slots, floor })
}

/// An author's newest posts, all above the place.
fn find_outbox(connection: &Connection, author: UserId, slots_max: usize) -> sql::Result<(Vec<Slot>, Place)> {
    merge::newest(Merge::of_author(connection, author)?, slots_max)
}

/// Something that was announced to memory, and is given up if nothing comes of it.
struct Building<'t> {
    of: &'t Timelines,
    what: What,
    build: u64,
}

enum What {
    Home(UserId),
    Outbox(UserId),
    Audience(UserId),
}

impl Drop for Building<'_> {
    fn drop(&mut self) {
        let mut memory = self.of.memory();
        match self.what {
            What::Home(user) => memory.abandon_home(user, self.build),
            What::Outbox(author) => memory.abandon_outbox(author, self.build),
            What::Audience(author) => memory.abandon_audience(author, self.build),
        }
    }
}

impl Shared {
    fn apply(&self, mut written: Written) {
        let turned = std::mem::take(&mut written.turned);
        self.memory.lock().apply(written);
        self.work.notify_one();
        if let Some(turns) = self.turns.get() {
            turned.iter().for_each(|(follower, followee)| turns(follower, followee));
        }
    }

    /// Pushes until the owner is gone. Whoever waits for memory comes in between two chunks.
    fn push(&self) {
        let mut memory = self.memory.lock();
        while !memory.ended {
            if memory.fly() {
                MutexGuard::bump(&mut memory);
            } else {
                self.work.wait(&mut memory);
            }
        }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.shared.memory.lock().ended = true;
        self.shared.work.notify_all();
        if let Some(pusher) = self.pusher.take() {
            // It panicked: then all that was not pushed is pulled.
            let _ = pusher.join();
        }
    }
}
