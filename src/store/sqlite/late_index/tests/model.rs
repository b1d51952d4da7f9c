//! Random histories against a plain map.

use std::collections::BTreeMap;

use proptest::prelude::*;
use proptest::test_runner::RngSeed;

use super::{Rows, find_rows};

/// A step of a random history.
#[derive(Debug, Clone)]
enum Step {
    /// Adds these values and removes as many rows, from this place on.
    Change {
        add: Vec<u32>,
        remove: Vec<prop::sample::Index>,
    },
    /// As [`Step::Change`], with a job in the middle that is refused.
    Refused {
        add: Vec<u32>,
        lost: Vec<u32>,
        remove: Vec<prop::sample::Index>,
    },
    RolledBack {
        add: Vec<u32>,
        remove: Vec<prop::sample::Index>,
    },
    CommitFailed {
        add: Vec<u32>,
        took_place: bool,
    },
    Restart,
}

fn step() -> impl Strategy<Value = Step> {
    let values = || prop::collection::vec(0_u32..40, 0..9);
    let places = || prop::collection::vec(any::<prop::sample::Index>(), 0..4);
    prop_oneof![
        6 => (values(), places()).prop_map(|(add, remove)| Step::Change { add, remove }),
        2 => (values(), values(), places()).prop_map(|(add, lost, remove)| Step::Refused { add, lost, remove }),
        1 => (values(), places()).prop_map(|(add, remove)| Step::RolledBack { add, remove }),
        1 => (values(), any::<bool>()).prop_map(|(add, took_place)| Step::CommitFailed { add, took_place }),
        1 => Just(Step::Restart),
    ]
}

type Model = BTreeMap<i64, u32>;

/// Removes rows at these places, asking for each value before and after.
fn remove(rows: &Rows, model: &mut Model, places: &[prop::sample::Index]) {
    for place in places {
        if model.is_empty() {
            return;
        }
        let (row, value) = model.iter().nth(place.index(model.len())).map(|(row, value)| (*row, *value)).unwrap();
        assert!(rows.find(value).contains(&row));
        rows.delete(value, row);
        model.remove(&row);
        assert!(!rows.find(value).contains(&row));
    }
}

fn add(rows: &Rows, model: &mut Model, values: &[u32]) {
    for value in values {
        let row = rows.insert(*value);
        assert_eq!(model.insert(row, *value), None, "row {row} was given twice");
        assert!(rows.find(*value).contains(&row), "a later job of the same group sees it");
    }
}

fn follow(rows: Rows, model: &mut Model, step: &Step, generation: usize) -> Rows {
    let before = model.clone();
    match step {
        Step::Restart => return rows.reopen(generation),
        Step::Change { add: values, remove: places } => {
            rows.begin();
            add(&rows, model, values);
            remove(&rows, model, places);
            rows.commit();
        }
        Step::Refused { add: values, lost, remove: places } => {
            rows.begin();
            add(&rows, model, values);
            let (mark, kept) = (rows.index.savepoint(), model.clone());
            rows.run("SAVEPOINT job");
            add(&rows, model, lost);
            remove(&rows, model, places);
            rows.run("ROLLBACK TO job; RELEASE job");
            rows.index.roll_back_to(mark);
            *model = kept;
            add(&rows, model, lost);
            rows.commit();
        }
        Step::RolledBack { add: values, remove: places } => {
            rows.begin();
            add(&rows, model, values);
            remove(&rows, model, places);
            rows.run("ROLLBACK");
            rows.index.begin();
            *model = before;
        }
        Step::CommitFailed { add: values, took_place } => {
            rows.begin();
            add(&rows, model, values);
            rows.index.prepare_commit(&rows.connection).unwrap();
            rows.run(if *took_place { "COMMIT" } else { "ROLLBACK" });
            rows.index.reload(&rows.connection).unwrap();
            if !took_place {
                *model = before;
            }
        }
    }
    rows
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, rng_seed: RngSeed::Fixed(15), ..ProptestConfig::default() })]

    #[test]
    fn every_look_up_agrees_with_a_plain_map(
        steps in prop::collection::vec(step(), 1..60), generation in 1_usize..160,
    ) {
        let (mut rows, mut model) = (Rows::open(None, generation), Model::new());
        for step in &steps {
            rows = follow(rows, &mut model, step, generation);
            let shared = rows.index.shared();
            for value in 0..40 {
                let expected: Vec<i64> =
                    model.iter().filter(|(_, held)| **held == value).map(|(row, _)| *row).collect();
                prop_assert_eq!(&find_rows(&rows.connection, &shared, value), &expected, "a reader");
                prop_assert_eq!(&rows.find(value), &expected, "the writer");
            }
            rows.assert_whole();
        }
    }
}
