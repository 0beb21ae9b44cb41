//! Compares embedded databases at the shapes of the state's batches.
//!
//! `stores compare FOLDER [SMALL]` prints the tables of `docs/decisions/embedded-store.md`. FOLDER lies on the disk in
//! question. SMALL is a file system of about 64 MB that may be filled, such as a tmpfs. Every figure comes from a child
//! process, so that memory is one engine's own and a kill is a kill.
//!
//! Absent on purpose: reads by channel, which none of them serves; retention.

mod engine;

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::engine::{NAMES, open};

const MESSAGE_BYTES: usize = 200;
const LOAD_TIME: Duration = Duration::from_secs(4);
const UNTIL_KILL: Duration = Duration::from_millis(2_500);
const PAGE: u64 = 4_096;

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["compare", folder] => compare(Path::new(folder), None),
        ["compare", folder, small] => compare(Path::new(folder), Some(Path::new(small))),
        ["load", engine, folder, batch] => load(engine, Path::new(folder), batch.parse()?),
        ["reopen", engine, folder] => reopen(engine, Path::new(folder)),
        ["forever", engine, folder, batch] => forever(engine, Path::new(folder), batch.parse()?),
        ["fill", engine, folder] => fill(engine, Path::new(folder)),
        _ => bail!("usage: stores compare FOLDER [SMALL]"),
    }
}

fn compare(folder: &Path, small: Option<&Path>) -> Result<()> {
    println!(
        "| engine | batch | messages/s | commit p50 ms | p99 | max | peak memory MB | on disk MB | reopen |"
    );
    println!("|---|---|---|---|---|---|---|---|---|");
    for batch in ["1", "16", "512"] {
        floor(folder, batch.parse()?)?;
        for engine in NAMES {
            let store = fresh(folder, engine)?;
            let figures = child(&["load", engine, path(&store)?, batch])?;
            let megabytes = size(&store)? as f64 / 1e6;
            let reopened = child(&["reopen", engine, path(&store)?])?;
            println!("| {engine} | {batch} | {figures} | {megabytes:.0} | {reopened} |");
        }
    }
    println!(
        "\n| engine | `kill -9` at batch 16 | a zeroed page, at eight places of each file |\n|---|---|---|"
    );
    for engine in NAMES {
        let store = fresh(folder, engine)?;
        let confirmed = kill(engine, &store)?;
        let copy = folder.join("copy");
        let zeroed = zero_everywhere(engine, &store, &copy)?;
        let after = child(&["reopen", engine, path(&store)?]).unwrap_or_else(|error| error.to_string());
        println!("| {engine} | confirmed {confirmed}, found {after} | {zeroed} |");
    }
    if let Some(small) = small {
        println!("\n| engine | a full disk |\n|---|---|");
        for engine in NAMES {
            let told = child(&["fill", engine, path(&fresh(small, engine)?)?])
                .unwrap_or_else(|error| error.to_string());
            println!("| {engine} | {told} |");
            fs::remove_dir_all(small.join(engine))?;
        }
    }
    Ok(())
}

/// What the disk itself takes: the same bytes over an old file's, then a flush.
fn floor(folder: &Path, batch: usize) -> Result<()> {
    fs::create_dir_all(folder)?;
    let file = fs::File::create(folder.join("floor"))?;
    let bytes = vec![1; (batch * MESSAGE_BYTES).next_multiple_of(4_096)];
    file.write_all_at(&vec![0; bytes.len() * 16], 0)?;
    file.sync_all()?;
    let mut took = Vec::new();
    let started = Instant::now();
    while started.elapsed() < LOAD_TIME / 2 {
        let commit = Instant::now();
        file.write_all_at(&bytes, (took.len() % 16 * bytes.len()) as u64)?;
        file.sync_data()?;
        took.push(commit.elapsed());
    }
    println!("| (write, fdatasync) | {batch} | {} | | | |", figures(&mut took, batch, started.elapsed()));
    Ok(())
}

fn figures(took: &mut [Duration], batch: usize, total: Duration) -> String {
    took.sort_unstable();
    let at = |share: f64| took[((took.len() - 1) as f64 * share) as usize].as_secs_f64() * 1e3;
    let rate = (took.len() * batch) as f64 / total.as_secs_f64();
    format!("{rate:.0} | {:.2} | {:.2} | {:.1}", at(0.5), at(0.99), at(1.0))
}

fn messages(batch: usize) -> Vec<Vec<u8>> {
    // Half noise, so that compression has neither a feast nor a fast.
    let noise = |index: usize| {
        if index.is_multiple_of(2) { b'x' } else { (index.wrapping_mul(2_654_435_761) >> 13) as u8 }
    };
    (0..batch).map(|nth| (0..MESSAGE_BYTES).map(|at| noise(nth * 211 + at)).collect()).collect()
}

fn load(engine: &str, folder: &Path, batch: usize) -> Result<()> {
    let mut store = open(engine, folder)?;
    let messages = messages(batch);
    let mut took = Vec::new();
    let started = Instant::now();
    while started.elapsed() < LOAD_TIME {
        let first = (took.len() * batch) as u64 + 1;
        let commit = Instant::now();
        store.apply(first, &messages, first)?;
        took.push(commit.elapsed());
    }
    let total = started.elapsed();
    print!("{} | {}", figures(&mut took, batch, total), peak_memory()?);
    Ok(())
}

fn peak_memory() -> Result<String> {
    let status = fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).context("the kernel counts memory")?;
    let kilobytes: u64 = line.split_whitespace().nth(1).context("a number")?.parse()?;
    Ok((kilobytes / 1_000).to_string())
}

fn reopen(engine: &str, folder: &Path) -> Result<()> {
    let started = Instant::now();
    let store = open(engine, folder)?;
    let offset = store.offset()?;
    let opened = started.elapsed();
    let (count, greatest) = store.scan()?;
    let gaps = if count == greatest { "" } else { " WITH GAPS" };
    print!("{greatest} messages{gaps}, offset {offset}, in {:.0} ms", opened.as_secs_f64() * 1e3);
    Ok(())
}

fn forever(engine: &str, folder: &Path, batch: usize) -> Result<()> {
    let mut store = open(engine, folder)?;
    let messages = messages(batch);
    let mut out = std::io::stdout();
    for commit in 0.. {
        let first = commit * batch as u64 + 1;
        let last = first + batch as u64 - 1;
        store.apply(first, &messages, last)?;
        writeln!(out, "{last}")?;
    }
    Ok(())
}

/// Lets a child commit, kills it, and returns the last commit that it had confirmed.
fn kill(engine: &str, store: &Path) -> Result<u64> {
    let mut writer = Command::new(std::env::current_exe()?)
        .args(["forever", engine, path(store)?, "16"])
        .stdout(Stdio::piped())
        .spawn()?;
    let lines = BufReader::new(writer.stdout.take().context("it is piped")?).lines();
    let started = Instant::now();
    let (mut confirmed, mut killed) = (0, false);
    for line in lines {
        confirmed = line?.parse()?;
        if !killed && started.elapsed() > UNTIL_KILL {
            writer.kill()?;
            killed = true;
        }
    }
    writer.wait()?;
    Ok(confirmed)
}

/// Zeroes one page at a time of every larger file of a killed store, and counts how the openings end.
fn zero_everywhere(engine: &str, store: &Path, copy: &Path) -> Result<String> {
    let mut told = Vec::new();
    for file in files(store)? {
        let length = fs::metadata(&file)?.len();
        let name = file.strip_prefix(store)?.to_owned();
        if length < 16 * PAGE || name.to_string_lossy().ends_with("-shm") {
            continue;
        }
        let (mut whole, mut shorter, mut refused, mut why) = (0, 0, 0, String::new());
        let sound = child(&["reopen", engine, path(copied(store, copy)?)?])?;
        for part in 0..8 {
            copied(store, copy)?;
            let target = fs::OpenOptions::new().write(true).open(copy.join(&name))?;
            target.write_all_at(&[0; PAGE as usize], length / PAGE * part / 8 * PAGE)?;
            match child(&["reopen", engine, path(copy)?]) {
                Ok(found) if found.split(", in").next() == sound.split(", in").next() => whole += 1,
                Ok(_) => shorter += 1,
                Err(error) => {
                    refused += 1;
                    why = error.to_string();
                }
            }
        }
        let name = name.display();
        let mut told_of = format!("{name}: {whole} nothing seen, {shorter} rolled back, {refused} refused");
        if refused > 0 {
            told_of += &format!(" (“{}”)", why.trim());
        }
        told.push(told_of);
    }
    Ok(told.join("; "))
}

fn fill(engine: &str, folder: &Path) -> Result<()> {
    let ballast = folder.with_extension("ballast");
    fs::write(&ballast, vec![1; 16 << 20])?;
    let mut store = open(engine, folder)?;
    let messages = messages(512);
    let mut first = 1;
    let error = loop {
        match store.apply(first, &messages, first) {
            Ok(()) => first += 512,
            Err(error) => break format!("{error:#}"),
        }
    };
    fs::remove_file(&ballast)?;
    let again = match store.apply(first, &messages, first) {
        Ok(()) => "goes on once there is space".to_owned(),
        Err(error) => format!("then, with space: “{error:#}”"),
    };
    drop(store);
    let found = open(engine, folder).and_then(|store| store.scan());
    print!("“{error}” after {}; {again}; reopened: {found:?}", first - 1);
    Ok(())
}

fn child(arguments: &[&str]) -> Result<String> {
    let output = Command::new(std::env::current_exe()?).args(arguments).output()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    if !output.status.success() {
        let told = String::from_utf8_lossy(&output.stderr);
        let line = told.lines().find(|line| !line.trim().is_empty()).unwrap_or("it says nothing");
        bail!("{}", line.chars().take(160).collect::<String>());
    }
    Ok(text)
}

fn fresh(folder: &Path, engine: &str) -> Result<PathBuf> {
    let store = folder.join(engine);
    if store.exists() {
        fs::remove_dir_all(&store)?;
    }
    Ok(store)
}

fn copied<'a>(from: &Path, to: &'a Path) -> Result<&'a Path> {
    if to.exists() {
        fs::remove_dir_all(to)?;
    }
    for file in files(from)? {
        let target = to.join(file.strip_prefix(from)?);
        fs::create_dir_all(target.parent().context("a file is in a folder")?)?;
        fs::copy(&file, target)?;
    }
    Ok(to)
}

fn files(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            found.extend(files(&entry.path())?);
        } else {
            found.push(entry.path());
        }
    }
    found.sort();
    Ok(found)
}

fn size(folder: &Path) -> Result<u64> {
    files(folder)?.iter().map(|file| Ok(fs::metadata(file)?.len())).sum()
}

fn path(path: &Path) -> Result<&str> {
    path.to_str().context("the folder's name is not UTF-8")
}
