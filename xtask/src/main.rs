//! Developer chores, run as `cargo xtask <chore>`.
//!
//! This file only lists the chores; each has a module of its own.
#![forbid(unsafe_code)]

mod bpf;
mod cargo;
mod check;
mod kernel_matrix;
mod tidy;

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
    /// Judge format, lints, documentation and tidiness
    Check,
    /// Run static test programs as root under other kernels, in QEMU
    KernelMatrix(kernel_matrix::Options),
    /// Judge the walls between the crates, unsafe code, rules and their tests
    Tidy,
}

fn main() -> ExitCode {
    let outcome = match Cli::parse().chore {
        Chore::Bpf(options) => bpf::run(&options),
        Chore::Check => check::run(),
        Chore::KernelMatrix(options) => kernel_matrix::run(&options),
        Chore::Tidy => tidy::run(),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
