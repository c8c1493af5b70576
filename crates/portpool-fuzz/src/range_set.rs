//! Sets and bitmaps of ports against the naive reference: a set of port numbers.

use std::collections::BTreeSet;

use portpool_core::{Port, PortBitmap, PortRange, RangeSet};

use crate::Draws;

/// The model, with steps that the bytes stand for.
pub fn range_set(bytes: &[u8]) {
    let mut draws = Draws::new(bytes);
    let (mut set, mut bitmap, mut model) = (RangeSet::new(), PortBitmap::empty(), BTreeSet::new());
    for _ in 0..STEP_COUNT_MAX {
        if draws.is_empty() {
            break;
        }
        let kind = draws.below(4);
        let range = draws.range();
        let ports = RangeSet::from(range);
        match kind {
            0 => {
                set.insert(range);
                bitmap.set_range(range);
                model.extend(numbers(range));
            }
            1 => {
                set.remove(range);
                bitmap.clear_range(range);
                model.retain(|port| {
                    !(range.first().number()..=range.last().number()).contains(port)
                });
            }
            2 => {
                set = set.union(&ports);
                bitmap.set_range(range);
                model.extend(numbers(range));
            }
            _ => {
                assert_eq!(set.covers(range), numbers(range).is_subset(&model));
                let common = set.intersection(&ports);
                check(
                    &common,
                    &numbers(range).intersection(&model).copied().collect(),
                );
                check(
                    &ports.difference(&set),
                    &numbers(range).difference(&model).copied().collect(),
                );
                assert_eq!(bitmap.any_in(range), !numbers(range).is_disjoint(&model));
            }
        }
        check(&set, &model);
        assert_eq!(bitmap.count() as usize, model.len());
    }
    assert_eq!(RangeSet::from(&bitmap), set);
    assert_eq!(set.to_string().parse(), Ok(set));
}

/// The set has the ports of the model, in ranges that neither overlap nor touch.
///
/// # Panics
/// If it has not.
pub fn check(set: &RangeSet, model: &BTreeSet<u16>) {
    let ports = set.iter().flat_map(PortRange::ports).map(Port::number);
    assert!(ports.eq(model.iter().copied()), "{set} is not {model:?}");
    let apart = |(a, b): (PortRange, PortRange)| a.last().number() + 1 < b.first().number();
    assert!(set.iter().zip(set.iter().skip(1)).all(apart), "{set}");
    assert_eq!(set.len_ports() as usize, model.len());
    assert_eq!(set.is_empty(), model.is_empty());
}

/// The numbers of a range.
pub fn numbers(range: PortRange) -> BTreeSet<u16> {
    range.ports().map(Port::number).collect()
}

/// More find no more, and take longer.
const STEP_COUNT_MAX: u32 = 24;

#[cfg(test)]
mod tests {
    use crate::exercise_slow;

    #[test]
    fn sets_agree_with_the_naive_set_after_each_step() {
        exercise_slow("range_set", super::range_set);
    }
}
