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
    // Hidden commands are completed as any other would be.
    let whole = Cli::command();
    let shown = whole.get_subcommands().filter(|it| !it.is_hide_set());
    let mut command = clap::Command::new("portpool")
        .version(env!("CARGO_PKG_VERSION"))
        .disable_help_subcommand(true)
        .subcommands(shown.cloned());
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut command, "portpool", &mut script);
    output::print(&String::from_utf8_lossy(&script))?;
    Ok(0)
}

/// The command `man`.
pub(crate) fn man(out: Option<&Path>) -> Answer {
    match out {
        Some(out) => {
            let what = format!("write the manual pages to {}", out.display());
            let failed = |error| Failure::failed(&what, error);
            fs::create_dir_all(out).map_err(failed)?;
            clap_mangen::generate_to(Cli::command(), out).map_err(failed)?;
        }
        None => {
            let mut page = Vec::new();
            clap_mangen::Man::new(Cli::command())
                .render(&mut page)
                .map_err(|error| Failure::failed("write the manual page", error))?;
            output::print(&String::from_utf8_lossy(&page))?;
        }
    }
    Ok(0)
}
