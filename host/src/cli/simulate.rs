//! `twohop simulate`: what feeds cost by the threshold above which authors are pulled, and which is the cheapest.
//!
//! In: a graph by its parameters, or that of a data folder; rates; machines. Out: what this machine's costs are, a line
//! for each threshold, and as the last line which is the cheapest. No server has to run.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use clap::Args;
use serde_json::json;
use twohop::simulate::{Costs, Load, Outcome, Shape, Threshold, Trial, cheapest, draw, outcomes};
use twohop::state::State;
use twohop::timeline::{Timelines, embedded};

use super::table::{columns, head};

/// Within that of the cheapest, a threshold is as good.
const AS_GOOD: f64 = 1.05;

#[derive(Debug, Args)]
pub(crate) struct Simulate {
    /// Users.
    #[arg(long, value_name = "N", default_value_t = 1_000_000)]
    users: u64,
    /// Followers of the most followed author; without it, a third of all users.
    #[arg(long, value_name = "N")]
    celebrity: Option<u64>,
    /// Whom a user follows, on average.
    #[arg(long, value_name = "N", default_value_t = 150.0)]
    follows: f64,
    /// Take the graph from this data folder instead, beside the server that uses it.
    #[arg(long, value_name = "FOLDER", conflicts_with_all = ["users", "celebrity", "follows"])]
    data: Option<PathBuf>,
    /// The share of users whose timeline is active at a time.
    #[arg(long, value_name = "SHARE", default_value_t = 0.1)]
    active: f64,
    /// How long a timeline stays active.
    #[arg(long, value_name = "TIME", default_value = "1h", value_parser = duration)]
    active_for: Duration,
    /// Posts of a user in a day, on average.
    #[arg(long, value_name = "N", default_value_t = 2.0)]
    posts_a_day: f64,
    /// Who has more followers posts more: in proportion to followers to this power. 0 is all alike.
    #[arg(long, value_name = "POWER", default_value_t = 0.25)]
    posts_by_followers: f64,
    /// Readings of an active timeline in an hour.
    #[arg(long, value_name = "N", default_value_t = 20.0)]
    reads_an_hour: f64,
    /// How long a push to the last active follower may take.
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = duration)]
    delay_max: Duration,
    /// Cores of a machine; without it, this one's.
    #[arg(long, value_name = "N")]
    cores: Option<f64>,
    /// Memory of a machine in GiB; without it, this one's.
    #[arg(long, value_name = "GIB")]
    memory: Option<f64>,
    /// Machines, at most. With 1, a threshold has to fit on one machine.
    #[arg(long, value_name = "N", default_value_t = 100_000)]
    machines_max: u64,
    /// Draw the outcomes into this file, as SVG.
    #[arg(long, value_name = "FILE")]
    plot: Option<PathBuf>,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

/// Reckons, and prints what was found. An error if there is no threshold that suffices.
pub(crate) fn run(asked: &Simulate) -> Result<()> {
    let load = load(asked)?;
    load.check()?;
    let shape = shape(asked)?;
    if !asked.json {
        println!(
            "{} users who follow {:.0} on average, at most {} of them one author; {:.0} % have an active timeline",
            short(shape.users),
            shape.follows(),
            short(shape.celebrity()),
            load.active * 100.0
        );
        println!("measuring what this machine takes for it, which takes a moment");
    }
    let costs = measured()?;
    let all = outcomes(&shape, &load, &costs);
    if let Some(file) = &asked.plot {
        let svg = draw(&title(&shape, &load), &all);
        fs::write(file, svg).with_context(|| format!("cannot write {}", file.display()))?;
    }
    if asked.json {
        println!("{}", as_json(&costs, &all));
    } else {
        print!("\n{}\n{}\n", shown_costs(&costs), shown(&all));
    }
    let Some(best) = cheapest(&all) else {
        let plural = if load.machines_max == 1 { "one machine does" } else { "so many machines do" };
        bail!("{plural} not suffice at any threshold: allow more or larger ones, or fewer active timelines");
    };
    if !asked.json {
        println!("{}", verdict(&all, best));
    }
    Ok(())
}

fn load(asked: &Simulate) -> Result<Load> {
    let memory = match asked.memory {
        Some(gib) => gib * f64::from(1 << 30),
        None => own_memory().context("cannot find this machine's memory: say --memory")?,
    };
    let cores = || std::thread::available_parallelism().map(|count| count.get() as f64);
    Ok(Load {
        active: asked.active,
        posts_a_day: asked.posts_a_day,
        posts_by_followers: asked.posts_by_followers,
        reads_an_hour: asked.reads_an_hour,
        active_for: asked.active_for,
        delay_max: asked.delay_max,
        cores: asked
            .cores
            .map_or_else(cores, Ok)
            .context("cannot count this machine's cores: say --cores")?,
        memory,
        machines_max: asked.machines_max,
    })
}

fn own_memory() -> Option<f64> {
    let text = fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kib: f64 = line.split_whitespace().next()?.parse().ok()?;
    Some(kib * 1_024.0)
}

fn shape(asked: &Simulate) -> Result<Shape> {
    let Some(folder) = &asked.data else {
        let celebrity = asked.celebrity.unwrap_or(asked.users / 3);
        return Ok(Shape::power_law(asked.users, celebrity, asked.follows)?);
    };
    counted(folder).with_context(|| format!("no graph from {}", folder.display()))
}

fn counted(folder: &Path) -> Result<Shape> {
    Ok(Shape::counted(&embedded::count_graph(folder)?)?)
}

fn measured() -> Result<Costs> {
    let folder = tempfile::Builder::new().prefix("twohop-").tempdir();
    let folder = folder.context("cannot make a folder for the store that is tried")?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let tried = async {
        let state = State::open(folder.path())?;
        // Nothing is evicted meanwhile.
        let timelines = Timelines::open(state, embedded::Config::new(usize::MAX / 2, u64::MAX)).await?;
        anyhow::Ok(Costs::measure(timelines, Trial::FULL).await?)
    };
    runtime.block_on(tried).context("cannot try the store of timelines")
}

fn title(shape: &Shape, load: &Load) -> String {
    format!(
        "{} users, the first author followed by {}; {} of them active: by the followers above which posts are pulled",
        short(shape.users),
        short(shape.celebrity()),
        short(shape.users * load.active),
    )
}

fn shown_costs(costs: &Costs) -> String {
    let rows = [
        ("a post, planned and durable", seconds(costs.post)),
        ("an entry pushed", seconds(costs.push)),
        ("a page of what is in memory", seconds(costs.read)),
        ("an author more to merge", seconds(costs.merge)),
        ("an author more to fetch", seconds(costs.fetch)),
        ("a timeline built", seconds(costs.build)),
        ("a full timeline in memory", bytes(costs.timeline_bytes)),
    ];
    columns(&rows.map(|(name, cost)| vec![name.to_owned(), cost]))
}

fn shown(all: &[Outcome]) -> String {
    let mut rows = vec![head(&[
        "above", "pulled", "writes/s", "reads/s", "merged", "builds/s", "cores", "memory", "delay",
        "machines",
    ])];
    rows.extend(all.iter().map(|outcome| {
        vec![
            outcome.threshold.to_string(),
            short(outcome.pulled_authors),
            short(outcome.writes),
            short(outcome.reads),
            format!("{:.1}", outcome.merged),
            short(outcome.builds),
            format!("{:.2}", outcome.cores),
            bytes(outcome.memory),
            outcome.delay.map_or_else(|| "never".to_owned(), |delay| seconds(delay.as_secs_f64())),
            outcome.machines.map_or_else(|| "too few".to_owned(), |count| count.to_string()),
        ]
    }));
    columns(&rows)
}

/// Which is the cheapest, and how much it matters.
fn verdict(all: &[Outcome], best: &Outcome) -> String {
    let is_as_good = |one: &&Outcome| one.machines == best.machines && one.cores <= best.cores * AS_GOOD;
    let good: Vec<String> = all.iter().filter(is_as_good).map(|one| one.threshold.to_string()).collect();
    let machines = match best.machines {
        Some(1) => "one machine".to_owned(),
        count => format!("{} machines", count.unwrap_or(0)),
    };
    let also = match good.as_slice() {
        [first, .., last] => format!(" (from {first} to {last} it is within 5 %)"),
        _ => String::new(),
    };
    let how = match best.threshold {
        Threshold::Never => "cheapest: pull nobody".to_owned(),
        Threshold::Above(above) => format!("cheapest: pull authors with more than {above} followers"),
    };
    format!("{how}{also}, on {machines} with {:.2} busy cores", best.cores)
}

fn as_json(costs: &Costs, all: &[Outcome]) -> serde_json::Value {
    let outcome = |outcome: &Outcome| {
        let above = match outcome.threshold {
            Threshold::Above(above) => Some(above),
            Threshold::Never => None,
        };
        json!({
            "above": above,
            "pulled_authors": outcome.pulled_authors,
            "writes_per_second": outcome.writes,
            "reads_per_second": outcome.reads,
            "merged": outcome.merged,
            "builds_per_second": outcome.builds,
            "cores": outcome.cores,
            "memory_bytes": outcome.memory,
            "delay_seconds": outcome.delay.map(|delay| delay.as_secs_f64()),
            "machines": outcome.machines,
        })
    };
    json!({
        "costs": {
            "post_seconds": costs.post, "push_seconds": costs.push, "push_wall_seconds": costs.push_wall,
            "read_seconds": costs.read, "merge_seconds": costs.merge, "fetch_seconds": costs.fetch,
            "build_seconds": costs.build, "timeline_bytes": costs.timeline_bytes,
            "outbox_bytes": costs.outbox_bytes,
        },
        "outcomes": all.iter().map(outcome).collect::<Vec<_>>(),
        "cheapest": cheapest(all).map(outcome),
    })
}

/// `90s`, `250ms`, `1h`.
fn duration(text: &str) -> Result<Duration> {
    let wrong = || anyhow!("`{text}` is not a duration such as `250ms`, `90s`, `15m` or `1h`");
    let digits = text.find(|character: char| !character.is_ascii_digit()).ok_or_else(wrong)?;
    let (number, unit) = text.split_at(digits);
    let units = [("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000)];
    let (_, millis) = units.iter().find(|(name, _)| *name == unit).ok_or_else(wrong)?;
    let number: u64 = number.parse().map_err(|_| wrong())?;
    number.checked_mul(*millis).map(Duration::from_millis).ok_or_else(wrong)
}

/// Three digits, and a unit.
fn scaled(figure: f64, units: &[(f64, &str)]) -> String {
    let (size, unit) = units.iter().find(|(size, _)| figure >= *size).or(units.last()).unwrap_or(&(1.0, ""));
    let figure = figure / size;
    let digits = if figure >= 99.95 || figure == 0.0 { 0 } else { usize::from(figure < 9.995) + 1 };
    format!("{figure:.digits$}{unit}")
}

fn short(figure: f64) -> String {
    if figure >= 1e3 || figure == 0.0 || figure.fract() > 1e-3 {
        return scaled(figure, &[(1e9, "G"), (1e6, "M"), (1e3, "k"), (1.0, "")]);
    }
    format!("{figure:.0}")
}

fn bytes(bytes: f64) -> String {
    scaled(bytes, &[(1e12, " TB"), (1e9, " GB"), (1e6, " MB"), (1e3, " kB"), (1.0, " B")])
}

fn seconds(seconds: f64) -> String {
    if seconds == 0.0 {
        return "0".to_owned();
    }
    scaled(seconds, &[(1.0, " s"), (1e-3, " ms"), (1e-6, " µs"), (1e-9, " ns")])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_have_three_digits() {
        assert_eq!(
            [0.0, 7.0, 0.5, 999.0, 1_234.0, 12_345.0, 3e8].map(short),
            ["0", "7", "0.50", "999", "1.23k", "12.3k", "300M"]
        );
        assert_eq!(
            [0.0, 2e-7, 0.0012, 1.0, 90.0].map(seconds),
            ["0", "200 ns", "1.20 ms", "1.00 s", "90.0 s"]
        );
        assert_eq!([900.0, 16_400.0, 2.5e12].map(bytes), ["900 B", "16.4 kB", "2.50 TB"]);
    }

    #[test]
    fn durations_are_numbers_with_a_unit() {
        assert_eq!(duration("250ms").unwrap(), Duration::from_millis(250));
        assert_eq!(duration("2h").unwrap(), Duration::from_secs(7_200));
        for wrong in ["", "5", "h", "1 hour", "-1s", "99999999999999999999d"] {
            assert!(duration(wrong).is_err(), "{wrong}");
        }
    }

    fn outcome(threshold: Threshold, cores: f64, machines: Option<u64>) -> Outcome {
        let delay = Some(Duration::from_millis(20));
        Outcome {
            threshold,
            pulled_authors: 2.0,
            writes: 1_500.0,
            reads: 7.0,
            merged: 0.25,
            builds: 0.5,
            cores,
            memory: 1.5e9,
            delay,
            machines,
        }
    }

    #[test]
    fn a_line_a_threshold_and_then_the_cheapest() {
        let all = [
            outcome(Threshold::Above(0.0), 3.0, Some(1)),
            outcome(Threshold::Above(10.0), 1.01, Some(1)),
            outcome(Threshold::Never, 1.0, Some(1)),
        ];
        let table = shown(&all);
        assert_eq!(table.lines().count(), 4, "{table}");
        assert!(table.lines().nth(1).unwrap().starts_with("0      2       1.50k"), "{table}");
        assert_eq!(
            verdict(&all, &all[2]),
            "cheapest: pull nobody (from 10 to none it is within 5 %), on one machine with 1.00 busy cores"
        );
        assert_eq!(
            verdict(&all[..1], &all[0]),
            "cheapest: pull authors with more than 0 followers, on one machine with 3.00 busy cores"
        );
    }
}
