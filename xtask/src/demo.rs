//! The main job from end to end: reserve a block in the kernel, run a server in it, see a stranger
//! refused. The story is in `scripts/demo`; here are building it, and the two actors that a
//! machine may lack: a server and a stranger.

use std::{
    env,
    io::{Read, Write},
    net::{SocketAddr, TcpListener},
    process::Command,
};

use anyhow::{Context, Result, ensure};
use clap::Args;

use crate::cargo::{Workspace, cargo, run as run_cargo};

/// A server for machines without python3.
#[derive(Args)]
pub(crate) struct Server {
    /// Where to listen.
    address: SocketAddr,
}

/// A stranger who wants a port.
#[derive(Args)]
pub(crate) struct Stranger {
    /// What it tries to bind.
    address: SocketAddr,
}

/// Builds the command and plays `scripts/demo` as root.
pub(crate) fn run() -> Result<()> {
    let workspace = Workspace::load()?;
    run_cargo(cargo().args(["build", "--package", "portpool-cli"]))?;
    let own = env::current_exe().context("find the own program")?;
    let mut demo = match rustix::process::geteuid().is_root() {
        true => Command::new("bash"),
        false => {
            println!("attaching programs to the kernel needs root: asking sudo");
            let mut sudo = Command::new("sudo");
            sudo.arg("bash");
            sudo
        }
    };
    demo.arg(workspace.root.join("scripts/demo"));
    demo.arg(workspace.target_directory.join("debug/portpool"))
        .arg(own);
    let status = demo
        .status()
        .context("run scripts/demo (without sudo, run this as root)")?;
    ensure!(
        status.success(),
        "the demo failed: `portpool doctor` says what this machine lacks"
    );
    Ok(())
}

/// Answers every request with one line, for ever.
pub(crate) fn serve(server: &Server) -> Result<()> {
    let listener =
        TcpListener::bind(server.address).with_context(|| format!("bind {}", server.address))?;
    for stream in listener.incoming() {
        let mut stream = stream?;
        let mut request = [0; 4096];
        let _ = stream.read(&mut request)?;
        stream.write_all(b"HTTP/1.0 200 OK\r\nContent-Length: 3\r\n\r\nok\n")?;
    }
    Ok(())
}

/// Binds an address, or fails with what the kernel said.
pub(crate) fn bind(stranger: &Stranger) -> Result<()> {
    TcpListener::bind(stranger.address).with_context(|| format!("bind {}", stranger.address))?;
    println!("bound {}", stranger.address);
    Ok(())
}
