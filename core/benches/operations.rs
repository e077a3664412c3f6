//! Times every operation on the CPU, forward and backward: `cargo bench -p potstill-core`. `potstill bench` times whole steps and
//! other devices.
#![recursion_limit = "256"]

use criterion::{Criterion, Throughput, criterion_group, criterion_main};

use burn::tensor::Device;
use potstill_core::op::cases_in_network;

fn operations(criterion: &mut Criterion) {
    let device = Device::flex();
    // Batch, tokens, width and heads of the three CPU steps.
    for sizes @ [batch, tokens, width, _] in [[128, 16, 64, 4], [64, 16, 192, 3], [8, 197, 192, 3]] {
        let mut group = criterion.benchmark_group(format!("{batch}x{tokens}x{width}"));
        group.throughput(Throughput::Elements((batch * tokens) as u64)).sample_size(20);
        for case in cases_in_network(sizes) {
            let work = case.work(&device);
            group.bench_function(case.operation, |bencher| bencher.iter(&work));
        }
        group.finish();
    }
}

criterion_group!(benches, operations);
criterion_main!(benches);
