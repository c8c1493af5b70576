//! Starts a program with held ports: this crate by hand, and for its tests.
//!
//! Users have `portpool run`.
#![deny(unsafe_code)]

use std::{
    env,
    error::Error,
    process::{Command, ExitCode},
};

use portpool_core::Transport;
use portpool_handover::{Guard, Options, Zero, spawn};

fn main() -> ExitCode {
    match run() {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::from(125)
        }
    }
}

/// `supervise [--strict] [--twins] [--zero WORD] [--udp-zero WORD] tcp|udp... -- program argument...`:
/// `{1}` in an argument becomes the first port, and so on. Says the ports and the process
/// id first and the uses last, on standard error.
fn run() -> Result<u8, Box<dyn Error>> {
    let mut guards: Vec<Guard> = Vec::new();
    let mut options = Options::default();
    let mut has_twins = false;
    let mut words = env::args().skip(1);
    while let Some(word) = words.next() {
        match word.as_str() {
            "--strict" => options.strict = true,
            "--twins" => has_twins = true,
            "--zero" => options.tcp_zero = zero(words.next().as_deref())?,
            "--udp-zero" => options.udp_zero = zero(words.next().as_deref())?,
            "--" => break,
            transport => guards.push(Guard::hold_any(transport.parse::<Transport>()?)?),
        }
    }
    if has_twins {
        guards.iter_mut().try_for_each(Guard::add_twins)?;
    }
    let ports: Vec<String> = guards.iter().map(|it| it.port().to_string()).collect();
    let mut command = Command::new(words.next().ok_or("expected a program after --")?);
    command.args(words.map(|word| filled(word, &ports)));
    command.env("PORTPOOL_PORTS", ports.join(","));
    eprintln!("ports {}", ports.join(" "));
    let mut served = spawn(command, guards, &options)?;
    eprintln!("pid {}", served.id());
    let status = served.wait()?;
    eprintln!("ended");
    let code = status.code().and_then(|code| u8::try_from(code).ok());
    let finished = served.finish();
    for used in finished.uses {
        eprintln!("used {used}");
    }
    eprintln!("closed {}", finished.closed_call_count);
    eprintln!("held {}", finished.guards.len());
    Ok(code.unwrap_or(124))
}

fn filled(word: String, ports: &[String]) -> String {
    let numbered = ports.iter().enumerate();
    numbered.fold(word, |word, (index, port)| {
        word.replace(&format!("{{{}}}", index + 1), port)
    })
}

fn zero(word: Option<&str>) -> Result<Zero, Box<dyn Error>> {
    match word {
        Some("block") => Ok(Zero::Block),
        Some("kernel") => Ok(Zero::Kernel),
        Some("error") => Ok(Zero::Error),
        _ => Err("expected block, kernel or error".into()),
    }
}
