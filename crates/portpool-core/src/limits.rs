//! How much one caller, and all callers together, may hold.

use std::{error, fmt};

/// The limits of a kernel pool, set when it is attached.
///
/// ```
/// use portpool_core::Limits;
///
/// let limits = Limits { reservations_per_socket_max: 33, ..Limits::default() };
/// assert_eq!(
///     limits.checked().unwrap_err().to_string(),
///     "reservations_per_socket_max is 33, choose a value from 1 to 32",
/// );
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Ports one uid may hold, those of both transports added up: 1 to 131,070.
    pub ports_per_uid_max: u32,
    /// Reservations one uid may hold: 1 to 16,384.
    pub reservations_per_uid_max: u32,
    /// Reservations one owner socket may hold: 1 to 32.
    pub reservations_per_socket_max: u32,
    /// Reservations in all: 1 to 16,384.
    pub reservations_max: u32,
    /// The share, of the ports and of the reservations, that all callers without CAP_NET_ADMIN may
    /// hold together, in percent: 0 to 100. A limit by uid alone is worth little where one user owns
    /// thousands of subordinate uids.
    pub shared_percent: u32,
}

impl Limits {
    /// All ports of both transports.
    pub const PORTS_CEILING: u32 = 2 * 65_535;
    /// The room for reservations in the storage of a socket.
    pub const RESERVATIONS_PER_SOCKET_CEILING: u32 = 32;
    /// The size of the kernel's table of reservations.
    pub const RESERVATIONS_CEILING: u32 = 16_384;

    /// The limits of a pool for which nothing else was chosen.
    pub const DEFAULT: Limits = Limits {
        ports_per_uid_max: 1_024,
        reservations_per_uid_max: 64,
        reservations_per_socket_max: 32,
        reservations_max: 16_384,
        shared_percent: 50,
    };

    /// The same limits, if each is one the kernel pool can keep.
    ///
    /// # Errors
    /// The first field out of its range.
    pub fn checked(self) -> Result<Limits, LimitError> {
        let ports = Limits::PORTS_CEILING;
        let reservations = Limits::RESERVATIONS_CEILING;
        let per_socket = Limits::RESERVATIONS_PER_SOCKET_CEILING;
        check("ports_per_uid_max", self.ports_per_uid_max, 1, ports)?;
        check(
            "reservations_per_uid_max",
            self.reservations_per_uid_max,
            1,
            reservations,
        )?;
        check(
            "reservations_per_socket_max",
            self.reservations_per_socket_max,
            1,
            per_socket,
        )?;
        check("reservations_max", self.reservations_max, 1, reservations)?;
        check("shared_percent", self.shared_percent, 0, 100)?;
        Ok(self)
    }
}

impl Default for Limits {
    fn default() -> Limits {
        Limits::DEFAULT
    }
}

/// A limit that the kernel pool cannot keep.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LimitError {
    /// The name of the field of [`Limits`].
    pub field: &'static str,
    /// What it was set to.
    pub value: u32,
    /// The lowest value accepted.
    pub min: u32,
    /// The highest value accepted.
    pub max: u32,
}

impl fmt::Display for LimitError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let LimitError {
            field,
            value,
            min,
            max,
        } = self;
        write!(f, "{field} is {value}, choose a value from {min} to {max}")
    }
}

impl error::Error for LimitError {}

fn check(field: &'static str, value: u32, min: u32, max: u32) -> Result<(), LimitError> {
    if (min..=max).contains(&value) {
        return Ok(());
    }
    Err(LimitError {
        field,
        value,
        min,
        max,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_within_their_limits() {
        assert_eq!(Limits::default().checked(), Ok(Limits::DEFAULT));
    }

    #[test]
    fn a_limit_out_of_range_is_named_with_its_range() {
        let defaults = Limits::DEFAULT;
        for (limits, field) in [
            (
                Limits {
                    ports_per_uid_max: 131_071,
                    ..defaults
                },
                "ports_per_uid_max",
            ),
            (
                Limits {
                    reservations_per_uid_max: 0,
                    ..defaults
                },
                "reservations_per_uid_max",
            ),
            (
                Limits {
                    reservations_per_socket_max: 33,
                    ..defaults
                },
                "reservations_per_socket_max",
            ),
            (
                Limits {
                    reservations_max: 16_385,
                    ..defaults
                },
                "reservations_max",
            ),
            (
                Limits {
                    shared_percent: 101,
                    ..defaults
                },
                "shared_percent",
            ),
        ] {
            let error = limits.checked().unwrap_err();
            assert_eq!(error.field, field);
            assert!(
                error.to_string().contains(&error.value.to_string()),
                "{error}"
            );
        }
    }

    #[test]
    fn callers_without_privilege_may_be_shut_out() {
        assert!(
            Limits {
                shared_percent: 0,
                ..Limits::DEFAULT
            }
            .checked()
            .is_ok()
        );
    }
}
