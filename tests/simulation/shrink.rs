//! Reduces a failing plan.

use std::{collections::BTreeSet, time::Duration};

use super::{plan::Plan, run::run_plan};

/// A smaller plan that fails in the same way, found by removing parts as long as the rest still fails. `runs` limits the number
/// of runs.
pub fn reduced(plan: &Plan, mut runs: usize) -> Plan {
    let mut smallest = plan.clone();
    let wrong = kinds(plan);
    let mut fails = |plan: &Plan| {
        runs = runs.saturating_sub(1);
        runs > 0 && !kinds(plan).is_disjoint(&wrong)
    };
    let alone = Plan { subscribers: 0, ..smallest.clone() };
    if fails(&alone) {
        smallest = alone;
    }
    let mut at = 0;
    while let Some(environment) = smallest.environment.simpler().into_iter().nth(at) {
        let simpler = Plan { environment, ..smallest.clone() };
        if fails(&simpler) {
            (smallest, at) = (simpler, 0);
        } else {
            at += 1;
        }
    }
    let mut size = smallest.actions.len().div_ceil(2);
    while size > 0 {
        let mut from = 0;
        while from < smallest.actions.len() {
            let mut less = smallest.clone();
            let removed: Vec<_> =
                less.actions.drain(from..(from + size).min(smallest.actions.len())).collect();
            // The later actions keep their times.
            if let Some(next) = less.actions.get_mut(from) {
                next.0 += removed.iter().map(|(after, _)| *after).sum::<Duration>();
            }
            if fails(&less) {
                smallest = less;
            } else {
                from += size;
            }
        }
        size = if size == 1 { 0 } else { size.div_ceil(2) };
    }
    smallest
}

/// The violations without ids and numbers.
fn kinds(plan: &Plan) -> BTreeSet<String> {
    let bare = |text: &String| {
        text.split_whitespace().filter(|word| word.chars().all(char::is_alphabetic)).collect()
    };
    run_plan(plan).found.iter().map(bare).collect()
}
