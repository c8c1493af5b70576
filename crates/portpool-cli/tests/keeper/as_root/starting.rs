//! How a keeper starts and stops: by hand, by systemd, after another one, beside another one.

use std::{
    fs,
    os::unix::{
        fs::PermissionsExt,
        net::{UnixDatagram, UnixListener},
    },
    process::Command,
    time::Duration,
};

use portpool_testkit::{Arena, in_arena, in_bare_arena};
use portpool_varlink::{Client, calls::Describe};

use crate::kit::{Keeper, LONG, socket_of, until};

#[test]
fn a_second_keeper_is_refused_and_the_first_goes_on() {
    in_arena!(|arena: &Arena| {
        let keeper = Keeper::start(arena);
        let mut second = Keeper::spawn(arena, &[], &[]);
        assert_eq!(second.wait().code(), Some(1));
        until("it says why", || {
            second.log().contains(&format!(
                "another keeper serves this pool (process {})",
                keeper.pid()
            ))
        });
        keeper.client().call(&Describe {}, Some(LONG)).unwrap();
    });
}

#[test]
fn a_keeper_that_is_told_to_stop_leaves_no_socket_and_one_that_was_killed_does_no_harm() {
    in_arena!(|arena: &Arena| {
        let mut keeper = Keeper::start(arena);
        assert!(keeper.stop().success());
        assert!(!socket_of(arena).exists());
        let mut keeper = Keeper::start(arena);
        keeper.kill();
        assert!(socket_of(arena).exists());
        assert!(Client::connect(&socket_of(arena), LONG).is_err());
        let keeper = Keeper::start(arena);
        keeper.client().call(&Describe {}, Some(LONG)).unwrap();
    });
}

#[test]
fn everybody_reaches_a_keeper_that_was_started_with_a_strict_umask() {
    in_bare_arena!(|arena: &Arena| {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", "umask 077 && exec env \"$@\"", "sh"]);
        let mut keeper = Keeper::spawn_by(command, arena, &[], &[]);
        until("the keeper serves", || {
            keeper.log().contains("the keeper is ready")
        });
        let mode = fs::metadata(arena.run().path())
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o755);
        assert!(keeper.stop().success());
    });
}

#[test]
fn a_keeper_takes_descriptors_enough_for_all_its_connections() {
    in_arena!(|arena: &Arena| {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", "ulimit -S -n 256 && exec env \"$@\"", "sh"]);
        let keeper = Keeper::spawn_by(command, arena, &[], &[]);
        until("the keeper serves", || {
            keeper.log().contains("the keeper is ready")
        });
        let limits = fs::read_to_string(format!("/proc/{}/limits", keeper.pid())).unwrap();
        let line = limits
            .lines()
            .find_map(|line| line.strip_prefix("Max open files"));
        let soft = line
            .and_then(|line| line.split_whitespace().next())
            .unwrap();
        // 512 connections, each with a process, a bell and the 4 descriptors of a call.
        assert!(soft.parse::<u64>().unwrap() >= 512 * 7, "{limits}");
    });
}

#[test]
fn a_socket_that_was_passed_is_served_and_stays() {
    in_arena!(|arena: &Arena| {
        let path = arena.run().path().with_file_name("activated.sock");
        let program = "import os, socket, sys\n\
            s = socket.socket(socket.AF_UNIX)\n\
            s.bind(sys.argv[1])\n\
            s.listen()\n\
            os.dup2(s.fileno(), 3)\n\
            os.set_inheritable(3, True)\n\
            os.environ['LISTEN_PID'] = str(os.getpid())\n\
            os.environ['LISTEN_FDS'] = '1'\n\
            os.execv(sys.argv[2], sys.argv[2:])\n";
        let mut command = Command::new("/usr/bin/python3");
        command.args(["-c", program]).arg(&path);
        let mut keeper = Keeper::spawn_by(command, arena, &[], &[]);
        until("it serves", || {
            let client = Client::connect(&path, LONG);
            client.is_ok_and(|mut client| client.call(&Describe {}, Some(LONG)).is_ok())
        });
        assert!(!socket_of(arena).exists());
        assert!(keeper.stop().success());
        assert!(path.exists());
        fs::remove_file(&path).unwrap();
    });
}

#[test]
fn more_sockets_than_one_are_refused() {
    in_arena!(|arena: &Arena| {
        let one = UnixListener::bind(arena.run().path().with_file_name("one.sock")).unwrap();
        let number = std::os::fd::AsRawFd::as_raw_fd(&one).to_string();
        let program = "import os, sys\n\
            number = int(sys.argv[1])\n\
            os.dup2(number, 3)\n\
            os.dup2(number, 4)\n\
            os.set_inheritable(3, True)\n\
            os.environ['LISTEN_PID'] = str(os.getpid())\n\
            os.environ['LISTEN_FDS'] = '2'\n\
            os.execv(sys.argv[2], sys.argv[2:])\n";
        rustix::io::fcntl_setfd(&one, rustix::io::FdFlags::empty()).unwrap();
        let output = Command::new("/usr/bin/python3")
            .args([
                "-c",
                program,
                &number,
                env!("CARGO_BIN_EXE_portpool"),
                "keeper",
            ])
            .output()
            .unwrap();
        let message = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{message}");
        assert!(message.contains("LISTEN_FDS passes 2 sockets"), "{message}");
    });
}

#[test]
fn systemd_is_told_when_it_is_ready_and_when_it_stops() {
    in_arena!(|arena: &Arena| {
        let path = arena.run().path().with_file_name("notify.sock");
        let systemd = UnixDatagram::bind(&path).unwrap();
        systemd.set_read_timeout(Some(LONG)).unwrap();
        let told = || {
            let mut text = [0; 256];
            let size = systemd.recv(&mut text).unwrap();
            String::from_utf8_lossy(&text[..size]).trim().to_owned()
        };
        let variable = ("NOTIFY_SOCKET", path.to_str().unwrap());
        let mut keeper = Keeper::spawn(arena, &[], &[variable]);
        assert_eq!(told(), "READY=1");
        // Ready means ready.
        let mut client = Client::connect(&socket_of(arena), Duration::from_secs(1)).unwrap();
        client.call(&Describe {}, Some(LONG)).unwrap();
        assert!(keeper.stop().success());
        assert_eq!(told(), "STOPPING=1");
    });
}

#[test]
fn a_store_that_cannot_be_read_stops_administration_and_nothing_else() {
    in_arena!(|arena: &Arena| {
        let state = crate::kit::state_dir(arena);
        fs::create_dir_all(&state).unwrap();
        let mut keeper = Keeper::start(arena);
        assert!(keeper.stop().success());
        let store = portpool_keeper::StateDir::new(&state).store();
        fs::write(&store, b"SQLite format 3\0 and then nothing of the kind").unwrap();
        let damaged = fs::read(&store).unwrap();
        let keeper = Keeper::start(arena);
        let mut client = keeper.client();
        let exclude = portpool_varlink::calls::Exclude {
            transports: portpool::Transports::Tcp,
            range: "45000".parse().unwrap(),
            note: None,
        };
        let refused = client.call(&exclude, Some(LONG)).unwrap_err();
        assert!(
            refused.to_string().contains(store.to_str().unwrap()),
            "{refused}"
        );
        let acquire = portpool_varlink::calls::Acquire::exactly(exclude.transports, exclude.range);
        client.call(&acquire, Some(LONG)).unwrap();
        assert!(client.list(Some(LONG)).unwrap().is_empty());
        assert_eq!(fs::read(&store).unwrap(), damaged);
    });
}
