//! Ranges, range sets and bitmaps against the naive reference, a set of port numbers, which the fuzz
//! target `range_set` runs as well.

use std::collections::BTreeSet;

use portpool_core::{Port, PortBitmap, PortRange, RangeSet};
use portpool_fuzz::range_set::{check, numbers};
use proptest::{collection::vec, prelude::*};

proptest! {
    #[test]
    fn a_range_has_exactly_the_ports_between_its_ends(range in range(), other in range()) {
        let (ports, others) = (numbers(range), numbers(other));
        prop_assert_eq!(ports.len(), usize::from(range.count().number()));
        prop_assert_eq!(ports.first(), Some(&range.first().number()));
        prop_assert_eq!(ports.last(), Some(&range.last().number()));
        prop_assert_eq!(range.overlaps(other), !ports.is_disjoint(&others));
        prop_assert_eq!(range.covers(other), ports.is_superset(&others));
        let common: BTreeSet<u16> = ports.intersection(&others).copied().collect();
        prop_assert_eq!(range.intersection(other).map_or(BTreeSet::new(), numbers), common);
    }

    #[test]
    fn a_range_reads_back_what_it_prints(range in range()) {
        prop_assert_eq!(range.to_string().parse(), Ok(range));
    }

    #[test]
    fn any_two_numbers_make_a_range_or_an_error(first: u16, count: u16) {
        let fits = first > 0 && count > 0 && u32::from(first) + u32::from(count) <= 65_536;
        prop_assert_eq!(PortRange::from_numbers(first, count).is_ok(), fits);
    }

    #[test]
    fn text_that_is_no_range_is_named(text in "[-0-9a,/ ]{0,12}") {
        if let Err(error) = text.parse::<PortRange>() {
            prop_assert!(error.to_string().contains(&text));
        }
    }

    #[test]
    fn a_set_holds_what_was_inserted_and_not_removed(steps in vec((any::<bool>(), range()), 0..40)) {
        let (mut set, mut model) = (RangeSet::new(), BTreeSet::new());
        for (insert, range) in steps {
            if insert {
                set.insert(range);
                model.extend(numbers(range));
            } else {
                set.remove(range);
                model.retain(|port| !range.contains(Port::new(*port).unwrap()));
            }
            check(&set, &model);
        }
        prop_assert_eq!(set.to_string().parse(), Ok(set));
    }

    #[test]
    fn union_and_difference_are_those_of_sets(a in ranges(), b in ranges()) {
        let (model_a, model_b) = (model(&a), model(&b));
        let (a, b): (RangeSet, RangeSet) = (a.into_iter().collect(), b.into_iter().collect());
        check(&a, &model_a);
        check(&a.union(&b), &model_a.union(&model_b).copied().collect());
        check(&a.difference(&b), &model_a.difference(&model_b).copied().collect());
    }

    #[test]
    fn a_set_covers_a_range_if_it_has_all_its_ports(set in ranges(), range in range()) {
        let model = model(&set);
        let set: RangeSet = set.into_iter().collect();
        prop_assert_eq!(set.covers(range), numbers(range).is_subset(&model));
        prop_assert_eq!(set.contains(range.first()), model.contains(&range.first().number()));
    }

    #[test]
    fn a_bitmap_holds_what_was_set_and_not_cleared(
        steps in vec((0..3_u8, range()), 0..20),
        asked in range(),
    ) {
        let (mut bitmap, mut model) = (PortBitmap::empty(), BTreeSet::new());
        for (step, range) in steps {
            match step {
                0 => {
                    bitmap.set(range.first());
                    model.insert(range.first().number());
                }
                1 => {
                    let mut other = PortBitmap::empty();
                    other.set_range(range);
                    bitmap.union_with(&other);
                    model.extend(numbers(range));
                }
                _ => {
                    bitmap.clear_range(range);
                    model.retain(|port| !range.contains(Port::new(*port).unwrap()));
                }
            }
            prop_assert_eq!(bitmap.count() as usize, model.len());
        }
        prop_assert_eq!(bitmap.any_in(asked), !numbers(asked).is_disjoint(&model));
        prop_assert!(asked.ports().all(|port| bitmap.contains(port) == model.contains(&port.number())));
        prop_assert_eq!(PortBitmap::from_words(bitmap.words()), bitmap);
    }
}

fn model(ranges: &[PortRange]) -> BTreeSet<u16> {
    ranges.iter().copied().flat_map(numbers).collect()
}

fn ranges() -> impl Strategy<Value = Vec<PortRange>> {
    vec(range(), 0..20)
}

/// Mostly short ranges close together, so that they meet; some at either end of the numbers.
fn range() -> impl Strategy<Value = PortRange> {
    let first = prop_oneof![8 => 1000..1300_u16, 1 => 1..70_u16, 1 => 65400..=65535_u16];
    let count = prop_oneof![4 => 1..4_u16, 4 => 1..80_u16, 1 => 1..3000_u16];
    (first, count).prop_map(|(first, count)| {
        PortRange::from_numbers(first, count.min(65535 - first + 1)).unwrap()
    })
}
