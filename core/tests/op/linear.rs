//! Linear layers.

use burn::tensor::Device;
use potstill_core::op::linear;

use crate::devices::devices;
use crate::numbers::{error, tensor, values, wave};

#[test]
fn linear_matches_its_definition() {
    // Products that one thread takes, that are cut in pieces, and that the matrix library shares out; odd sizes.
    for [batch, tokens, inputs, outputs] in
        [[1, 1, 1, 1], [3, 5, 7, 9], [64, 16, 64, 64], [8, 65, 96, 192], [2, 3, 64, 10]]
    {
        let x = wave(batch * tokens * inputs, 0.37, 0.1, 1.0);
        let weight = wave(inputs * outputs, 1.3, 0.7, 0.5);
        let bias = wave(outputs, 0.6, 0.1, 0.5);
        let run = |device: &Device, ours: bool| {
            let device = &device.clone().autodiff();
            let x = tensor(&x, [batch, tokens, inputs], device).require_grad();
            let weight = tensor(&weight, [inputs, outputs], device).require_grad();
            let bias = tensor(&bias, [outputs], device).require_grad();
            let y = match ours {
                true => linear(x.clone(), weight.clone(), bias.clone()),
                false => x.clone().matmul(weight.clone().unsqueeze()) + bias.clone().unsqueeze(),
            };
            let dy = tensor(&wave(batch * tokens * outputs, 0.9, 0.2, 1.0), [batch, tokens, outputs], device);
            let gradients = (y.clone() * dy).sum().backward();
            [
                values(y),
                values(x.grad(&gradients).expect("a gradient")),
                values(weight.grad(&gradients).expect("a gradient")),
                values(bias.grad(&gradients).expect("a gradient")),
            ]
        };
        let expected = run(&Device::flex(), false);
        for (name, device) in devices() {
            let found = run(&device, true);
            assert!(name != "flex" || found == run(&device, true), "{name}: other bits");
            for (index, what) in ["output", "dx", "dW", "db"].into_iter().enumerate() {
                let error = error(&found[index], &expected[index]);
                assert!(error <= 2e-5, "{name} {inputs} to {outputs}: {what} differs by {error:e}");
            }
        }
    }
}

#[test]
fn linear_without_a_tracked_input_gives_gradients_of_its_parameters() {
    let device = &Device::flex().autodiff();
    let x = tensor(&wave(12, 0.37, 0.1, 1.0), [3, 4], device);
    let weight = tensor(&wave(8, 1.3, 0.7, 0.5), [4, 2], device).require_grad();
    let bias = tensor(&[0.5, 0.25], [2], device);
    let gradients = linear(x.clone(), weight.clone(), bias.clone()).sum().backward();
    assert!(weight.grad(&gradients).is_some() && x.grad(&gradients).is_none() && bias.grad(&gradients).is_none());
    let bias = bias.require_grad();
    let gradients = linear(x, weight.detach(), bias.clone()).sum().backward();
    assert_eq!(values(bias.grad(&gradients).expect("a gradient")), [3.0, 3.0]);
}
