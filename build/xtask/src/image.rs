//! From a system description to a bootable image.

use crate::cargo::{Cargo, Target};
use crate::paths::{Paths, write_if_changed};
use crate::{boot, bundle, elf, guests, progress, sizes};
use anyhow::{Context, Result, anyhow, bail, ensure};
use protocol::bundle::FileKind;
use protocol::layout::BUNDLE_VADDR;
use qemu_machine::BOARDS;
use std::path::{Path, PathBuf};
use system::{Description, Scale, Source, Use};

/// The components that the bundle carries, by crate name.
pub const COMPONENTS: [&str; 5] = ["memory-server", "balancer", "console", "timer", "vmm"];

/// The root CNode has 2^13 slots; each 4 KiB of the root task's image takes one, and about 1500 are for everything else.
const ROOT_IMAGE_MAX_BYTES: u64 = 26 << 20;

/// Which kernel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Flavour {
    /// As it ships: no debug system calls.
    #[default]
    Release,
    /// With debug system calls.
    Debug,
    /// As it ships, and it measures how long interrupts stay masked: for tests.
    MaskedTime,
}

impl Flavour {
    /// The features of the kernel, and of what tests this flavour.
    #[must_use]
    pub const fn features(self) -> &'static [&'static str] {
        match self {
            Self::Release => &[],
            Self::Debug => &["debug"],
            Self::MaskedTime => &["masked-time"],
        }
    }
}

/// The kernel that an image boots.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kernel {
    /// Ours.
    Ours(Flavour),
    /// An ELF file that takes the hand-over of seL4's loader: seL4's own `kernel.elf`.
    File(PathBuf),
}

impl From<Flavour> for Kernel {
    fn from(flavour: Flavour) -> Self {
        Self::Ours(flavour)
    }
}

impl Kernel {
    /// Its ELF file, without what is not loaded.
    ///
    /// # Errors
    /// When it does not build, or is no such file.
    pub fn read(&self, cargo: &Cargo) -> Result<Vec<u8>> {
        let file = match self {
            Self::Ours(flavour) => &kernel(cargo, *flavour)?,
            Self::File(file) => file,
        };
        elf::strip(&read(file)?).with_context(|| format!("the kernel {}", file.display()))
    }
}

/// Whose loader takes the result.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum For {
    /// The board's own: an image with our boot stage and kernel.
    #[default]
    Board,
    /// seL4's: the root task's ELF file with the whole system in it, to be packed with seL4's kernel.
    Sel4,
}

/// The forms an image can have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// An ELF file.
    #[default]
    Elf,
    /// The arm64 Linux `Image` format (U-Boot `booti`, Raspberry Pi firmware, QEMU with a device tree).
    Image,
}

/// Builds the kernel and returns its ELF file.
///
/// # Errors
/// When it does not build; when the kernel as it ships could panic, recurses, or calls through a pointer, with the way there.
pub fn kernel(cargo: &Cargo, flavour: Flavour) -> Result<PathBuf> {
    let build = |features| cargo.build_with("kernel", Target::BareMetal, features);
    if flavour != Flavour::Release {
        return build(flavour.features());
    }
    let kernel = build(flavour.features()).map_err(|error| {
        // It may not link because a panic is left in it: the same with an end for panics tells where.
        let way = build(&["panic-path"])
            .and_then(|kernel| sizes::kernel::way_to_a_panic(&kernel))
            .unwrap_or_default();
        match way {
            Some(way) => anyhow!("the kernel can panic: {way}"),
            None => error,
        }
    })?;
    sizes::kernel::check(&kernel)?;
    Ok(kernel)
}

/// Reads and checks a description, showing what is wrong with it.
///
/// # Errors
/// When it is wrong; the problems have been shown.
pub fn describe(path: &Path, board: Option<&str>, scale: Scale) -> Result<Description> {
    let text = std::fs::read_to_string(path)
        .with_context(|| format!("the system description {}", path.display()))?;
    let boards = BOARDS.map(|board| system::Board {
        name: board.name,
        memory_max_mib: board.memory_max_mib,
    });
    let context = system::Context {
        directory: path.parent().unwrap_or(Path::new(".")),
        boards: &boards,
        board,
        scale,
    };
    let file = path.display().to_string();
    match system::check(&text, &context) {
        Ok(description) => {
            eprint!("{}", system::render(&file, &text, &description.warnings));
            Ok(description)
        }
        Err(problems) => {
            eprint!("{}", system::render(&file, &text, &problems));
            bail!("{file} has mistakes; nothing was built")
        }
    }
}

/// An image, and what explains what it says.
#[derive(Debug)]
pub struct Built {
    /// The image in the arm64 `Image` form.
    pub image: Vec<u8>,
    /// The programs in it by crate name, with their symbols and log format strings.
    pub programs: Vec<(String, PathBuf)>,
}

/// A system without a kernel.
#[derive(Debug)]
pub struct Packed {
    /// The root task's ELF file, with components and guests as a segment of it.
    pub root_task: Vec<u8>,
    /// As in [`Built`].
    pub programs: Vec<(String, PathBuf)>,
}

/// Builds everything a description needs and packs it into a bootable image.
///
/// # Errors
/// When a part cannot be built or the whole is too large.
pub fn build(
    paths: &Paths,
    cargo: &Cargo,
    description: &Description,
    kernel: impl Into<Kernel>,
    mirror: Option<&str>,
) -> Result<Built> {
    let Packed {
        root_task,
        programs,
    } = pack(paths, cargo, description, mirror)?;
    let kernel = kernel.into().read(cargo)?;
    let boot = read(&cargo.build_one("boot", Target::BareMetal)?)?;
    let image = boot::pack(&boot, &kernel, &root_task)?;
    Ok(Built { image, programs })
}

/// Builds everything a description needs but the kernel, and packs it into the root task.
///
/// # Errors
/// When a part cannot be built or the whole is too large.
pub fn pack(
    paths: &Paths,
    cargo: &Cargo,
    description: &Description,
    mirror: Option<&str>,
) -> Result<Packed> {
    let mut programs = Vec::new();
    let mut inputs = guest_files(paths, cargo, description, mirror)?;
    for component in COMPONENTS {
        let file = cargo.build_one(component, Target::BareMetal)?;
        inputs.push(bundle::Input {
            name: component.to_owned(),
            kind: FileKind::Component,
            content: elf::strip(&read(&file)?).with_context(|| component.to_owned())?,
        });
        programs.push((component.to_owned(), file));
    }
    let root_task = cargo.build_one("root-task", Target::BareMetal)?;
    programs.push(("root-task".to_owned(), root_task.clone()));
    let root_task = read(&root_task)?;
    let root_task = progress::step("pack the image", || {
        let bundle = bundle::write(&description.system, &inputs)?;
        let root_task =
            elf::append_segment(&root_task, BUNDLE_VADDR, &bundle).context("root-task")?;
        let span = elf::span_bytes(&root_task)?;
        ensure!(
            span <= ROOT_IMAGE_MAX_BYTES,
            "the packed guests and components take {:.1} MiB; {} MiB fit. The largest: {}",
            span as f64 / f64::from(1 << 20),
            ROOT_IMAGE_MAX_BYTES >> 20,
            largest(&inputs)
        );
        Ok(root_task)
    })?;
    Ok(Packed {
        root_task,
        programs,
    })
}

/// Writes an image in the form asked for.
///
/// # Errors
/// When it cannot be written.
pub fn write(image: &[u8], format: Format, load_address: u64, output: &Path) -> Result<()> {
    match format {
        Format::Image => write_if_changed(output, image),
        Format::Elf => write_if_changed(output, &boot::as_elf(image, load_address)?),
    }
}

fn largest(inputs: &[bundle::Input]) -> String {
    let mut sizes: Vec<_> = inputs
        .iter()
        .map(|input| (input.content.len(), input.name.as_str()))
        .collect();
    sizes.sort_unstable_by(|one, other| other.cmp(one));
    sizes
        .iter()
        .take(4)
        .map(|(bytes, name)| format!("{name} ({:.1} MB before packing)", *bytes as f64 / 1e6))
        .collect::<Vec<_>>()
        .join(", ")
}

fn guest_files(
    paths: &Paths,
    cargo: &Cargo,
    description: &Description,
    mirror: Option<&str>,
) -> Result<Vec<bundle::Input>> {
    let mut linux = None;
    let mut inputs = Vec::new();
    for file in &description.files {
        let needs_linux = matches!(file.source, Source::DebianKernel | Source::DebianInitrd);
        if needs_linux && linux.is_none() {
            linux = Some(guests::linux(paths, cargo, mirror)?);
        }
        let (name, content) = match (&file.source, &linux) {
            (Source::DebianKernel, Some(linux)) => {
                ("debian/Image".to_owned(), read(&linux.kernel)?)
            }
            (Source::DebianInitrd, Some(linux)) => {
                ("debian/initrd.cpio".to_owned(), read(&linux.initrd)?)
            }
            (Source::Unikernel, _) => ("unikernel".to_owned(), unikernel(cargo)?),
            (Source::Path(path), _) => (path.display().to_string(), read(path)?),
            (Source::DebianKernel | Source::DebianInitrd, None) => {
                bail!("the Linux guest's files are missing")
            }
        };
        inputs.push(bundle::Input {
            name,
            kind: match file.used_as {
                Use::Kernel => FileKind::GuestKernel,
                Use::Initrd => FileKind::GuestInitrd,
            },
            content,
        });
    }
    Ok(inputs)
}

/// The unikernel as an arm64 `Image`: its ELF file, flattened.
fn unikernel(cargo: &Cargo) -> Result<Vec<u8>> {
    let file = cargo.build_one("unikernel", Target::BareMetal)?;
    let (_, image) = elf::flatten(&read(&file)?)?;
    system::files::check_arm64_image(&image)
        .map_err(|reason| anyhow::anyhow!("the unikernel: {reason}"))?;
    Ok(image)
}

fn read(path: &Path) -> Result<Vec<u8>> {
    std::fs::read(path).with_context(|| path.display().to_string())
}
