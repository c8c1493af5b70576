//! Administration: what is answered, what is in force, and what is on record, whatever happens.

mod model;

mod as_root {
    mod kit;
    mod restore;
    mod spec;
}
