//! The real command where no pool is needed: help, usage errors, completions, manual pages.

use std::{
    fs,
    process::{Command, Output, Stdio},
};

const COMMANDS: [&str; 10] = [
    "run",
    "acquire",
    "reservations",
    "port",
    "status",
    "doctor",
    "attach",
    "detach",
    "completions",
    "man",
];

#[test]
fn every_command_explains_itself() {
    for command in COMMANDS {
        for flag in ["-h", "--help"] {
            let help = portpool(&[command, flag]);
            assert_eq!(help.status.code(), Some(0), "{command} {flag}");
            assert!(stdout(&help).contains(&format!("portpool {command}")));
            assert_eq!(stderr(&help), "");
        }
    }
    let help = stdout(&portpool(&["--help"]));
    for command in COMMANDS {
        assert!(help.contains(&format!("\n  {command} ")), "{command}");
    }
    assert!(help.contains("Exit status:"));
    for hidden in ["\n  hold ", "\n  rest"] {
        assert!(!help.contains(hidden), "{hidden}");
    }
}

#[test]
fn usage_errors_name_the_input_and_the_next_step() {
    for (line, input, next_step) in [
        ("", "Usage:", "--help"),
        ("frobnicate", "'frobnicate'", "--help"),
        ("run -t 1", "<COMMAND>", "--help"),
        ("run -- true", "--tcp <N>|--udp <N>", "--help"),
        ("run -t 0 -- true", "\"0\"", "such as 16"),
        ("run -t 70000 -- true", "\"70000\"", "such as 16"),
        ("run -t -1 -- true", "-1", "--help"),
        ("run -p 8080/sctp -- true", "8080/sctp", "8080/udp"),
        ("run -p 90-80 -- true", "90-80", "8080-8083"),
        ("run -p 0 -- true", "\"0\"", "8080-8083"),
        ("run -t 1 --align 0 -- true", "\"0\"", "such as"),
        ("run -t 1 --within x -- true", "\"x\"", "such as"),
        (
            "run -t 9 --within 20000-20003 -- true",
            "9 ports",
            "widen it",
        ),
        ("run -p 80 --within 20000-20003 -- true", "--within", "-t"),
        (
            "run -p 80-90 -p 85/both -- true",
            "85 (tcp and udp)",
            "once",
        ),
        ("run -t 1 --wait 10 -- true", "'10'", "500ms"),
        ("run -t 2 -- echo {tcp.2}", "{tcp.2}", "{{tcp.2}}"),
        ("run -t 2 -- echo {udp}", "{udp}", "ask for more ports"),
        ("run -u 1 -- echo {port.0}", "{port.0}", "{udp.0}"),
        ("run -t 1 --pool best -- true", "'best'", "embedded"),
        ("run -t 1 --explain=xml -- true", "'xml'", "json"),
        ("run -t 1 --zero 1 -- true", "'1'", "block"),
        ("run -t 1 --fd-state bound -- true", "--fd", "--help"),
        ("run -t 1 --fd --zero block -- true", "--zero", "--help"),
        ("status --pool none", "'none'", "kernel"),
        ("acquire", "--tcp <N>", "--help"),
        ("acquire -t 1 --format xml", "'xml'", "json"),
        ("acquire -t 1 --while 0", "'0'", "--help"),
        ("acquire -t 1 --while self", "'self'", "--help"),
        (
            "acquire -t 1 --while 1 --until-eof",
            "--until-eof",
            "--help",
        ),
        ("port", "<SPEC>", "--help"),
        ("port 65536", "65536", "such as 8080"),
        ("port 1-65535", "1-65535", "portpool reservations"),
        ("attach --range 9-1", "9-1", "--help"),
        ("attach --ports-per-uid 0", "'0'", "1..=131070"),
        ("attach --shared-percent 101", "'101'", "0..=100"),
        ("completions tcsh", "'tcsh'", "bash"),
    ] {
        let words: Vec<&str> = line.split_whitespace().collect();
        let output = portpool(&words);
        let message = stderr(&output);
        assert_eq!(output.status.code(), Some(2), "{line}: {message}");
        assert!(message.contains(input), "{line}: {message}");
        assert!(message.contains(next_step), "{line}: {message}");
        assert_eq!(stdout(&output), "", "{line}");
    }
}

#[test]
fn doctor_answers_in_json_and_by_its_status() {
    let output = portpool(&["doctor", "--json"]);
    let findings: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let findings = findings.as_array().expect("an array");
    assert!(findings.iter().any(|finding| finding["name"] == "kernel"));
    let is_missing = findings
        .iter()
        .any(|finding| finding["verdict"] == "missing");
    assert_eq!(output.status.code(), Some(i32::from(is_missing)));
    assert_eq!(portpool(&["doctor"]).status.code(), output.status.code());
}

#[test]
fn completions_know_every_command() {
    for shell in ["bash", "zsh", "fish"] {
        let script = stdout(&portpool(&["completions", shell]));
        for command in COMMANDS {
            assert!(script.contains(command), "{shell}: {command}");
        }
        assert!(!script.contains("background half"), "{shell}");
        assert!(!script.contains("keeper completions man hold"), "{shell}");
    }
}

#[test]
fn manual_pages_are_written_for_every_command() {
    let directory = tempfile::tempdir().expect("temporary directory");
    let path = directory.path().join("man1");
    let output = portpool(&["man", "--out", path.to_str().expect("UTF-8")]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let page = |name: &str| fs::read_to_string(path.join(name)).expect(name);
    for command in COMMANDS {
        assert!(page(&format!("portpool-{command}.1")).contains(".TH"));
    }
    assert!(page("portpool.1").contains("124"));
    assert!(!path.join("portpool-hold.1").exists());
    assert_eq!(stdout(&portpool(&["man"])), page("portpool.1"));
}

#[test]
fn a_reader_that_leaves_early_is_no_reason_to_complain() {
    let (reader, writer) = std::io::pipe().expect("pipe");
    drop(reader);
    let output = command(&["completions", "bash"])
        .stdout(writer)
        .stderr(Stdio::piped())
        .output()
        .expect("run portpool");
    assert_eq!(stderr(&output), "");
    assert_eq!(output.status.code(), Some(1));
}

fn portpool(args: &[&str]) -> Output {
    command(args).output().expect("run portpool")
}

fn command(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_portpool"));
    command.args(args).stdin(Stdio::null());
    command
}

fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}
