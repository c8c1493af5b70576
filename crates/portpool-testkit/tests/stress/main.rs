//! Many at once: two who meet at the same instant over one port, and 64 who fight over all.

mod admin;
mod checker;
mod crossing;
mod duel;
mod fight;
mod opening;
mod roots;
mod sweep;
