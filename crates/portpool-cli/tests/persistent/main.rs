//! The commands about what outlives a boot, as a person runs them, with everything that can go wrong.

mod as_root {
    mod commands;
    mod faults;
    mod kit;
    mod together;
}
