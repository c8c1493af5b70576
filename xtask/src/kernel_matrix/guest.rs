//! One QEMU process, from boot to power-off.

use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::kernel::Kernel;

/// A running guest. Dropping it ends it.
pub(crate) struct Guest {
    process: Child,
}

impl Guest {
    /// Boots `kernel` with the initramfs in `image`.
    ///
    /// # Errors
    ///
    /// Fails if QEMU cannot be started.
    pub(crate) fn start(
        kernel: &Kernel,
        image: File,
        processors: u32,
        memory_mib: u32,
    ) -> Result<Self> {
        // setpriv becomes QEMU, keeping its pid; the signal comes if this process is killed and
        // cannot clean up. The initramfs has no name, so it goes along as standard input, which
        // the serial port, being a "file", leaves alone.
        let process = Command::new("setpriv")
            .args(["--pdeathsig", "KILL", "qemu-system-x86_64"])
            // Five-level page tables only lengthen each emulated page walk.
            .args(["-accel", "tcg", "-cpu", "max,la57=off"])
            .args(["-smp", &processors.to_string()])
            .args(["-m", &memory_mib.to_string()])
            .args(["-nodefaults", "-no-user-config", "-no-reboot"])
            .args(["-display", "none", "-serial", "file:/dev/stdout"])
            .args(["-append", COMMAND_LINE, "-initrd", "/dev/stdin", "-kernel"])
            .arg(&kernel.image)
            .stdin(image)
            .stdout(Stdio::piped())
            .spawn()
            .context("start qemu-system-x86_64: run scripts/setup-kernel-matrix first")?;
        Ok(Self { process })
    }

    /// Copies the console to standard output and to `log` until the guest powers off, and
    /// returns it, line by line.
    ///
    /// # Errors
    ///
    /// Fails if the guest is still running after `timeout`, if QEMU fails, or if the log cannot
    /// be written.
    pub(crate) fn follow(&mut self, log: &Path, timeout: Duration) -> Result<Vec<String>> {
        let mut log_file =
            File::create(log).with_context(|| format!("create {}", log.display()))?;
        let console = self
            .process
            .stdout
            .take()
            .context("the console is already followed")?;
        let (sender, receiver) = mpsc::sync_channel(LINES_QUEUED_MAX);
        // Ends with the console, that is with QEMU, or with the receiver.
        thread::spawn(move || {
            for line in BufReader::new(console).split(b'\n').map_while(Result::ok) {
                if sender.send(line).is_err() {
                    return;
                }
            }
        });

        let deadline = Instant::now() + timeout;
        let mut lines = Vec::new();
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match receiver.recv_timeout(left) {
                Ok(line) => {
                    let line = String::from_utf8_lossy(&line)
                        .trim_end_matches('\r')
                        .to_owned();
                    println!("{line}");
                    writeln!(log_file, "{line}").context("write the log")?;
                    lines.push(line);
                }
                Err(RecvTimeoutError::Timeout) => bail!(
                    "the guest was ended after {timeout:?}; its last line: {}",
                    lines.last().map_or("none", String::as_str)
                ),
                Err(RecvTimeoutError::Disconnected) => break,
            }
        }
        let status = self.process.wait().context("wait for QEMU")?;
        if !status.success() {
            bail!("QEMU: {status}");
        }
        Ok(lines)
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        // Both fail only if it is already gone and waited for.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

// A panic or an oops ends the guest (-no-reboot) before its verdicts are complete. The guest is
// thrown away, so mitigations protect nobody, and its randomness is for tests.
const COMMAND_LINE: &str = "console=ttyS0 quiet panic=-1 oops=panic mitigations=off \
                            random.trust_cpu=on";

const LINES_QUEUED_MAX: usize = 1024;
