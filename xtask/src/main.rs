//! Developer chores, run as `cargo xtask <chore>`.
//!
//! This file only lists the chores; each has a module of its own.
#![forbid(unsafe_code)]

mod bpf;
mod cargo;
mod kernel_matrix;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Developer chores of portpool.
#[derive(Parser)]
#[command(name = "cargo xtask")]
struct Cli {
    #[command(subcommand)]
    chore: Chore,
}

#[derive(Subcommand)]
enum Chore {
    /// Compile the kernel programs into the object that is committed
    Bpf(bpf::Options),
    /// Run static test programs as root under other kernels, in QEMU
    KernelMatrix(kernel_matrix::Options),
}

fn main() -> ExitCode {
    let outcome = match Cli::parse().chore {
        Chore::Bpf(options) => bpf::run(&options),
        Chore::KernelMatrix(options) => kernel_matrix::run(&options),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
