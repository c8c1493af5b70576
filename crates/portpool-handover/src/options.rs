//! What the caller decides.

/// How ports are handed over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Options {
    /// Refuse with `EACCES` where a port could only be handed over through a moment in which others
    /// fit in.
    pub strict: bool,
    /// What a TCP socket gets that binds port 0.
    pub tcp_zero: Zero,
    /// What a UDP socket gets that binds port 0. Clients do so as well, and each would use up a
    /// port of the block.
    pub udp_zero: Zero,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            strict: false,
            tcp_zero: Zero::Block,
            udp_zero: Zero::Kernel,
        }
    }
}

/// What a bind to port 0 gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Zero {
    /// The last guarded port that nobody uses, or what the kernel chooses if there is none.
    ///
    /// The last, because programs that are told a port are mostly told the first ones.
    Block,
    /// What the kernel chooses: never a guarded port.
    Kernel,
    /// `EACCES`.
    Error,
}
