//! The union against the kernel's overlayfs: the same layers, the same random operations, the same answers, error numbers
//! and trees; and the same tree again after a remount. Over plain directories each side also shows what the other wrote.
//!
//! `PLY_MODEL_ROUNDS=10000 cargo test --release -p layerfs --test overlay_model` goes on for long; `PLY_MODEL_SEED` does
//! one round again.

mod operations;
mod sides;
mod tree;

use std::sync::Mutex;

use operations::Random;
use operations::apply;
use operations::operation;
use sides::Over;
use sides::Sides;
use tree::Links;

/// A program that another round starts would hold what this one has open until it is executed.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

fn compare(over: impl Fn(&mut Random) -> Over, rounds: u64) {
    let _alone = ONE_AT_A_TIME.lock();
    let number = |name| -> Option<u64> { std::env::var(name).ok()?.parse().ok() };
    let rounds = number("PLY_MODEL_ROUNDS").unwrap_or(rounds);
    let only = number("PLY_MODEL_SEED");
    for seed in only.map_or(1..rounds + 1, |seed| seed..seed + 1) {
        let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let over = over(&mut random);
        round(seed, &mut random, over);
    }
}

fn round(seed: u64, random: &mut Random, over: Over) {
    // Shown only of a round that fails.
    println!("{over:?}, seed {seed}");
    let mut sides = Sides::new(random, over);
    let serving = sides.mount();
    let differences = sides.differences(Links::Compared);
    assert!(
        differences.is_empty(),
        "{over:?}, seed {seed}, before: {differences:#?}"
    );
    let mut done = Vec::new();
    let mut held = [None, None];
    for _ in 0..80 {
        let operation = operation(random);
        let kernel = apply(&sides.path("kernel"), &operation, &mut held[0]);
        let ours = apply(&sides.path("ours"), &operation, &mut held[1]);
        println!("{operation:?} -> {kernel:?}");
        done.push(format!("{operation:?} -> {kernel:?}"));
        assert_eq!(ours, kernel, "{over:?}, seed {seed}: {done:#?}");
        // The whole trees, now and then: a fault is nearer to its cause.
        if done.len().is_multiple_of(20) {
            let differences = sides.differences(Links::Compared);
            assert!(
                differences.is_empty(),
                "{over:?}, seed {seed}: {differences:#?} after {done:#?}"
            );
        }
    }
    drop(held);
    serving.unmount().expect("unmounted");
    let serving = sides.mount();
    let differences = sides.differences(Links::Compared);
    assert!(
        differences.is_empty(),
        "{over:?}, seed {seed}, after a remount: {differences:#?} after {done:#?}"
    );
    serving.unmount().expect("unmounted");
    if over != Over::Store {
        let differences = sides.exchange();
        assert!(
            differences.is_empty(),
            "{over:?}, seed {seed}: {differences:#?} after {done:#?}"
        );
    }
}

#[test]
fn the_union_is_what_the_kernels_overlayfs_is() {
    compare(|_| Over::Store, 60);
}

#[test]
fn a_union_of_plain_directories_is_what_the_kernels_overlayfs_is() {
    let over = |random: &mut Random| match random.below(3) {
        0 => Over::Directories {
            metacopy: true,
            redirects: true,
        },
        redirects => Over::Directories {
            metacopy: false,
            redirects: redirects == 1,
        },
    };
    compare(over, 60);
}
