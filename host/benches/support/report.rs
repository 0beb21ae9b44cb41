//! The last line of a bench: its figures, and which of its aims are met, as JSON.

/// Prints it. An aim is a figure's name and the most, or the least, that it may be.
pub(crate) fn print_report(
    bench: &str,
    figures: &[(impl AsRef<str>, f64)],
    at_most: &[(&str, f64)],
    at_least: &[(&str, f64)],
) {
    let aim = |name: &str, kind: &str, bound: f64, is_met: fn(f64, f64) -> bool| {
        let met = figures.iter().any(|(figure, value)| figure.as_ref() == name && is_met(*value, bound));
        format!("{{\"figure\":\"{name}\",\"{kind}\":{bound},\"met\":{met}}}")
    };
    let at_most =
        at_most.iter().map(|(name, bound)| aim(name, "at_most", *bound, |value, bound| value <= bound));
    let at_least =
        at_least.iter().map(|(name, bound)| aim(name, "at_least", *bound, |value, bound| value >= bound));
    let aims: Vec<_> = at_most.chain(at_least).collect();
    let figures: Vec<_> =
        figures.iter().map(|(name, value)| format!("\"{}\":{value:.3}", name.as_ref())).collect();
    println!("{{\"bench\":\"{bench}\",\"figures\":{{{}}},\"aims\":[{}]}}", figures.join(","), aims.join(","));
}
