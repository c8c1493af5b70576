//! Developer chores, run as `cargo xtask <chore>`.
//!
//! This file only lists the chores; each has a module of its own.
#![forbid(unsafe_code)]

mod bench;
mod bpf;
mod cargo;
mod check;
mod demo;
mod fuzz;
mod kernel_matrix;
mod test;
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
    /// Measure what the kernel pool costs, as ratios; needs root
    Bench(bench::Options),
    /// Compile the kernel programs into the object that is committed
    Bpf(bpf::Options),
    /// Judge format, lints, documentation and tidiness
    Check,
    /// Reserve a block, run a server in it and see a stranger refused
    Demo,
    /// A stranger of the demo
    #[command(hide = true)]
    Bind(demo::Stranger),
    /// A server for the demo
    #[command(hide = true)]
    Serve(demo::Server),
    /// Give the fuzz targets to libFuzzer, each for some seconds; needs a C++ compiler
    Fuzz(fuzz::Options),
    /// Run static test programs as root under other kernels, in QEMU
    KernelMatrix(kernel_matrix::Options),
    /// Run all tests and count them
    Test(test::Options),
    /// Judge the walls between the crates, unsafe code, rules and their tests
    Tidy,
}

fn main() -> ExitCode {
    let done = |()| ExitCode::SUCCESS;
    let outcome = match Cli::parse().chore {
        Chore::Bench(options) => bench::run(&options).map(done),
        Chore::Bpf(options) => bpf::run(&options).map(done),
        Chore::Check => check::run().map(done),
        Chore::Demo => demo::run().map(done),
        Chore::Bind(stranger) => demo::bind(&stranger).map(done),
        Chore::Serve(server) => demo::serve(&server).map(done),
        Chore::Fuzz(options) => fuzz::run(&options).map(done),
        Chore::KernelMatrix(options) => kernel_matrix::run(&options).map(done),
        Chore::Test(options) => test::run(&options),
        Chore::Tidy => tidy::run().map(done),
    };
    outcome.unwrap_or_else(|error| {
        eprintln!("error: {error:#}");
        ExitCode::FAILURE
    })
}
