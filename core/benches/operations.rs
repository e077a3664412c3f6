//! Single operations on the CPU, forward and backward: `cargo bench -p potstill-core`. Whole steps and other devices are
//! `potstill bench`'s.
#![recursion_limit = "256"]

use criterion::{Criterion, Throughput, criterion_group, criterion_main};

use burn::tensor::{Device, Distribution, Tensor};
use potstill_core::op::{
    attention, attention_map, attention_map_loss, distillation_loss, gelu, gram_loss, layer_norm, linear,
};

fn tracked<const D: usize>(shape: [usize; D]) -> Tensor<D> {
    Tensor::random(shape, Distribution::Normal(0.0, 1.0), &Device::flex().autodiff()).require_grad()
}

fn plain<const D: usize>(shape: [usize; D]) -> Tensor<D> {
    Tensor::random(shape, Distribution::Normal(0.0, 1.0), &Device::flex())
}

fn operations(criterion: &mut Criterion) {
    // Batch, tokens, width and heads of the three CPU steps.
    for [batch, tokens, width, heads] in [[128, 16, 64, 4], [64, 16, 192, 3], [8, 197, 192, 3]] {
        let mut group = criterion.benchmark_group(format!("{batch}x{tokens}x{width}"));
        group.throughput(Throughput::Elements((batch * tokens) as u64)).sample_size(20);
        let size = width / heads;
        let scale = (size as f32).powf(-0.5);
        let qkv = tracked([batch, tokens, 3, heads, size]);
        let teacher = plain([batch, tokens, 3, heads, size]);
        let (x, others) = (tracked([batch, tokens, width]), plain([batch, tokens, width]));
        let (gamma, beta) = (tracked([width]), tracked([width]));
        let (weight, bias) = (tracked([width, 4 * width]), tracked([4 * width]));
        let hidden = tracked([batch, tokens, 4 * width]);
        group.bench_function("attention", |b| b.iter(|| attention(qkv.clone(), scale).sum().backward()));
        group.bench_function("attention_map_loss", |b| {
            b.iter(|| attention_map_loss(qkv.clone(), attention_map(teacher.clone())).backward())
        });
        group.bench_function("gram_loss", |b| b.iter(|| gram_loss(x.clone(), others.clone()).backward()));
        group.bench_function("layer_norm", |b| {
            b.iter(|| layer_norm(x.clone(), gamma.clone(), beta.clone(), 1e-6).sum().backward())
        });
        group.bench_function("linear", |b| b.iter(|| linear(x.clone(), weight.clone(), bias.clone()).sum().backward()));
        group.bench_function("gelu", |b| b.iter(|| gelu(hidden.clone()).sum().backward()));
        group.finish();
    }
    let (student, teacher) = (tracked([256, 1000]), plain([256, 1000]));
    let targets = Tensor::<2>::full([256, 1000], 1e-3, &Device::flex());
    criterion.bench_function("distillation_loss 256x1000", |b| {
        b.iter(|| distillation_loss(student.clone(), teacher.clone(), targets.clone(), 2.0, 0.1).sum().backward())
    });
}

criterion_group!(kernels, operations);
criterion_main!(kernels);
