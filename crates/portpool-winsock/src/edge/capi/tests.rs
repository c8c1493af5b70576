//! What the C side cannot see: that the two sides name the same things.

use portpool::Refusal;

use super::last_error::name;

#[test]
fn a_refusal_has_the_same_name_in_c() {
    for refusal in Refusal::ALL {
        assert_eq!(name(refusal).to_str(), Ok(refusal.name()));
    }
}
