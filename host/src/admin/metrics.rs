//! `GET /metrics`: figures, as Prometheus reads them (text format 0.0.4).
//!
//! In: counters, and what the rooms say of themselves. Out: text; every metric of [`NAMES`], in that order.

use std::fmt::{Display, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use warp::http::{HeaderValue, header};
use warp::reply::{Reply, Response};

use super::State;
use super::refusal::Refusal;
use crate::deploy::Flow;
use crate::deploy::PluginStatus;
use crate::registry::Standing;
use crate::telemetry::{
    CacheMetrics, CutReason, DELAY_BOUNDS, Delays, Face, GatewayMetrics, Limit, ListenerMetrics, Metrics,
    NAMES, PluginMetrics, TimelineMetrics,
};

const KIND: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Writing to a text cannot fail.
const FITS: &str = "a text grows";

/// Answers the request.
pub(super) async fn metrics(state: &State) -> Result<Response, Refusal> {
    let statuses = state.parts.deployer.plugins().await?;
    let mut response = text(state, &statuses).into_response();
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(KIND));
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(response)
}

fn text(state: &State, statuses: &[PluginStatus]) -> String {
    let counters = state.parts.metrics.plugins();
    let mut out = String::new();
    for (name, kind, help) in NAMES {
        writeln!(out, "# HELP {name} {help}\n# TYPE {name} {}", kind.as_str()).expect(FITS);
        if !of_server(state, name, &mut out) && !of_statuses(statuses, name, &mut out) {
            of_counters(&counters, name, &mut out);
        }
    }
    out
}

fn of_server(state: &State, name: &str, out: &mut String) -> bool {
    let parts = &state.parts;
    let kept = parts.log.bounds(parts.partition);
    let value = match name {
        "twohop_changes_total" => parts.metrics.changes.load(Ordering::Relaxed),
        "twohop_delay_seconds" => {
            delays(&parts.metrics.delays, name, out);
            return true;
        }
        "twohop_access_refusals_total" => {
            for (reason, count) in parts.metrics.access_refusals.read() {
                writeln!(out, "{name}{{reason=\"{reason}\"}} {count}").expect(FITS);
            }
            return true;
        }
        "twohop_client_messages_total" => {
            for (outcome, count) in parts.metrics.client_messages.read() {
                writeln!(out, "{name}{{outcome=\"{outcome}\"}} {count}").expect(FITS);
            }
            return true;
        }
        "twohop_gate_calls_total" => parts.metrics.gate_calls.load(Ordering::Relaxed),
        "twohop_pipeline_offset" => parts.bus.committed(parts.partition).0,
        "twohop_log_first_offset" => kept.start.0,
        "twohop_log_end_offset" => kept.end.0,
        "twohop_pipeline_paused" => u64::from(matches!(parts.deployer.flow(), Flow::Paused { .. })),
        "twohop_history_head" => parts.bus.head().borrow().0,
        "twohop_values" => parts.metrics.history.values.load(Ordering::Relaxed),
        "twohop_values_bytes" => parts.metrics.history.values_bytes.load(Ordering::Relaxed),
        "twohop_values_dropped_total" => parts.metrics.history.values_dropped.load(Ordering::Relaxed),
        name if name.starts_with("twohop_cache_") => {
            of_cache(&parts.metrics.cache, name, out);
            return true;
        }
        "twohop_source_gaps_total"
        | "twohop_snapshot_rows_total"
        | "twohop_snapshot_tables_left"
        | "twohop_snapshot_progress"
        | "twohop_snapshot_seconds_left" => {
            of_snapshots(&parts.metrics, name, out);
            return true;
        }
        _ => {
            return of_timelines(&parts.metrics.timelines, name, out)
                || of_gateway(&parts.metrics.gateway, name, out);
        }
    };
    writeln!(out, "{name} {value}").expect(FITS);
    true
}

/// The name of a source has nothing that would have to be escaped.
fn of_snapshots(metrics: &Metrics, name: &str, out: &mut String) {
    for (source, snapshot) in metrics.snapshots() {
        let left = || snapshot.tables().iter().filter(|table| !table.is_complete).count();
        let value = match name {
            "twohop_source_gaps_total" => Some(snapshot.gaps() as f64),
            "twohop_snapshot_rows_total" => Some(snapshot.rows() as f64),
            "twohop_snapshot_tables_left" => Some(left() as f64),
            "twohop_snapshot_progress" => snapshot.part(),
            _ => snapshot.time_left().map(|left| left.as_secs_f64()),
        };
        if let Some(value) = value {
            writeln!(out, "{name}{{source=\"{source}\"}} {value}").expect(FITS);
        }
    }
}

fn of_cache(cache: &CacheMetrics, name: &str, out: &mut String) {
    let value = match name {
        "twohop_cache_deletions_total" => cache.deletions.load(Ordering::Relaxed),
        "twohop_cache_dropped_total" => cache.dropped.load(Ordering::Relaxed),
        "twohop_cache_waiting" => u64::from(cache.trouble().is_some()),
        "twohop_cache_errors_total" => {
            for (reason, count) in cache.errors.read() {
                writeln!(out, "{name}{{reason=\"{reason}\"}} {count}").expect(FITS);
            }
            return;
        }
        _ => return delays(&cache.delays, name, out),
    };
    writeln!(out, "{name} {value}").expect(FITS);
}

fn of_timelines(timelines: &TimelineMetrics, name: &str, out: &mut String) -> bool {
    let counter = match name {
        "twohop_timelines_active" => &timelines.active,
        "twohop_timelines_pushes_under_way" => &timelines.under_way,
        "twohop_timelines_pushes_total" => &timelines.pushes,
        "twohop_timelines_entries_total" => &timelines.entries,
        "twohop_timelines_pulls_total" => &timelines.pulls,
        "twohop_timelines_reads_total" => &timelines.reads,
        "twohop_timelines_merges_total" => &timelines.merges,
        "twohop_timelines_disk_reads_total" => &timelines.disk_reads,
        "twohop_timelines_evictions_total" => &timelines.evictions,
        "twohop_timelines_push_seconds" => {
            delays(&timelines.push_delays, name, out);
            return true;
        }
        "twohop_timelines_bytes" => {
            let parts = [
                ("timelines", &timelines.timelines_bytes),
                ("posts", &timelines.posts_bytes),
                ("followers", &timelines.followers_bytes),
            ];
            for (part, bytes) in parts {
                let bytes = bytes.load(Ordering::Relaxed);
                writeln!(out, "{name}{{part=\"{part}\"}} {bytes}").expect(FITS);
            }
            return true;
        }
        _ => return false,
    };
    writeln!(out, "{name} {}", counter.load(Ordering::Relaxed)).expect(FITS);
    true
}

fn of_gateway(gateway: &GatewayMetrics, name: &str, out: &mut String) -> bool {
    if of_listener(&gateway.listener, name, out) {
        return true;
    }
    let of_deliveries = match name {
        "twohop_delivery_seconds" => Some(&gateway.deliveries.waits),
        "twohop_end_to_end_seconds" => Some(&gateway.deliveries.whole),
        _ => None,
    };
    if let Some(histogram) = of_deliveries {
        delays(histogram, name, out);
        return true;
    }
    let of_presence = match name {
        "twohop_presence_channels" => Some(&gateway.presence_channels),
        "twohop_presence_members" => Some(&gateway.presence_members),
        "twohop_presence_frames_total" => Some(&gateway.presence_frames),
        "twohop_presence_refused_total" => Some(&gateway.presence_refused),
        _ => None,
    };
    if let Some(value) = of_presence {
        writeln!(out, "{name} {}", value.load(Ordering::Relaxed)).expect(FITS);
        return true;
    }
    for face in Face::ALL {
        let counters = gateway.face(face);
        let counter = match name {
            "twohop_streams" => &counters.open,
            "twohop_sent_messages_total" => &counters.messages,
            "twohop_resets_total" => &counters.resets,
            "twohop_resumes_total" => &counters.resumes,
            _ => return false,
        };
        let (face, value) = (face.name(), counter.load(Ordering::Relaxed));
        writeln!(out, "{name}{{face=\"{face}\"}} {value}").expect(FITS);
    }
    true
}

fn of_listener(listener: &ListenerMetrics, name: &str, out: &mut String) -> bool {
    let mut line = |label: &str, counter: &AtomicU64| {
        writeln!(out, "{name}{label} {}", counter.load(Ordering::Relaxed)).expect(FITS);
    };
    match name {
        "twohop_connections" => line("", &listener.connections),
        "twohop_cuts_total" => CutReason::ALL
            .iter()
            .for_each(|reason| line(&format!("{{reason=\"{}\"}}", reason.name()), listener.cuts(*reason))),
        "twohop_limited_total" => Limit::ALL
            .iter()
            .for_each(|limit| line(&format!("{{limit=\"{}\"}}", limit.name()), listener.limited(*limit))),
        _ => return false,
    }
    true
}

fn of_statuses(statuses: &[PluginStatus], name: &str, out: &mut String) -> bool {
    let active = statuses.iter().filter_map(|status| Some((&status.plugin, status.active.as_ref()?)));
    for (plugin, active) in active {
        let value = match name {
            "twohop_plugin_generation" => active.generation.activation.generation,
            "twohop_plugin_quarantined" => u64::from(active.standing == Standing::Quarantined),
            _ => return false,
        };
        of_plugin(name, plugin, value, out);
    }
    matches!(name, "twohop_plugin_generation" | "twohop_plugin_quarantined")
}

fn of_counters(counters: &[(Arc<str>, Arc<PluginMetrics>)], name: &str, out: &mut String) {
    for (plugin, counters) in counters {
        let counter = match name {
            "twohop_plugin_changes_total" => &counters.changes,
            "twohop_plugin_routes_total" => &counters.routes,
            "twohop_plugin_refused_routes_total" => &counters.refused_routes,
            "twohop_plugin_faults_total" => &counters.faults,
            "twohop_plugin_missing_columns_total" => &counters.missing_columns,
            "twohop_plugin_dead_letters_total" => &counters.dead_letters,
            "twohop_plugin_seconds_total" => {
                let nanoseconds = counters.nanoseconds.load(Ordering::Relaxed);
                let seconds = std::time::Duration::from_nanos(nanoseconds).as_secs_f64();
                of_plugin(name, plugin, seconds, out);
                continue;
            }
            _ => continue,
        };
        of_plugin(name, plugin, counter.load(Ordering::Relaxed), out);
    }
}

/// The name of a plugin has nothing that would have to be escaped.
fn of_plugin(name: &str, plugin: &str, value: impl Display, out: &mut String) {
    writeln!(out, "{name}{{plugin=\"{plugin}\"}} {value}").expect(FITS);
}

fn delays(delays: &Delays, name: &str, out: &mut String) {
    let (buckets, count, sum) = delays.read();
    for (bound, within) in DELAY_BOUNDS.iter().zip(buckets) {
        writeln!(out, "{name}_bucket{{le=\"{bound}\"}} {within}").expect(FITS);
    }
    writeln!(out, "{name}_bucket{{le=\"+Inf\"}} {count}").expect(FITS);
    writeln!(out, "{name}_sum {}\n{name}_count {count}", sum.as_secs_f64()).expect(FITS);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_of_metrics_is_current() {
        let mut table = String::from("| metric | kind | what it is |\n|---|---|---|\n");
        for (name, kind, help) in NAMES {
            writeln!(table, "| `{name}` | {} | {help} |", kind.as_str()).expect(FITS);
        }
        let page = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/metrics.md"));
        let page = page.expect("the page is there");
        assert!(page.contains(&table), "put this into docs/metrics.md:\n{table}");
    }
}
