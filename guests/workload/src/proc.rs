//! What the guest's own kernel says about its memory.

use std::fmt;

/// From `/proc/meminfo`, in KiB.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemInfo {
    /// `MemTotal`.
    pub total_kib: u64,
    /// `MemAvailable`.
    pub available_kib: u64,
    /// `MemFree`.
    pub free_kib: u64,
    /// `AnonHugePages`: what programs hold in huge pages without having asked for them. 0 where the kernel has none.
    pub huge_kib: u64,
    /// `Hugetlb`: the pool of huge pages that the administrator set aside. 0 where the kernel has none.
    pub hugetlb_kib: u64,
}

/// From `/proc/vmstat`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct VmStat {
    /// Processes killed for want of memory.
    pub oom_kills: u64,
    /// Pages in the balloon now (4 KiB each).
    pub balloon_pages: u64,
}

/// A line that should be there is not, or holds no number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Missing {
    /// The file.
    pub file: &'static str,
    /// The line's name.
    pub field: &'static str,
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} has no number for {}", self.file, self.field)
    }
}

impl std::error::Error for Missing {}

fn number(text: &str, field: &str, separator: char) -> Option<u64> {
    text.lines()
        .find_map(|line| line.strip_prefix(field)?.strip_prefix(separator))?
        .split_whitespace()
        .next()?
        .parse()
        .ok()
}

impl MemInfo {
    /// Reads the text of `/proc/meminfo`.
    ///
    /// # Errors
    /// [`Missing`] for a line that is not there.
    pub fn parse(text: &str) -> Result<Self, Missing> {
        let field = |field| {
            number(text, field, ':').ok_or(Missing {
                file: "/proc/meminfo",
                field,
            })
        };
        Ok(Self {
            total_kib: field("MemTotal")?,
            available_kib: field("MemAvailable")?,
            free_kib: field("MemFree")?,
            huge_kib: number(text, "AnonHugePages", ':').unwrap_or(0),
            hugetlb_kib: number(text, "Hugetlb", ':').unwrap_or(0),
        })
    }
}

impl VmStat {
    /// Reads the text of `/proc/vmstat`. A kernel without a balloon has no lines for it.
    ///
    /// # Errors
    /// [`Missing`] when `oom_kill` is not there.
    pub fn parse(text: &str) -> Result<Self, Missing> {
        let oom_kills = number(text, "oom_kill", ' ').ok_or(Missing {
            file: "/proc/vmstat",
            field: "oom_kill",
        })?;
        let balloon = |field| number(text, field, ' ').unwrap_or(0);
        Ok(Self {
            oom_kills,
            balloon_pages: balloon("balloon_inflate").saturating_sub(balloon("balloon_deflate")),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MEMINFO: &str = "MemTotal:         212340 kB\nMemFree:          140212 kB\nMemAvailable:     161200 kB\nSwapTotal:  0 kB\n";

    #[test]
    fn meminfo_is_read() {
        assert_eq!(
            MemInfo::parse(MEMINFO),
            Ok(MemInfo {
                total_kib: 212_340,
                available_kib: 161_200,
                free_kib: 140_212,
                huge_kib: 0,
                hugetlb_kib: 0,
            })
        );
        let with_huge = format!("{MEMINFO}AnonHugePages: 4096 kB\nHugetlb: 8192 kB\n");
        let info = MemInfo::parse(&with_huge).unwrap();
        assert_eq!((info.huge_kib, info.hugetlb_kib), (4096, 8192));
    }

    #[test]
    fn a_missing_line_is_named() {
        let error = MemInfo::parse("MemTotal: 1 kB\nMemFree: 2 kB\n").unwrap_err();
        assert_eq!(
            error.to_string(),
            "/proc/meminfo has no number for MemAvailable"
        );
        assert!(VmStat::parse("oom_kill\n").is_err());
    }

    #[test]
    fn vmstat_counts_kills_and_the_pages_in_the_balloon() {
        let text = "oom_kill 3\nballoon_inflate 5000\nballoon_deflate 1200\nballoon_migrate 9\n";
        assert_eq!(
            VmStat::parse(text),
            Ok(VmStat {
                oom_kills: 3,
                balloon_pages: 3800
            })
        );
        assert_eq!(VmStat::parse("oom_kill 0\n").unwrap().balloon_pages, 0);
    }
}
