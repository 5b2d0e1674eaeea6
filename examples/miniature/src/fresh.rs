//! Fresh weights: every variable of a module is drawn from a seed, with a distribution that depends on its name.

use std::path::Path;

use candle_core::{DType, Device, Tensor, Var};
use candle_nn::{VarBuilder, VarMap};
use rand_chacha::ChaCha8Rng;
use soundsight::Result;
use soundsight::data::random::{Purpose, stream, uniform};
use soundsight::weights::Checkpoint;

/// The variables of a module by name, sorted.
pub type Vars = Vec<(String, Var)>;

/// The present values of variables, which no gradient reaches.
pub fn values<C: FromIterator<(String, Tensor)>>(vars: &[(String, Var)]) -> C {
    vars.iter().map(|(name, var)| (name.clone(), var.as_detached_tensor())).collect()
}

/// Builds a module over variables and initializes them. `seed` and `number` (of the module) identify the stream of
/// random numbers; `residual` is the factor on the weights whose outputs are added to a residual stream, so that depth
/// does not blow it up.
pub fn fresh<M>(
    seed: u64,
    number: u64,
    residual: f64,
    build: impl FnOnce(VarBuilder<'_>) -> Result<M>,
) -> Result<(M, Vars)> {
    let map = VarMap::new();
    let module = build(VarBuilder::from_varmap(&map, DType::F32, &Device::Cpu))?;
    let lock = map.data().lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let mut vars: Vars = lock.iter().map(|(name, var)| (name.clone(), var.clone())).collect();
    drop(lock);
    vars.sort_by(|(a, _), (b, _)| a.cmp(b));
    let mut rng = stream(seed, Purpose::Initialization, number, 0);
    for (name, var) in &vars {
        var.set(&first_value(name, var.dims(), residual, &mut rng)?)?;
    }
    // The norm of a weight-normalised kernel is a separate variable: it starts as the norm of the direction.
    for (name, var) in &vars {
        let direction = name.strip_suffix("weight_g").map(|layer| format!("{layer}weight_v"));
        if let Some((_, direction)) = vars.iter().find(|(other, _)| Some(other) == direction.as_ref()) {
            var.set(&direction.sqr()?.sum_keepdim((0, 1))?.sqrt()?)?;
        }
    }
    Ok((module, vars))
}

/// Sets variables to the tensors of the same names in the checkpoint at `path`.
pub fn set_from(vars: &[(String, Var)], path: &Path) -> Result<()> {
    let checkpoint = Checkpoint::open(path)?;
    for (name, var) in vars {
        var.set(&checkpoint.tensor(name, &Device::Cpu, var.dtype())?)?;
    }
    Ok(())
}

fn first_value(name: &str, dims: &[usize], residual: f64, rng: &mut ChaCha8Rng) -> Result<Tensor> {
    let (layer, part) = name.rsplit_once('.').unwrap_or(("", name));
    let layer = layer.rsplit_once('.').map_or(layer, |(_, last)| last);
    let constant =
        |value: f64| -> Result<Tensor> { Ok(Tensor::zeros(dims, DType::F32, &Device::Cpu)?.affine(0.0, value)?) };
    match (layer, part) {
        (_, "weight") if layer.contains("norm") => return constant(1.0),
        // FiLM starts as the identity.
        ("film_mul", "bias") | (_, "grep_a") => return constant(1.0),
        // Most pixels do not belong to any object.
        ("transposed_convolution", "bias") => return constant(-2.0),
        (_, "bias") => return constant(0.0),
        // The logarithm of CLIP's 1/0.07; not trained.
        (_, "logit_scale") => return constant((1.0f64 / 0.07).ln()),
        _ => {}
    }
    let inputs = match (layer, dims) {
        // Stored as [in, out, k, k].
        ("transposed_convolution", [inputs, ..]) => *inputs,
        (_, dims) => dims.iter().skip(1).product(),
    };
    let deviation = match layer {
        "token_embedding" | "relative_attention_bias" => 0.02,
        "position_embedding" => 0.02,
        _ if part == "position_embeddings" => 0.02,
        "film_mul" => 0.2 / (inputs as f64).sqrt(),
        "out_proj" | "fc2" => residual / (inputs as f64).sqrt(),
        _ if part == "class_embedding" => 0.02,
        _ => 1.0 / (inputs.max(1) as f64).sqrt(),
    };
    // Uniform numbers of this standard deviation.
    let bound = 3f64.sqrt() * deviation;
    Ok(uniform(rng, dims, &Device::Cpu)?.affine(2.0 * bound, -bound)?)
}
