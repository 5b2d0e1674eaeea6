//! A prompt that is learned, and depends on the picture.
//!
//! As in SouPLe (CVPR 2026, arXiv 2603.22732), "a photo of" gives way to M vectors that a small net computes from the
//! picture's CLIP feature f:
//!
//! `[V₁ … V_M] = W₂ · relu(W₁ · f/‖f‖ + b₁) + b₂`, read by the text tower as `[start] [V₁] … [V_M] [audio token] [end]`.
//!
//! The paper does not say which feature f is. Here it is the [image embedding](super::Acl::image_embedding), the one vector of
//! a picture that CLIP trained to mean something beside texts and sounds. Only its direction is used: CLIP compares cosines,
//! so that the length means nothing and differs between towers, and with length 1 the feature and the bias of a fresh first
//! layer count alike.

use candle_core::{DType, Tensor};

use super::audio_tokenizer::l2_normalize;
use crate::error::Result;
use crate::nn::{Activation, Linear, Weights};

/// The input is this many times as wide as the hidden layer.
const REDUCTION: usize = 16;

/// The net that turns a picture's embedding into the vectors of a prompt: linear, ReLU, linear.
#[derive(Clone, Debug)]
pub struct PromptNet {
    hidden: Linear,
    output: Linear,
    num_vectors: usize,
    dtype: DType,
}

impl PromptNet {
    /// Creates a net that maps embeddings of width `in_dim` (P) to `num_vectors` (M, at least 1) vectors of width `out_dim`
    /// (H, that of the text tower), from the tensors `0.weight`, `0.bias`, `2.weight` and `2.bias` of `weights`. Its hidden
    /// layer has P/16 units, but at least one.
    ///
    /// # Errors
    /// [`Error::Candle`](crate::Error::Candle) when `weights` lacks one of the tensors or has it in another shape.
    pub fn new<'a>(in_dim: usize, out_dim: usize, num_vectors: usize, weights: impl Into<Weights<'a>>) -> Result<Self> {
        let weights = weights.into();
        let hidden = (in_dim / REDUCTION).max(1);
        Ok(Self {
            hidden: Linear::new(in_dim, hidden, true, weights.pp("0"))?,
            output: Linear::new(hidden, num_vectors * out_dim, true, weights.pp("2"))?,
            num_vectors,
            dtype: weights.dtype(),
        })
    }

    /// Image embeddings `[B, P]` of any length and precision → the vectors of their prompts `[B, M, H]`, in the precision of
    /// the net's weights.
    ///
    /// # Errors
    /// [`Error::Shape`](crate::Error::Shape) when the embeddings have another width.
    pub fn forward(&self, images: &Tensor) -> Result<Tensor> {
        let direction = l2_normalize(&images.to_dtype(self.dtype)?)?;
        let vectors = self.output.forward(&self.hidden.forward_activated(&direction, Activation::Relu)?)?;
        Ok(vectors.reshape((images.dim(0)?, self.num_vectors, self.output.out_dim() / self.num_vectors))?)
    }

    /// The number M of vectors.
    pub fn num_vectors(&self) -> usize {
        self.num_vectors
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use candle_core::Device;
    use candle_nn::VarBuilder;

    use super::*;

    #[test]
    fn vectors_are_those_of_the_formula_and_ignore_the_length() {
        let (width, hidden, vectors, out) = (40, 2, 3, 5);
        let wave = |shape: &[usize], phase: f32| {
            let count = shape.iter().product::<usize>();
            let values: Vec<f32> = (0..count).map(|i| (i as f32 * 0.7 + phase).sin()).collect();
            Tensor::from_vec(values, shape, &Device::Cpu).unwrap()
        };
        let named = [
            ("0.weight", wave(&[hidden, width], 0.1)),
            ("0.bias", wave(&[hidden], 0.2)),
            ("2.weight", wave(&[vectors * out, hidden], 0.3)),
            ("2.bias", wave(&[vectors * out], 0.4)),
        ];
        let tensors: HashMap<String, Tensor> = named.into_iter().map(|(n, t)| (n.to_string(), t)).collect();
        let rows = |name: &str| tensors[name].to_vec2::<f32>().unwrap();
        let bias = |name: &str| tensors[name].to_vec1::<f32>().unwrap();
        let layer = |weight: &str, added: &str, x: &[f32]| -> Vec<f32> {
            let dot = |row: &Vec<f32>| row.iter().zip(x).map(|(w, x)| w * x).sum::<f32>();
            rows(weight).iter().zip(bias(added)).map(|(row, bias)| dot(row) + bias).collect()
        };
        let net = VarBuilder::from_tensors(tensors.clone(), DType::F32, &Device::Cpu);
        let net = PromptNet::new(width, out, vectors, net).unwrap();
        let images = wave(&[4, width], 2.0);
        let found = net.forward(&images).unwrap();
        assert_eq!((found.dims(), net.num_vectors()), (&[4, vectors, out][..], vectors));
        for (image, found) in images.to_vec2::<f32>().unwrap().iter().zip(found.to_vec3::<f32>().unwrap()) {
            let length = image.iter().map(|x| x * x).sum::<f32>().sqrt();
            let direction: Vec<f32> = image.iter().map(|x| x / length).collect();
            let inner: Vec<f32> = layer("0.weight", "0.bias", &direction).into_iter().map(|x| x.max(0.0)).collect();
            for (found, wanted) in found.concat().into_iter().zip(layer("2.weight", "2.bias", &inner)) {
                assert!((found - wanted).abs() < 1e-5, "{found} and {wanted}");
            }
        }
        let longer = net.forward(&(images * 7.0).unwrap()).unwrap();
        let difference = (longer - found).unwrap().abs().unwrap().max_all().unwrap().to_scalar::<f32>().unwrap();
        assert!(difference < 1e-5, "the length counts: {difference}");
    }

    #[test]
    fn a_narrow_embedding_has_one_hidden_unit() {
        let net = VarBuilder::zeros(DType::F32, &Device::Cpu);
        let net = PromptNet::new(7, 3, 2, net).unwrap();
        assert_eq!(net.hidden.out_dim(), 1);
        assert!(net.forward(&Tensor::ones((1, 8), DType::F32, &Device::Cpu).unwrap()).is_err());
    }
}
