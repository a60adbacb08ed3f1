//! Cuts a plan down to what it takes to fail.

use std::collections::BTreeSet;

use super::{plan::Plan, play::played};

/// A smaller plan that fails in the same way, found by leaving out parts as long as what is left still fails. `plays` bounds how
/// often it is tried.
pub fn shrunk(plan: &Plan, mut plays: usize) -> Plan {
    let mut smallest = plan.clone();
    let wrong = kinds(plan);
    let mut fails = |plan: &Plan| {
        plays = plays.saturating_sub(1);
        plays > 0 && !kinds(plan).is_disjoint(&wrong)
    };
    let alone = Plan { subscribers: 0, ..smallest.clone() };
    if fails(&alone) {
        smallest = alone;
    }
    let mut at = 0;
    while let Some(world) = smallest.world.simpler().into_iter().nth(at) {
        let simpler = Plan { world, ..smallest.clone() };
        if fails(&simpler) {
            (smallest, at) = (simpler, 0);
        } else {
            at += 1;
        }
    }
    let mut size = smallest.acts.len().div_ceil(2);
    while size > 0 {
        let mut from = 0;
        while from < smallest.acts.len() {
            let mut less = smallest.clone();
            let left_out: Vec<_> = less.acts.drain(from..(from + size).min(smallest.acts.len())).collect();
            // The time goes on as before.
            if let Some(next) = less.acts.get_mut(from) {
                next.0 += left_out.iter().map(|(after, _)| *after).sum();
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

/// What is wrong, whatever it is wrong with.
fn kinds(plan: &Plan) -> BTreeSet<String> {
    let bare = |text: &String| {
        text.split_whitespace().filter(|word| word.chars().all(char::is_alphabetic)).collect()
    };
    played(plan).found.iter().map(bare).collect()
}
