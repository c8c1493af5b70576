//! `cargo xtask kernel-matrix`: the same test programs, as root, under other kernels.
//!
//! Each kernel boots in QEMU with an initramfs made for the run: busybox, a few modules and the
//! programs. The guest has no disk and no network but loopback; nothing of it outlives the run.
//! QEMU emulates the processor (TCG), so the matrix also runs where KVM is absent or unusable.
//!
//! To add tests, add a line to [`SUITES`].

mod guest;
mod initramfs;
mod kernel;
mod program;
mod report;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use clap::{Args, ValueEnum};

use crate::cargo::Workspace;
use guest::Guest;
use initramfs::Initramfs;
use kernel::{Flavour, Kernel};
use program::{Program, Suite};
use report::Report;

/// What runs under each kernel unless the command line names something else.
const SUITES: &[Suite] = &[
    Suite {
        package: "xtask",
        tests: &["guest_smoke"],
    },
    Suite {
        package: "portpool-testkit",
        tests: &["bystander"],
    },
];

/// What runs besides, unless it must be quick: emulated, each of its tests verifies the kernel
/// programs anew, which takes seconds.
const LONG_SUITES: &[Suite] = &[Suite {
    package: "portpool-testkit",
    tests: &["contract"],
}];

/// Command line of `kernel-matrix`.
#[derive(Args)]
pub(crate) struct Options {
    /// Kernels to boot
    #[arg(long, value_enum, value_delimiter = ',', default_values = ["debian-12", "running"])]
    kernel: Vec<KernelChoice>,

    /// Flavour of Debian's kernel package
    #[arg(long, value_enum, default_value = "cloud")]
    flavour: Flavour,

    /// Run this integration test instead of the usual ones (repeatable)
    #[arg(long, value_name = "PACKAGE:TEST")]
    test: Vec<String>,

    /// Run this static program, with arguments after spaces, instead of the usual ones (repeatable)
    #[arg(long, value_name = "PATH [ARGUMENT]...")]
    program: Vec<String>,

    /// Leave out what takes long, the contract suite
    #[arg(long)]
    quick: bool,

    /// How long one kernel may take from boot to power-off
    #[arg(long, default_value_t = 3600)]
    timeout_seconds: u64,

    /// Processors of the guest
    #[arg(long, default_value_t = 2)]
    processors: u32,

    /// Memory of the guest
    #[arg(long, default_value_t = 1024)]
    memory_mib: u32,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum KernelChoice {
    /// Debian 12's 6.1, newest package
    #[value(name = "debian-12")]
    Debian12,
    /// The kernel of this machine, if its image is in /boot
    Running,
}

/// Boots every chosen kernel and runs every program in it.
///
/// # Errors
///
/// Fails if a guest cannot be prepared, a program fails or gives no verdict, a guest does not
/// power off in time, or two kernels disagree about a test.
pub(crate) fn run(options: &Options) -> Result<()> {
    ensure!(
        cfg!(target_arch = "x86_64"),
        "the kernel matrix knows x86_64 guests only"
    );
    let folder = Workspace::load()?.target_directory.join("kernel-matrix");
    std::fs::create_dir_all(&folder).with_context(|| format!("create {}", folder.display()))?;

    let kernels = kernels(options, &folder)?;
    if kernels.is_empty() {
        println!("kernel-matrix: no kernel to boot");
        return Ok(());
    }
    let programs = programs(options, &folder)?;
    ensure!(!programs.is_empty(), "no program to run");

    let mut reports = Vec::new();
    for kernel in &kernels {
        reports.push(run_under(kernel, &programs, options, &folder)?);
    }
    conclude(&reports)
}

fn kernels(options: &Options, folder: &Path) -> Result<Vec<Kernel>> {
    let mut kernels = Vec::new();
    for choice in &options.kernel {
        match choice {
            KernelChoice::Debian12 => kernels.push(Kernel::debian_12(options.flavour, folder)?),
            KernelChoice::Running => match Kernel::running()? {
                Ok(kernel) => kernels.push(kernel),
                Err(reason) => println!("kernel-matrix: skipped the running kernel: {reason}"),
            },
        }
    }
    Ok(kernels)
}

fn programs(options: &Options, folder: &Path) -> Result<Vec<Program>> {
    let mut programs = Vec::new();
    for line in &options.program {
        programs.push(Program::parse(line)?);
    }
    for test in &options.test {
        let Some((package, test)) = test.split_once(':') else {
            bail!("--test {test}: expected PACKAGE:TEST");
        };
        programs.extend(program::static_test_binaries(package, &[test], folder)?);
    }
    if options.program.is_empty() && options.test.is_empty() {
        let long = if options.quick { &[][..] } else { LONG_SUITES };
        for suite in SUITES.iter().chain(long) {
            programs.extend(program::static_test_binaries(
                suite.package,
                suite.tests,
                folder,
            )?);
        }
    }
    Ok(programs)
}

fn run_under(
    kernel: &Kernel,
    programs: &[Program],
    options: &Options,
    folder: &Path,
) -> Result<Report> {
    let log: PathBuf = folder.join(format!("{}.log", kernel.release));
    println!(
        "kernel-matrix: booting {} (log: {})",
        kernel.release,
        log.display()
    );
    let image = Initramfs::new(kernel, programs)?.write_into(folder)?;

    let started = Instant::now();
    let mut guest = Guest::start(kernel, image, options.processors, options.memory_mib)?;
    let output = guest.follow(&log, Duration::from_secs(options.timeout_seconds))?;
    println!(
        "kernel-matrix: {} ran for {:.1?}",
        kernel.release,
        started.elapsed()
    );
    Ok(Report::new(&kernel.release, programs, &output))
}

fn conclude(reports: &[Report]) -> Result<()> {
    let mut complaints: Vec<String> = reports.iter().flat_map(Report::complaints).collect();
    for pair in reports.windows(2) {
        complaints.extend(pair[0].differences(&pair[1]));
    }
    for report in reports {
        println!("kernel-matrix: {report}");
    }
    if complaints.is_empty() {
        return Ok(());
    }
    bail!("the kernel matrix failed\n  {}", complaints.join("\n  "))
}
