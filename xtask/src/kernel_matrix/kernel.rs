//! Kernels to boot: where the image comes from and which modules travel with it.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use clap::ValueEnum;

/// A kernel image and the modules to load before the first program.
pub(crate) struct Kernel {
    /// As `uname -r` says it.
    pub(crate) release: String,
    /// The bootable image.
    pub(crate) image: PathBuf,
    /// Module files, each after those it needs.
    pub(crate) modules: Vec<PathBuf>,
}

/// Flavour of Debian's kernel package. For what portpool needs both are configured alike.
#[derive(Clone, Copy, ValueEnum)]
pub(crate) enum Flavour {
    /// The smaller one, for virtual machines
    Cloud,
    /// The one for any machine
    Generic,
}

impl Kernel {
    /// Debian 12's newest 6.1 kernel, downloaded with apt and unpacked into `folder` if it is
    /// not there yet.
    ///
    /// # Errors
    ///
    /// Fails if apt knows no such package or it cannot be downloaded or unpacked.
    pub(crate) fn debian_12(flavour: Flavour, folder: &Path) -> Result<Self> {
        let package = newest_package(flavour)?;
        let unpacked = folder.join(&package);
        if !unpacked.exists() {
            println!("kernel-matrix: downloading {package}");
            download(&package, folder, &unpacked)?;
        }
        let release = package.trim_start_matches(PACKAGE_PREFIX).to_owned();
        let image = unpacked.join("boot").join(format!("vmlinuz-{release}"));
        let modules = modules(&unpacked, &release)?;
        Ok(Self {
            release,
            image,
            modules,
        })
    }

    /// The kernel of this machine, or why it cannot be booted.
    ///
    /// # Errors
    ///
    /// Fails if the kernel is there but its modules cannot be listed.
    pub(crate) fn running() -> Result<Result<Self, String>> {
        let release = std::fs::read_to_string("/proc/sys/kernel/osrelease")?
            .trim()
            .to_owned();
        let image = Path::new("/boot").join(format!("vmlinuz-{release}"));
        if !image.exists() {
            return Ok(Err(format!("{} does not exist", image.display())));
        }
        let modules = match Path::new("/lib/modules").join(&release).exists() {
            true => modules(Path::new("/"), &release)?,
            false => Vec::new(),
        };
        Ok(Ok(Self {
            release,
            image,
            modules,
        }))
    }
}

impl Flavour {
    fn suffix(self) -> &'static str {
        match self {
            Self::Cloud => "-cloud-amd64",
            Self::Generic => "-amd64",
        }
    }
}

fn newest_package(flavour: Flavour) -> Result<String> {
    let pattern = format!(r"^linux-image-6\.1\.0-[0-9]+{}$", flavour.suffix());
    let listing = stdout_of(Command::new("apt-cache").args(["search", "--names-only", &pattern]))?;
    newest(&listing, flavour).with_context(|| {
        format!(
            "apt-cache knows no package {pattern}: run scripts/setup-kernel-matrix on Debian 12"
        )
    })
}

/// The listing has one package a line, name first, in no useful order.
fn newest(listing: &str, flavour: Flavour) -> Option<String> {
    let abi = |name: &str| -> Option<u32> {
        let rest = name.strip_prefix(PACKAGE_PREFIX)?.strip_prefix("6.1.0-")?;
        rest.strip_suffix(flavour.suffix())?.parse().ok()
    };
    listing
        .lines()
        .filter_map(|line| line.split_whitespace().next())
        .filter_map(|name| Some((abi(name)?, name)))
        .max()
        .map(|(_, name)| name.to_owned())
}

/// Unpacks aside and renames, so an interrupted run leaves no half of a kernel behind.
fn download(package: &str, folder: &Path, unpacked: &Path) -> Result<()> {
    let aside = tempfile::Builder::new()
        .prefix("download-")
        .tempdir_in(folder)?;
    stdout_of(
        Command::new("apt-get")
            .args(["-q", "download", package])
            .current_dir(&aside),
    )?;
    let archive = std::fs::read_dir(&aside)?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .find(|path| path.extension() == Some(OsStr::new("deb")))
        .with_context(|| format!("apt-get download left no archive of {package}"))?;

    let root = aside.path().join("root");
    stdout_of(Command::new("dpkg-deb").arg("-x").arg(&archive).arg(&root))?;
    let release = package.trim_start_matches(PACKAGE_PREFIX);
    stdout_of(Command::new(DEPMOD).arg("-b").arg(&root).arg(release))?;
    std::fs::rename(&root, unpacked).with_context(|| format!("rename to {}", unpacked.display()))
}

fn modules(root: &Path, release: &str) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for module in MODULES {
        let listing = stdout_of(Command::new(MODPROBE).arg("-d").arg(root).args([
            "-S",
            release,
            "--ignore-install",
            "--show-depends",
            module,
        ]))?;
        // The other lines are "builtin <name>".
        let needed = listing
            .lines()
            .filter_map(|line| line.strip_prefix("insmod "));
        for file in needed.map(|file| PathBuf::from(file.trim_end())) {
            if !files.contains(&file) {
                files.push(file);
            }
        }
    }
    Ok(files)
}

fn stdout_of(command: &mut Command) -> Result<String> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = command
        .output()
        .with_context(|| format!("start {name}: run scripts/setup-kernel-matrix first"))?;
    ensure!(
        output.status.success(),
        "{command:?}: {}\n{}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

const PACKAGE_PREFIX: &str = "linux-image-";

// Debian builds these as modules, and nothing in the guest loads them on demand.
const MODULES: &[&str] = &[
    "tcp_diag",
    "udp_diag",
    "unix_diag",
    "mptcp_diag",
    "vxlan",
    "veth",
];

// By path: /usr/sbin is not on an ordinary user's PATH.
const DEPMOD: &str = "/usr/sbin/depmod";
const MODPROBE: &str = "/usr/sbin/modprobe";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_package_is_chosen_by_number() {
        let listing = "linux-image-6.1.0-9-cloud-amd64 - Linux 6.1\n\
                       linux-image-6.1.0-10-cloud-amd64 - Linux 6.1\n\
                       linux-image-6.1.0-11-amd64 - Linux 6.1\n\
                       linux-image-6.1.0-12-rt-amd64 - Linux 6.1\n";
        let name = |flavour| newest(listing, flavour);
        assert_eq!(
            name(Flavour::Cloud).as_deref(),
            Some("linux-image-6.1.0-10-cloud-amd64")
        );
        assert_eq!(
            name(Flavour::Generic).as_deref(),
            Some("linux-image-6.1.0-11-amd64")
        );
    }
}
