//! The same load on every server, in turn, several times.

use anyhow::Context;

use crate::crowd::{Crowd, Seen};
use crate::server::{Face, Nchan, Server};
use crate::{Figures, Sizes};

/// Who is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Who {
    Ours(Face),
    Nchan(Face),
    Floor,
}

const ALL: [Who; 5] = [
    Who::Floor,
    Who::Ours(Face::EventStream),
    Who::Nchan(Face::EventStream),
    Who::Ours(Face::WebSocket),
    Who::Nchan(Face::WebSocket),
];

pub(crate) fn measure(
    sizes: Sizes,
    connections: usize,
    rate: f64,
    suffix: &str,
    nchan: Option<&Nchan>,
) -> anyhow::Result<Figures> {
    println!("{connections} connections to one channel, {rate} messages a second of 150 bytes");
    let mut seen: Vec<(Who, Vec<Seen>)> = ALL
        .into_iter()
        .filter(|who| nchan.is_some() || !matches!(who, Who::Nchan(_)))
        .map(|who| (who, Vec::new()))
        .collect();
    for _ in 0..sizes.rounds {
        for (who, rounds) in &mut seen {
            let one = round(*who, sizes, connections, rate, nchan).with_context(|| format!("{who:?}"))?;
            rounds.push(one);
        }
    }
    let mut figures = Figures::new();
    for (who, rounds) in &seen {
        let (rate, p50, p99) = (
            median(rounds, Seen::per_processor_second),
            median(rounds, |seen| seen.delay_ms(50)),
            median(rounds, |seen| seen.delay_ms(99)),
        );
        let name = name(*who);
        println!(
            "{name:<10} {rate:>9.0} deliveries a second of processor time, delay p50 {p50:.2} p99 {p99:.2} ms"
        );
        figures.push((format!("{name}_per_processor_second{suffix}"), rate));
        figures.push((format!("{name}_p99_ms{suffix}"), p99));
    }
    let rate = |who: Who| {
        let rounds = seen.iter().find(|(other, _)| *other == who).map(|(_, rounds)| rounds);
        rounds.map(|rounds| median(rounds, Seen::per_processor_second))
    };
    for (face, name) in [(Face::EventStream, "sse"), (Face::WebSocket, "ws")] {
        for (other, what) in [(Who::Nchan(face), "ratio_to_nchan"), (Who::Floor, "share_of_floor")] {
            if let Some((ours, other)) = rate(Who::Ours(face)).zip(rate(other)) {
                figures.push((format!("{name}_{what}{suffix}"), ours / other));
            }
        }
    }
    Ok(figures)
}

fn name(who: Who) -> &'static str {
    match who {
        Who::Ours(Face::EventStream) => "sse",
        Who::Ours(Face::WebSocket) => "ws",
        Who::Nchan(Face::EventStream) => "nchan_sse",
        Who::Nchan(Face::WebSocket) => "nchan_ws",
        Who::Floor => "floor",
    }
}

fn round(
    who: Who,
    sizes: Sizes,
    connections: usize,
    rate: f64,
    nchan: Option<&Nchan>,
) -> anyhow::Result<Seen> {
    let (mut server, face) = match who {
        Who::Ours(face) => (Server::start("serve")?, face),
        Who::Floor => (Server::start("floor")?, Face::EventStream),
        Who::Nchan(face) => (Server::nchan(nchan.context("there is no nchan")?)?, face),
    };
    let mut crowd = Crowd::new(&server, face)?;
    crowd.grow(&server, connections)?;
    crowd.load(&mut server, rate, sizes.seconds)
}

fn median(rounds: &[Seen], figure: impl Fn(&Seen) -> f64) -> f64 {
    let mut figures: Vec<f64> = rounds.iter().map(figure).collect();
    figures.sort_by(f64::total_cmp);
    figures[figures.len() / 2]
}
