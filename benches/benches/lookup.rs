//! Layer lookup: the stack index against the plain walk from the top layer down, by the number of layers.
//!
//! One lookup finds a name in a directory four levels deep, that is four probes of the index; `miss` ends in a name
//! that no layer has, which a walk only knows after the last one.
#![allow(missing_docs)]

use std::hint::black_box;

use benches::layered;
use benches::missing_path;
use benches::path;
use benches::pick;
use criterion::BenchmarkId;
use criterion::Criterion;
use criterion::criterion_group;
use criterion::criterion_main;
use layerfs::TopDown;

fn lookup(criterion: &mut Criterion) {
    for (what, make) in [("hit", path as fn(usize) -> String), ("miss", missing_path)] {
        let mut group = criterion.benchmark_group(format!("lookup/{what}"));
        for count in [1, 8, 32, 128, 512] {
            let layered = layered(count);
            let paths: Vec<String> = {
                let mut state = 0x9e37_79b9_7f4a_7c15;
                (0..4096).map(|_| make(pick(&mut state))).collect()
            };
            let stack = layered.store.stack(&layered.layers).expect("a stack");
            let mut next = paths.iter().cycle();
            group.bench_function(BenchmarkId::new("stack index", count), |bencher| {
                bencher.iter(|| stack.resolve(black_box(next.next().expect("a path").as_bytes())));
            });
            let top_down = TopDown::open(&layered.store, &layered.layers).expect("the layers");
            let mut next = paths.iter().cycle();
            group.bench_function(BenchmarkId::new("top-down walk", count), |bencher| {
                bencher
                    .iter(|| top_down.resolve(black_box(next.next().expect("a path").as_bytes())));
            });
        }
        group.finish();
    }
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(20).measurement_time(std::time::Duration::from_secs(1))
        .warm_up_time(std::time::Duration::from_millis(200));
    targets = lookup
}
criterion_main!(benches);
