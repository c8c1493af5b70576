//! Which pool a command works on.

use std::{ffi::OsString, net::Ipv4Addr};

use clap::{Args, builder::TypedValueParser};
use portpool::{Pool, PoolKind, Transport};
use serde::Serialize;

use crate::{
    cgroup,
    exit::Failure,
    output::{WARNING, printable},
};

#[derive(Clone, Copy, Debug, Default, Args)]
pub(crate) struct PoolArgs {
    /// Which pool: the kernel's, the one that portpool holds itself without any set-up, or the
    /// kernel's where it is attached and else the other. [default: PORTPOOL_POOL, else auto]
    #[arg(long = "pool", value_name = "KIND", value_parser = kind())]
    kind: Option<PoolKind>,
    /// Say on stderr which pool it is and why.
    #[arg(short, long)]
    verbose: bool,
}

impl PoolArgs {
    /// Opens the pool, to reserve in it.
    pub(crate) fn open(self, is_strict: bool) -> Result<Pool, Failure> {
        let pool = self.builder().strict(is_strict).open()?;
        self.tell(&pool);
        Ok(pool)
    }

    /// Opens the pool to look at it, also one that guards another cgroup, and says so then.
    pub(crate) fn open_to_look(self) -> Result<Pool, Failure> {
        let pool = self.builder().open_to_look()?;
        self.tell(&pool);
        if !pool.guards_caller() {
            let guarded = pool.overview().map(|overview| overview.config.cgroup);
            anstream::eprintln!("{WARNING}warning:{WARNING:#} {}", outside(guarded.ok()));
        }
        Ok(pool)
    }

    /// The same as arguments.
    pub(crate) fn to_args(self) -> impl Iterator<Item = OsString> {
        let kind = self.kind.map(|kind| format!("--pool={kind}").into());
        let verbose = self.verbose.then(|| "--verbose".into());
        kind.into_iter().chain(verbose)
    }

    fn tell(self, pool: &Pool) {
        if self.verbose {
            anstream::eprint!("portpool: {}", Chosen::of(pool).line());
        }
    }

    fn builder(self) -> portpool::Builder {
        let builder = Pool::builder();
        match self.kind {
            Some(kind) => builder.kind(kind),
            None => builder,
        }
    }
}

/// Which pool was opened, as every answer shows it.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Chosen {
    #[serde(rename = "pool")]
    kind: &'static str,
    #[serde(rename = "pool_reason")]
    reason: &'static str,
    /// False if its sockets are neither refused nor counted.
    guards_this_process: bool,
}

impl Chosen {
    pub(crate) fn of(pool: &Pool) -> Chosen {
        let choice = pool.choice();
        Chosen {
            kind: choice.kind.name(),
            reason: choice.reason,
            guards_this_process: pool.guards_caller(),
        }
    }

    pub(crate) fn is(self, kind: PoolKind) -> bool {
        self.kind == kind.name()
    }

    /// The kind and why.
    pub(crate) fn text(self) -> String {
        format!("{}: {}", self.kind, self.reason)
    }

    /// The line above a list.
    pub(crate) fn line(self) -> String {
        format!("pool {}\n", self.text())
    }
}

/// Whether the embedded pool can hand over ports of every address without letting others in.
pub(crate) fn takes_tcp_without_gap(pool: &Pool) -> bool {
    let anywhere = Ipv4Addr::UNSPECIFIED.into();
    pool.technique(Transport::Tcp, anywhere).is_gap_free()
}

/// What it means to be outside the cgroup that the pool guards.
pub(crate) fn outside(guarded: Option<u64>) -> String {
    let path = guarded.and_then(cgroup::path_of);
    let path = path.map_or("another cgroup".to_owned(), |path| {
        path.display().to_string()
    });
    let own = cgroup::own().unwrap_or_else(|| "none".to_owned());
    printable(&format!(
        "the pool of this network namespace guards only sockets created in {path}, and this process is \
         in {own}: sockets made here are neither refused nor counted"
    ))
}

fn kind() -> impl TypedValueParser<Value = PoolKind> {
    let kinds = [PoolKind::Automatic, PoolKind::Kernel, PoolKind::Embedded];
    clap::builder::PossibleValuesParser::new(kinds.map(PoolKind::name))
        .try_map(|text| text.parse::<PoolKind>())
}
