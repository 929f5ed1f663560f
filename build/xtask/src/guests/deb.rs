//! Reads Debian binary packages: an `ar` archive (deb(5)) with a compressed `data.tar` in it.
//!
//! Only the members that are asked for are kept in memory; nothing is written. `dpkg-deb` is used where it is there
//! (it is several times faster), own code otherwise.

use anyhow::{Context, Result, bail, ensure};
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Command, Stdio};

/// Reads the regular files of a package for which `wanted` says yes, by their path without the leading `./`.
///
/// # Errors
/// When the package cannot be read or is none.
pub fn read(deb: &Path, wanted: impl Fn(&str) -> bool) -> Result<BTreeMap<String, Vec<u8>>> {
    let piped = Command::new("dpkg-deb")
        .arg("--fsys-tarfile")
        .arg(deb)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn();
    match piped {
        Ok(mut child) => {
            let output = child.stdout.take().context("dpkg-deb without an output")?;
            let mut output = BufReader::with_capacity(1 << 20, output);
            let files = read_tar(&mut output, wanted)
                .with_context(|| format!("reading {}", deb.display()))?;
            // Read to its end, so that dpkg-deb does not die of a closed pipe and its verdict counts.
            std::io::copy(&mut output, &mut std::io::sink())?;
            let status = child.wait()?;
            ensure!(
                status.success(),
                "dpkg-deb cannot read {}: {status}",
                deb.display()
            );
            Ok(files)
        }
        Err(_) => {
            let file = std::fs::File::open(deb).with_context(|| deb.display().to_string())?;
            let data = data_tar(&mut BufReader::new(file))
                .with_context(|| format!("reading {}", deb.display()))?;
            read_tar(&mut data.as_slice(), wanted)
        }
    }
}

fn read_tar(
    input: &mut impl Read,
    wanted: impl Fn(&str) -> bool,
) -> Result<BTreeMap<String, Vec<u8>>> {
    let mut files = BTreeMap::new();
    let mut archive = tar::Archive::new(input);
    for entry in archive.entries()? {
        let mut entry = entry?;
        if !entry.header().entry_type().is_file() {
            continue;
        }
        let path = entry.path()?.to_string_lossy().into_owned();
        let path = path.trim_start_matches("./").to_owned();
        if wanted(&path) {
            let mut content = Vec::new();
            entry.read_to_end(&mut content)?;
            files.insert(path, content);
        }
    }
    Ok(files)
}

/// Finds `data.tar.xz` in a package and unpacks it.
fn data_tar(input: &mut impl BufRead) -> Result<Vec<u8>> {
    let mut magic = [0; 8];
    input.read_exact(&mut magic)?;
    ensure!(
        &magic == b"!<arch>\n",
        "this is no Debian package: it does not begin with `!<arch>`"
    );
    loop {
        let mut header = [0u8; 60];
        input
            .read_exact(&mut header)
            .context("the package has no data.tar member")?;
        let name = String::from_utf8_lossy(&header[..16]);
        let name = name.trim().trim_end_matches('/').to_owned();
        let size: u64 = String::from_utf8_lossy(&header[48..58])
            .trim()
            .parse()
            .with_context(|| format!("the size of member {name}"))?;
        let mut member = input.take(size);
        match name.as_str() {
            "data.tar.xz" => return unxz(&mut BufReader::new(member)),
            "data.tar" => {
                let mut data = Vec::new();
                member.read_to_end(&mut data)?;
                return Ok(data);
            }
            other if other.starts_with("data.tar") => {
                bail!(
                    "{other}: only data.tar.xz can be read without dpkg-deb; install the package dpkg"
                )
            }
            _ => {
                std::io::copy(&mut member, &mut std::io::sink())?;
                if size % 2 == 1 {
                    input.read_exact(&mut [0])?;
                }
            }
        }
    }
}

/// Unpacks an xz stream.
///
/// # Errors
/// When it is damaged.
pub fn unxz(input: &mut impl BufRead) -> Result<Vec<u8>> {
    let mut content = Vec::new();
    lzma_rs::xz_decompress(input, &mut content)
        .map_err(|error| anyhow::anyhow!("unpacking xz: {error:?}"))?;
    Ok(content)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(name: &str, content: &[u8]) -> Vec<u8> {
        let mut bytes = format!(
            "{name:<16}{:<12}{:<6}{:<6}{:<8}{:<10}`\n",
            0,
            0,
            0,
            100_644,
            content.len()
        )
        .into_bytes();
        bytes.extend_from_slice(content);
        if content.len() % 2 == 1 {
            bytes.push(b'\n');
        }
        bytes
    }

    #[test]
    fn a_package_is_read_without_dpkg() {
        let mut builder = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_gnu();
        header.set_size(5);
        header.set_mode(0o644);
        header.set_cksum();
        builder
            .append_data(&mut header, "./boot/vmlinuz-6", &b"image"[..])
            .unwrap();
        let tar = builder.into_inner().unwrap();
        let mut xz = Vec::new();
        lzma_rs::xz_compress(&mut tar.as_slice(), &mut xz).unwrap();

        let mut deb = b"!<arch>\n".to_vec();
        deb.extend(member("debian-binary", b"2.0"));
        deb.extend(member("control.tar.xz", b"odd"));
        deb.extend(member("data.tar.xz", &xz));
        let data = data_tar(&mut deb.as_slice()).unwrap();
        let files = read_tar(&mut data.as_slice(), |path| path.starts_with("boot/")).unwrap();
        assert_eq!(files["boot/vmlinuz-6"], b"image");
    }

    #[test]
    fn what_is_no_package_is_refused() {
        let error = data_tar(&mut &b"<html>not found</html>"[..]).unwrap_err();
        assert!(error.to_string().contains("no Debian package"), "{error}");
        let error = data_tar(&mut &b"!<arch>\n"[..]).unwrap_err();
        assert!(error.to_string().contains("no data.tar"), "{error}");
    }
}
