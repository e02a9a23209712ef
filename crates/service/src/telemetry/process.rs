//! What the process takes of its machine, so that growth of memory and descriptors can be watched.

use std::fs;

use metrics::{Unit, describe_gauge, gauge};

/// Clock ticks per second in `/proc`: fixed at 100 for what the kernel shows to programs.
const TICKS_PER_SECOND: f64 = 100.0;
/// Bytes per page where the kernel counts in pages; asked for in bytes instead where possible.
const KIB: f64 = 1024.0;

pub(super) fn describe() {
    describe_gauge!("process_resident_memory_bytes", Unit::Bytes, "resident memory");
    describe_gauge!("process_open_fds", Unit::Count, "open file descriptors");
    describe_gauge!("process_threads", Unit::Count, "threads");
    describe_gauge!("process_cpu_seconds_total", Unit::Seconds, "processor time since the start");
}

/// Reads the present state. What cannot be read is left as it was.
pub(super) fn observe() {
    if let Ok(status) = fs::read_to_string("/proc/self/status") {
        if let Some(kib) = status_field(&status, "VmRSS:") {
            gauge!("process_resident_memory_bytes").set(kib * KIB);
        }
        if let Some(threads) = status_field(&status, "Threads:") {
            gauge!("process_threads").set(threads);
        }
    }
    if let Ok(entries) = fs::read_dir("/proc/self/fd") {
        // The one that reads the folder is not counted.
        let open = u32::try_from(entries.count().saturating_sub(1)).unwrap_or(u32::MAX);
        gauge!("process_open_fds").set(f64::from(open));
    }
    if let Some(seconds) = fs::read_to_string("/proc/self/stat").ok().and_then(|it| cpu(&it)) {
        gauge!("process_cpu_seconds_total").set(seconds);
    }
}

fn status_field(status: &str, name: &str) -> Option<f64> {
    let line = status.lines().find_map(|it| it.strip_prefix(name))?;
    line.split_whitespace().next()?.parse().ok()
}

/// User and system time of `/proc/self/stat`; the name before them may contain anything.
fn cpu(stat: &str) -> Option<f64> {
    let (_, fields) = stat.rsplit_once(')')?;
    // Fields 14 and 15 of proc(5), the name being field 2.
    let mut fields = fields.split_whitespace().skip(11);
    let user: f64 = fields.next()?.parse().ok()?;
    let system: f64 = fields.next()?.parse().ok()?;
    Some((user + system) / TICKS_PER_SECOND)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_found_where_the_manual_says() {
        let stat = "42 (a) b (c)) S 1 1 1 0 -1 4194560 100 0 0 0 250 50 0 0 20 0 5 0 1 2 3";
        assert_eq!(cpu(stat), Some(3.0));
        assert_eq!(status_field("Name:\tx\nVmRSS:\t  2048 kB\n", "VmRSS:"), Some(2048.0));
        assert_eq!(status_field("Name:\tx\n", "VmRSS:"), None);
    }

    #[test]
    fn the_own_process_is_seen() {
        let text = crate::telemetry::Metrics::of_process().render();
        for name in ["process_resident_memory_bytes", "process_open_fds", "process_cpu_seconds"] {
            let line = text.lines().find(|it| it.starts_with(name)).unwrap_or_default();
            let value: f64 = line.rsplit(' ').next().unwrap_or("").parse().unwrap_or(-1.0);
            assert!(0.0 <= value, "{name}: {text}");
        }
    }
}
