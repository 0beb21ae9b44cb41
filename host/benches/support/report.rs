//! The last line of a bench: its figures, and which of its aims are met, as JSON.

/// Prints it. An aim is a figure's name and the most that it may be.
pub(crate) fn print_report(bench: &str, figures: &[(impl AsRef<str>, f64)], aims: &[(&str, f64)]) {
    let aims = aims.iter().map(|(name, at_most)| {
        let met = figures.iter().any(|(figure, value)| figure.as_ref() == *name && value <= at_most);
        format!("{{\"figure\":\"{name}\",\"at_most\":{at_most},\"met\":{met}}}")
    });
    let aims: Vec<_> = aims.collect();
    let figures: Vec<_> =
        figures.iter().map(|(name, value)| format!("\"{}\":{value:.3}", name.as_ref())).collect();
    println!("{{\"bench\":\"{bench}\",\"figures\":{{{}}},\"aims\":[{}]}}", figures.join(","), aims.join(","));
}
