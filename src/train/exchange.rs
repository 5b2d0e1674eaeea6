//! What the processes of a run tell each other.

use candle_core::{DType, Tensor};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::collective::{Collective, agree};
use super::config::require_same;
use super::gradients::GradientSummary;
use super::metrics::{MetricBits, Metrics, accumulate, from_bits};
use crate::data::Unreadable;
use crate::error::Result;

/// What the processes tell each other before a step.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Reading {
    /// The number of readable samples of each batch of the step, of those that this process has.
    pub(super) lens: Vec<usize>,
    /// Newly found unreadable samples.
    pub(super) unreadable: Vec<Unreadable>,
    /// Whether to stop.
    pub(super) stop: bool,
}

/// What the processes tell each other after computing their gradients.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Computed {
    /// The metrics of each batch, by its number in the epoch.
    pub(super) metrics: Vec<(usize, MetricBits)>,
    pub(super) gradients: GradientSummary,
}

/// The CRC-32C of the bytes of f32 tensors.
pub(super) fn checksum(tensors: &[(String, Tensor)]) -> Result<u32> {
    tensors.iter().try_fold(0, |sum, (_, tensor)| {
        let values = tensor.to_dtype(DType::F32)?.flatten_all()?.to_vec1::<f32>()?;
        Ok(values.chunks(1024).fold(sum, |sum, values| {
            let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
            crc32c::crc32c_append(sum, &bytes)
        }))
    })
}

/// The means of the metrics over the batches of all processes, in the order of the batches.
pub(super) fn mean_metrics(computed: &[Computed]) -> Metrics {
    let mut batches: Vec<_> = computed.iter().flat_map(|computed| &computed.metrics).collect();
    batches.sort_by_key(|(index, _)| *index);
    batches.dedup_by_key(|(index, _)| *index); // all processes with a part of a batch report the same
    let mut means = Metrics::new();
    batches.iter().for_each(|(_, metrics)| accumulate(&mut means, from_bits(metrics)));
    means.iter_mut().for_each(|(_, value)| *value /= batches.len() as f64);
    means
}

/// Checks that all processes were started with the same settings.
pub(super) fn require_same_everywhere(group: &dyn Collective, current: &Value) -> Result<()> {
    let (_, configs) = agree(group, Ok(()), |()| current.clone())?;
    let same = configs.first().map_or(Ok(()), |first| require_same(first, current, "process 0"));
    agree(group, same, |()| ()).map(|_| ())
}
