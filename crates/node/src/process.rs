//! What the operating system says of this process, read at each scrape. Names are Prometheus' own for processes.

use std::{fmt, fs, path::Path};

use nix::unistd::{SysconfVar, sysconf};
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric},
    metrics::{counter::ConstCounter, gauge::ConstGauge},
};

/// Resident memory, open files, processor time, threads and start of the process. Outside Linux it gives nothing.
#[derive(Debug)]
pub(crate) struct ProcessCollector;

impl Collector for ProcessCollector {
    fn encode(&self, mut encoder: DescriptorEncoder) -> Result<(), fmt::Error> {
        let mut gauge = |name: &str, help: &str, value: Option<f64>| match value {
            Some(value) => write_metric(&mut encoder, name, help, &ConstGauge::new(value)),
            None => Ok(()),
        };
        gauge("process_resident_memory_bytes", "Resident memory of the process.", resident_bytes())?;
        gauge("process_resident_memory_anonymous_bytes", "Resident memory that no file backs.", anonymous_bytes())?;
        gauge("process_open_fds", "File descriptors that are open.", open_files())?;
        gauge("process_max_fds", "File descriptors that may be open.", open_files_max())?;
        let stat = Stat::read();
        gauge("process_threads", "Threads of the process.", stat.as_ref().map(|stat| stat.threads))?;
        gauge(
            "process_start_time_seconds",
            "When the process started, in seconds since the Unix epoch.",
            start_time(stat.as_ref()),
        )?;
        if let Some(stat) = &stat {
            let cpu = ConstCounter::new(stat.cpu_seconds);
            write_metric(
                &mut encoder,
                "process_cpu_seconds",
                "Processor time that the process used, user and system.",
                &cpu,
            )?;
        }
        Ok(())
    }
}

fn write_metric(
    encoder: &mut DescriptorEncoder,
    name: &str,
    help: &str,
    metric: &impl Typed,
) -> Result<(), fmt::Error> {
    metric.encode(encoder.encode_descriptor(name, help, None, metric.metric_type())?)
}

/// `EncodeMetric` under a name of ours, to take both kinds of constant.
trait Typed: EncodeMetric {}
impl Typed for ConstGauge<f64> {}
impl Typed for ConstCounter<f64> {}

/// Resident bytes of this process; none where the system does not tell.
pub(crate) fn resident_bytes() -> Option<f64> {
    status_bytes("VmRSS:")
}

fn anonymous_bytes() -> Option<f64> {
    status_bytes("RssAnon:")
}

fn status_bytes(field: &str) -> Option<f64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix(field))?;
    let kib: f64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024.0)
}

fn open_files() -> Option<f64> {
    // One of them is the folder that is being read.
    fs::read_dir(Path::new("/proc/self/fd")).ok().map(|entries| entries.count().saturating_sub(1) as f64)
}

fn open_files_max() -> Option<f64> {
    nix::sys::resource::getrlimit(nix::sys::resource::Resource::RLIMIT_NOFILE).ok().map(|(soft, _)| soft as f64)
}

/// What of /proc/self/stat is used (proc_pid_stat(5)).
struct Stat {
    cpu_seconds: f64,
    threads: f64,
    start_seconds_after_boot: f64,
}

impl Stat {
    fn read() -> Option<Self> {
        let ticks = sysconf(SysconfVar::CLK_TCK).ok()?? as f64;
        Self::parse(&fs::read_to_string("/proc/self/stat").ok()?, ticks)
    }

    fn parse(text: &str, ticks: f64) -> Option<Self> {
        // The second field is the program's name in parentheses and may hold anything; count from behind it.
        let fields: Vec<&str> = text.rsplit_once(')')?.1.split_ascii_whitespace().collect();
        let field = |number: usize| fields.get(number - 3).and_then(|value| value.parse::<f64>().ok());
        Some(Self {
            cpu_seconds: (field(14)? + field(15)?) / ticks,
            threads: field(20)?,
            start_seconds_after_boot: field(22)? / ticks,
        })
    }
}

fn start_time(stat: Option<&Stat>) -> Option<f64> {
    let boot = fs::read_to_string("/proc/stat").ok()?;
    let boot: f64 = boot.lines().find_map(|line| line.strip_prefix("btime "))?.trim().parse().ok()?;
    Some(boot + stat?.start_seconds_after_boot)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_parentheses_does_not_shift_the_fields() {
        let text = "7 (a) b) S 1 1 1 0 -1 4 5 0 0 0 250 50 0 0 20 0 9 0 12300 0 0";
        let stat = Stat::parse(text, 100.0).unwrap();
        assert_eq!((stat.cpu_seconds, stat.threads, stat.start_seconds_after_boot), (3.0, 9.0, 123.0));
        assert!(Stat::parse("7 (a) S 1", 100.0).is_none());
        assert!(Stat::parse("", 100.0).is_none());
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn linux_tells_all_of_it() {
        assert!(resident_bytes().unwrap() > 100_000.0);
        assert!(anonymous_bytes().unwrap() > 10_000.0);
        assert!(open_files().unwrap() >= 3.0);
        assert!(open_files_max().unwrap() >= 3.0);
        assert!(start_time(Stat::read().as_ref()).unwrap() > 1_000_000_000.0);
    }
}
