//! What memory this machine has left, as far as it says.

use std::fs;
use std::path::{Path, PathBuf};

/// Bytes that a program may take without others being pushed out: the least of what the system calls available and
/// what its control groups leave. `None` where neither is known.
///
/// # Units
/// Bytes.
pub fn available_memory() -> Option<u64> {
    let system = fs::read_to_string("/proc/meminfo").ok().and_then(|text| meminfo_available(&text));
    let groups = fs::read_to_string("/proc/self/cgroup").ok().and_then(|text| groups_room(&text));
    [system, groups].into_iter().flatten().min()
}

/// The line `MemAvailable:  123 kB`.
fn meminfo_available(text: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

/// The least room of any control group that holds this process.
fn groups_room(text: &str) -> Option<u64> {
    let room = |line: &str| {
        let mut parts = line.splitn(3, ':').skip(1);
        let (controllers, path) = (parts.next()?, parts.next()?);
        let (root, names) = if controllers.is_empty() {
            ("/sys/fs/cgroup", ["memory.max", "memory.current", "inactive_file"])
        } else if controllers.split(',').any(|c| c == "memory") {
            let names = ["memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"];
            ("/sys/fs/cgroup/memory", names)
        } else {
            return None;
        };
        // Inside a container the path may be the host's; its own group is then the root.
        let below = Path::new(path.trim_start_matches('/'));
        below.ancestors().filter_map(|at| group_room(&Path::new(root).join(at), names)).min()
    };
    text.lines().filter_map(room).min()
}

fn group_room(group: &Path, [limit, used, cache]: [&str; 3]) -> Option<u64> {
    let read = |name: &str| fs::read_to_string(PathBuf::from(group).join(name)).ok();
    let number = |text: String| text.trim().parse::<u64>().ok();
    // "max", or a number beyond any machine's memory, is no limit.
    let limit = number(read(limit)?)?;
    let cached = read("memory.stat").and_then(|text| stat(&text, cache)).unwrap_or(0);
    room(limit, number(read(used)?)?, cached)
}

/// What a limit leaves; pages of files that can be dropped do not count as used.
fn room(limit: u64, used: u64, cached: u64) -> Option<u64> {
    (limit < 1 << 60).then(|| limit.saturating_sub(used.saturating_sub(cached)))
}

fn stat(text: &str, name: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_system_writes_is_read() {
        let text = "MemTotal:       24576000 kB\nMemFree:  1 kB\nMemAvailable:   21000000 kB\n";
        assert_eq!(meminfo_available(text), Some(21_000_000 * 1024));
        for bad in ["", "MemAvailable:", "MemAvailable: x kB", "MemAvailable: 18446744073709551615 kB"] {
            assert_eq!(meminfo_available(bad), None, "{bad}");
        }
        assert_eq!(stat("file 9\ninactive_file 77\n", "inactive_file"), Some(77));
        assert_eq!(stat("total_inactive_file 5\n", "inactive_file"), None);
        assert_eq!(room(1000, 700, 100), Some(400));
        assert_eq!(room(1000, 1700, 100), Some(0));
        assert_eq!(room(u64::MAX / 2, 5, 0), None);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn this_machine_says_something() {
        assert!(available_memory().is_some_and(|bytes| bytes > 0));
    }
}
