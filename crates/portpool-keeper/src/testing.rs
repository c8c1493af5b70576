//! The fuzz targets of this crate: what must hold of its parsers whatever they are given.

pub use crate::{service::testing::calls, store::testing::store};

#[cfg(test)]
mod tests {
    use portpool_fuzz::{exercise, exercise_slow};

    #[test]
    fn any_call_is_a_request_or_names_the_parameter_that_is_wrong() {
        exercise("calls", super::calls);
    }

    #[test]
    fn any_rows_are_records_that_do_not_overlap_or_are_refused() {
        exercise_slow("store", super::store);
    }
}
