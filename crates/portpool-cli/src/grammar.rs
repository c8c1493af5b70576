//! Completions and manual pages, made from the grammar itself.

use std::{fs, path::Path};

use clap::CommandFactory;
use clap_complete::Shell;

use crate::{
    args::Cli,
    exit::{Answer, Failure},
    output,
};

/// The command `completions`.
pub(crate) fn completions(shell: Shell) -> Answer {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "portpool", &mut script);
    output::print(&String::from_utf8_lossy(&script))?;
    Ok(0)
}

/// The hidden command `man`, for those who make packages.
pub(crate) fn man(out: Option<&Path>) -> Answer {
    let failed = |error| Failure::failed("write the manual", error);
    match out {
        Some(out) => {
            fs::create_dir_all(out).map_err(failed)?;
            clap_mangen::generate_to(Cli::command(), out).map_err(failed)?;
        }
        None => {
            let mut page = Vec::new();
            clap_mangen::Man::new(Cli::command())
                .render(&mut page)
                .map_err(failed)?;
            output::print(&String::from_utf8_lossy(&page))?;
        }
    }
    Ok(0)
}
