//! The extension of Burn's backends by Potstill's operations.
//!
//! Why a trait: Burn dispatches a tensor to its backend at run time, and this is the one place where an operation can
//! differ by backend. It stays thin: each default body is the portable definition; Flex has loops of its own where they are
//! faster; the cubecl backend launches WGSL where it can; the autodiff backend adds the hand-written backward pass. The
//! generated implementation for `Fusion` runs the operation as one opaque step of the lazy stream, so each operation states the
//! shapes of its outputs without running.
//!
//! The names `*_forward` and `*_backward` say the direction of a pass; the names without a direction are what the
//! public functions call, and the only ones that a graph of gradients sees.

use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::ops::FloatTensorOps;
use burn::backend::tensor::FloatTensor;
use burn::backend::wgpu::CubeBackend;
use burn::backend::{Autodiff, Backend, DType, Flex, backend_extension};

use super::adamw::{self, AdamWNumbers};
use super::{
    attention, attention_cpu, attention_map, attention_map_cpu, distillation_loss, gelu, gram, join, launch,
    layer_norm, linear, matmul, residual_norm,
};

#[backend_extension(Cube, Flex, Fusion: cfg(feature = "fusion"), Autodiff)]
pub trait KernelBackend: Backend {
    /// Ones if this backend runs the kernels as WGSL, zeros if not, in the shape of `x`. A tensor, because that is what comes
    /// back through every layer over a backend. Asked only of devices without gradients.
    #[fusion(dtype = x, shape = x)]
    fn wgsl_flag(x: FloatTensor<Self>) -> FloatTensor<Self> {
        filled_like::<Self>(x, 0.0)
    }

    /// `[.., R, K]` and `[.., K, C]` to `[.., R, C]`.
    #[fusion(default)]
    fn matmul(a: FloatTensor<Self>, b: FloatTensor<Self>) -> FloatTensor<Self> {
        Self::float_matmul(a, b)
    }

    /// The same by the shader, where WGSL runs.
    #[fusion(dtype = a, shape = matmul::output_shape(a, b))]
    fn matmul_by_shader(a: FloatTensor<Self>, b: FloatTensor<Self>) -> FloatTensor<Self> {
        Self::float_matmul(a, b)
    }

    /// `[B, N, 3, H, D]` to the output `[B, N, H, D]` and the log-sum-exp of each row `[B, H, N]`, of `f32` also if `qkv` is
    /// of half precision.
    /// (Burn has an `attention` of its own, of three tensors.)
    #[fusion(meta = attention::forward_specs)]
    fn packed_attention(qkv: FloatTensor<Self>, scale: f32) -> (FloatTensor<Self>, FloatTensor<Self>) {
        attention::portable_forward::<Self>(qkv, scale)
    }

    /// The gradient of `qkv`, packed as `qkv` is.
    #[fusion(dtype = qkv, shape = qkv)]
    fn attention_backward(
        qkv: FloatTensor<Self>,
        out: FloatTensor<Self>,
        lse: FloatTensor<Self>,
        d_out: FloatTensor<Self>,
        scale: f32,
    ) -> FloatTensor<Self> {
        attention::portable_backward::<Self>(qkv, out, lse, d_out, scale)
    }

    /// Packed queries, keys and values and their levels `[B, H, N]` to the head-averaged attention `[B, N, N]`.
    #[fusion(dtype = qkv, shape = attention_map::map_shape(qkv))]
    fn attention_map(qkv: FloatTensor<Self>, levels: FloatTensor<Self>) -> FloatTensor<Self> {
        attention_map::portable_map::<Self>(qkv, levels)
    }

    /// The same, less `target` `[B, N, N]`: the sum of squares of each row `[B, N]`, and the difference.
    #[fusion(meta = attention_map::forward_specs)]
    fn map_difference_forward(
        qkv: FloatTensor<Self>,
        levels: FloatTensor<Self>,
        target: FloatTensor<Self>,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        attention_map::portable_forward::<Self>(qkv, levels, target)
    }

    /// The gradient of `qkv`, from the difference and the gradient `[B, N]` of the rows.
    #[fusion(dtype = qkv, shape = qkv)]
    fn map_difference_backward(
        qkv: FloatTensor<Self>,
        levels: FloatTensor<Self>,
        difference: FloatTensor<Self>,
        d_rows: FloatTensor<Self>,
    ) -> FloatTensor<Self> {
        attention_map::portable_backward::<Self>(qkv, levels, difference, d_rows)
    }

    /// The rows alone.
    #[fusion(dtype = qkv, shape = attention_map::rows_shape(qkv))]
    fn map_difference(
        qkv: FloatTensor<Self>,
        levels: FloatTensor<Self>,
        target: FloatTensor<Self>,
    ) -> FloatTensor<Self> {
        Self::map_difference_forward(qkv, levels, target).0
    }

    /// `[B, C]` three times to `[B, 2]`.
    #[fusion(dtype = student, shape = distillation_loss::rows_shape(student))]
    fn distillation_loss(
        student: FloatTensor<Self>,
        teacher: FloatTensor<Self>,
        targets: FloatTensor<Self>,
        temperature: f32,
        smoothing: f32,
    ) -> FloatTensor<Self> {
        distillation_loss::portable_forward::<Self>(student, teacher, targets, temperature, smoothing)
    }

    /// The gradient of `student`, from the gradient `[B, 2]` of the rows.
    #[fusion(dtype = student, shape = student)]
    fn distillation_loss_backward(
        student: FloatTensor<Self>,
        teacher: FloatTensor<Self>,
        targets: FloatTensor<Self>,
        d_rows: FloatTensor<Self>,
        temperature: f32,
        smoothing: f32,
    ) -> FloatTensor<Self> {
        distillation_loss::portable_backward::<Self>(student, teacher, targets, d_rows, temperature, smoothing)
    }

    /// `[B, C]` twice to `[B]`.
    #[fusion(dtype = student, shape = distillation_loss::row_shape(student))]
    fn cross_entropy(student: FloatTensor<Self>, targets: FloatTensor<Self>, smoothing: f32) -> FloatTensor<Self> {
        distillation_loss::portable_cross_entropy::<Self>(student, targets, smoothing)
    }

    /// The gradient of `student`, from the gradient `[B]` of the rows.
    #[fusion(dtype = student, shape = student)]
    fn cross_entropy_backward(
        student: FloatTensor<Self>,
        targets: FloatTensor<Self>,
        d_rows: FloatTensor<Self>,
        smoothing: f32,
    ) -> FloatTensor<Self> {
        distillation_loss::portable_cross_entropy_backward::<Self>(student, targets, d_rows, smoothing)
    }

    /// `[M, R, D_S]` and `[M, R, D_T]` to `[M]`.
    #[fusion(dtype = student, shape = gram::squares_shape(student))]
    fn gram_difference(student: FloatTensor<Self>, teacher: FloatTensor<Self>) -> FloatTensor<Self> {
        gram::portable_forward::<Self>(student, teacher)
    }

    /// The gradient of `student`, from that of the squares.
    #[fusion(dtype = student, shape = student)]
    fn gram_difference_backward(
        student: FloatTensor<Self>,
        teacher: FloatTensor<Self>,
        d_squares: FloatTensor<Self>,
    ) -> FloatTensor<Self> {
        gram::portable_backward::<Self>(student, teacher, d_squares)
    }

    /// `x Φ(x)`. (Burn's own operation is called `gelu`.) Element-wise, so a lazy stream merges the portable definition with
    /// its neighbours; the shader is for builds without one.
    #[fusion(default)]
    fn exact_gelu(x: FloatTensor<Self>) -> FloatTensor<Self> {
        gelu::portable_forward::<Self>(x)
    }

    /// The gradient of `x`, from that of the output.
    #[fusion(default)]
    fn exact_gelu_backward(x: FloatTensor<Self>, dy: FloatTensor<Self>) -> FloatTensor<Self> {
        gelu::portable_backward::<Self>(x, dy)
    }

    /// `[.., C]`, `[C]` and `[C]` to `[.., C]`. (Burn's own operation is called `layer_norm`.)
    #[fusion(dtype = x, shape = x)]
    fn row_norm(
        x: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        beta: FloatTensor<Self>,
        eps: f32,
    ) -> FloatTensor<Self> {
        layer_norm::portable_forward::<Self>(x, gamma, beta, eps)
    }

    /// The gradients of `x`, `gamma` and `beta`.
    #[fusion(meta = layer_norm::backward_specs)]
    fn row_norm_backward(
        x: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        dy: FloatTensor<Self>,
        eps: f32,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>) {
        layer_norm::portable_backward::<Self>(x, gamma, dy, eps)
    }

    /// The sum and the normalised sum, each `[.., C]`; see [`residual_norm`](fn@super::residual_norm).
    #[fusion(meta = residual_norm::forward_specs)]
    fn residual_norm(
        x: FloatTensor<Self>,
        h: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        beta: FloatTensor<Self>,
        eps: f32,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        residual_norm::portable_forward::<Self>(x, h, weight, bias, gamma, beta, eps)
    }

    /// The gradients of `x`, `h`, `weight`, `bias`, `gamma` and `beta`.
    #[fusion(meta = residual_norm::backward_specs)]
    #[allow(clippy::type_complexity)]
    fn residual_norm_backward(
        h: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        sum: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        d_sum: FloatTensor<Self>,
        dy: FloatTensor<Self>,
        eps: f32,
    ) -> (
        FloatTensor<Self>,
        FloatTensor<Self>,
        FloatTensor<Self>,
        FloatTensor<Self>,
        FloatTensor<Self>,
        FloatTensor<Self>,
    ) {
        residual_norm::portable_backward::<Self>(h, weight, sum, gamma, d_sum, dy, eps)
    }

    /// `[.., K]`, `[K, M]` and `[M]` to `[.., M]`. (Burn's own operation is called `linear`.)
    #[fusion(default)]
    fn affine(x: FloatTensor<Self>, weight: FloatTensor<Self>, bias: FloatTensor<Self>) -> FloatTensor<Self> {
        linear::portable_forward::<Self>(x, weight, bias)
    }

    /// The gradient of `x`.
    #[fusion(default)]
    fn affine_backward_x(weight: FloatTensor<Self>, dy: FloatTensor<Self>) -> FloatTensor<Self> {
        linear::portable_backward_x::<Self>(weight, dy)
    }

    /// The gradients of `weight` and `bias`.
    #[fusion(default)]
    fn affine_backward_parameters(
        x: FloatTensor<Self>,
        dy: FloatTensor<Self>,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        linear::portable_backward_parameters::<Self>(x, dy)
    }

    /// Parameters and moments after one step; the numbers are those of [`AdamWNumbers`].
    #[fusion(meta = adamw::specs)]
    #[allow(clippy::too_many_arguments)]
    fn adamw_update(
        parameters: FloatTensor<Self>,
        first: FloatTensor<Self>,
        second: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
        decayed: FloatTensor<Self>,
        beta_1: f32,
        beta_2: f32,
        epsilon: f32,
        step_size: f32,
        correction_2: f32,
        decay: f32,
        pull: f32,
        limit: f32,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>) {
        let numbers = AdamWNumbers { beta_1, beta_2, epsilon, step_size, correction_2, decay, pull, limit };
        adamw::portable::<Self>(parameters, first, second, gradient, decayed, numbers)
    }

    /// `joined` with the first `count` of six vectors in it, each from its start on.
    #[fusion(dtype = joined, shape = joined)]
    #[allow(clippy::too_many_arguments)]
    fn join_six(
        joined: FloatTensor<Self>,
        a: FloatTensor<Self>,
        b: FloatTensor<Self>,
        c: FloatTensor<Self>,
        d: FloatTensor<Self>,
        e: FloatTensor<Self>,
        f: FloatTensor<Self>,
        starts: [usize; 6],
        count: usize,
    ) -> FloatTensor<Self> {
        join::portable::<Self>(joined, [a, b, c, d, e, f], starts, count)
    }
}

impl KernelBackend for Flex {
    fn join_six(
        joined: FloatTensor<Self>,
        a: FloatTensor<Self>,
        b: FloatTensor<Self>,
        c: FloatTensor<Self>,
        d: FloatTensor<Self>,
        e: FloatTensor<Self>,
        f: FloatTensor<Self>,
        starts: [usize; 6],
        count: usize,
    ) -> FloatTensor<Self> {
        join::flex(joined, [a, b, c, d, e, f], starts, count)
    }

    fn affine(x: FloatTensor<Self>, weight: FloatTensor<Self>, bias: FloatTensor<Self>) -> FloatTensor<Self> {
        linear::flex_forward(x, weight, bias)
    }

    fn affine_backward_x(weight: FloatTensor<Self>, dy: FloatTensor<Self>) -> FloatTensor<Self> {
        linear::flex_backward_x(weight, dy)
    }

    fn affine_backward_parameters(
        x: FloatTensor<Self>,
        dy: FloatTensor<Self>,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        linear::flex_backward_parameters(x, dy)
    }

    fn adamw_update(
        parameters: FloatTensor<Self>,
        first: FloatTensor<Self>,
        second: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
        decayed: FloatTensor<Self>,
        beta_1: f32,
        beta_2: f32,
        epsilon: f32,
        step_size: f32,
        correction_2: f32,
        decay: f32,
        pull: f32,
        limit: f32,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>) {
        let numbers = AdamWNumbers { beta_1, beta_2, epsilon, step_size, correction_2, decay, pull, limit };
        adamw::flex(parameters, first, second, gradient, decayed, numbers)
    }

    fn packed_attention(qkv: FloatTensor<Self>, scale: f32) -> (FloatTensor<Self>, FloatTensor<Self>) {
        attention_cpu::forward(qkv, scale)
    }

    fn attention_backward(
        qkv: FloatTensor<Self>,
        out: FloatTensor<Self>,
        lse: FloatTensor<Self>,
        d_out: FloatTensor<Self>,
        scale: f32,
    ) -> FloatTensor<Self> {
        attention_cpu::backward(qkv, out, lse, d_out, scale)
    }

    fn attention_map(qkv: FloatTensor<Self>, levels: FloatTensor<Self>) -> FloatTensor<Self> {
        attention_map_cpu::map(qkv, levels)
    }

    fn map_difference_forward(
        qkv: FloatTensor<Self>,
        levels: FloatTensor<Self>,
        target: FloatTensor<Self>,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        attention_map_cpu::forward(qkv, levels, target)
    }

    fn map_difference_backward(
        qkv: FloatTensor<Self>,
        levels: FloatTensor<Self>,
        difference: FloatTensor<Self>,
        d_rows: FloatTensor<Self>,
    ) -> FloatTensor<Self> {
        attention_map_cpu::backward(qkv, levels, difference, d_rows)
    }

    fn exact_gelu(x: FloatTensor<Self>) -> FloatTensor<Self> {
        gelu::flex_forward(x)
    }

    fn exact_gelu_backward(x: FloatTensor<Self>, dy: FloatTensor<Self>) -> FloatTensor<Self> {
        gelu::flex_backward(x, dy)
    }

    fn row_norm(
        x: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        beta: FloatTensor<Self>,
        eps: f32,
    ) -> FloatTensor<Self> {
        layer_norm::flex_forward(x, gamma, beta, eps)
    }

    fn row_norm_backward(
        x: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        dy: FloatTensor<Self>,
        eps: f32,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>) {
        layer_norm::flex_backward(x, gamma, dy, eps)
    }
}

fn filled_like<B: Backend>(x: FloatTensor<B>, value: f64) -> FloatTensor<B> {
    B::float_add_scalar(B::float_mul_scalar(x, 0.0.into()), value.into())
}

impl KernelBackend for CubeBackend {
    fn join_six(
        joined: FloatTensor<Self>,
        a: FloatTensor<Self>,
        b: FloatTensor<Self>,
        c: FloatTensor<Self>,
        d: FloatTensor<Self>,
        e: FloatTensor<Self>,
        f: FloatTensor<Self>,
        starts: [usize; 6],
        count: usize,
    ) -> FloatTensor<Self> {
        join::wgsl(joined, [a, b, c, d, e, f], starts, count)
    }

    fn wgsl_flag(x: FloatTensor<Self>) -> FloatTensor<Self> {
        let flag = if launch::element(&[&x]) == Some(DType::F32) { 1.0 } else { 0.0 };
        filled_like::<Self>(x, flag)
    }

    fn matmul(a: FloatTensor<Self>, b: FloatTensor<Self>) -> FloatTensor<Self> {
        if matmul::BY_SHADER { matmul::wgsl(a, b, None) } else { Self::float_matmul(a, b) }
    }

    fn matmul_by_shader(a: FloatTensor<Self>, b: FloatTensor<Self>) -> FloatTensor<Self> {
        matmul::wgsl(a, b, None)
    }

    fn affine(x: FloatTensor<Self>, weight: FloatTensor<Self>, bias: FloatTensor<Self>) -> FloatTensor<Self> {
        if matmul::BY_SHADER {
            matmul::affine(x, weight, bias)
        } else {
            linear::portable_forward::<Self>(x, weight, bias)
        }
    }

    fn affine_backward_x(weight: FloatTensor<Self>, dy: FloatTensor<Self>) -> FloatTensor<Self> {
        if matmul::BY_SHADER {
            matmul::affine_backward_x(weight, dy)
        } else {
            linear::portable_backward_x::<Self>(weight, dy)
        }
    }

    fn affine_backward_parameters(
        x: FloatTensor<Self>,
        dy: FloatTensor<Self>,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        if matmul::BY_SHADER {
            matmul::affine_backward_parameters(x, dy)
        } else {
            linear::portable_backward_parameters::<Self>(x, dy)
        }
    }

    fn packed_attention(qkv: FloatTensor<Self>, scale: f32) -> (FloatTensor<Self>, FloatTensor<Self>) {
        attention::wgsl_forward(qkv, scale)
    }

    fn attention_backward(
        qkv: FloatTensor<Self>,
        out: FloatTensor<Self>,
        lse: FloatTensor<Self>,
        d_out: FloatTensor<Self>,
        scale: f32,
    ) -> FloatTensor<Self> {
        attention::wgsl_backward(qkv, out, lse, d_out, scale)
    }

    fn attention_map(qkv: FloatTensor<Self>, levels: FloatTensor<Self>) -> FloatTensor<Self> {
        attention_map::wgsl_map(qkv, levels)
    }

    fn map_difference_forward(
        qkv: FloatTensor<Self>,
        levels: FloatTensor<Self>,
        target: FloatTensor<Self>,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        attention_map::wgsl_forward(qkv, levels, target)
    }

    fn map_difference_backward(
        qkv: FloatTensor<Self>,
        levels: FloatTensor<Self>,
        difference: FloatTensor<Self>,
        d_rows: FloatTensor<Self>,
    ) -> FloatTensor<Self> {
        attention_map::wgsl_backward(qkv, levels, difference, d_rows)
    }

    fn distillation_loss(
        student: FloatTensor<Self>,
        teacher: FloatTensor<Self>,
        targets: FloatTensor<Self>,
        temperature: f32,
        smoothing: f32,
    ) -> FloatTensor<Self> {
        distillation_loss::wgsl_forward(student, teacher, targets, temperature, smoothing)
    }

    fn distillation_loss_backward(
        student: FloatTensor<Self>,
        teacher: FloatTensor<Self>,
        targets: FloatTensor<Self>,
        d_rows: FloatTensor<Self>,
        temperature: f32,
        smoothing: f32,
    ) -> FloatTensor<Self> {
        distillation_loss::wgsl_backward(student, teacher, targets, d_rows, temperature, smoothing)
    }

    fn cross_entropy(student: FloatTensor<Self>, targets: FloatTensor<Self>, smoothing: f32) -> FloatTensor<Self> {
        distillation_loss::wgsl_cross_entropy(student, targets, smoothing)
    }

    fn cross_entropy_backward(
        student: FloatTensor<Self>,
        targets: FloatTensor<Self>,
        d_rows: FloatTensor<Self>,
        smoothing: f32,
    ) -> FloatTensor<Self> {
        distillation_loss::wgsl_cross_entropy_backward(student, targets, d_rows, smoothing)
    }

    fn exact_gelu(x: FloatTensor<Self>) -> FloatTensor<Self> {
        gelu::wgsl_forward(x)
    }

    fn exact_gelu_backward(x: FloatTensor<Self>, dy: FloatTensor<Self>) -> FloatTensor<Self> {
        gelu::wgsl_backward(x, dy)
    }

    fn row_norm(
        x: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        beta: FloatTensor<Self>,
        eps: f32,
    ) -> FloatTensor<Self> {
        layer_norm::wgsl_forward(x, gamma, beta, eps)
    }

    fn row_norm_backward(
        x: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        dy: FloatTensor<Self>,
        eps: f32,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>) {
        layer_norm::wgsl_backward(x, gamma, dy, eps)
    }

    fn residual_norm(
        x: FloatTensor<Self>,
        h: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        beta: FloatTensor<Self>,
        eps: f32,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        residual_norm::wgsl_forward(x, h, weight, bias, gamma, beta, eps)
    }

    fn residual_norm_backward(
        h: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        sum: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        d_sum: FloatTensor<Self>,
        dy: FloatTensor<Self>,
        eps: f32,
    ) -> residual_norm::Six<Self> {
        residual_norm::wgsl_backward(h, weight, sum, gamma, d_sum, dy, eps)
    }

    fn adamw_update(
        parameters: FloatTensor<Self>,
        first: FloatTensor<Self>,
        second: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
        decayed: FloatTensor<Self>,
        beta_1: f32,
        beta_2: f32,
        epsilon: f32,
        step_size: f32,
        correction_2: f32,
        decay: f32,
        pull: f32,
        limit: f32,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>) {
        let numbers = AdamWNumbers { beta_1, beta_2, epsilon, step_size, correction_2, decay, pull, limit };
        adamw::wgsl(parameters, first, second, gradient, decayed, numbers)
    }
}

/// Stands for an operation of one direction, of which a graph of gradients has none.
fn untracked() -> ! {
    panic!("this operation has no gradient: it is for tensors of a device without gradients")
}

impl<B: KernelBackend, C: CheckpointStrategy> KernelBackend for Autodiff<B, C> {
    fn matmul(a: FloatTensor<Self>, b: FloatTensor<Self>) -> FloatTensor<Self> {
        matmul::tracked::<B, C>(a, b)
    }

    fn packed_attention(qkv: FloatTensor<Self>, scale: f32) -> (FloatTensor<Self>, FloatTensor<Self>) {
        attention::tracked::<B, C>(qkv, scale)
    }

    fn attention_map(qkv: FloatTensor<Self>, levels: FloatTensor<Self>) -> FloatTensor<Self> {
        attention_map::untracked_map::<B, C>(qkv, levels)
    }

    fn map_difference(
        qkv: FloatTensor<Self>,
        levels: FloatTensor<Self>,
        target: FloatTensor<Self>,
    ) -> FloatTensor<Self> {
        attention_map::tracked::<B, C>(qkv, levels, target)
    }

    fn distillation_loss(
        student: FloatTensor<Self>,
        teacher: FloatTensor<Self>,
        targets: FloatTensor<Self>,
        temperature: f32,
        smoothing: f32,
    ) -> FloatTensor<Self> {
        distillation_loss::tracked::<B, C>(student, teacher, targets, temperature, smoothing)
    }

    fn cross_entropy(student: FloatTensor<Self>, targets: FloatTensor<Self>, smoothing: f32) -> FloatTensor<Self> {
        distillation_loss::tracked_cross_entropy::<B, C>(student, targets, smoothing)
    }

    fn gram_difference(student: FloatTensor<Self>, teacher: FloatTensor<Self>) -> FloatTensor<Self> {
        gram::tracked::<B, C>(student, teacher)
    }

    fn exact_gelu(x: FloatTensor<Self>) -> FloatTensor<Self> {
        gelu::tracked::<B, C>(x)
    }

    fn row_norm(
        x: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        beta: FloatTensor<Self>,
        eps: f32,
    ) -> FloatTensor<Self> {
        layer_norm::tracked::<B, C>(x, gamma, beta, eps)
    }

    fn residual_norm(
        x: FloatTensor<Self>,
        h: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        beta: FloatTensor<Self>,
        eps: f32,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        residual_norm::tracked::<B, C>(x, h, weight, bias, gamma, beta, eps)
    }

    fn affine(x: FloatTensor<Self>, weight: FloatTensor<Self>, bias: FloatTensor<Self>) -> FloatTensor<Self> {
        linear::tracked::<B, C>(x, weight, bias)
    }

    // ---- The passes and updates: else their portable definitions would be compiled four times, to be called never.

    fn matmul_by_shader(_: FloatTensor<Self>, _: FloatTensor<Self>) -> FloatTensor<Self> {
        untracked()
    }

    fn join_six(
        _: FloatTensor<Self>,
        _: FloatTensor<Self>,
        _: FloatTensor<Self>,
        _: FloatTensor<Self>,
        _: FloatTensor<Self>,
        _: FloatTensor<Self>,
        _: FloatTensor<Self>,
        _: [usize; 6],
        _: usize,
    ) -> FloatTensor<Self> {
        untracked()
    }

    fn attention_backward(
        _: FloatTensor<Self>,
        _: FloatTensor<Self>,
        _: FloatTensor<Self>,
        _: FloatTensor<Self>,
        _: f32,
    ) -> FloatTensor<Self> {
        untracked()
    }

    fn map_difference_forward(
        _: FloatTensor<Self>,
        _: FloatTensor<Self>,
        _: FloatTensor<Self>,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        untracked()
    }

    fn map_difference_backward(
        _: FloatTensor<Self>,
        _: FloatTensor<Self>,
        _: FloatTensor<Self>,
        _: FloatTensor<Self>,
    ) -> FloatTensor<Self> {
        untracked()
    }

    fn distillation_loss_backward(
        _: FloatTensor<Self>,
        _: FloatTensor<Self>,
        _: FloatTensor<Self>,
        _: FloatTensor<Self>,
        _: f32,
        _: f32,
    ) -> FloatTensor<Self> {
        untracked()
    }

    fn cross_entropy_backward(
        _: FloatTensor<Self>,
        _: FloatTensor<Self>,
        _: FloatTensor<Self>,
        _: f32,
    ) -> FloatTensor<Self> {
        untracked()
    }

    fn gram_difference_backward(_: FloatTensor<Self>, _: FloatTensor<Self>, _: FloatTensor<Self>) -> FloatTensor<Self> {
        untracked()
    }

    fn exact_gelu_backward(_: FloatTensor<Self>, _: FloatTensor<Self>) -> FloatTensor<Self> {
        untracked()
    }

    fn row_norm_backward(
        _: FloatTensor<Self>,
        _: FloatTensor<Self>,
        _: FloatTensor<Self>,
        _: f32,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>) {
        untracked()
    }

    fn residual_norm_backward(
        _: FloatTensor<Self>,
        _: FloatTensor<Self>,
        _: FloatTensor<Self>,
        _: FloatTensor<Self>,
        _: FloatTensor<Self>,
        _: FloatTensor<Self>,
        _: f32,
    ) -> residual_norm::Six<Self> {
        untracked()
    }

    fn affine_backward_x(_: FloatTensor<Self>, _: FloatTensor<Self>) -> FloatTensor<Self> {
        untracked()
    }

    fn affine_backward_parameters(
        _: FloatTensor<Self>,
        _: FloatTensor<Self>,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        untracked()
    }

    fn adamw_update(
        _: FloatTensor<Self>,
        _: FloatTensor<Self>,
        _: FloatTensor<Self>,
        _: FloatTensor<Self>,
        _: FloatTensor<Self>,
        _: f32,
        _: f32,
        _: f32,
        _: f32,
        _: f32,
        _: f32,
        _: f32,
        _: f32,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>) {
        untracked()
    }
}
