//! What a connection weighs that has nothing to do, and how fast they are accepted.

use std::time::Duration;

use crate::crowd::Crowd;
use crate::server::{Face, Server};
use crate::{Figures, Sizes};

/// Connections that are there before memory is looked at first.
const FIRST: usize = 100;
/// Looks at memory while connections come.
const LOOKS: usize = 3;
/// What was needed for the handshakes is given back by then.
const SETTLE_TIME: Duration = Duration::from_secs(2);

pub(crate) fn measure(sizes: Sizes) -> anyhow::Result<Figures> {
    let mut figures = Figures::new();
    for (program, face, name) in [
        ("bare", Face::EventStream, "hyper"),
        ("serve", Face::EventStream, "sse"),
        ("serve", Face::WebSocket, "ws"),
    ] {
        let server = Server::start(program)?;
        let mut crowd = Crowd::new(&server, face)?;
        crowd.grow(&server, FIRST)?;
        settle(&mut crowd)?;
        let before = server.resident_kib()?;
        let (mut took, mut weights) = (Duration::ZERO, Vec::new());
        for look in 1..=LOOKS {
            let count = sizes.idle * look / LOOKS;
            took += crowd.grow(&server, count)?;
            settle(&mut crowd)?;
            weights.push((server.resident_kib()? - before) / (count - FIRST) as f64);
        }
        let accepts = (sizes.idle - FIRST) as f64 / took.as_secs_f64();
        println!(
            "{name:<5} KiB an idle connection, as they grow to {}: {weights:.2?}; {accepts:.0} accepted a second",
            sizes.idle
        );
        figures.push((format!("{name}_kib_per_idle"), weights[LOOKS - 1]));
        if name == "sse" {
            figures.push(("idle_held".to_owned(), sizes.idle as f64));
            figures.push(("accepts_per_s".to_owned(), accepts));
        }
    }
    Ok(figures)
}

fn settle(crowd: &mut Crowd) -> anyhow::Result<()> {
    let until = std::time::Instant::now() + SETTLE_TIME;
    while std::time::Instant::now() < until {
        crowd.turn(Duration::from_millis(100))?;
    }
    Ok(())
}
