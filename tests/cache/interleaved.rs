//! The scripts of `examples/cache` and the host's deletions, one step at a time in random orders: nothing stale is ever
//! in the cache.
//!
//! A row has versions. One is committed, later seen by whoever reads the database, and later, or before that, deleted
//! from the cache by the host. Fills, which are slow, take their steps in between, and whatever may expire does. What is
//! taken for granted: a hold outlives the time until a commit is seen, and no lease is used twice.

use std::time::Duration;

use anyhow::{Result, ensure};
use redis::Commands;
use tokio_util::sync::CancellationToken;
use twohop::cache::{Cache, Config, HELD, INDEX, INDEX_HELD, VERSION};
use twohop::event::Stale;
use xtask::services::redis::Redis;

/// Longer than the test: what expires is expired by it.
const FOR_EVER: Duration = Duration::from_secs(600);
const READ: &str = include_str!("../../examples/cache/read.lua");
const FILL: &str = include_str!("../../examples/cache/fill.lua");

/// Who reads through the cache, by the scripts.
pub(super) struct Reader {
    connection: redis::Connection,
    leases: u64,
}

/// What a read gave.
pub(super) struct Looked {
    value: Option<String>,
    pub(super) lease: Option<String>,
}

impl Reader {
    pub(super) fn new(redis: &Redis) -> Result<Self> {
        Ok(Self { connection: super::client(redis)?, leases: 0 })
    }

    pub(super) fn read(&mut self, key: &str) -> Result<Looked> {
        self.leases += 1;
        let lease = format!("lease-{}", self.leases);
        let mut script = evaluation(READ, key);
        script.arg(lease).arg(u64::try_from(FOR_EVER.as_millis())?);
        let (value, lease) = script.query(&mut self.connection)?;
        Ok(Looked { value, lease })
    }

    pub(super) fn fill(&mut self, key: &str, lease: &str, value: &str) -> Result<bool> {
        let mut script = evaluation(FILL, key);
        script.arg(lease).arg(value).arg(u64::try_from(FOR_EVER.as_millis())?);
        Ok(script.query(&mut self.connection)?)
    }
}

fn evaluation(script: &str, key: &str) -> redis::Cmd {
    let mut command = redis::cmd("EVAL");
    command.arg(script).arg(4).arg(key).arg(format!("{VERSION}{key}")).arg(INDEX).arg(INDEX_HELD);
    command
}

/// As is usual: read, load, set.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fill {
    ByLease,
    Naive,
}

const KEYS: [&str; 2] = ["user:1", "user:2"];
const FILLERS: usize = 3;

struct Model {
    reader: Reader,
    cache: Cache,
    how: Fill,
    random: u64,
    /// The newest version of the row of each key: committed, seen by who reads the database, deleted from the cache.
    committed: [u64; 2],
    seen: [u64; 2],
    deleted: [u64; 2],
    /// A deletion that has got half way: the version key is held.
    half_way: Option<(usize, u64)>,
    fillers: [Filler; FILLERS],
}

#[derive(Clone, Default)]
enum Filler {
    #[default]
    Idle,
    Leased(usize, Option<String>),
    Loaded(usize, Option<String>, u64),
}

impl Model {
    fn pick(&mut self, count: usize) -> usize {
        self.random =
            self.random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from((self.random >> 33) % count as u64).expect("it is small")
    }

    async fn step(&mut self) -> Result<()> {
        let at = self.pick(KEYS.len());
        let version = format!("{VERSION}{}", KEYS[at]);
        match self.pick(32) {
            0 => self.committed[at] += 1,
            1 | 8 => self.seen[at] = self.committed[at],
            // The host, at times once more after a crash, or for all keys at once.
            2 => self.delete(Stale::Key(KEYS[at].into()), &[at]).await,
            3 => self.delete(Stale::Prefix("user:".into()), &[0, 1]).await,
            // The same in two steps, which others come between.
            4 => match self.half_way.take() {
                None => {
                    let () = self.reader.connection.set(version, HELD)?;
                    self.half_way = Some((at, self.committed[at]));
                }
                Some((at, committed)) => {
                    let () = self.reader.connection.unlink(KEYS[at])?;
                    self.deleted[at] = self.deleted[at].max(committed);
                }
            },
            5 | 10 => {
                // A lease may expire whenever it likes, a hold only once its commit is seen.
                let value: Option<String> = self.reader.connection.get(&version)?;
                if value.as_deref() != Some(HELD) || self.is_seen(at) {
                    let () = self.reader.connection.del(&version)?;
                }
            }
            6 | 9 if self.is_seen(0) && self.is_seen(1) => self.reader.connection.del(INDEX_HELD)?,
            7 => self.reader.connection.del(KEYS[at])?,
            _ => self.fill(at)?,
        }
        Ok(())
    }

    /// Whether the database shows all that was deleted, or is being.
    fn is_seen(&self, at: usize) -> bool {
        let half_way = self.half_way.filter(|(of, _)| *of == at).map_or(0, |(_, committed)| committed);
        self.seen[at] >= self.deleted[at].max(half_way)
    }

    async fn delete(&mut self, stale: Stale, keys: &[usize]) {
        self.cache.delete(&[stale], &CancellationToken::new()).await;
        for at in keys {
            self.deleted[*at] = self.committed[*at];
        }
    }

    /// The next step of one of those who fill.
    fn fill(&mut self, at: usize) -> Result<()> {
        let nth = self.pick(FILLERS);
        self.fillers[nth] = match std::mem::take(&mut self.fillers[nth]) {
            Filler::Idle => {
                let Looked { value, lease } = self.reader.read(KEYS[at])?;
                if value.is_some() { Filler::Idle } else { Filler::Leased(at, lease) }
            }
            Filler::Leased(at, lease) => Filler::Loaded(at, lease, self.seen[at]),
            Filler::Loaded(at, lease, version) => {
                match (self.how, lease) {
                    (Fill::ByLease, Some(lease)) => {
                        self.reader.fill(KEYS[at], &lease, &version.to_string())?;
                    }
                    (Fill::ByLease, None) => {}
                    (Fill::Naive, _) => self.reader.connection.set(KEYS[at], version)?,
                }
                Filler::Idle
            }
        };
        Ok(())
    }

    /// No key has a version before one that was deleted.
    fn check(&mut self) -> Result<()> {
        for (key, deleted) in KEYS.iter().zip(self.deleted) {
            let cached: Option<u64> = self.reader.connection.get(key)?;
            ensure!(
                cached.is_none_or(|cached| cached >= deleted),
                "{key}: {cached:?} after {deleted} was deleted"
            );
        }
        Ok(())
    }
}

async fn run(redis: &Redis, how: Fill, seed: u64) -> Result<u64> {
    let config = Config { url: super::url(redis), prefix: String::new(), hold: FOR_EVER, has_index: true };
    let cache = Cache::open(config, std::sync::Arc::default()).await?;
    let mut model = Model {
        reader: Reader::new(redis)?,
        cache,
        how,
        random: seed,
        committed: [0; 2],
        seen: [0; 2],
        deleted: [0; 2],
        half_way: None,
        fillers: [const { Filler::Idle }; FILLERS],
    };
    let mut filled = 0;
    for _ in 0..200 {
        model.step().await?;
        model.check()?;
        filled += u64::from(model.reader.connection.exists::<_, bool>(KEYS[0])?);
    }
    let () = redis::cmd("FLUSHALL").query(&mut model.reader.connection)?;
    Ok(filled)
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_the_order_nothing_stale_is_filled_in() -> Result<()> {
    let redis = Redis::start()?;
    let mut filled = 0;
    for seed in 0..60 {
        filled +=
            run(&redis, Fill::ByLease, seed).await.map_err(|error| error.context(format!("seed {seed}")))?;
    }
    assert!(filled > 500, "the cache is of use: it had the key only {filled} times");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_lease_the_same_orders_fill_in_what_is_stale() -> Result<()> {
    let redis = Redis::start()?;
    for seed in 0..60 {
        let Err(error) = run(&redis, Fill::Naive, seed).await else { continue };
        assert!(error.to_string().contains("was deleted"), "{error:#}");
        return Ok(());
    }
    panic!("the model does not find what it is made for");
}
