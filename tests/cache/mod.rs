//! Keys of a cache go before anybody hears of the change, over `kill -9` of both, and nothing stale is filled in.

mod interleaved;

use std::fs::{self, Permissions};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use crate::encryption::Certificates;
use anyhow::{Context, Result};
use redis::Commands;
use twohop_tests::{Follower, Setup, Stand, until};
use xtask::place;
use xtask::services::host::{Host, Options, refusal_within};
use xtask::services::redis::{KEPT, Redis};

const WITHIN: Duration = Duration::from_secs(30);
/// What holds a version key.
const HELD: &str = "!";

/// The lines of a configuration that deletes `note:NUMBER` when a note changes.
fn configuration(url: &str, further: &str) -> Result<String> {
    let plugin = place::plugin("cache-router").context("the suite is started by `cargo xtask test`")?;
    Ok(format!(
        "[cache]\nurl = \"{url}\"\nprefix = \"app:\"\n{further}\n[plugin.cache-router]\nfile = \"{}\"\n\
         settings = {{ keys = \"notes=note:{{number}}\" }}\n\
         grants = {{ channels = [], cache = [\"note:*\"] }}\n",
        plugin.display()
    ))
}

fn url(redis: &Redis) -> String {
    format!("redis://{}", redis.address())
}

fn client(redis: &Redis) -> Result<redis::Connection> {
    Ok(redis::Client::open(url(redis))?.get_connection()?)
}

/// What a load balancer gets to see.
fn ready(stand: &Stand) -> Result<String> {
    let mut socket = TcpStream::connect(stand.admin())?;
    socket.set_read_timeout(Some(WITHIN))?;
    socket.write_all(b"GET /readyz HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    socket.read_to_string(&mut answer)?;
    let (head, word) = answer.split_once("\r\n\r\n").context("no answer")?;
    Ok(format!("{} {}", &head[9..12], word.trim()))
}

fn insert(stand: &Stand, numbers: std::ops::Range<u32>) -> Result<()> {
    let (from, to) = (numbers.start, numbers.end - 1);
    stand.postgres.psql(&format!(
        "INSERT INTO notes (number, transaction, row_count, body) SELECT n, 1, 1, '' FROM generate_series({from}, {to}) n"
    ))?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_hears_of_a_change_does_not_find_in_the_cache_what_was_before_it() -> Result<()> {
    let redis = Redis::start()?;
    let further = configuration(&url(&redis), "")?;
    let stand = Stand::start(&Setup { further: &further, ..Setup::default() })?;
    let mut cache = client(&redis)?;
    let mut follower = Follower::connect(stand.address(), &["notes"]).await?;
    for number in 1..=20 {
        let () = cache.set(format!("app:note:{number}"), "old")?;
        insert(&stand, number..number + 1)?;
        follower.wait_until("the note", WITHIN, |events| events.len() == number as usize).await?;
        let left: Option<String> = cache.get(format!("app:note:{number}"))?;
        assert_eq!(left, None, "note {number}");
        let version: String = cache.get(format!("twohop:version:app:note:{number}"))?;
        assert_eq!(version, HELD);
    }
    let metrics = stand.metrics()?;
    for line in ["twohop_cache_deletions_total 20", "twohop_cache_waiting 0", "twohop_cache_dropped_total 0"]
    {
        assert!(metrics.lines().any(|own| own == line), "no `{line}` in:\n{metrics}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn no_deletion_is_lost_over_kill_9_of_the_host_and_of_redis() -> Result<()> {
    const ROUNDS: u32 = 3;
    const A_ROUND: u32 = 300;
    let mut redis = Redis::start_with(KEPT)?;
    let further = configuration(&url(&redis), "")?;
    let mut stand = Stand::start(&Setup { further: &further, ..Setup::default() })?;
    let set = |redis: &Redis, numbers: std::ops::Range<u32>| -> Result<()> {
        let keys: Vec<_> = numbers.map(|number| (format!("app:note:{number}"), "old")).collect();
        Ok(client(redis)?.mset(&keys)?)
    };
    // The last ones are of nobody.
    set(&redis, 0..ROUNDS * A_ROUND + 10)?;
    for round in 0..ROUNDS {
        let first = round * A_ROUND;
        match round % 3 {
            0 => {
                insert(&stand, first..first + A_ROUND)?;
                redis.kill9();
                insert_nothing_until_red(&stand).await?;
                redis.restart()?;
            }
            1 => {
                redis.kill9();
                insert(&stand, first..first + A_ROUND)?;
                insert_nothing_until_red(&stand).await?;
                // What waits for Redis is not recorded as done.
                stand.host.kill9();
                stand.host.restart()?;
                redis.restart()?;
            }
            _ => {
                insert(&stand, first..first + A_ROUND)?;
                stand.host.kill9();
                stand.host.restart()?;
            }
        }
        until("ready again", WITHIN, || Ok(ready(&stand)? == "200 ok")).await?;
    }
    let mut cache = client(&redis)?;
    let keys: Vec<_> = (0..ROUNDS * A_ROUND).map(|number| format!("app:note:{number}")).collect();
    until("all keys are gone", WITHIN, || Ok(cache.exists::<_, u32>(&keys)? == 0)).await?;
    let others: Vec<_> = (0..10).map(|number| format!("app:note:{}", ROUNDS * A_ROUND + number)).collect();
    assert_eq!(cache.exists::<_, u32>(&others)?, 10, "keys of rows that did not change stay");
    Ok(())
}

async fn insert_nothing_until_red(stand: &Stand) -> Result<()> {
    until("not ready", WITHIN, || Ok(ready(stand)? == "503 cache")).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_crash_between_the_deletion_and_the_commit_deletes_again() -> Result<()> {
    let redis = Redis::start()?;
    let further = configuration(&url(&redis), "")?;
    let mut stand = Stand::start(&Setup { further: &further, ..Setup::default() })?;
    let mut cache = client(&redis)?;
    // The first batch after this start is the one that matters.
    stand.wait_for_snapshot(WITHIN).await?;
    let is_all_judged =
        || Ok(stand.metric("twohop_pipeline_offset")? == stand.metric("twohop_log_end_offset")?);
    until("all is judged", WITHIN, is_all_judged).await?;
    stand.options.environment.push(("TWOHOP_FAILPOINT".into(), "batch-before-apply".into()));
    stand.host.terminate();
    stand.host = Host::start(stand.options.clone())?;
    let () = cache.set("app:note:1", "old")?;
    insert(&stand, 1..2)?;
    until("the host has died", WITHIN, || Ok(stand.host.ended().is_some())).await?;
    assert!(!cache.exists::<_, bool>("app:note:1")?, "it was deleted before the batch was applied");
    let () = cache.set("app:note:1", "filled by somebody without a lease")?;
    stand.options.environment.clear();
    stand.host = Host::start(stand.options.clone())?;
    until("the key is gone", WITHIN, || Ok(!cache.exists::<_, bool>("app:note:1")?)).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redis_that_stands_still_is_told_and_waited_for() -> Result<()> {
    let mut redis = Redis::start()?;
    let further = configuration(&url(&redis), "")?;
    let stand = Stand::start(&Setup { further: &further, ..Setup::default() })?;
    let mut cache = client(&redis)?;
    let () = cache.set("app:note:1", "old")?;
    redis.pause(true);
    insert(&stand, 1..2)?;
    until("not ready", WITHIN, || Ok(ready(&stand)? == "503 cache")).await?;
    let (_, pipeline) = stand.ask("GET", "/v1/pipeline", b"")?;
    assert!(pipeline["cache"].as_str().is_some_and(|said| said.contains("does not answer")), "{pipeline}");
    redis.pause(false);
    until("the key is gone", WITHIN, || Ok(!cache.exists::<_, bool>("app:note:1")?)).await?;
    until("ready again", WITHIN, || Ok(ready(&stand)? == "200 ok")).await?;
    assert!(stand.metrics()?.contains("twohop_cache_waiting 0\n"));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_encrypted_redis_is_known_by_its_certificate_and_lets_in_by_password() -> Result<()> {
    let certificates = Certificates::new()?;
    // Redis runs under another account.
    let folder = tempfile::Builder::new().prefix("twohop-redis-tls-").tempdir()?;
    fs::set_permissions(folder.path(), Permissions::from_mode(0o755))?;
    let copied = ["server.pem", "server.key", "ca.pem"].map(|name| {
        let to = folder.path().join(name);
        fs::copy(certificates.path(name), &to)?;
        fs::set_permissions(&to, Permissions::from_mode(0o644))?;
        anyhow::Ok(to.display().to_string())
    });
    let [certificate, key, ca] = copied;
    let (certificate, key, ca) = (certificate?, key?, ca?);
    let redis = Redis::start_with(&[
        "--tls-cert-file",
        &certificate,
        "--tls-key-file",
        &key,
        "--tls-ca-cert-file",
        &ca,
        "--tls-auth-clients",
        "no",
        "--requirepass",
        "s3cret",
    ])?;
    let url = format!("rediss://:s3cret@localhost:{}", redis.address().port());
    let mut stand = Stand::start(&Setup { further: &configuration(&url, "")?, ..Setup::default() })?;
    assert_eq!(ready(&stand)?, "503 cache", "nobody vouches for it");
    assert!(stand.host.stderr().contains("certificate"), "{}", stand.host.stderr());
    stand.options.environment.push(("SSL_CERT_FILE".into(), ca));
    stand.host.terminate();
    stand.host = Host::start(stand.options.clone())?;
    insert(&stand, 1..2)?;
    until("a key is deleted", WITHIN, || Ok(stand.metrics()?.contains("\ntwohop_cache_deletions_total 1\n")))
        .await?;
    assert_eq!(ready(&stand)?, "200 ok");
    assert!(!stand.host.stderr().contains("s3cret"), "{}", stand.host.stderr());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_truncate_deletes_by_the_index_what_begins_as_the_pattern_does() -> Result<()> {
    let redis = Redis::start()?;
    let further = configuration(&url(&redis), "index = true")?;
    let stand = Stand::start(&Setup { further: &further, ..Setup::default() })?;
    let mut cache = client(&redis)?;
    let mut reader = interleaved::Reader::new(&redis)?;
    // More than one look at the index gives.
    let keys: Vec<_> = (0..1_500).map(|number| format!("app:note:{number}")).collect();
    for key in keys.iter().map(String::as_str).chain(["app:notes", "other:note:1"]) {
        let lease = reader.read(key)?.lease.context("nothing was deleted yet")?;
        assert!(reader.fill(key, &lease, "1")?);
    }
    let lease = reader.read("app:note:slow")?.lease.context("nothing was deleted yet")?;
    stand.postgres.psql("TRUNCATE notes")?;
    until("all keys are gone", WITHIN, || Ok(cache.exists::<_, u32>(&keys)? == 0)).await?;
    until("the last is out of the index", WITHIN, || Ok(cache.zcard::<_, u32>("twohop:index")? == 2)).await?;
    assert!(!reader.fill("app:note:slow", &lease, "1")?, "it was read before");
    assert_eq!(reader.read("app:note:9999")?.lease, None, "it may be read before the commit is seen");
    assert_eq!(cache.exists::<_, u32>(&["app:notes", "other:note:1"])?, 2);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_nobody_can_delete_is_counted_and_said() -> Result<()> {
    let redis = Redis::start()?;
    let further = configuration(&url(&redis), "")?;
    let without = further.split_once("[plugin").context("there is a plugin")?.1;
    let without = format!("[plugin{without}");
    for (further, expected) in [
        (&further, "by a prefix, but `cache.index` is not set"),
        (&without, "deletes keys of the cache, but `[cache]` names no Redis"),
    ] {
        let stand = Stand::start(&Setup { further, ..Setup::default() })?;
        stand.postgres.psql("TRUNCATE notes")?;
        stand.wait_for_log(0, expected, WITHIN).await?;
        assert!(stand.metrics()?.contains("\ntwohop_cache_dropped_total 1\n"));
        assert_eq!(ready(&stand)?, "200 ok");
    }
    Ok(())
}

#[test]
fn what_is_wrong_with_the_redis_of_the_cache_is_said_at_the_start() -> Result<()> {
    let open = Redis::start()?;
    let closed = Redis::start_with(&["--requirepass", "s3cret"])?;
    let port = open.address().port().to_string();
    let replica = Redis::start_with(&["--replicaof", "127.0.0.1", &port])?;
    let foreign = xtask::services::postgres::Postgres::start(xtask::services::postgres::Options::default())?;
    let foreign = foreign.url();
    let foreign =
        foreign.rsplit_once('@').and_then(|(_, rest)| rest.split_once('/')).context("it has an address")?.0;
    for (url, expected) in [
        (url(&closed), "wants a password"),
        (format!("redis://:wr0ng@{}", closed.address()), "refuses the user or the password"),
        (format!("redis://:wr0ng@{}", open.address()), "refuses the user or the password"),
        (url(&replica), "is a replica, which takes no deletions"),
        (format!("redis://{foreign}"), "PostgreSQL"),
        (format!("http://{}", open.address()), "is no address of a Redis"),
    ] {
        let folder = tempfile::Builder::new().prefix("twohop-cache-").tempdir()?;
        let file = folder.path().join("twohop.toml");
        let source = "[source.shop]\nurl = \"postgres://nobody@127.0.0.1:1/none\"\ntables = [\"notes\"]";
        fs::write(&file, format!("{source}\n[cache]\nurl = \"{url}\"\n"))?;
        let refusal = refusal_within(&Options::new(&file), WITHIN)?;
        assert!(!refusal.status.success() && refusal.stderr.contains(expected), "{url}: {}", refusal.stderr);
        assert!(!refusal.stderr.contains("wr0ng"), "{}", refusal.stderr);
    }
    Ok(())
}
