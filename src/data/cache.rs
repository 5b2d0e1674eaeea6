//! Features of the frozen audio encoder, kept on the disk.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};

use candle_core::{DType, Device, Tensor};
use sha2::{Digest, Sha256};

use crate::error::{Error, Result};
use crate::files::{hash_contents, hex, write_atomically};
use crate::weights::{Checkpoint, write_safetensors};

/// The name of one sound's features: a digest of the model, of how the sound is prepared for it, and of the sound
/// file's content.
///
/// The content decides, not the path or the time: a data set may move, and a file that changes is computed anew.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct CacheKey(String);

/// A folder of features, one f16 tensor a sound: [496, 2304] takes 2.3 MB.
///
/// Entries are written atomically, several processes may share a folder, and an entry that is damaged in any way (a
/// checksum tells) counts as absent: its features are computed and written again.
#[derive(Debug, Clone)]
pub struct FeatureCache {
    folder: PathBuf,
    identity: String,
}

/// The tensor's name in an entry.
const FEATURES: &str = "features";
/// Bytes of the checksum that ends an entry.
const CHECKSUM_LEN: usize = 4;

impl FeatureCache {
    /// The cache in `folder` (made if need be) for one model and front end. `identity` must differ whenever the
    /// features do: the weights' digest, the front end's options, the clip length.
    ///
    /// # Errors
    /// [`Error::Io`] when the folder cannot be made.
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
        // The length first, so that no identity can run into a file's content.
        digest.update((self.identity.len() as u64).to_le_bytes());
        digest.update(&self.identity);
        hash_contents(&mut digest, audio)?;
        Ok(CacheKey(hex(&digest.finalize())))
    }

    /// The path of an entry: a folder for each first byte, since file systems dislike 100,000 files in one.
    fn path(&self, key: &CacheKey) -> PathBuf {
        let (shard, name) = key.0.split_at(2);
        self.folder.join(shard).join(name)
    }

    /// The features stored under `key` as f32 on `device`, or `None` when there is no sound entry.
    ///
    /// # Errors
    /// [`Error::Candle`] when the device has no room for them.
    pub fn load(&self, key: &CacheKey, device: &Device) -> Result<Option<Tensor>> {
        let path = self.path(key);
        let Some(features) = std::fs::read(&path).ok().and_then(|entry| parse(&path, entry)) else {
            return Ok(None);
        };
        Ok(Some(features.to_device(device)?.to_dtype(DType::F32)?))
    }

    /// Stores `features` under `key` and returns them as [`FeatureCache::load`] will: rounded to f16. Use the returned
    /// ones, or a run that found the cache empty would differ from one that found it full.
    ///
    /// # Errors
    /// - [`Error::Io`] when the entry cannot be written; a full disk leaves no half entry behind.
    /// - [`Error::NonFinite`] when a feature is not finite or beyond f16's range (±65504).
    pub fn store(&self, key: &CacheKey, features: &Tensor) -> Result<Tensor> {
        let rounded = features.detach().to_dtype(DType::F16)?;
        let widened = rounded.to_dtype(DType::F32)?;
        if !widened.sum_all()?.to_scalar::<f32>()?.is_finite() {
            let details = "a feature is not a number or beyond ±65504".to_string();
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

/// The tensor of an intact entry; `path` stands for the entry in messages.
fn parse(path: &Path, mut entry: Vec<u8>) -> Option<Tensor> {
    let checksum = entry.split_off(entry.len().checked_sub(CHECKSUM_LEN)?);
    if crc32c::crc32c(&entry).to_le_bytes() != *checksum {
        return None;
    }
    Checkpoint::from_bytes(path, entry).ok()?.tensor(FEATURES, &Device::Cpu, DType::F16).ok()
}
