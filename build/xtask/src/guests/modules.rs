//! Which kernel modules an initramfs needs, in the order in which they can be loaded.
//!
//! Debian makes `modules.dep` when a kernel is installed, so a package has none; what a module needs is read from the
//! `depends=` entry of its own `.modinfo` section.

use super::deb::unxz;
use anyhow::{Context, Result, bail, ensure};
use object::{Object as _, ObjectSection as _};
use std::collections::BTreeMap;

/// A module, ready for `insmod`.
#[derive(Debug)]
pub struct Module {
    /// Its name, without `.ko`.
    pub name: String,
    /// Its ELF file.
    pub content: Vec<u8>,
}

/// Chains of dependencies longer than this are a mistake in the package.
const DEPTH_MAX: u32 = 16;

/// Finds the modules named and everything they depend on in a kernel package's files, dependencies first.
///
/// # Errors
/// When a module is missing or damaged.
pub fn load_order(files: &BTreeMap<String, Vec<u8>>, wanted: &[String]) -> Result<Vec<Module>> {
    let mut order = Vec::new();
    for name in wanted {
        add(name, files, &mut order, 0)?;
    }
    Ok(order)
}

fn add(
    name: &str,
    files: &BTreeMap<String, Vec<u8>>,
    order: &mut Vec<Module>,
    depth: u32,
) -> Result<()> {
    if order.iter().any(|known| known.name == name) {
        return Ok(());
    }
    ensure!(depth < DEPTH_MAX, "module `{name}` depends on itself");
    let (path, content) = files
        .iter()
        .find(|(path, _)| module_name(path).is_some_and(|found| found == name))
        .with_context(|| format!("the kernel package has no module `{name}`"))?;
    let content = match path.rsplit('.').next() {
        Some("ko") => content.clone(),
        Some("xz") => unxz(&mut content.as_slice()).with_context(|| path.clone())?,
        _ => bail!("{path}: compressed in a way that is not known here (xz is)"),
    };
    for needed in depends(&content).with_context(|| path.clone())? {
        add(&needed, files, order, depth + 1)?;
    }
    order.push(Module {
        name: name.to_owned(),
        content,
    });
    Ok(())
}

/// The modules that a module's `.modinfo` names.
fn depends(module: &[u8]) -> Result<Vec<String>> {
    let file = object::File::parse(module)?;
    let section = file
        .section_by_name(".modinfo")
        .context("a kernel module without .modinfo")?;
    Ok(depends_entry(section.data()?))
}

fn depends_entry(modinfo: &[u8]) -> Vec<String> {
    modinfo
        .split(|byte| *byte == 0)
        .filter_map(|entry| entry.strip_prefix(b"depends="))
        .flat_map(|list| list.split(|byte| *byte == b','))
        .filter(|name| !name.is_empty())
        .map(|name| String::from_utf8_lossy(name).replace('-', "_"))
        .collect()
}

/// `kernel/drivers/virtio/virtio_mem.ko.xz` is `virtio_mem`.
fn module_name(path: &str) -> Option<String> {
    let file = path.rsplit('/').next()?;
    let (name, _) = file.split_once(".ko")?;
    Some(name.replace('-', "_"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dependencies_are_read_from_modinfo() {
        assert_eq!(
            depends_entry(b"license=GPL\0depends=failover,net-core\0intree=Y\0"),
            ["failover", "net_core"]
        );
        assert!(depends_entry(b"depends=\0name=x\0").is_empty());
        assert!(depends_entry(b"").is_empty());
    }

    #[test]
    fn names_come_from_paths() {
        assert_eq!(
            module_name("kernel/a/virtio-mem.ko.xz").as_deref(),
            Some("virtio_mem")
        );
        assert_eq!(module_name("modules.order"), None);
    }

    #[test]
    fn a_missing_module_is_named() {
        let error = load_order(&BTreeMap::new(), &["virtio_mem".to_owned()]).unwrap_err();
        assert!(error.to_string().contains("`virtio_mem`"), "{error}");
    }
}
