//! Loads that use memory up as fast as they can: what a guest must survive while its memory still grows.
//!
//! Each runs in a process of its own, which the kernel picks first when it has to kill one: then the agent lives on and says
//! so. Times are the guest's own.

use std::fmt;
use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// One page of a guest, in bytes; touching more often than needed on one with larger pages costs little.
const PAGE_BYTES: usize = 4096;
/// What is timed on its own at a load's beginning: the unit in which memory moves.
const FIRST_BYTES: u64 = 2 << 20;
/// Bytes of one write to a file.
const WRITE_BYTES: usize = 1 << 20;
/// What the fault loop asks for at a time.
const TAKE_BYTES: u64 = 32 << 20;
/// `oom_score_adj` of a load: the kernel kills it before anything else.
const KILL_ME: &str = "1000";
/// Where a load's file system is mounted.
const MOUNT: &str = "/run/burst";
/// A file system holds its own tables as well.
const TABLES_BYTES: u64 = 16 << 20;
/// The module with which a file can be read through the page cache as a disk is.
const LOOP_MODULE: &str = "/lib/modules/more/loop.ko";
const LOOP_DEVICE: &str = "/dev/loop0";

/// What is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Load {
    /// Writes to one word of each page of fresh memory.
    Fault {
        /// How much is timed.
        bytes: u64,
        /// What is touched before, untimed.
        after: u64,
    },
    /// Writes a file on a tmpfs, and removes it.
    Tmpfs {
        /// Its size.
        bytes: u64,
    },
    /// Starts processes that all live at the same time.
    Forks {
        /// How many.
        count: u64,
        /// What each writes to.
        bytes: u64,
    },
    /// Reads a block device through the page cache.
    Cache {
        /// How much.
        bytes: u64,
    },
}

impl fmt::Display for Load {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fault { bytes, after } => write!(f, "fault {bytes} {after}"),
            Self::Tmpfs { bytes } => write!(f, "tmpfs {bytes}"),
            Self::Forks { count, bytes } => write!(f, "forks {count} {bytes}"),
            Self::Cache { bytes } => write!(f, "cache {bytes}"),
        }
    }
}

/// How long a load took.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Took {
    /// Until the first 2 MiB were there (all of it, where a load has no such part).
    pub first: Duration,
    /// All of it.
    pub all: Duration,
}

impl fmt::Display for Took {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (first, all) = (self.first.as_micros(), self.all.as_micros());
        write!(f, "first_us {first} took_us {all}")
    }
}

/// Runs a load in a child of this process: `LOAD first_us N took_us N`, or `LOAD ended by SIGNAL OR STATUS`.
///
/// # Errors
/// When there can be no child.
pub fn in_a_child(load: Load) -> io::Result<String> {
    let mut command = Command::new("/proc/self/exe");
    command.arg("load");
    command.args(load.to_string().split(' '));
    let output = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?
        .wait_with_output()?;
    if !output.status.success() {
        // What it could not take away itself would keep its memory.
        let _ = tool(&["losetup", "-d", LOOP_DEVICE]);
        let _ = rustix::mount::unmount(MOUNT, rustix::mount::UnmountFlags::DETACH);
    }
    let said = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().replace('\n', "; ");
    Ok(if output.status.success() {
        format!("{load} {}", said(&output.stdout))
    } else {
        format!("{load} ended by {} {}", output.status, said(&output.stderr))
    })
}

/// Carries out a load in this process.
///
/// # Errors
/// What the guest's kernel refused.
pub fn run(load: Load) -> io::Result<Took> {
    fs::write("/proc/self/oom_score_adj", KILL_ME)?;
    match load {
        Load::Fault { bytes, after } => Ok(fault(bytes, after)),
        Load::Tmpfs { bytes } => {
            let mount = Mount::tmpfs(bytes.saturating_add(TABLES_BYTES))?;
            let took = write_file(&mount.path().join("file"), bytes);
            // Gone is gone also after an error.
            drop(mount);
            took
        }
        Load::Forks { count, bytes } => forks(count, bytes),
        Load::Cache { bytes } => cache(bytes),
    }
}

/// Touches `after` bytes, then times `bytes` more.
fn fault(bytes: u64, after: u64) -> Took {
    let mut held = Vec::new();
    take(after, &mut held);
    let start = Instant::now();
    take(FIRST_BYTES.min(bytes), &mut held);
    let first = start.elapsed();
    take(bytes.saturating_sub(FIRST_BYTES), &mut held);
    let all = start.elapsed();
    std::hint::black_box(&held);
    Took { first, all }
}

/// Takes fresh memory and touches each page of it. The kernel refuses at once what is more than all that it has at that
/// moment, so it is not asked for all at once.
fn take(bytes: u64, held: &mut Vec<Vec<u8>>) {
    let mut left = bytes;
    while left > 0 {
        let part = left.min(TAKE_BYTES);
        // The kernel gives zeroed memory at the first touch, page by page or in huge pages.
        let mut memory = vec![0u8; part as usize];
        touch(&mut memory);
        held.push(memory);
        left -= part;
    }
}

fn touch(memory: &mut [u8]) {
    for page in memory.chunks_mut(PAGE_BYTES) {
        if let Some(byte) = page.first_mut() {
            *byte = 1;
        }
    }
}

/// A file system that is gone when this is dropped.
struct Mount;

impl Mount {
    fn tmpfs(bytes: u64) -> io::Result<Self> {
        fs::create_dir_all(MOUNT)?;
        // One that a killed load left behind.
        let _ = rustix::mount::unmount(MOUNT, rustix::mount::UnmountFlags::DETACH);
        let size = std::ffi::CString::new(format!("size={bytes}")).map_err(io::Error::other)?;
        rustix::mount::mount(
            "burst",
            MOUNT,
            "tmpfs",
            rustix::mount::MountFlags::empty(),
            Some(size.as_c_str()),
        )?;
        Ok(Self)
    }

    fn path(&self) -> &Path {
        Path::new(MOUNT)
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let _ = rustix::mount::unmount(MOUNT, rustix::mount::UnmountFlags::DETACH);
    }
}

/// Writes a file of so many bytes.
fn write_file(path: &Path, bytes: u64) -> io::Result<Took> {
    let block = vec![0x5a; WRITE_BYTES];
    let mut file = File::create(path)?;
    timed(bytes, |part| {
        file.write_all(block.get(..part).unwrap_or(&block))
    })
}

/// Does something block by block until `bytes` are done.
fn timed(bytes: u64, mut part: impl FnMut(usize) -> io::Result<()>) -> io::Result<Took> {
    let start = Instant::now();
    let mut first = None;
    let mut done = 0;
    while done < bytes {
        let now = (bytes - done).min(WRITE_BYTES as u64);
        part(now as usize)?;
        done += now;
        if done >= FIRST_BYTES {
            first = first.or_else(|| Some(start.elapsed()));
        }
    }
    let all = start.elapsed();
    Ok(Took {
        first: first.unwrap_or(all),
        all,
    })
}

/// Starts `count` processes, each of which writes to `bytes` of its own memory, and lets them go when all are there.
fn forks(count: u64, bytes: u64) -> io::Result<Took> {
    let (hold, release) = io::pipe()?;
    let (mut ready, done) = io::pipe()?;
    let start = Instant::now();
    let mut children: Vec<Child> = Vec::new();
    let mut failed = None;
    for _ in 0..count {
        let child = Command::new("/proc/self/exe")
            .args(["load", "hold", &bytes.to_string()])
            .stdin(hold.try_clone()?)
            .stdout(done.try_clone()?)
            .spawn();
        match child {
            Ok(child) => children.push(child),
            Err(error) => {
                failed = Some(error);
                break;
            }
        }
    }
    drop((hold, done));
    // Ends early when a child is gone, and all others have answered and been released.
    let mut one = [0; 1];
    let mut there = 0;
    while failed.is_none() && there < children.len() && ready.read(&mut one)? == 1 {
        there += 1;
    }
    let all = start.elapsed();
    drop(release);
    let mut lost = 0u32;
    for mut child in children {
        if !child.wait()?.success() {
            lost += 1;
        }
    }
    match failed {
        Some(error) => Err(error),
        None if lost > 0 => Err(io::Error::other(format!(
            "{lost} of {count} processes died"
        ))),
        None => Ok(Took { first: all, all }),
    }
}

/// One process of a fork storm: writes to its memory, says so, and waits until its input ends.
///
/// # Errors
/// When its lines are gone.
pub fn hold(bytes: u64) -> io::Result<()> {
    fs::write("/proc/self/oom_score_adj", KILL_ME)?;
    let mut memory = vec![0u8; bytes as usize];
    touch(&mut memory);
    let mut output = io::stdout();
    output.write_all(b".")?;
    output.flush()?;
    io::copy(&mut io::stdin(), &mut io::sink())?;
    std::hint::black_box(&memory);
    Ok(())
}

/// Reads a disk of so many bytes from one end to the other. The disk is a file with nothing in it, whose blocks cost no memory
/// but in the page cache.
fn cache(bytes: u64) -> io::Result<Took> {
    // A disk has whole blocks.
    let bytes = bytes.next_multiple_of(PAGE_BYTES as u64);
    let mount = Mount::tmpfs(bytes.saturating_add(TABLES_BYTES))?;
    let path = mount.path().join("disk");
    File::create(&path)?.set_len(bytes)?;
    if !Path::new("/dev/loop-control").exists() {
        tool(&["insmod", LOOP_MODULE])?;
    }
    let disk = path.display().to_string();
    tool(&["losetup", LOOP_DEVICE, &disk])?;
    let took = read_disk(bytes);
    tool(&["losetup", "-d", LOOP_DEVICE])?;
    took
}

fn read_disk(bytes: u64) -> io::Result<Took> {
    let mut block = vec![0; WRITE_BYTES];
    let mut disk = File::open(LOOP_DEVICE)?;
    timed(bytes, |part| {
        let part = part.min(block.len());
        disk.read_exact(block.get_mut(..part).unwrap_or_default())
    })
}

/// Runs one of busybox's tools.
fn tool(words: &[&str]) -> io::Result<()> {
    let status = Command::new("/bin/busybox").args(words).status()?;
    if status.success() {
        return Ok(());
    }
    Err(io::Error::other(format!("{}: {status}", words.join(" "))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_loop_touches_what_it_is_told_and_times_the_rest() {
        let took = fault(3 << 20, 1 << 20);
        assert!(took.first <= took.all, "{took}");
        assert!(took.all > Duration::ZERO, "{took}");
        let memory = &mut [0u8; 3 * PAGE_BYTES];
        touch(memory);
        let written: Vec<usize> = (0..memory.len()).filter(|at| memory[*at] != 0).collect();
        assert_eq!(written, [0, PAGE_BYTES, 2 * PAGE_BYTES]);
    }

    #[test]
    fn a_file_has_the_bytes_that_were_asked_for() {
        let path = std::env::temp_dir().join(format!("workload-burst-{}", std::process::id()));
        let bytes = (5 << 20) + 17;
        write_file(&path, bytes).unwrap();
        let length = fs::metadata(&path).unwrap().len();
        fs::remove_file(&path).unwrap();
        assert_eq!(length, bytes);
    }

    #[test]
    fn blocks_end_where_the_bytes_end_and_an_error_ends_them() {
        let mut parts = Vec::new();
        timed((2 << 20) + 5, |part| {
            parts.push(part);
            Ok(())
        })
        .unwrap();
        assert_eq!(parts, [1 << 20, 1 << 20, 5]);
        let refused = timed(9 << 20, |_| Err(io::Error::other("full")));
        assert_eq!(refused.unwrap_err().to_string(), "full");
    }

    #[test]
    fn a_load_is_written_as_it_is_read() {
        for text in ["fault 8 4", "tmpfs 8", "forks 500 4096", "cache 9"] {
            let command = crate::command::parse(&format!("burst {text}")).unwrap();
            let crate::command::Command::Burst(load) = command else {
                panic!("{command:?}");
            };
            assert_eq!(load.to_string(), text);
        }
    }
}
