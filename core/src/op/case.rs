//! A case of an operation: the inputs, the operation on a device, and the portable definition on the CPU. The inputs are sines,
//! so that two machines check the same numbers.

use burn::backend::tensor::FloatTensor;
use burn::backend::{Flex, Shape, TensorMetadata};
use burn::tensor::{Device, Tensor, TensorData};

use super::cpu;

/// A tensor on the CPU.
pub(super) type Plain = FloatTensor<Flex>;

/// Numbers of an input or output.
type Numbers = Vec<f32>;

/// Outputs, and the gradients of the inputs that have one.
pub(super) type Values = [Vec<Numbers>; 2];

type Run = Box<dyn Fn(&Given, &Device) -> Vec<Tensor<1>>>;
type Forward = Box<dyn Fn(&[Plain]) -> Vec<Plain>>;
type Backward = Box<dyn Fn(&[Plain], &[Plain], &[Plain]) -> Vec<Plain>>;

/// One input of a case.
pub(super) struct Input {
    shape: Vec<usize>,
    values: Numbers,
    tracked: bool,
}

impl Input {
    /// The numbers `values` in `shape`.
    pub fn new<const D: usize>(shape: [usize; D], values: Numbers) -> Self {
        assert_eq!(shape.iter().product::<usize>(), values.len());
        Self { shape: shape.to_vec(), values, tracked: false }
    }

    /// Numbers `amplitude · sin(a i + b)`.
    pub fn wave<const D: usize>(shape: [usize; D], a: f32, b: f32, amplitude: f32) -> Self {
        Self::new(shape, wave(shape.iter().product(), a, b, amplitude))
    }

    /// Rows of positive numbers with sum 1, like mixed targets.
    pub fn distributions(shape: [usize; 2]) -> Self {
        let mut input = Self::wave(shape, 1.7, 0.0, 1.0);
        for row in input.values.chunks_mut(shape[1]) {
            let sum: f32 = row.iter().map(|x| 1.1 + x).sum();
            row.iter_mut().for_each(|x| *x = (1.1 + *x) / sum);
        }
        input
    }

    /// The same, with a gradient.
    pub fn tracked(mut self) -> Self {
        self.tracked = true;
        self
    }
}

fn wave(count: usize, a: f32, b: f32, amplitude: f32) -> Numbers {
    (0..count).map(|i| amplitude * libm::sinf(a * i as f32 + b)).collect()
}

/// The weights of output `index`, which has `count` numbers, in the sum whose gradient is compared.
fn weights(index: usize, count: usize) -> Numbers {
    wave(count, 0.9 + 0.2 * index as f32, 0.2, 1.0)
}

/// The inputs on a device.
pub(super) struct Given {
    tensors: Vec<(Tensor<1>, Vec<usize>)>,
}

impl Given {
    /// Input `index`.
    pub fn get<const D: usize>(&self, index: usize) -> Tensor<D> {
        let (tensor, shape) = &self.tensors[index];
        tensor.clone().reshape(Shape::from(shape.clone()))
    }
}

/// The tensor as a vector. The outputs of a case have this form.
pub(super) fn flat<const D: usize>(tensor: Tensor<D>) -> Tensor<1> {
    tensor.reshape([-1])
}

/// A case of an operation.
pub struct Case {
    /// The public function.
    pub operation: &'static str,
    /// Shape and options.
    pub sizes: String,
    /// Whether it is one of the few cases that together reach every shader of the page. The page waits until these are compiled.
    pub quick: bool,
    inputs: Vec<Input>,
    run: Run,
    forward: Forward,
    /// The backward pass, and the number of outputs that have a gradient. The other outputs are constants.
    backward: Option<(usize, Backward)>,
}

impl Case {
    /// A case that runs `run` on a device and `forward` as its definition. Both compute outputs from inputs.
    pub(super) fn new(
        operation: &'static str,
        sizes: String,
        inputs: impl Into<Vec<Input>>,
        run: impl Fn(&Given, &Device) -> Vec<Tensor<1>> + 'static,
        forward: impl Fn(&[Plain]) -> Vec<Plain> + 'static,
    ) -> Self {
        let inputs = inputs.into();
        Self { operation, sizes, quick: false, inputs, run: Box::new(run), forward: Box::new(forward), backward: None }
    }

    /// Adds the definition of the backward pass. It computes the gradients of the tracked inputs, in their order, from the
    /// inputs, the outputs, and the gradients of the first `outputs` outputs.
    pub(super) fn with_gradient(
        mut self,
        outputs: usize,
        backward: impl Fn(&[Plain], &[Plain], &[Plain]) -> Vec<Plain> + 'static,
    ) -> Self {
        self.backward = Some((outputs, Box::new(backward)));
        self
    }

    /// Leaves out a gradient that is only rounding error, such as that of a softmax of one number.
    pub(super) fn forward_alone(mut self, alone: bool) -> Self {
        self.backward = self.backward.filter(|_| !alone);
        self
    }

    /// Sets whether it is [`quick`](Self::quick).
    pub(super) fn quick(mut self, quick: bool) -> Self {
        self.quick = quick;
        self
    }

    /// The inputs on `device`, which must track gradients if the case has any.
    fn given(&self, device: &Device) -> (Given, Device) {
        let plain = device.clone().inner();
        let device = if self.backward.is_some() { plain.autodiff() } else { plain };
        let tensor = |input: &Input| {
            let data = TensorData::new(input.values.clone(), [input.values.len()]);
            let tensor = Tensor::<1>::from_data(data, &device);
            let tracked = input.tracked && self.backward.is_some();
            (if tracked { tensor.require_grad() } else { tensor }, input.shape.clone())
        };
        (Given { tensors: self.inputs.iter().map(tensor).collect() }, device)
    }

    /// The results of the operation on `device`. Every read is awaited, since a browser requires this.
    ///
    /// # Errors
    /// If the device fails, or no gradient reaches an input.
    pub(super) async fn on(&self, device: &Device) -> Result<Values, String> {
        let (given, device) = self.given(device);
        let outputs = (self.run)(&given, &device);
        let mut gradients = Vec::new();
        if let Some((count, _)) = &self.backward {
            let weighed = outputs.iter().take(*count).enumerate().map(|(index, output)| {
                let [length] = output.dims();
                (output.clone() * Tensor::from_data(TensorData::new(weights(index, length), [length]), &device)).sum()
            });
            let all = weighed.reduce(|sum, next| sum + next).ok_or("no output has a gradient")?.backward();
            for ((tensor, _), input) in given.tensors.iter().zip(&self.inputs) {
                if input.tracked {
                    gradients.push(tensor.grad(&all).ok_or("no gradient reached an input")?);
                }
            }
        }
        Ok([read(outputs).await?, read(gradients).await?])
    }

    /// A function that does its work on `device` whenever it is called: forward, and backward from the sum of the outputs that
    /// have a gradient.
    pub fn work(&self, device: &Device) -> impl Fn() {
        let (given, device) = self.given(device);
        move || {
            let outputs = (self.run)(&given, &device);
            if let Some((count, _)) = &self.backward {
                let sum = outputs.into_iter().take(*count).map(Tensor::sum).reduce(|sum, next| sum + next);
                drop(sum.map(|sum| sum.backward()));
            }
        }
    }

    /// The results of the definition.
    pub(super) fn expected(&self) -> Values {
        let plain = |values: Numbers, shape: Shape| cpu::tensor(values, shape);
        let inputs: Vec<_> =
            self.inputs.iter().map(|input| plain(input.values.clone(), input.shape.clone().into())).collect();
        let outputs = (self.forward)(&inputs);
        let gradients = self.backward.as_ref().map_or_else(Vec::new, |(count, backward)| {
            let weighed = outputs.iter().take(*count).enumerate();
            let given: Vec<_> =
                weighed.map(|(i, output)| plain(weights(i, output.shape().num_elements()), output.shape())).collect();
            backward(&inputs, &outputs, &given)
        });
        let numbers = |tensor: Plain| cpu::numbers(&cpu::contiguous(tensor)).unwrap_or_default().to_vec();
        [outputs, gradients].map(|tensors| tensors.into_iter().map(numbers).collect())
    }
}

async fn read(tensors: Vec<Tensor<1>>) -> Result<Vec<Numbers>, String> {
    let mut values = Vec::with_capacity(tensors.len());
    for tensor in tensors {
        let data = tensor.into_data_async().await.map_err(|error| format!("the device failed: {error:?}"))?;
        let data = data.convert::<f32>().try_into_vec::<f32>();
        values.push(data.map_err(|error| format!("unreadable numbers: {error:?}"))?);
    }
    Ok(values)
}
