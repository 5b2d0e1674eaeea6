//! Converts bytes to the normalised values that the network reads.

use candle_core::{Device, Tensor};

use super::picture::Picture;
use crate::error::{Error, Result};

/// Mean and standard deviation per channel (red, green, blue), of pixels in 0..1.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct NormalizeOptions {
    /// Subtracted from each channel.
    pub mean: [f32; 3],
    /// Each channel is divided by this after the subtraction; finite and above 0.
    pub std: [f32; 3],
}

impl Default for NormalizeOptions {
    /// The statistics of CLIP's training pictures (Radford et al. 2021, in the published code's preprocessing).
    fn default() -> Self {
        Self { mean: [0.481_454_66, 0.457_827_5, 0.408_210_73], std: [0.268_629_54, 0.261_302_6, 0.275_777_1] }
    }
}

impl NormalizeOptions {
    /// Checks that all values are in range.
    ///
    /// # Errors
    /// [`Error::Config`] for a mean that is not finite, or a standard deviation that is not finite and above 0.
    pub fn validate(&self) -> Result<()> {
        if !self.mean.iter().all(|mean| mean.is_finite()) {
            return Err(Error::config("normalize.mean", "finite numbers", format!("{:?}", self.mean)));
        }
        if !self.std.iter().all(|std| std.is_finite() && *std > 0.0) {
            return Err(Error::config("normalize.std", "finite numbers above 0", format!("{:?}", self.std)));
        }
        Ok(())
    }
}

impl Picture {
    /// The picture as the network reads it: (p / 255 − mean) / std, f32, shape \[3, H, W\].
    ///
    /// # Errors
    /// [`Error::Config`] as [`NormalizeOptions::validate`]; [`Error::Candle`] when the device has no memory left.
    pub fn to_tensor(&self, options: &NormalizeOptions, device: &Device) -> Result<Tensor> {
        options.validate()?;
        let mut planes = Vec::with_capacity(self.pixels().len());
        for channel in 0..3 {
            // A table of the 256 values of a byte saves a subtraction and two divisions per pixel.
            let table: [f32; 256] =
                std::array::from_fn(|byte| (byte as f32 / 255.0 - options.mean[channel]) / options.std[channel]);
            planes.extend(self.pixels().chunks_exact(3).map(|pixel| table[usize::from(pixel[channel])]));
        }
        Ok(Tensor::from_vec(planes, (3, self.height(), self.width()), device)?)
    }
}
