//! The standard metrics of a process, `process_*`, in Prometheus's text format
//! (<https://prometheus.io/docs/instrumenting/writing_clientlibs/#process-metrics>).
//!
//! They are read from `/proc` whenever they are asked for. The text is written here and not by the metrics recorder:
//! its counters are whole numbers, and `process_cpu_seconds_total` is not. Other systems than Linux have none.

/// Returns the lines of all metrics that can be read; a value that cannot be read is left out.
#[must_use]
pub fn render() -> String {
    #[cfg(target_os = "linux")]
    return linux::render();
    #[cfg(not(target_os = "linux"))]
    return String::new();
}

#[cfg(target_os = "linux")]
mod linux {
    use std::fs;

    use rustix::param::{clock_ticks_per_second, page_size};
    use rustix::process::{Resource, getrlimit};

    /// What `/proc/self/stat` says (`proc_pid_stat(5)`).
    #[derive(Debug, PartialEq, Eq)]
    pub(super) struct Stat {
        /// User and system time, in clock ticks.
        pub(super) cpu: u64,
        pub(super) threads: u64,
        /// Start of the process after the start of the system, in clock ticks.
        pub(super) started: u64,
        pub(super) virtual_bytes: u64,
        pub(super) resident_pages: u64,
    }

    impl Stat {
        pub(super) fn parse(text: &str) -> Option<Self> {
            // The program's name is in parentheses and may itself contain some.
            let fields: Vec<&str> = text.rsplit_once(')')?.1.split_whitespace().collect();
            // The manual counts from 1, and the first field after the name is number 3.
            let field = |number: usize| fields.get(number - 3)?.parse::<u64>().ok();
            Some(Self {
                cpu: field(14)? + field(15)?,
                threads: field(20)?,
                started: field(22)?,
                virtual_bytes: field(23)?,
                resident_pages: field(24)?,
            })
        }
    }

    /// Returns the start of the system in seconds since 1970, from `/proc/stat`.
    pub(super) fn boot_time(text: &str) -> Option<u64> {
        text.lines().find_map(|line| line.strip_prefix("btime "))?.trim().parse().ok()
    }

    /// Formats ticks as seconds with two decimals.
    pub(super) fn seconds(ticks: u64, per_second: u64) -> String {
        let per_second = per_second.max(1);
        format!("{}.{:02}", ticks / per_second, ticks % per_second * 100 / per_second)
    }

    pub(super) fn render() -> String {
        let mut page = Page(String::new());
        let stat = fs::read_to_string("/proc/self/stat").ok().and_then(|text| Stat::parse(&text));
        let booted = fs::read_to_string("/proc/stat").ok().and_then(|text| boot_time(&text));
        let ticks = clock_ticks_per_second();
        if let Some(stat) = &stat {
            let resident = stat.resident_pages * u64::try_from(page_size()).unwrap_or_default();
            let cpu = "Total user and system CPU time spent in seconds.";
            page.add("process_cpu_seconds_total", "counter", cpu, &seconds(stat.cpu, ticks));
            page.gauge("process_resident_memory_bytes", "Resident memory size in bytes.", resident);
            page.gauge("process_virtual_memory_bytes", "Virtual memory size in bytes.", stat.virtual_bytes);
            page.gauge("process_threads", "Number of OS threads in the process.", stat.threads);
        }
        if let (Some(stat), Some(booted)) = (&stat, booted) {
            let started = seconds(booted * ticks + stat.started, ticks);
            let help = "Start time of the process since unix epoch in seconds.";
            page.add("process_start_time_seconds", "gauge", help, &started);
        }
        if let Ok(files) = fs::read_dir("/proc/self/fd") {
            // One of them is the folder that is being read.
            let open = files.count().saturating_sub(1);
            let open = u64::try_from(open).unwrap_or(u64::MAX);
            page.gauge("process_open_fds", "Number of open file descriptors.", open);
        }
        if let Some(most) = getrlimit(Resource::Nofile).current {
            page.gauge("process_max_fds", "Maximum number of open file descriptors.", most);
        }
        page.0
    }

    struct Page(String);

    impl Page {
        fn gauge(&mut self, name: &str, help: &str, value: u64) {
            self.add(name, "gauge", help, &value.to_string());
        }

        fn add(&mut self, name: &str, kind: &str, help: &str, value: &str) {
            self.0 +=
                &["# HELP ", name, " ", help, "\n# TYPE ", name, " ", kind, "\n", name, " ", value, "\n\n"].concat();
        }
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::linux::{Stat, boot_time, seconds};

    #[test]
    fn a_stat_line_is_read_behind_the_name_of_the_program() {
        let line = "4242 (a) b (c) S 1 4242 4242 0 -1 4194560 2300 0 12 0 150 25 0 0 20 0 7 0 987654 123456789 3000 \
                    18446744073709551615 1 1 0 0 0 0 0 4096 0 0 0 0 17 1 0 0 0 0 0 0 0 0 0 0 0 0 0\n";
        let expected =
            Stat { cpu: 175, threads: 7, started: 987_654, virtual_bytes: 123_456_789, resident_pages: 3000 };
        assert_eq!(Stat::parse(line), Some(expected));
        assert_eq!(Stat::parse("4242 (a) S 1"), None);
        assert_eq!(Stat::parse(""), None);
    }

    #[test]
    fn ticks_become_seconds_with_two_decimals() {
        assert_eq!(seconds(175, 100), "1.75");
        assert_eq!(seconds(5, 100), "0.05");
        assert_eq!(seconds(1000, 1024), "0.97");
        assert_eq!(boot_time("cpu 1 2\nbtime 1790000000\nprocesses 5\n"), Some(1_790_000_000));
        assert_eq!(boot_time("cpu 1 2\n"), None);
    }

    #[test]
    fn every_metric_has_help_type_and_one_value() {
        let text = super::render();
        for name in [
            "process_cpu_seconds_total",
            "process_resident_memory_bytes",
            "process_virtual_memory_bytes",
            "process_threads",
            "process_start_time_seconds",
            "process_open_fds",
            "process_max_fds",
        ] {
            assert!(text.contains(&format!("# HELP {name} ")) && text.contains(&format!("# TYPE {name} ")), "{text}");
            let values: Vec<f64> =
                text.lines().filter_map(|line| line.strip_prefix(name)?.trim().parse().ok()).collect();
            assert!(matches!(values[..], [value] if value >= 0.0), "{name}: {text}");
        }
    }
}
