//! The files for systemd.

use std::{fs, path::PathBuf, process::Command};

use tempfile::TempDir;

#[test]
fn systemd_finds_nothing_wrong_with_the_units() {
    if Command::new("systemd-analyze")
        .arg("--version")
        .output()
        .is_err()
    {
        assert_ne!(
            std::env::var("CI").as_deref(),
            Ok("true"),
            "systemd-analyze is missing"
        );
        println!("left out: there is no systemd-analyze here");
        return;
    }
    let folder = TempDir::new().unwrap();
    let mut copies = Vec::new();
    for name in UNITS {
        let text = fs::read_to_string(units().join(name)).unwrap();
        // Where it will be is not where it is here.
        let text = text.replace("/usr/bin/portpool", env!("CARGO_BIN_EXE_portpool"));
        copies.push(folder.path().join(name));
        fs::write(copies.last().unwrap(), text).unwrap();
    }
    let output = Command::new("systemd-analyze")
        .arg("verify")
        .args(&copies)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.is_empty(), "{said}");
}

#[test]
fn no_unit_gives_the_keeper_a_mount_namespace_of_its_own() {
    let text = fs::read_to_string(units().join("portpool-keeper.service")).unwrap();
    let options: Vec<&str> = text.lines().filter(|line| !line.starts_with('#')).collect();
    for option in [
        "ProtectSystem",
        "ProtectHome",
        "PrivateTmp",
        "PrivateDevices",
        "PrivateUsers",
        "PrivateNetwork",
        "ProtectKernelModules",
        "ProtectKernelLogs",
        "ProtectKernelTunables",
        "ProtectControlGroups",
        "ProtectProc",
        "ReadOnlyPaths",
        "ReadWritePaths",
        "InaccessiblePaths",
        "BindPaths",
        "TemporaryFileSystem",
        "RootDirectory",
        "RootImage",
        "DynamicUser",
        "ProtectClock",
        "LogNamespace",
        "MountAPIVFS",
        "StateDirectory",
        "RuntimeDirectory",
    ] {
        assert!(!options.iter().any(|it| it.starts_with(option)), "{option}");
    }
    assert!(options.contains(&"PrivateMounts=no"));
}

fn units() -> PathBuf {
    PathBuf::from(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../contrib/systemd"
    ))
}

const UNITS: [&str; 3] = [
    "portpool-keeper.service",
    "portpool-keeper.socket",
    "run-portpool-bpf.mount",
];
