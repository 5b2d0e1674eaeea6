//! A disk cache for the features of the frozen audio encoder.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};

use candle_core::{DType, Device, Tensor};
use sha2::{Digest, Sha256};

use crate::error::{Error, Result};
use crate::files::{hash_contents, hex, write_atomically};
use crate::weights::{Checkpoint, write_safetensors};

/// The key of one sound's features: a digest of the cache's identity and of the sound file's contents.
///
/// Paths and times are not part of the key: a data set may be moved, and a changed file is encoded again.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct CacheKey(String);

/// A folder of audio features, with one f16 tensor per sound. A tensor of shape [496, 2304] takes 2.3 MB.
///
/// Entries are written atomically, and several processes may share a folder. Checksums detect damaged entries, which
/// count as missing: their features are computed and written again.
#[derive(Debug, Clone)]
pub struct FeatureCache {
    folder: PathBuf,
    identity: String,
}

/// The name of the tensor in an entry.
const FEATURES: &str = "features";
/// The length of the checksum at the end of an entry, in bytes.
const CHECKSUM_LEN: usize = 4;

impl FeatureCache {
    /// Opens the cache in `folder` (created if missing) for one model and front end. `identity` must cover everything
    /// that the features depend on: the digest of the weights, the options of the front end, the clip length.
    ///
    /// # Errors
    /// [`Error::Io`] when the folder cannot be created.
    pub fn open(folder: &Path, identity: &str) -> Result<Self> {
        std::fs::create_dir_all(folder).map_err(Error::io(folder, "create the folder"))?;
        Ok(Self { folder: folder.to_path_buf(), identity: identity.to_string() })
    }

    /// The key of the sound in the file `audio`.
    ///
    /// # Errors
    /// [`Error::Io`] when the file cannot be read.
    pub fn key(&self, audio: &Path) -> Result<CacheKey> {
        let mut digest = Sha256::new();
        // The length comes first, so that the end of the identity is unambiguous.
        digest.update((self.identity.len() as u64).to_le_bytes());
        digest.update(&self.identity);
        hash_contents(&mut digest, audio)?;
        Ok(CacheKey(hex(&digest.finalize())))
    }

    /// The path of an entry. Each first byte has its own folder, because 100,000 files in one folder are slow.
    fn path(&self, key: &CacheKey) -> PathBuf {
        let (shard, name) = key.0.split_at(2);
        self.folder.join(shard).join(name)
    }

    /// Loads the features stored under `key` onto `device`, as f32. Returns `None` when there is no intact entry.
    ///
    /// # Errors
    /// [`Error::Candle`] when the device is out of memory.
    pub fn load(&self, key: &CacheKey, device: &Device) -> Result<Option<Tensor>> {
        let path = self.path(key);
        let Some(features) = std::fs::read(&path).ok().and_then(|entry| parse(&path, entry)) else {
            return Ok(None);
        };
        Ok(Some(features.to_device(device)?.to_dtype(DType::F32)?))
    }

    /// Stores `features` under `key` and returns them rounded to f16, as [`FeatureCache::load`] will. Use the returned
    /// features, so that a run computes the same whether the cache was empty or full.
    ///
    /// # Errors
    /// - [`Error::Io`] when the entry cannot be written; a full disk leaves no partial entry behind.
    /// - [`Error::NonFinite`] when a feature is not finite, or outside the range of f16 (±65504).
    pub fn store(&self, key: &CacheKey, features: &Tensor) -> Result<Tensor> {
        let rounded = features.detach().to_dtype(DType::F16)?;
        let widened = rounded.to_dtype(DType::F32)?;
        if !widened.sum_all()?.to_scalar::<f32>()?.is_finite() {
            let details = "a feature is NaN or outside ±65504".to_string();
            return Err(Error::NonFinite { what: "audio features in f16".to_string(), details });
        }
        let path = self.path(key);
        let folder = path.parent().unwrap_or(&self.folder);
        std::fs::create_dir_all(folder).map_err(Error::io(folder, "create the folder"))?;
        let mut entry = Vec::new();
        write_safetensors(&mut entry, &path, &BTreeMap::from([(FEATURES.to_owned(), rounded)]), &BTreeMap::new())?;
        entry.extend(crc32c::crc32c(&entry).to_le_bytes());
        write_atomically(&path, |writer| writer.write_all(&entry).map_err(Error::io(&path, "write")))?;
        Ok(widened)
    }
}

/// The tensor of an intact entry; `path` identifies the entry in messages.
fn parse(path: &Path, mut entry: Vec<u8>) -> Option<Tensor> {
    let checksum = entry.split_off(entry.len().checked_sub(CHECKSUM_LEN)?);
    if crc32c::crc32c(&entry).to_le_bytes() != *checksum {
        return None;
    }
    Checkpoint::from_bytes(path, entry).ok()?.tensor(FEATURES, &Device::Cpu, DType::F16).ok()
}
