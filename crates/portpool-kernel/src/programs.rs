//! The one set of programs: loading it over its maps, linking it to a cgroup, sweeping.

use std::{
    fs,
    io::{self, Read},
};

use aya::{
    Btf, Ebpf, EbpfLoader,
    programs::{CgroupSock, CgroupSockAddr, CgroupSockopt, Iter, ProgramFd},
};

use portpool_core::PortBitmap;

use crate::{
    cgroup::Cgroup,
    error::{Error, Failed, Step},
    files::RunDir,
    pool::set_mode,
    sys::Object,
};

static OBJECT: &[u8] = aya::include_bytes_aligned!("../bpf/portpool.bpf.o");

/// The maps of the set, and the mode of their pins: the table of pools is for everybody to look at.
const MAPS: [(&str, u32); 20] = [
    ("pools", 0o444),
    ("first_pool", 0o600),
    ("occupancies", 0o600),
    ("counts", 0o600),
    ("reservations", 0o600),
    ("kept", 0o600),
    ("counting", 0o600),
    ("uids", 0o600),
    ("roots", 0o600),
    ("windows", 0o600),
    ("tallies", 0o600),
    ("events", 0o600),
    ("watch_state", 0o600),
    ("marks", 0o600),
    ("mark_sets", 0o600),
    ("owners", 0o600),
    ("multipath", 0o600),
    ("last_id", 0o600),
    ("holds", 0o600),
    ("hold_target", 0o600),
];

/// The programs that hang on the cgroup, and where (`enum bpf_attach_type`). Releases are seen
/// before binds are counted, and control codes work last, so a half-attached set grants nothing.
const HOOKS: [(&str, u32); 8] = [
    ("pp_sock_release", 34),
    ("pp_post_bind4", 12),
    ("pp_post_bind6", 13),
    ("pp_bind4", 8),
    ("pp_bind6", 9),
    ("pp_connect4", 10),
    ("pp_connect6", 11),
    ("pp_setsockopt", 22),
];

/// The programs, loaded over the pinned maps of a run directory.
pub(crate) struct Programs {
    ebpf: Ebpf,
    /// The kernel's own types: reading them takes longer than all else here.
    btf: Btf,
    run: RunDir,
}

impl Programs {
    /// Loads the set. Maps that are pinned already are taken over with all that is in them.
    pub(crate) fn load(run: &RunDir) -> Result<Programs, Failed> {
        let mut programs = Programs::open(run)?;
        for (name, _) in HOOKS {
            load_program(&mut programs.ebpf, name)?;
        }
        Ok(programs)
    }

    /// Opens the set over its maps, to sweep with: the programs that are linked stay what they are.
    pub(crate) fn open(run: &RunDir) -> Result<Programs, Failed> {
        let what = || "load the kernel programs".to_owned();
        let maps = run.maps();
        fs::create_dir_all(&maps).step(|| format!("make {}", maps.display()))?;
        let btf = kernel_btf()?;
        let mut loader = EbpfLoader::new();
        loader.btf(Some(&btf));
        for (name, _) in MAPS {
            loader.map_pin_path(name, maps.join(name));
        }
        let ebpf = loader.load(OBJECT).map_err(io::Error::other).step(what)?;
        for (name, mode) in MAPS {
            set_mode(&run.map(name), mode)?;
        }
        Ok(Programs {
            ebpf,
            btf,
            run: run.clone(),
        })
    }

    /// Links every program to the cgroup, or puts it in the place of the one that is linked.
    pub(crate) fn link(&self, cgroup: &Cgroup) -> Result<(), Error> {
        let links = self.run.links();
        fs::create_dir_all(&links).step(|| format!("make {}", links.display()))?;
        for (name, hook) in HOOKS {
            self.link_program(cgroup, name, hook)?;
        }
        Ok(())
    }

    fn link_program(&self, cgroup: &Cgroup, name: &str, hook: u32) -> Result<(), Error> {
        let path = self.run.links().join(name);
        let what = || format!("attach {name} to {}", cgroup.path.display());
        let program = self.program_fd(name)?;
        if path.exists() {
            let link = Object::open(&path).step(what)?;
            let linked = link.linked_cgroup().step(what)?;
            if linked == cgroup.id {
                return Ok(link.replace_program(&program).step(what)?);
            }
            if linked != 0 {
                return Err(Error::OtherCgroup {
                    path: self.run.path().to_owned(),
                    cgroup: cgroup.path.clone(),
                });
            }
            // Its cgroup is gone, and the link with it: only the pin is left.
            fs::remove_file(&path).step(what)?;
        }
        let link = Object::link(&program, &cgroup.directory, hook).step(what)?;
        Ok(link.pin(&path).step(what)?)
    }

    /// Makes the next sweeps tell which ports of the pool at `index` they held: see
    /// [`swept_holds`](Programs::swept_holds).
    pub(crate) fn expect_holds(&self, index: u32) -> Result<(), Failed> {
        self.write_holds(index, &[(0, 0); 2 * PortBitmap::WORD_COUNT])
    }

    /// Ports with a socket that the sweep found no memory to count, a mask for each of TCP's words,
    /// then UDP's.
    pub(crate) fn swept_holds(&self) -> Result<Vec<u64>, Failed> {
        let what = || "read the ports held by the sweep".to_owned();
        let map = Object::open(&self.run.map("holds")).step(what)?;
        let mut masks = Vec::with_capacity(2 * PortBitmap::WORD_COUNT);
        for key in 0..2 * PortBitmap::WORD_COUNT as u32 {
            let (mut value, mut set) = ([0; 16], [0; 8]);
            map.lookup(&key.to_ne_bytes(), &mut value).step(what)?;
            set.copy_from_slice(&value[..8]);
            masks.push(u64::from_ne_bytes(set));
        }
        Ok(masks)
    }

    /// Counts the sockets of all processes that were bound before: see `bpf/sweep.h`.
    pub(crate) fn sweep(&mut self) -> Result<(), Failed> {
        self.iterate("pp_sweep", "task_file")
            .step(|| "count the sockets bound already".into())
    }

    /// Sets and clears bits of held ports of the pool at `index`: a pair of masks for each of
    /// TCP's words, then UDP's.
    pub(crate) fn hold(&mut self, index: u32, holds: &[(u64, u64)]) -> Result<(), Failed> {
        self.write_holds(index, holds)?;
        self.iterate("pp_hold", "task")
            .step(|| "note the ports held by the kernel".to_owned())
    }

    fn write_holds(&self, index: u32, holds: &[(u64, u64)]) -> Result<(), Failed> {
        let what = || "note the ports held by the kernel".to_owned();
        let target = Object::open(&self.run.map("hold_target")).step(what)?;
        target
            .update(&0u32.to_ne_bytes(), &index.to_ne_bytes())
            .step(what)?;
        let map = Object::open(&self.run.map("holds")).step(what)?;
        for (key, (set, clear)) in (0u32..).zip(holds) {
            let mut value = [0; 16];
            value[..8].copy_from_slice(&set.to_ne_bytes());
            value[8..].copy_from_slice(&clear.to_ne_bytes());
            map.update(&key.to_ne_bytes(), &value).step(what)?;
        }
        Ok(())
    }

    /// Runs an iterator from end to end.
    fn iterate(&mut self, name: &str, kind: &str) -> io::Result<()> {
        let program = self.ebpf.program_mut(name).ok_or_else(no_such_program)?;
        let program: &mut Iter = program.try_into().map_err(io::Error::other)?;
        if program.fd().is_err() {
            program.load(kind, &self.btf).map_err(into_io)?;
        }
        let id = program.attach().map_err(into_io)?;
        let link = program.take_link(id).map_err(into_io)?;
        // Reading drives the walk; the programs write nothing.
        let mut nothing = Vec::new();
        link.into_file()
            .map_err(io::Error::other)?
            .read_to_end(&mut nothing)?;
        Ok(())
    }

    fn program_fd(&self, name: &str) -> Result<ProgramFd, Failed> {
        let program = self.ebpf.program(name).ok_or_else(no_such_program);
        program
            .and_then(|program| program.fd().map_err(io::Error::other)?.try_clone())
            .step(|| format!("find the program {name}"))
    }
}

/// Whether the cgroup that a pinned set is attached to is still there.
pub(crate) fn linked_cgroups(run: &RunDir) -> Vec<(&'static str, Option<u64>)> {
    let cgroup_of =
        |name| Object::open(&run.links().join(name)).and_then(|link| link.linked_cgroup());
    HOOKS
        .iter()
        .map(|(name, _)| (*name, cgroup_of(name).ok()))
        .collect()
}

fn kernel_btf() -> Result<Btf, Failed> {
    Btf::from_sys_fs()
        .map_err(io::Error::other)
        .step(|| "read the kernel's types from /sys/kernel/btf/vmlinux".into())
}

fn load_program(ebpf: &mut Ebpf, name: &str) -> Result<(), Failed> {
    let what = || format!("load the program {name}");
    let program = ebpf.program_mut(name).ok_or_else(no_such_program);
    let program = program.step(what)?;
    let loaded = match program {
        aya::programs::Program::CgroupSock(_) => {
            <&mut CgroupSock>::try_from(program).and_then(CgroupSock::load)
        }
        aya::programs::Program::CgroupSockAddr(_) => {
            <&mut CgroupSockAddr>::try_from(program).and_then(CgroupSockAddr::load)
        }
        _ => <&mut CgroupSockopt>::try_from(program).and_then(CgroupSockopt::load),
    };
    loaded.map_err(into_io).step(what)
}

/// The system call's own error where there is one, so that its number can be judged.
fn into_io(error: aya::programs::ProgramError) -> io::Error {
    match error {
        aya::programs::ProgramError::LoadError {
            io_error,
            verifier_log,
        } => match io_error.raw_os_error() {
            Some(libc::EPERM) => io_error,
            _ => io::Error::other(format!("{io_error}: {verifier_log}")),
        },
        other => io::Error::other(other),
    }
}

fn no_such_program() -> io::Error {
    io::Error::other("the object has no such program")
}
