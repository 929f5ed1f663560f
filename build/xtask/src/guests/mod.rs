//! The Linux guest's files: the distribution's unmodified kernel, and an initramfs made of its busybox, the modules
//! the virtio devices need, and our workload program.
//!
//! They end up as `out/guests/debian/Image` and `out/guests/debian/initrd.cpio`. Packages are fetched once; the
//! initramfs is written again whenever a part of it changed.

pub mod apt;
pub mod cpio;
pub mod deb;
mod mirror;
pub mod modules;

use crate::cargo::{Cargo, Target};
use crate::paths::{Paths, write_if_changed};
use crate::progress;
use anyhow::{Context, Result, ensure};
use serde::Deserialize;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::io::Read as _;
use std::path::{Path, PathBuf};

/// The kernel and initrd of the packaged Linux guest.
#[derive(Clone, Debug)]
pub struct LinuxGuest {
    /// An arm64 Linux `Image`.
    pub kernel: PathBuf,
    /// An uncompressed cpio archive.
    pub initrd: PathBuf,
}

/// `guests/linux/debian.toml`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Recipe {
    suite: String,
    kernel: String,
    busybox: String,
    modules: Vec<String>,
    /// In the initramfs as well, and not loaded by its /init.
    more: Vec<String>,
}

/// Makes the `debian` guest's files, fetching what is missing.
///
/// # Errors
/// When a package cannot be fetched or the workload not built; the message says what to do.
pub fn linux(paths: &Paths, cargo: &Cargo, mirror: Option<&str>) -> Result<LinuxGuest> {
    let sources = paths.linux_sources();
    let recipe_file = sources.join("debian.toml");
    let text =
        std::fs::read_to_string(&recipe_file).with_context(|| recipe_file.display().to_string())?;
    let recipe: Recipe =
        toml::from_str(&text).with_context(|| recipe_file.display().to_string())?;
    let dir = paths.guests().join("debian");
    std::fs::create_dir_all(&dir).with_context(|| dir.display().to_string())?;
    // Two runs at once would fetch into the same directory.
    let lock = std::fs::File::create(dir.join("lock"))?;
    lock.lock().context("waiting for another run's download")?;

    let parts = dir.join("parts");
    let stamp = dir.join("recipe");
    if std::fs::read_to_string(&stamp).is_ok_and(|old| old == text) && dir.join("Image").exists() {
        // Fetched before, by this very recipe.
    } else {
        fetch(paths, &recipe, &dir, &parts, mirror)?;
        std::fs::write(&stamp, &text)?;
    }
    let workload = cargo.build_one("workload", Target::LinuxMusl)?;
    let initrd = dir.join("initrd.cpio");
    write_if_changed(&initrd, &initramfs(&sources, &parts, &workload)?)?;
    Ok(LinuxGuest {
        kernel: dir.join("Image"),
        initrd,
    })
}

/// Where packages come from.
enum Repository {
    /// The machine's apt, with a state of its own.
    Apt(apt::Apt),
    /// A mirror, where there is no apt.
    Mirror(mirror::Mirror),
}

const ARCHITECTURE: &str = "arm64";

impl Repository {
    fn open(dir: &Path, suite: &str, mirror: Option<&str>) -> Result<Self> {
        if crate::setup::has_program("apt-get") {
            let purpose = apt::Purpose::Files {
                architecture: ARCHITECTURE,
            };
            let apt = apt::Apt::open(&dir.join("apt"), &[suite], purpose, mirror)?;
            return Ok(Self::Apt(apt));
        }
        let url = mirror
            .context("there is no apt here: give a Debian mirror, as in --mirror URL (the address that has dists/ below it)")?;
        let mirror = mirror::Mirror::open(&dir.join("mirror"), url, suite, ARCHITECTURE)?;
        Ok(Self::Mirror(mirror))
    }

    fn show(&self, package: &str) -> Result<apt::Package> {
        match self {
            Self::Apt(apt) => apt.show(package),
            Self::Mirror(mirror) => mirror.show(package),
        }
    }

    fn download(&self, package: &apt::Package, dir: &Path) -> Result<PathBuf> {
        match self {
            Self::Apt(apt) => apt.download(package, dir),
            Self::Mirror(mirror) => mirror.download(package, dir),
        }
    }
}

/// Fetches the packages and takes out what is needed.
fn fetch(
    paths: &Paths,
    recipe: &Recipe,
    dir: &Path,
    parts: &Path,
    mirror: Option<&str>,
) -> Result<()> {
    let what = format!("package lists of Debian {}", recipe.suite);
    let repository = progress::step(&what, || {
        Repository::open(&paths.guests(), &recipe.suite, mirror)
    })?;
    let meta = repository.show(&recipe.kernel)?;
    let name = meta
        .depends
        .iter()
        .find(|name| name.starts_with("linux-image-"))
        .with_context(|| format!("{} depends on no kernel image", recipe.kernel))?;
    let packages = dir.join("packages");
    std::fs::create_dir_all(&packages)?;
    let kernel = repository.download(&repository.show(name)?, &packages)?;
    let busybox = repository.download(&repository.show(&recipe.busybox)?, &packages)?;

    progress::step("unpack the Linux guest", || {
        let files = deb::read(&kernel, |path| {
            path.starts_with("boot/vmlinuz-")
                || path.ends_with("/modules.dep")
                || path.contains("/kernel/") && path.contains(".ko")
        })?;
        let image = files
            .iter()
            .find(|(path, _)| path.starts_with("boot/vmlinuz-"))
            .map(|(_, content)| content)
            .context("the kernel package holds no boot/vmlinuz")?;
        system::files::check_arm64_image(image)
            .map_err(|reason| anyhow::anyhow!("{}: {reason}", kernel.display()))?;
        if parts.exists() {
            std::fs::remove_dir_all(parts)?;
        }
        for (wanted, to) in [(&recipe.modules, "modules"), (&recipe.more, MORE)] {
            keep_modules(&files, wanted, &parts.join(to))?;
        }
        let files = deb::read(&busybox, |path| path.ends_with("bin/busybox"))?;
        let binary = files
            .values()
            .next()
            .context("the busybox package holds no bin/busybox")?;
        write_if_changed(&parts.join("busybox"), binary)?;
        write_if_changed(&dir.join("Image"), image)
    })
}

/// Where modules are that are not loaded by /init.
const MORE: &str = "modules/more";

/// Writes modules and the order in which they can be loaded.
fn keep_modules(files: &BTreeMap<String, Vec<u8>>, wanted: &[String], to: &Path) -> Result<()> {
    let mut order = String::new();
    for module in modules::load_order(files, wanted)? {
        write_if_changed(&to.join(format!("{}.ko", module.name)), &module.content)?;
        order.push_str(&module.name);
        order.push('\n');
    }
    write_if_changed(&to.join("order"), order.as_bytes())
}

/// The directories of the initramfs.
const DIRECTORIES: [&str; 13] = [
    "bin",
    "dev",
    "etc",
    "lib",
    "lib/modules",
    "lib/modules/more",
    "proc",
    "root",
    "run",
    "sbin",
    "sys",
    "tmp",
    "usr",
];

/// What the shell on the console offers without a path.
const APPLETS: &[&str] = &[
    "[",
    "ash",
    "awk",
    "basename",
    "cat",
    "chmod",
    "clear",
    "cp",
    "cut",
    "date",
    "dd",
    "df",
    "dmesg",
    "du",
    "echo",
    "env",
    "expr",
    "false",
    "find",
    "free",
    "grep",
    "halt",
    "head",
    "hostname",
    "insmod",
    "kill",
    "killall",
    "less",
    "ln",
    "ls",
    "lsmod",
    "md5sum",
    "mkdir",
    "mkfifo",
    "mknod",
    "mount",
    "mv",
    "nproc",
    "od",
    "poweroff",
    "printf",
    "ps",
    "pwd",
    "reboot",
    "rm",
    "rmdir",
    "rmmod",
    "sed",
    "seq",
    "setsid",
    "sh",
    "sha256sum",
    "sleep",
    "sort",
    "stty",
    "sync",
    "tail",
    "tee",
    "test",
    "time",
    "top",
    "touch",
    "tr",
    "true",
    "umount",
    "uname",
    "uniq",
    "uptime",
    "vi",
    "vmstat",
    "watch",
    "wc",
    "which",
    "xargs",
    "yes",
];

fn initramfs(sources: &Path, parts: &Path, workload: &Path) -> Result<Vec<u8>> {
    let read = |path: PathBuf| std::fs::read(&path).with_context(|| path.display().to_string());
    let mut archive = cpio::Archive::default();
    for directory in DIRECTORIES {
        archive.directory(directory);
    }
    archive.character_device("dev/console", 5, 1);
    archive.character_device("dev/null", 1, 3);
    archive.executable("init", &read(sources.join("init"))?);
    archive.executable("bin/busybox", &read(parts.join("busybox"))?);
    for applet in APPLETS {
        archive.link(&format!("bin/{applet}"), "busybox");
    }
    archive.executable(
        "bin/workload",
        &crate::elf::strip(&read(workload.to_path_buf())?)?,
    );
    for from in ["modules", MORE] {
        let order = String::from_utf8(read(parts.join(from).join("order"))?)?;
        for name in order.lines() {
            let file = format!("{from}/{name}.ko");
            archive.file(&format!("lib/{file}"), &read(parts.join(&file))?);
        }
        archive.file(&format!("lib/{from}/order"), order.as_bytes());
    }
    archive.file("etc/profile", &read(sources.join("profile"))?);
    Ok(archive.finish())
}

/// A file's SHA-256 in hexadecimal.
///
/// # Errors
/// When it cannot be read.
pub fn sha256_of(path: &Path) -> Result<String> {
    let mut file = std::fs::File::open(path).with_context(|| path.display().to_string())?;
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    loop {
        let read = file.read(&mut buffer)?;
        if read == 0 {
            break;
        }
        hash.update(&buffer[..read]);
    }
    let digest = hash.finalize();
    ensure!(digest.len() == 32, "SHA-256 has 32 bytes");
    Ok(digest.iter().map(|byte| format!("{byte:02x}")).collect())
}
