//! `cargo xtask bench fanout`: what it costs to bring posts into timelines and to read them, beside a private Redis.
//!
//! The measuring of ours is the host's bench of that name (`hosted`). Beside it, Redis gets the same: an entry of 20
//! bytes into each of as many lists as there were timelines, `LPUSH` and then `LTRIM` to 800, in pipelines of 1,000
//! entries. Both are entries a second of processor time, of the process that keeps the lists: the client that writes to
//! Redis costs it nothing.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::ops::Range;
use std::time::Instant;

use anyhow::{Context, Result, ensure};

use super::hosted::measured_by;
use super::report::Report;
use crate::services::redis::Redis;
use crate::setup;

const PIPELINE_ENTRIES: usize = 1_000;
const POSTS: usize = 50;
const SLOTS_MAX: usize = 800;
const ENTRY: &str = "twenty bytes of text";

pub(super) fn run() -> Result<Report> {
    setup::redis()?;
    let mut report = measured_by("fanout")?;
    let figure = |key: &str| report.figures.get(key).copied().with_context(|| format!("no figure `{key}`"));
    let (ours, timelines) = (figure("pushes_per_core_second")?, figure("pushed_timelines")?);
    let redis = Redis::start()?;
    let theirs = Lists::connect(redis.address())?.measure(timelines as usize)?;
    println!("  Redis: {theirs:.0} entries a second of its processor time");
    report.figure("redis_pushes_per_core_second", theirs);
    report.figure("push_ratio_to_redis", ours / theirs);
    report.aim_at_least("push_ratio_to_redis", 5.0);
    Ok(report)
}

/// A connection to Redis, whose protocol is lines of text.
struct Lists {
    writer: TcpStream,
    reader: BufReader<TcpStream>,
}

impl Lists {
    fn connect(address: SocketAddr) -> Result<Self> {
        let writer = TcpStream::connect(address).context("could not reach Redis")?;
        let reader = BufReader::new(writer.try_clone().context("could not share the connection")?);
        Ok(Self { writer, reader })
    }

    /// Entries a second of Redis's processor time.
    fn measure(&mut self, lists: usize) -> Result<f64> {
        let firsts = (0..lists).step_by(PIPELINE_ENTRIES);
        let pipelines = firsts.map(|first| first..lists.min(first + PIPELINE_ENTRIES));
        let pipelines: Vec<_> = pipelines.map(|lists| (pipeline(lists.clone()), lists.len())).collect();
        // The first post makes the lists, which is not what is compared.
        self.send(&pipelines)?;
        let (began, before) = (Instant::now(), self.processor_seconds()?);
        for _ in 0..POSTS {
            self.send(&pipelines)?;
        }
        let (took, used) = (began.elapsed().as_secs_f64(), self.processor_seconds()? - before);
        let entries = (POSTS * lists) as f64;
        println!(
            "  Redis: {:.0} entries a second, {used:.1} s of processor time in {took:.1} s",
            entries / took
        );
        Ok(entries / used)
    }

    /// Sends all, the next while the last one is under way.
    fn send(&mut self, pipelines: &[(Vec<u8>, usize)]) -> Result<()> {
        let mut under_way = 0;
        for (bytes, entries) in pipelines {
            self.writer.write_all(bytes).context("could not write to Redis")?;
            self.answers(under_way)?;
            under_way = *entries;
        }
        self.answers(under_way)
    }

    /// Two lines an entry: the list's new length, and that it was trimmed.
    fn answers(&mut self, entries: usize) -> Result<()> {
        let mut line = String::new();
        for _ in 0..entries {
            for expected in [":", "+OK"] {
                self.line(&mut line)?;
                ensure!(line.starts_with(expected), "Redis answers {line:?}");
            }
        }
        Ok(())
    }

    fn line(&mut self, line: &mut String) -> Result<()> {
        line.clear();
        ensure!(self.reader.read_line(line).context("could not read from Redis")? > 0, "Redis hung up");
        Ok(())
    }

    /// What Redis has used so far.
    fn processor_seconds(&mut self) -> Result<f64> {
        self.writer.write_all(&command(&["INFO", "cpu"])).context("could not write to Redis")?;
        let mut line = String::new();
        self.line(&mut line)?;
        let length = line.strip_prefix('$').and_then(|length| length.trim().parse::<usize>().ok());
        let mut text = vec![0; length.with_context(|| format!("Redis answers {line:?}"))? + 2];
        self.reader.read_exact(&mut text).context("could not read from Redis")?;
        used(&String::from_utf8_lossy(&text))
    }
}

fn used(info: &str) -> Result<f64> {
    let figure = |key: &str| -> Option<f64> {
        info.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':')?.trim().parse().ok())
    };
    let both = figure("used_cpu_user").zip(figure("used_cpu_sys"));
    both.map(|(user, system)| user + system).context("Redis does not say what it used")
}

/// One entry for each of these lists.
fn pipeline(lists: Range<usize>) -> Vec<u8> {
    let last = (SLOTS_MAX - 1).to_string();
    let entry = |list: usize| {
        let key = format!("timeline:{list}");
        [command(&["LPUSH", &key, ENTRY]), command(&["LTRIM", &key, "0", &last])].concat()
    };
    lists.flat_map(entry).collect()
}

fn command(words: &[&str]) -> Vec<u8> {
    let mut bytes = format!("*{}\r\n", words.len()).into_bytes();
    for word in words {
        bytes.extend(format!("${}\r\n{word}\r\n", word.len()).bytes());
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_counts_its_words_and_their_bytes() {
        assert_eq!(
            command(&["LPUSH", "t:1", ENTRY]),
            b"*3\r\n$5\r\nLPUSH\r\n$3\r\nt:1\r\n$20\r\ntwenty bytes of text\r\n"
        );
        let pipeline = String::from_utf8(pipeline(7..9)).unwrap();
        assert_eq!(pipeline.matches("LPUSH").count(), 2);
        assert!(pipeline.ends_with("*4\r\n$5\r\nLTRIM\r\n$10\r\ntimeline:8\r\n$1\r\n0\r\n$3\r\n799\r\n"));
    }

    #[test]
    fn redis_takes_what_is_sent_and_says_what_it_used() {
        let redis = Redis::start().unwrap();
        let mut lists = Lists::connect(redis.address()).unwrap();
        assert!(lists.measure(1_500).unwrap() > 0.0);
        let said = "# CPU\r\nused_cpu_sys:1.5\r\nused_cpu_user:2.25\r\nused_cpu_sys_children:9\r\n";
        assert!((used(said).unwrap() - 3.75).abs() < 1e-9);
        assert!(used("# CPU\r\n").is_err());
    }
}
