//! Persistent blocks: created and deleted by the keeper, looked up in the pool itself.

use portpool::{PortRange, Token, Transport};
use portpool_varlink::calls::{Lookup, Persist, Unpersist};

use super::{
    keeper::{Keeper, No},
    startup,
};
use crate::{choices, codes::Code};

/// Creates a block.
///
/// # Errors
/// As the documentation of the six functions says.
pub(crate) fn create(transport: Transport, first: u16, count: u16) -> Result<Token, Code> {
    check(first, count)?;
    let range = PortRange::from_numbers(first, count).map_err(|_| Code::INVALID_PARAMETER)?;
    let persist = Persist {
        transports: transport.into(),
        range,
        group: None,
        note: None,
    };
    let made = Keeper.call(&persist).map_err(|no| code(&no))?;
    let block = made.blocks.first();
    Ok(block.ok_or(choices::KEEPER_FAILED)?.token)
}

/// The token of the block with exactly these ports.
///
/// # Errors
/// As the documentation of the six functions says.
pub(crate) fn lookup(transport: Transport, first: u16, count: u16) -> Result<Token, Code> {
    check(first, count)?;
    let range = PortRange::from_numbers(first, count).map_err(|_| choices::NO_SUCH_BLOCK)?;
    // Everybody may look, so nobody has to be asked where the pool can be read.
    if let Ok(pool) = startup::pool()
        && let Ok(found) = pool.lookup_persistent(transport, range)
    {
        return found.ok_or(choices::NO_SUCH_BLOCK);
    }
    let named = Keeper
        .call(&Lookup { transport, range })
        .map_err(|no| code(&no))?;
    Ok(named.token)
}

/// Deletes the block with exactly these ports.
///
/// # Errors
/// As the documentation of the six functions says.
pub(crate) fn delete(transport: Transport, first: u16, count: u16) -> Result<(), Code> {
    check(first, count)?;
    let range = PortRange::from_numbers(first, count).map_err(|_| choices::NO_SUCH_BLOCK)?;
    let deleted = Keeper.call(&Unpersist {
        transports: transport.into(),
        range,
    });
    deleted.map(drop).map_err(|no| code(&no))
}

fn check(first: u16, count: u16) -> Result<(), Code> {
    match (first, count) {
        (0, _) | (_, 0) => Err(Code::INVALID_PARAMETER),
        _ => Ok(()),
    }
}

fn code(no: &No) -> Code {
    match no {
        No::NotFound => choices::NO_SUCH_BLOCK,
        No::NotAllowed => Code::ACCESS_DENIED,
        No::Refused(refusal) => choices::persistent_refused(*refusal),
        No::Unreachable => choices::NO_KEEPER,
        No::TooMany | No::Failed => choices::KEEPER_FAILED,
    }
}
