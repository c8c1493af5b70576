//! Which pool a command works on.

use std::ffi::OsString;

use clap::{Args, builder::TypedValueParser};
use portpool::{Pool, PoolKind};

use crate::exit::Failure;

#[derive(Clone, Copy, Debug, Default, Args)]
pub(crate) struct PoolArgs {
    /// Which pool: the kernel's, one that portpool holds itself without any set-up, or the kernel's
    /// where it is attached and else the other. [default: PORTPOOL_POOL, else auto]
    #[arg(long = "pool", value_name = "KIND", value_parser = kind())]
    kind: Option<PoolKind>,
}

impl PoolArgs {
    /// Opens the pool, to reserve in it.
    pub(crate) fn open(self, is_strict: bool) -> Result<Pool, Failure> {
        Ok(self.builder().strict(is_strict).open()?)
    }

    /// The same as arguments.
    pub(crate) fn to_args(self) -> impl Iterator<Item = OsString> {
        let kind = self.kind.map(|kind| format!("--pool={kind}").into());
        kind.into_iter()
    }

    fn builder(self) -> portpool::Builder {
        let builder = Pool::builder();
        match self.kind {
            Some(kind) => builder.kind(kind),
            None => builder,
        }
    }
}

fn kind() -> impl TypedValueParser<Value = PoolKind> {
    let kinds = [PoolKind::Automatic, PoolKind::Kernel, PoolKind::Embedded];
    clap::builder::PossibleValuesParser::new(kinds.map(PoolKind::name))
        .try_map(|text| text.parse::<PoolKind>())
}
