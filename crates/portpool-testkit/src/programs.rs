//! Real servers that know nothing of portpool: one table for all tests that run them.
//!
//! A server is started by a shell that obeys: a line of its input is an order, a line of its output
//! the answer. So one run of portpool sees the server start, stop and start again, and the server
//! itself is started no other way than by hand.

use std::{
    fs, io,
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use rustix::fs::{FlockOperation, flock};

/// A server and how to treat it.
#[derive(Clone, Copy, Debug)]
pub struct Program {
    /// What it is called in reports.
    pub name: &'static str,
    /// The command that must be installed, with its package.
    pub needs: &'static str,
    /// Its command line: `{dir}`, `{ip}` and `{port}` are filled in.
    line: &'static [&'static str],
    /// Its files, `PORT`, `DIR` and `ADDRESS` to be filled in.
    files: &'static [(&'static str, &'static str)],
    /// What to ask it, and what the answer begins or ends with.
    question: (&'static str, &'static str),
    /// How it takes over from itself without letting go of its port.
    pub reload: Option<Reload>,
    /// Whether its sockets have `SO_REUSEPORT`: then processes of the same uid with that flag may
    /// join them, as without any pool.
    pub shares_port: bool,
}

/// How a server takes over from itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reload {
    /// SIGHUP.
    Hup,
    /// A second one is started and told the first, which it stops.
    Successor,
}

impl Reload {
    /// The order for it.
    pub const fn order(self) -> &'static str {
        match self {
            Reload::Hup => "hup",
            Reload::Successor => "successor",
        }
    }
}

const HTTP: (&str, &str) = ("GET / HTTP/1.0\r\n\r\n", "hello");

/// All of them.
pub const PROGRAMS: &[Program] = &[
    Program {
        name: "python3",
        needs: "python3",
        line: &[
            "python3",
            "-m",
            "http.server",
            "--bind={ip}",
            "--directory={dir}/www",
            "{port}",
        ],
        files: &[("www/index.html", "hello")],
        question: HTTP,
        reload: None,
        shares_port: false,
    },
    Program {
        name: "node",
        needs: "node",
        line: &["node", "{dir}/server.js", "{ip}", "{port}"],
        files: &[(
            "server.js",
            "const [ip, port] = process.argv.slice(2);\n\
             require('http').createServer((q, a) => a.end('hello')).listen(port, ip);\n",
        )],
        question: HTTP,
        reload: None,
        shares_port: false,
    },
    Program {
        name: "go",
        needs: "go",
        line: &["{dir}/server-go", "{ip}:{port}"],
        files: &[],
        question: HTTP,
        reload: None,
        shares_port: false,
    },
    Program {
        name: "nginx",
        needs: "nginx",
        line: &["nginx", "-p", "{dir}", "-c", "{dir}/nginx.conf"],
        files: &[("nginx.conf.in", include_str!("programs/nginx.conf"))],
        question: HTTP,
        reload: Some(Reload::Hup),
        shares_port: false,
    },
    Program {
        name: "nginx reuseport",
        needs: "nginx",
        line: &["nginx", "-p", "{dir}", "-c", "{dir}/nginx-reuseport.conf"],
        files: &[(
            "nginx-reuseport.conf.in",
            include_str!("programs/nginx-reuseport.conf"),
        )],
        question: HTTP,
        reload: Some(Reload::Hup),
        shares_port: true,
    },
    Program {
        name: "redis",
        needs: "redis-server",
        line: &[
            "redis-server",
            "--bind",
            "{ip}",
            "--port",
            "{port}",
            "--dir",
            "{dir}",
            "--save",
            "",
        ],
        files: &[],
        question: ("PING\r\nQUIT\r\n", "OK\r\n"),
        reload: None,
        shares_port: false,
    },
    Program {
        name: "haproxy",
        needs: "haproxy",
        line: &["haproxy", "-db", "-f", "{dir}/haproxy.cfg"],
        files: &[("haproxy.cfg.in", include_str!("programs/haproxy.cfg"))],
        question: HTTP,
        reload: Some(Reload::Successor),
        shares_port: true,
    },
    Program {
        name: "gunicorn",
        needs: "gunicorn",
        line: &[
            "gunicorn",
            "-w",
            "2",
            "--graceful-timeout=2",
            "-b",
            "{ip}:{port}",
            "--chdir",
            "{dir}",
            "app:app",
        ],
        files: &[(
            "app.py",
            "def app(environment, start):\n    start('200 OK', [])\n    return [b'hello']\n",
        )],
        question: HTTP,
        reload: Some(Reload::Hup),
        shares_port: false,
    },
    Program {
        name: "java",
        needs: "java",
        line: &[
            "java",
            "-XX:-UsePerfData",
            "{dir}/Server.java",
            "{ip}",
            "{port}",
        ],
        files: &[("Server.java", include_str!("programs/Server.java"))],
        question: HTTP,
        reload: None,
        shares_port: false,
    },
];

/// A server that is told port 0.
pub const PYTHON_ON_PORT_ZERO: Program = Program {
    name: "python3 port 0",
    needs: "python3",
    line: &[
        "python3",
        "-m",
        "http.server",
        "--bind={ip}",
        "--directory={dir}/www",
        "0",
    ],
    files: &[("www/index.html", "hello")],
    question: HTTP,
    reload: None,
    shares_port: false,
};

impl Program {
    /// Whether it can be run. Where tests must not be left out that is an error.
    pub fn is_installed(&self) -> bool {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let found = std::env::split_paths(&path).any(|it| it.join(self.needs).exists());
        assert!(
            found || std::env::var_os("CI").is_none_or(|it| it != "true"),
            "{} is not installed; scripts/setup does it",
            self.needs
        );
        if !found {
            println!("left out: {} is not installed", self.needs);
        }
        found
    }

    /// Puts its files into a directory that everybody can use. `cache` is where what is compiled is
    /// kept from one test to the next.
    pub fn prepare(&self, dir: &Path, ip: &str, cache: &Path) {
        for (name, text) in self.files {
            let path = dir.join(name);
            let text = text
                .replace("DIR", &dir.display().to_string())
                .replace("ADDRESS", ip);
            let folder = path.parent().expect("a folder");
            fs::create_dir_all(folder)
                .and_then(|()| fs::write(&path, text))
                .unwrap_or_else(|error| panic!("write {}: {error}", path.display()));
        }
        if self.needs == "go" {
            // Not by ourselves: a child of another test would keep the copy open for writing.
            let mut copy = Command::new("cp");
            copy.arg(go_server(cache).expect("build the Go server"))
                .arg(dir);
            assert!(copy.status().expect("run cp").success());
        }
        let open = fs::Permissions::from_mode(0o777);
        fs::set_permissions(dir, open).expect("open the directory");
    }

    /// The command to run for it: a shell that obeys `start`, `stop` and the order of a reload, each
    /// with the process id of the server as its answer. `port` may be a word that is filled in later.
    pub fn command(&self, dir: &Path, ip: &str, port: &str) -> Vec<String> {
        let dir = dir.display().to_string();
        let filled = self.line.iter().map(|word| {
            let word = word.replace("{dir}", &dir).replace("{ip}", ip);
            word.replace("{port}", port)
        });
        let shell = ["sh", "-c", SHELL, "sh", &dir, port].map(str::to_owned);
        shell.into_iter().chain(filled).collect()
    }

    /// Asks it once, and says whether it answered as it should.
    pub fn answers(&self, address: SocketAddr) -> bool {
        let (question, answer) = self.question;
        ask(address, question).is_ok_and(|it| it.ends_with(answer))
    }
}

fn ask(address: SocketAddr, question: &str) -> io::Result<String> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(ANSWER_TIME))?;
    stream.write_all(question.as_bytes())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

/// The Go server without the C library, compiled once.
fn go_server(cache: &Path) -> io::Result<PathBuf> {
    fs::create_dir_all(cache)?;
    // The tests are several processes.
    let lock = fs::File::create(cache.join("go.lock"))?;
    flock(&lock, FlockOperation::LockExclusive)?;
    let source = include_str!("programs/server.go");
    let path = cache.join("server.go");
    let program = cache.join("server-go");
    if program.exists() && fs::read_to_string(&path).is_ok_and(|it| it == source) {
        return Ok(program);
    }
    fs::write(&path, source)?;
    let built = Command::new("go")
        .args(["build", "-o"])
        .args([&program, &path])
        .env("CGO_ENABLED", "0")
        .env("GO111MODULE", "off")
        .env("GOCACHE", cache.join("go-cache"))
        .status()?;
    match built.success() {
        true => Ok(program),
        false => Err(io::Error::other("go build failed")),
    }
}

const SHELL: &str = r#"
dir=$1 port=$2; shift 2; cd "$dir" || exit
for file in *.in; do [ -e "$file" ] && sed "s/PORT/$port/g" "$file" >"${file%.in}"; done
echo "$port"
while read -r order; do
    case $order in
        start) "$@" >>"$dir/log" 2>&1 </dev/null & server=$! ;;
        hup) kill -HUP "$server" ;;
        successor) old=$server; "$@" -sf "$old" >>"$dir/log" 2>&1 </dev/null & server=$!; wait "$old" ;;
        stop) kill -TERM "$server"; wait "$server" ;;
    esac
    echo "$server"
done
"#;
const ANSWER_TIME: Duration = Duration::from_secs(60);
