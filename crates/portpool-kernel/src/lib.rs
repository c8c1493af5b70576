//! The privileged side of portpool.
