//! The trained parts of ACL, as variables.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use candle_core::{DType, Device, Tensor, Var};
use candle_nn::{VarBuilder, VarMap};
use rand::RngExt;

use crate::acl::{ModelConfig, TrainedHead};
use crate::data::random::{Purpose, stream};
use crate::error::Result;
use crate::weights::{Checkpoint, write_safetensors};

/// The published initial values of the masker's scalars w and b.
const MASKER_START: [(&str, f32); 2] = [("masker_i.w", 10.0), ("masker_i.b", 14.0)];

/// The trained head of ACL over f32 variables that are named as in `acl.safetensors`: `audio_proj.…`, `masker_i.w`,
/// `masker_i.b` and, where the prompt is learned, `prompt_net.…`.
#[derive(Debug)]
pub struct Trainable {
    head: TrainedHead,
    vars: Vec<(String, Var)>,
}

impl Trainable {
    /// Creates variables with the values of `checkpoint`, to continue training from there.
    ///
    /// # Errors
    /// - [`Error::Weights`](crate::Error::Weights) when the checkpoint does not match `config`.
    /// - [`Error::NonFinite`](crate::Error::NonFinite) when the masker cannot produce a heatmap (see
    ///   [`ImageMasker::offset`](crate::acl::ImageMasker::offset)).
    /// - [`Error::Candle`](crate::Error::Candle) when the device is out of memory.
    pub fn from_checkpoint(config: &ModelConfig, checkpoint: &Checkpoint, device: &Device) -> Result<Self> {
        // Load strictly, as for inference: an extra tensor is as wrong as a missing one.
        checkpoint.load(&Device::Cpu, DType::F32, &[], |vb| TrainedHead::new(config, vb))?.masker.offset()?;
        let parts = Self::zeros(config, device)?;
        for (name, var) in &parts.vars {
            // A scalar may be stored with the shape [] or [1].
            var.set(&checkpoint.tensor(name, device, DType::F32)?.reshape(var.shape())?)?;
        }
        Ok(parts)
    }

    /// Creates fresh variables from `seed`: the masker as published (w = 10, b = 14), and everything else as PyTorch
    /// initialises `Linear` and `Conv1d`, with weights and biases uniform in ±1/√(inputs of a unit).
    ///
    /// # Errors
    /// [`Error::Candle`](crate::Error::Candle) when the device is out of memory.
    pub fn from_scratch(config: &ModelConfig, seed: u64, device: &Device) -> Result<Self> {
        let parts = Self::zeros(config, device)?;
        // A weight is [out, in] or [out, in, 1]; a bias uses the number of inputs of its layer's weight.
        let inputs: HashMap<&str, usize> = parts
            .vars
            .iter()
            .filter_map(|(name, var)| Some((name.strip_suffix(".weight")?, *var.dims().get(1)?)))
            .collect();
        let mut rng = stream(seed, Purpose::Initialization, 0, 0);
        for (name, var) in &parts.vars {
            let layer = name.rsplit_once('.').map_or(name.as_str(), |(layer, _)| layer);
            let values = match MASKER_START.into_iter().find(|(known, _)| known == name) {
                Some((_, start)) => vec![start; 1],
                None => {
                    let bound = 1.0 / (inputs.get(layer).copied().unwrap_or(1) as f32).sqrt();
                    (0..var.elem_count()).map(|_| (2.0 * rng.random::<f32>() - 1.0) * bound).collect()
                }
            };
            var.set(&Tensor::from_vec(values, var.shape(), device)?)?;
        }
        Ok(parts)
    }

    /// The values as a checkpoint in memory, as `acl.safetensors` contains them; `name` represents it in error messages.
    ///
    /// # Errors
    /// [`Error::Candle`](crate::Error::Candle) when a value cannot be read from its device.
    pub fn to_checkpoint(&self, name: impl AsRef<Path>) -> Result<Checkpoint> {
        let name = name.as_ref();
        let tensors = self.vars.iter().map(|(name, var)| (name.clone(), var.as_detached_tensor())).collect();
        let mut bytes = Vec::new();
        write_safetensors(&mut bytes, name, &tensors, &BTreeMap::new())?;
        Checkpoint::from_bytes(name, bytes)
    }

    /// Returns the head, which reads the variables, and the variables sorted by name.
    pub fn into_parts(self) -> (TrainedHead, Vec<(String, Var)>) {
        (self.head, self.vars)
    }

    /// Creates all variables with the value zero.
    fn zeros(config: &ModelConfig, device: &Device) -> Result<Self> {
        let variables = VarMap::new();
        let head = TrainedHead::new(config, VarBuilder::from_varmap(&variables, DType::F32, device))?;
        // A panic while the lock was held cannot have damaged the map.
        let map = variables.data().lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let mut vars: Vec<(String, Var)> = map.iter().map(|(name, var)| (name.clone(), var.clone())).collect();
        vars.sort_by(|(a, _), (b, _)| a.cmp(b));
        drop(map);
        Ok(Self { head, vars })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fresh_parts_have_pytorchs_bounds_and_the_published_scalars() {
        let mut config = ModelConfig::acl_vit16();
        (config.beats.encoder_embed_dim, config.clipseg.text_config.hidden_size) = (12, 16);
        let fresh = |seed| Trainable::from_scratch(&config, seed, &Device::Cpu).unwrap().vars;
        let values = |var: &Var| var.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        let vars = fresh(1);
        assert_eq!(vars.len(), 15);
        for (name, var) in &vars {
            let found = values(var);
            let bound = match name.as_str() {
                "masker_i.w" => {
                    assert_eq!(found, [10.0]);
                    continue;
                }
                "masker_i.b" => {
                    assert_eq!(found, [14.0]);
                    continue;
                }
                "audio_proj.fga.reduce_potentials.0.weight" => 1.0 / 2f32.sqrt(),
                name if name.starts_with("audio_proj.fc") => 1.0 / 6.0, // 3 · 12 inputs
                _ => 1.0 / 4.0,                                         // 16 inputs
            };
            let largest = found.iter().fold(0f32, |m, v| m.max(v.abs()));
            assert!(largest <= bound, "{name}: {largest}");
            // A maximum of 12 or more draws below half of the bound has a probability of 2⁻¹² at most.
            assert!(found.len() < 12 || largest > 0.5 * bound, "{name}: {largest}");
        }
        let same = |a: &[(String, Var)], b: &[(String, Var)]| {
            a.iter().zip(b).all(|((n, v), (m, w))| n == m && values(v) == values(w))
        };
        assert!(same(&vars, &fresh(1)) && !same(&vars, &fresh(2)));
    }
}
