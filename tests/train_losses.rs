//! The losses checked by hand and by finite differences, and the training step as a whole.
#![cfg(feature = "train")]
#![allow(clippy::unwrap_used)]

mod common;

use candle_core::{DType, Device, Tensor, Var};
use common::{fixture, tensors};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use soundsight::acl::{Acl, AudioTokenizer, ImageMasker, ModelConfig, masked_features};
use soundsight::train::losses::{self, LossWeights};
use soundsight::train::step::{Activations, StepNoise, StepTerms, step};
use soundsight::train::{NegativeSounds, Trainable};
use soundsight::weights::ModelFiles;
use soundsight::{Error, Localizer};

/// Uniform in ±1, f64.
fn random(seed: u64, shape: &[usize]) -> Var {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let values: Vec<f64> = (0..shape.iter().product()).map(|_| rng.random_range(-1.0..1.0)).collect();
    Var::from_tensor(&Tensor::from_vec(values, shape, &Device::Cpu).unwrap()).unwrap()
}

fn number(tensor: &Tensor) -> f64 {
    tensor.to_dtype(DType::F64).unwrap().to_scalar().unwrap()
}

/// Asserts that the gradient of `f` with respect to every element of every variable agrees with central differences.
fn check(what: &str, vars: &[&Var], f: impl Fn() -> Tensor) {
    check_against(what, vars, &f, &f);
}

/// Like [`check`], for an `f` whose gradient is defined to be that of `smooth`.
fn check_against(what: &str, vars: &[&Var], f: impl Fn() -> Tensor, smooth: impl Fn() -> Tensor) {
    const H: f64 = 1e-6;
    let gradients = f().backward().unwrap();
    let mut largest = 0f64;
    for (index, var) in vars.iter().enumerate() {
        let gradient = gradients.get(var).unwrap_or_else(|| panic!("{what}: input {index} has no gradient"));
        let gradient = gradient.flatten_all().unwrap().to_vec1::<f64>().unwrap();
        let values = var.flatten_all().unwrap().to_vec1::<f64>().unwrap();
        for (element, found) in gradient.into_iter().enumerate() {
            let at = |shift: f64| {
                let mut moved = values.clone();
                moved[element] += shift;
                var.set(&Tensor::from_vec(moved, var.shape(), &Device::Cpu).unwrap()).unwrap();
                number(&smooth())
            };
            let expected = (at(H) - at(-H)) / (2.0 * H);
            at(0.0);
            largest = largest.max(expected.abs());
            let difference = (found - expected).abs();
            assert!(
                difference < 1e-6 * expected.abs().max(1.0),
                "{what}, input {index}[{element}]: {found}, {expected}"
            );
        }
    }
    assert!(largest > 1e-3, "{what}: the gradient vanishes, so the comparison shows nothing");
}

#[test]
fn gradients_of_the_contrastive_losses() {
    let (audio, images, features) = (random(1, &[4, 6]), random(2, &[4, 6]), random(3, &[4, 4, 6]));
    let similarities = random(4, &[5, 5]);
    check("cross entropy", &[&similarities], || losses::symmetric_cross_entropy(&similarities).unwrap());
    check("ACL_I", &[&audio, &images], || losses::acl_i(&audio, &images).unwrap());
    check("ACL_F", &[&audio, &features], || losses::acl_f(&audio, &features).unwrap());
    let (negatives, under) = (random(5, &[2, 6]), random(6, &[4, 2, 6]));
    check("ACL_I with negatives", &[&audio, &images, &negatives], || {
        losses::acl_i_with(&audio, &images, &negatives).unwrap()
    });
    check("ACL_F with negatives", &[&audio, &features, &negatives, &under], || {
        losses::acl_f_with(&audio, &features, &negatives, &under).unwrap()
    });
}

#[test]
fn gradients_of_areas_and_masks() {
    let (masks, weights) = (random(1, &[3, 3, 4, 4]), LossWeights::default());
    check("area", &[&masks], || {
        let (positive, negative) = losses::mean_areas(&losses::mask_areas(&masks).unwrap()).unwrap();
        losses::area(&positive, &negative, &weights).unwrap()
    });
    let (dense, logits, direction) = (random(2, &[2, 9, 5]), random(3, &[2, 3, 6, 6]), random(4, &[2, 3, 5]));
    check("masked features", &[&dense, &logits], || {
        let features = masked_features(&dense, &logits).unwrap();
        (features * direction.as_detached_tensor()).unwrap().sum_all().unwrap()
    });
}

#[test]
fn the_hard_mask_has_the_gradient_of_the_soft_one() {
    let (w, b) = (random(1, &[]), random(2, &[]));
    let (logits, direction) = (random(3, &[2, 3, 3]), random(4, &[2, 3, 3]));
    let noise = random(5, &[2, 3, 3]).affine(0.45, 0.5).unwrap(); // 0.05 … 0.95
    let direction = direction.as_detached_tensor();
    let masker = ImageMasker::from_tensors(w.as_tensor().clone(), b.as_tensor().clone());
    let hard = masker.hard_mask(&logits, &noise).unwrap();
    let values = hard.flatten_all().unwrap().to_vec1::<f64>().unwrap();
    assert!(values.iter().all(|v| v.abs() < 1e-9 || (v - 1.0).abs() < 1e-9), "{values:?}");
    let soft = || {
        let logistic = (noise.log().unwrap() - noise.affine(-1.0, 1.0).unwrap().log().unwrap()).unwrap();
        let y = logits.broadcast_mul(&w).unwrap().broadcast_add(&b).unwrap();
        candle_nn::ops::sigmoid(&(y + logistic).unwrap()).unwrap()
    };
    let weighted = |mask: Tensor| (mask * &direction).unwrap().sum_all().unwrap();
    let hard = || weighted(masker.hard_mask(&logits, &noise).unwrap());
    check_against("hard mask", &[&w, &b, &logits], hard, || weighted(soft()));
}

#[test]
fn values_that_can_be_worked_out_by_hand() {
    let unit = Tensor::eye(4, DType::F64, &Device::Cpu).unwrap();
    let same = Tensor::ones((4, 4), DType::F64, &Device::Cpu).unwrap();
    let beta: f64 = 1.0 / 0.07;
    // Orthogonal embeddings: the correct logit exceeds the others by β.
    let expected = (1.0 + 3.0 * (-beta).exp()).ln();
    assert!((number(&losses::acl_i(&unit, &unit).unwrap()) - expected).abs() < 1e-9);
    assert!((number(&losses::acl_i(&unit, &same).unwrap()) - 4f64.ln()).abs() < 1e-9);
    // The features of picture b under sound n equal sound n, so only the diagonal matches sound b.
    let features = unit.unsqueeze(0).unwrap().repeat((4, 1, 1)).unwrap();
    assert!((number(&losses::acl_f(&unit, &features).unwrap()) - expected).abs() < 1e-9);

    // Three further candidates, as similar as the other sounds of the batch, in one of the two directions.
    let (elsewhere, images) = (unit.narrow(0, 3, 1).unwrap(), unit.narrow(0, 0, 3).unwrap());
    let negatives = elsewhere.repeat((3, 1)).unwrap();
    let direction = |others: f64| (1.0 + others * (-beta).exp()).ln();
    let expected = (direction(5.0) + direction(2.0)) / 2.0;
    assert!((number(&losses::acl_i_with(&images, &images, &negatives).unwrap()) - expected).abs() < 1e-9);
    let features = images.unsqueeze(0).unwrap().repeat((3, 1, 1)).unwrap();
    // Under the masks of the negatives are features that do not match these, or match them perfectly.
    let under = images.narrow(0, 0, 1).unwrap().unsqueeze(0).unwrap().repeat((3, 3, 1)).unwrap();
    let found = losses::acl_f_with(&images, &features, &negatives, &under).unwrap();
    assert!((number(&found) - expected).abs() < 1e-9);
    let under = negatives.unsqueeze(0).unwrap().repeat((3, 1, 1)).unwrap();
    let found = losses::acl_f_with(&images, &features, &negatives, &under).unwrap();
    let expected = ((4.0 + 2.0 * (-beta).exp()).ln() + direction(2.0)) / 2.0;
    assert!((number(&found) - expected).abs() < 1e-9);

    // Masks of 4 × 4 pixels: 8 for picture 0 under its own sound; for picture 1, 4 under its own and 2 under the other.
    let mut pixels = vec![0f64; 2 * 2 * 16];
    pixels[..8].fill(1.0);
    pixels[32..34].fill(1.0);
    pixels[48..52].fill(1.0);
    let masks = Tensor::from_vec(pixels, (2, 2, 4, 4), &Device::Cpu).unwrap();
    let (positive, negative) = losses::mean_areas(&losses::mask_areas(&masks).unwrap()).unwrap();
    assert!((number(&positive) - (0.5 + 0.25) / 2.0).abs() < 1e-12);
    assert!((number(&negative) - ((8.0 + 2.0 + 4.0) / 64.0 - 0.375 / 2.0)).abs() < 1e-12);
    let loss = losses::area(&positive, &negative, &LossWeights::default()).unwrap();
    assert!((number(&loss) - (0.025 + 0.03125)).abs() < 1e-12);
}

#[test]
fn impossible_weights_are_refused_by_name() {
    let base = LossWeights::default();
    for (name, weights) in [
        ("weight of the loss acl_i", LossWeights { acl_i: -1.0, ..base }),
        ("weight of the loss acl_f", LossWeights { acl_f: f64::NAN, ..base }),
        ("weight of the loss area", LossWeights { area: f64::INFINITY, ..base }),
        ("weights of the losses", LossWeights { acl_i: 0.0, acl_f: 0.0, area: 0.0, ..base }),
        ("positive_area", LossWeights { positive_area: 1.5, ..base }),
        ("negative_area", LossWeights { negative_area: -0.1, ..base }),
    ] {
        match weights.validate().unwrap_err() {
            Error::Config { what, .. } => assert_eq!(what, name),
            other => panic!("{other:?}"),
        }
    }
}

/// The mini model with its variables, and its training batch.
struct Mini {
    acl: Acl,
    vars: Vec<(String, Var)>,
    features: Tensor,
    pixels: Tensor,
    noise: StepNoise,
}

impl Mini {
    fn open() -> Self {
        let files = ModelFiles::from_directory(fixture("mini")).unwrap();
        let localizer = Localizer::from_files(&files, Device::Cpu, DType::F32).unwrap();
        let config: &ModelConfig = localizer.acl().config();
        let trainable = Trainable::from_checkpoint(config, &files.acl, &Device::Cpu).unwrap();
        let (head, vars) = trainable.into_parts();
        let batch = tensors("mini/training.safetensors");
        let sounds = batch["audio"].to_vec2::<f32>().unwrap().into_iter();
        let sounds: Vec<_> = sounds.map(|s| soundsight::Waveform::from_samples(s, 16_000).unwrap()).collect();
        let features = localizer.acl().audio_features(&localizer.fbank(&sounds).unwrap()).unwrap();
        let noise = StepNoise {
            all_pairs: batch["noise_all_pairs"].clone(),
            positive: batch["noise_positive"].clone(),
            dropout: None,
            negatives: None,
        };
        let (acl, pixels) = (localizer.acl().with_trained_head(head), batch["image"].clone());
        Self { acl, vars, features, pixels, noise }
    }

    /// With a silence and two noises that belong to no picture.
    fn with_negatives() -> Self {
        let mut mini = Self::open();
        let sounds = mini.negative_sounds(1, 2).unwrap();
        let rng = ChaCha8Rng::seed_from_u64(1);
        mini.noise.negatives = Some(sounds.draw(&mini.acl, 0, 0..3, false, &rng).unwrap());
        mini
    }

    fn negative_sounds(&self, silence_negatives: usize, noise_negatives: usize) -> Option<NegativeSounds> {
        let weights = LossWeights { silence_negatives, noise_negatives, ..LossWeights::default() };
        NegativeSounds::new(&self.acl, &weights, &Device::Cpu, DType::F32).unwrap()
    }

    fn step(&self, weights: &LossWeights) -> StepTerms {
        let Self { acl, features, pixels, noise, .. } = self;
        step(acl, features, pixels, noise, weights, Activations::Store).unwrap()
    }

    /// The slope of `f` along the steepest descent of the loss with `weights`, computed from the gradient of that loss
    /// and by central differences of `f`.
    fn slopes(&self, weights: &LossWeights, f: impl Fn(&Self) -> f64) -> (f64, f64) {
        let gradients = self.step(weights).loss.backward().unwrap();
        // ACL_F does not depend on the masker.
        let gradient = |var: &Var| gradients.get(var).map_or_else(|| var.zeros_like().unwrap(), Tensor::detach);
        let gradients: Vec<Tensor> = self.vars.iter().map(|(_, var)| gradient(var)).collect();
        let squares: f64 = gradients.iter().map(|g| number(&g.sqr().unwrap().sum_all().unwrap())).sum();
        let start: Vec<Tensor> = self.vars.iter().map(|(_, var)| var.as_tensor().copy().unwrap()).collect();
        let at = |shift: f64| {
            for (((_, var), start), gradient) in self.vars.iter().zip(&start).zip(&gradients) {
                var.set(&(start + (gradient * (shift / squares.sqrt())).unwrap()).unwrap()).unwrap();
            }
            f(self)
        };
        // Large enough for f32 to resolve the difference, small enough for the loss to be linear.
        const H: f64 = 2e-3;
        let difference = (at(H) - at(-H)) / (2.0 * H);
        at(0.0);
        (squares.sqrt(), difference)
    }
}

#[test]
fn the_slope_of_the_whole_step_is_that_of_its_gradient() {
    let mini = Mini::open();
    let only_f = LossWeights { acl_i: 0.0, area: 0.0, ..LossWeights::default() };
    let (by_gradient, by_difference) = mini.slopes(&only_f, |mini| number(&mini.step(&only_f).loss));
    assert!((by_gradient - by_difference).abs() < 0.01 * by_gradient, "ACL_F: {by_gradient}, {by_difference}");

    // The areas themselves are step functions; their gradient is that of the areas of the soft masks.
    let only_area = LossWeights { acl_i: 0.0, acl_f: 0.0, ..LossWeights::default() };
    let terms = mini.step(&only_area);
    let side = |area: &Tensor, aim: f64| (number(area) - aim).signum();
    let (p, n) = (side(&terms.positive_area, 0.4), side(&terms.negative_area, 0.0));
    let u = &mini.noise.all_pairs;
    let logistic = (u.log().unwrap() - u.affine(-1.0, 1.0).unwrap().log().unwrap()).unwrap();
    let soft = |mini: &Mini| {
        let scalar = |name: &str| &mini.vars.iter().find(|(known, _)| known == name).unwrap().1;
        let y = mini.step(&only_area).logits.broadcast_mul(scalar("masker_i.w")).unwrap();
        let y = (y.broadcast_add(scalar("masker_i.b")).unwrap() + &logistic).unwrap();
        let (positive, negative) =
            losses::mean_areas(&losses::mask_areas(&candle_nn::ops::sigmoid(&y).unwrap()).unwrap()).unwrap();
        p * number(&positive) + n * number(&negative)
    };
    let (by_gradient, by_difference) = mini.slopes(&only_area, soft);
    assert!((by_gradient - by_difference).abs() < 0.01 * by_gradient, "area: {by_gradient}, {by_difference}");
}

#[test]
fn masks_of_sounds_that_belong_to_no_picture_should_be_empty() {
    let (plain, mini) = (Mini::open(), Mini::with_negatives());
    let all = LossWeights::default();
    let (without, with) = (plain.step(&all), mini.step(&all));
    assert!(without.empty_area.is_none());
    let term = |term: &Option<Tensor>| number(term.as_ref().unwrap());
    let empty = term(&with.empty_area);
    assert!(empty > 0.0 && (term(&with.area) - term(&without.area) - empty).abs() < 1e-6, "{empty}");
    // More candidates are harder to tell apart.
    assert!(term(&with.acl_i) > term(&without.acl_i) && term(&with.acl_f) > term(&without.acl_f));
    assert!(with.metrics().unwrap().iter().any(|(name, value)| name == "empty_area" && *value == empty));
    // The sounds of the batch are what they are without the others.
    assert_eq!(with.audio.to_vec2::<f32>().unwrap(), without.audio.to_vec2::<f32>().unwrap());

    // With the sounds of the batch held fixed, the AudioTokenizer still learns from the others.
    let gradient = |mini: &Mini| {
        let term = mini.step(&all).empty_area.unwrap();
        let gradients = term.backward().unwrap();
        let of =
            |(name, var): &(String, Var)| Some((name.clone(), gradients.get(var)?.sqr().unwrap().sum_all().unwrap()));
        mini.vars.iter().filter_map(of).map(|(name, sum)| (name, number(&sum))).collect::<Vec<_>>()
    };
    let learning = gradient(&mini);
    assert!(learning.iter().any(|(name, sum)| name == "audio_proj.fc2.weight" && *sum > 0.0), "{learning:?}");
    assert!(learning.iter().any(|(name, sum)| name == "masker_i.b" && *sum > 0.0), "{learning:?}");
}

#[test]
fn a_loss_that_is_switched_off_is_not_computed_and_the_others_stay() {
    let mini = Mini::open();
    let all = LossWeights::default();
    let whole = mini.step(&all);
    let term = |term: &Option<Tensor>| term.as_ref().map(number);
    let expected = [term(&whole.acl_i), term(&whole.acl_f), term(&whole.area)];
    for off in 0..3 {
        let mut factors = [0.5, 2.0, 3.0];
        factors[off] = 0.0;
        let [acl_i, acl_f, area] = factors;
        let terms = mini.step(&LossWeights { acl_i, acl_f, area, ..all });
        let found = [term(&terms.acl_i), term(&terms.acl_f), term(&terms.area)];
        let mut sum = 0.0;
        for index in 0..3 {
            assert_eq!(found[index], expected[index].filter(|_| index != off));
            sum += factors[index] * found[index].unwrap_or(0.0);
        }
        assert!((number(&terms.loss) - sum).abs() < 1e-5, "{sum}");
        assert_eq!(terms.masked_images.is_none(), off == 0);
        assert_eq!(terms.masked_features.is_none(), off == 1);
    }
}

#[test]
fn dropout_thins_the_unary_potential_as_its_noise_says() {
    let mut mini = Mini::open();
    let (batch, tokens, _) = mini.features.dims3().unwrap();
    let shape = [batch, tokens, mini.acl.audio_tokenizer.token_dim()];
    let audio = |mini: &Mini| mini.step(&LossWeights::default()).audio.to_vec2::<f32>().unwrap();
    let plain = audio(&mini);
    // Noise below the dropout probability drops all units; noise above it keeps (and doubles) all of them.
    let mut with = |noise: f32| {
        mini.noise.dropout = Some(Tensor::full(noise, &shape, &Device::Cpu).unwrap());
        audio(&mini)
    };
    let below = AudioTokenizer::DROPOUT as f32 - 0.01;
    let (dropped, kept) = (with(below), with(below + 0.02));
    assert_ne!(dropped, plain);
    assert_ne!(kept, plain);
    assert_ne!(dropped, kept);
    assert_eq!(dropped, with(0.0));
}

#[test]
fn sounds_and_pictures_of_different_number_are_refused() {
    let mini = Mini::open();
    let two = mini.pixels.narrow(0, 0, 2).unwrap();
    match step(&mini.acl, &mini.features, &two, &mini.noise, &LossWeights::default(), Activations::Store).unwrap_err() {
        Error::Shape { what: "audio features", found, .. } => assert_eq!(found[0], 3),
        other => panic!("{other:?}"),
    }
}
