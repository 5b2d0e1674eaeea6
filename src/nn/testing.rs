//! Helpers shared by the unit tests of the blocks.

use candle_core::{DType, Device, Tensor};
use candle_nn::VarBuilder;

/// Standard normal numbers.
pub(super) fn random(shape: &[usize]) -> Tensor {
    Tensor::randn(0f32, 1.0, shape, &Device::Cpu).unwrap()
}

/// The largest absolute difference between two tensors of the same shape.
pub(super) fn max_difference(a: &Tensor, b: &Tensor) -> f32 {
    assert_eq!(a.dims(), b.dims());
    (a - b).unwrap().abs().unwrap().flatten_all().unwrap().max(0).unwrap().to_scalar().unwrap()
}

/// A builder over these tensors.
pub(super) fn builder(tensors: &[(&str, &Tensor)]) -> VarBuilder<'static> {
    let map = tensors.iter().map(|(n, t)| (n.to_string(), (*t).clone())).collect();
    VarBuilder::from_tensors(map, DType::F32, &Device::Cpu)
}
