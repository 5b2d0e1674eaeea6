//! Linear layers.

use std::sync::{Arc, OnceLock};

use candle_core::{CpuStorage, CustomOp1, Layout, Shape, Tensor};

use super::activation::Activation;
use super::format::Precision;
use super::frozen::FrozenLinear;
use super::matrix::{Epilogue, MatrixRef, PackedMatrix, matmul};
use super::stored::StoredMatrix;
use super::trainable::TrainableLinear;
use super::weights::Weights;
use crate::error::{Error, Result};

/// `y = x·Wᵀ + b`, with `W` `[out, in]` and `b` `[out]` as PyTorch stores them.
///
/// Trainable weights ([`Var`](candle_core::Var)s) receive gradients. All others are frozen, and no gradient is computed
/// for them. Frozen `f32` weights on the CPU are packed once for the inner loop of the product, and the original is
/// dropped. Compressed weights ([`WeightFormat`](super::WeightFormat)) stay compressed.
#[derive(Clone, Debug)]
pub struct Linear {
    weight: Weight,
    in_dim: usize,
    out_dim: usize,
}

#[derive(Clone)]
enum Weight {
    Packed(Arc<Packed>),
    Frozen {
        weight: Tensor,
        bias: Option<Tensor>,
    },
    /// Recomputed in every pass, because the underlying variables change.
    Trainable(Arc<Recipe>),
}

impl Weight {
    fn packed(matrix: PackedMatrix, bias: Option<Tensor>) -> Result<Self> {
        let bias = bias.map(|b| b.to_vec1()).transpose()?;
        Ok(Self::Packed(Arc::new(Packed { matrix, bias, transposed: OnceLock::new() })))
    }
}

/// Computes weight `[out, in]` and bias `[out]` from a layer's parameters.
type Recipe = dyn Fn() -> Result<(Tensor, Option<Tensor>)> + Send + Sync;

impl std::fmt::Debug for Weight {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Packed(_) => "packed",
            Self::Frozen { .. } => "frozen",
            Self::Trainable(_) => "trainable",
        })
    }
}

/// A frozen weight in the layout of the fused product.
struct Packed {
    matrix: PackedMatrix,
    bias: Option<Vec<f32>>,
    /// The weight for the backward product `g·W`, packed during the first backward pass.
    transposed: OnceLock<PackedMatrix>,
}

impl Linear {
    /// Creates a layer `in_dim` → `out_dim` from the tensor `weight` in `weights` and, if `bias` is true, the tensor
    /// `bias`.
    ///
    /// # Errors
    /// [`Error::Candle`] when a tensor is missing or has another shape.
    pub fn new<'a>(in_dim: usize, out_dim: usize, bias: bool, weights: impl Into<Weights<'a>>) -> Result<Self> {
        Self::merged(in_dim, &[out_dim], bias, &[weights.into()])
    }

    /// Creates a layer from `weight` `[out, in]` and `bias` `[out]`.
    ///
    /// # Errors
    /// [`Error::Candle`] when the weight is not a matrix.
    pub fn from_tensors(weight: Tensor, bias: Option<Tensor>) -> Result<Self> {
        Self::derived(move || Ok((weight.clone(), bias.clone())))
    }

    /// Creates a layer whose weight `[out, in]` and bias `[out]` are computed from other parameters (concatenated,
    /// reshaped, normalised): once if those are frozen, in every pass if they are trainable.
    ///
    /// # Errors
    /// The errors of `recipe`; [`Error::Candle`] when the weight is not a matrix.
    pub(crate) fn derived(
        recipe: impl Fn() -> Result<(Tensor, Option<Tensor>)> + Send + Sync + 'static,
    ) -> Result<Self> {
        Self::derived_with(Precision::Highest, recipe)
    }

    /// The same, with products of this precision.
    fn derived_with(
        precision: Precision,
        recipe: impl Fn() -> Result<(Tensor, Option<Tensor>)> + Send + Sync + 'static,
    ) -> Result<Self> {
        let (weight, bias) = recipe()?;
        let (out_dim, in_dim) = weight.dims2()?;
        let trainable = weight.track_op() || bias.as_ref().is_some_and(Tensor::track_op);
        let weight = if trainable {
            Weight::Trainable(Arc::new(recipe))
        } else if super::storage::is_cpu_f32(&weight) {
            let rows = weight.contiguous()?;
            let (storage, layout) = rows.storage_and_layout();
            let candle_core::Storage::Cpu(storage) = &*storage else {
                return Err(candle_core::Error::Msg("a CPU tensor without CPU storage".into()).into());
            };
            let rows = MatrixRef::new(super::storage::slice(storage, layout)?, out_dim, in_dim);
            Weight::packed(PackedMatrix::for_matmul(rows.transposed(), precision), bias)?
        } else {
            Weight::Frozen { weight: weight.contiguous()?, bias }
        };
        Ok(Self { weight, in_dim, out_dim })
    }

    /// Merges several layers that share an input into one, `[y₁ | y₂ | …]`; each takes its tensors from its own entry
    /// of `parts`.
    ///
    /// # Errors
    /// [`Error::Candle`] when a tensor is missing or has another shape.
    pub(crate) fn merged(in_dim: usize, out_dims: &[usize], bias: bool, parts: &[Weights<'_>]) -> Result<Self> {
        let mut biases = Vec::new();
        if bias {
            for (out_dim, part) in out_dims.iter().zip(parts) {
                biases.push(part.get(*out_dim, "bias")?);
            }
        }
        let precision = parts.first().map_or_else(Precision::default, Weights::precision);
        let put_together = |biases: &[Tensor]| (!biases.is_empty()).then(|| Tensor::cat(biases, 0)).transpose();
        if let Some(matrix) = Self::stored(in_dim, out_dims, parts)? {
            let matrix = PackedMatrix::stored(&matrix, precision)?;
            let out_dim = matrix.columns();
            return Ok(Self { weight: Weight::packed(matrix, put_together(&biases)?)?, in_dim, out_dim });
        }
        let mut weights = Vec::new();
        for (out_dim, part) in out_dims.iter().zip(parts) {
            weights.push(part.get((*out_dim, in_dim), "weight")?);
        }
        Self::derived_with(precision, move || Ok((Tensor::cat(&weights, 0)?, put_together(&biases)?)))
    }

    /// The weight to be packed as it is stored, if all parts can be in the same format.
    fn stored<'a>(in_dim: usize, out_dims: &[usize], parts: &[Weights<'a>]) -> Result<Option<StoredMatrix<'a>>> {
        let mut matrices = Vec::new();
        for (out_dim, part) in out_dims.iter().zip(parts) {
            match part.stored(*out_dim, in_dim, "weight")? {
                Some(matrix) => matrices.push(matrix),
                None => return Ok(None),
            }
        }
        Ok(StoredMatrix::stack(matrices))
    }

    /// The input width.
    pub fn in_dim(&self) -> usize {
        self.in_dim
    }

    /// The output width.
    pub fn out_dim(&self) -> usize {
        self.out_dim
    }

    /// `[…, in]` → `[…, out]`.
    ///
    /// # Errors
    /// [`Error::Shape`] when the last dimension of `x` is not [`Linear::in_dim`]; [`Error::Argument`] when the layer is
    /// packed for `f32` on the CPU and `x` has another type or is on another device.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        self.run(x, None)
    }

    /// Applies the layer, then an activation. Without gradients, both take one pass over the result.
    ///
    /// # Errors
    /// Those of [`Linear::forward`].
    pub fn forward_activated(&self, x: &Tensor, activation: Activation) -> Result<Tensor> {
        self.run(x, Some(activation))
    }

    fn run(&self, x: &Tensor, activation: Option<Activation>) -> Result<Tensor> {
        if x.dims().last() != Some(&self.in_dim) {
            return Err(Error::shape("input of a linear layer", format!("[…, {}]", self.in_dim), x.dims()));
        }
        let y = match &self.weight {
            Weight::Packed(packed) if super::storage::is_cpu_f32(x) => {
                let x = x.contiguous()?;
                let packed = packed.clone();
                if !x.track_op() {
                    return Ok(x.apply_op1_no_bwd(&PackedLinear { packed, activation })?);
                }
                // The activation's backward pass needs the value before it, so it is a separate operation if gradients
                // are tracked.
                x.apply_op1(PackedLinear { packed, activation: None })?
            }
            Weight::Packed(_) => {
                let found = format!("{:?} on {:?}", x.dtype(), x.device().location());
                return Err(Error::argument("input of a linear layer", "F32 on the CPU, like its weights", found));
            }
            Weight::Frozen { weight, bias } => x.contiguous()?.apply_op1(FrozenLinear::new(weight, bias.as_ref()))?,
            Weight::Trainable(recipe) => {
                let (weight, bias) = recipe()?;
                self.trainable(x, &weight, bias.as_ref())?
            }
        };
        match activation {
            Some(activation) => activation.forward(&y),
            None => Ok(y),
        }
    }

    fn trainable(&self, x: &Tensor, weight: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
        let x = x.contiguous()?;
        if super::storage::is_cpu_f32(&x) && super::storage::is_cpu_f32(weight) {
            let bias = match bias {
                Some(bias) => bias.contiguous()?,
                None => Tensor::zeros(self.out_dim, x.dtype(), x.device())?,
            };
            return Ok(x.apply_op3(&weight.contiguous()?, &bias, TrainableLinear)?);
        }
        self.trainable_composed(&x, weight, bias)
    }

    /// The same, composed of Candle's differentiable operations.
    fn trainable_composed(&self, x: &Tensor, weight: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
        let mut dims = x.dims().to_vec();
        let y = x.reshape(((), self.in_dim))?.matmul(&weight.t()?)?;
        let y = match bias {
            Some(bias) => y.broadcast_add(bias)?,
            None => y,
        };
        if let Some(last) = dims.last_mut() {
            *last = self.out_dim;
        }
        Ok(y.reshape(dims)?)
    }
}

struct PackedLinear {
    packed: Arc<Packed>,
    activation: Option<Activation>,
}

impl CustomOp1 for PackedLinear {
    fn name(&self) -> &'static str {
        "packed-linear"
    }

    fn cpu_fwd(&self, x: &CpuStorage, layout: &Layout) -> candle_core::Result<(CpuStorage, Shape)> {
        let epilogue = Epilogue { bias: self.packed.bias.as_deref(), activation: self.activation };
        product(super::storage::slice(x, layout)?, layout.dims(), &self.packed.matrix, epilogue)
    }

    fn bwd(&self, _x: &Tensor, _y: &Tensor, g: &Tensor) -> candle_core::Result<Option<Tensor>> {
        Ok(Some(g.contiguous()?.apply_op1_no_bwd(&PackedLinearBackward(self.packed.clone()))?))
    }
}

struct PackedLinearBackward(Arc<Packed>);

impl CustomOp1 for PackedLinearBackward {
    fn name(&self) -> &'static str {
        "packed-linear-backward"
    }

    fn cpu_fwd(&self, g: &CpuStorage, layout: &Layout) -> candle_core::Result<(CpuStorage, Shape)> {
        let forward = &self.0.matrix;
        let transposed = self.0.transposed.get_or_init(|| {
            let weight = forward.unpack_transposed();
            PackedMatrix::for_matmul(MatrixRef::new(&weight, forward.columns(), forward.rows()), forward.precision())
        });
        product(super::storage::slice(g, layout)?, layout.dims(), transposed, Epilogue::default())
    }
}

/// `x·B` for `x` `[…, K]` and packed `B` [K, N].
fn product(
    x: &[f32],
    dims: &[usize],
    matrix: &PackedMatrix,
    epilogue: Epilogue<'_>,
) -> candle_core::Result<(CpuStorage, Shape)> {
    let (k, n) = (matrix.rows(), matrix.columns());
    let rows = x.len() / k.max(1);
    let mut out = super::storage::zeros(rows * n);
    matmul(MatrixRef::new(x, rows, k), matrix, epilogue, &mut out);
    let mut dims = dims.to_vec();
    if let Some(last) = dims.last_mut() {
        *last = n;
    }
    Ok((CpuStorage::F32(out), Shape::from(dims)))
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use candle_core::{DType, Device, Var};
    use candle_nn::VarBuilder;

    use super::*;
    use crate::nn::compressed::CompressedMatrix;
    use crate::nn::testing::{builder, max_difference, random};
    use crate::nn::weights::MatrixSource;

    #[test]
    fn packed_frozen_and_trainable_agree_in_value_and_gradient() {
        let (w, b) = (random(&[19, 37]), random(&[19]));
        let packed = Linear::from_tensors(w.clone(), Some(b.clone())).unwrap();
        let frozen =
            Linear { weight: Weight::Frozen { weight: w.clone(), bias: Some(b.clone()) }, in_dim: 37, out_dim: 19 };
        let trainable = Linear::from_tensors(Var::from_tensor(&w).unwrap().as_tensor().clone(), Some(b)).unwrap();
        for activation in [None, Some(Activation::Gelu), Some(Activation::QuickGelu), Some(Activation::Relu)] {
            let x = Var::from_tensor(&random(&[2, 23, 37])).unwrap();
            let results: Vec<(Tensor, Tensor)> = [&packed, &frozen, &trainable]
                .iter()
                .map(|layer| {
                    let y = layer.run(&x, activation).unwrap();
                    let grads = y.sqr().unwrap().sum_all().unwrap().backward().unwrap();
                    (y, grads.get(&x).unwrap().clone())
                })
                .collect();
            for (y, g) in &results[1..] {
                assert!(max_difference(&results[0].0, y) < 1e-4);
                assert!(max_difference(&results[0].1, g) < 1e-3);
            }
            let fused = packed.run(&x.detach(), activation).unwrap();
            assert!(max_difference(&results[0].0, &fused) < 1e-5);
        }
    }

    #[test]
    fn trainable_layers_agree_with_their_composed_form_in_every_gradient() {
        for (m, k, n, bias) in [(1, 3, 5, true), (700, 33, 18, true), (40, 128, 64, false)] {
            let (x, w, b) = (random(&[m, k]), random(&[n, k]), random(&[n]));
            let [x, w, b] = [x, w, b].map(|t| Var::from_tensor(&t).unwrap());
            let layer = Linear::from_tensors(w.as_tensor().clone(), bias.then(|| b.as_tensor().clone())).unwrap();
            let fused = layer.forward(&x).unwrap();
            let composed = layer.trainable_composed(&x, &w, bias.then_some(&b)).unwrap();
            assert!(max_difference(&fused, &composed) < 1e-4);
            let gradients = |y: &Tensor| y.sin().unwrap().sum_all().unwrap().backward().unwrap();
            let (fused, composed) = (gradients(&fused), gradients(&composed));
            for var in [&x, &w] {
                assert!(max_difference(fused.get(var).unwrap(), composed.get(var).unwrap()) < 1e-3);
            }
            match (fused.get(&b), composed.get(&b)) {
                (Some(fused), Some(composed)) => assert!(bias && max_difference(fused, composed) < 1e-3),
                (fused, composed) => assert!(!bias && fused.is_none() && composed.is_none()),
            }
            let constant = layer.forward(&x.detach()).unwrap().sum_all().unwrap().backward().unwrap();
            assert!(constant.get(&x).is_none() && constant.get(&w).is_some());
        }
    }

    #[test]
    fn a_frozen_weight_gets_no_gradient() {
        let w = random(&[4, 5]);
        for layer in [
            Linear::from_tensors(w.clone(), None).unwrap(),
            Linear { weight: Weight::Frozen { weight: w.clone(), bias: None }, in_dim: 5, out_dim: 4 },
        ] {
            let x = Var::from_tensor(&random(&[3, 5])).unwrap();
            let grads = layer.forward(&x).unwrap().sum_all().unwrap().backward().unwrap();
            assert!(grads.get(&x).is_some());
            assert!(grads.get(&w).is_none());
        }
    }

    #[test]
    fn layers_of_compressed_parts_agree_in_value_and_gradient() {
        let (w, b) = (random(&[10, 32]), random(&[10]));
        let half = w.to_dtype(DType::F16).unwrap();
        let exact = half.to_dtype(DType::F32).unwrap();
        let tensors = builder(&[("p.weight", &exact), ("q.weight", &w), ("p.bias", &b), ("q.bias", &b)]);
        let kept = Kept(HashMap::from([("p.weight".to_string(), CompressedMatrix::half(half).unwrap())]));
        let weights = Weights::with_matrices(tensors, &kept, Precision::Highest);
        let (p, q) = (weights.pp("p"), weights.pp("q"));
        let x = Var::from_tensor(&random(&[3, 32])).unwrap();
        // In the last case, one part is compressed and the other is not.
        for (parts, weights) in
            [(vec![&p], vec![&exact]), (vec![&p, &p], vec![&exact; 2]), (vec![&p, &q], vec![&exact, &w])]
        {
            let parts: Vec<Weights> = parts.into_iter().cloned().collect();
            let layer = Linear::merged(32, &vec![10; parts.len()], true, &parts).unwrap();
            let weight = Tensor::cat(&weights, 0).unwrap();
            let full = Linear::from_tensors(weight, Some(Tensor::cat(&vec![&b; parts.len()], 0).unwrap())).unwrap();
            assert_eq!(layer.out_dim(), full.out_dim());
            let results = [layer, full].map(|layer| {
                let y = layer.forward(&x).unwrap();
                let gradients = y.sqr().unwrap().sum_all().unwrap().backward().unwrap();
                (y, gradients.get(&x).unwrap().clone())
            });
            assert_eq!(max_difference(&results[0].0, &results[1].0), 0.0);
            assert_eq!(max_difference(&results[0].1, &results[1].1), 0.0);
        }
    }

    /// Compressed matrices by name.
    struct Kept(HashMap<String, CompressedMatrix>);

    impl MatrixSource for Kept {
        fn compressed(&self, name: &str, rows: usize, columns: usize) -> Result<Option<CompressedMatrix>> {
            Ok(self.0.get(name).filter(|matrix| matrix.dims() == (rows, columns)).cloned())
        }

        fn stored(&self, name: &str, rows: usize, columns: usize) -> Result<Option<StoredMatrix<'_>>> {
            Ok(self.compressed(name, rows, columns)?.map(CompressedMatrix::into_stored))
        }
    }

    #[test]
    fn a_builder_that_has_every_name_has_no_compressed_weights() {
        let layer = Linear::new(64, 3, true, VarBuilder::zeros(DType::F32, &Device::Cpu)).unwrap();
        let y = layer.forward(&random(&[2, 64])).unwrap();
        assert_eq!(y.to_vec2::<f32>().unwrap(), [[0.0; 3]; 2]);
    }

    #[test]
    fn a_wrong_width_is_an_error() {
        let layer = Linear::from_tensors(random(&[4, 5]), None).unwrap();
        let x = Tensor::zeros((2, 6), DType::F32, &Device::Cpu).unwrap();
        assert!(matches!(layer.forward(&x), Err(Error::Shape { found, .. }) if found == [2, 6]));
    }
}
