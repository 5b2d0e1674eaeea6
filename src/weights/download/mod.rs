//! Downloads from the Hub into the cache. Interrupted downloads are resumed.
//!
//! `ureq` handles the transport (connections, TLS, proxies). This module does the rest, in the layout and with the
//! locks of the other Hub clients: it writes the growing `blobs/<etag>.incomplete`, verifies the checksum, and creates
//! the blob, the snapshot that points to it and the reference to the snapshot.

mod cache;
mod client;
mod transfer;

use std::path::PathBuf;
use std::time::Duration;

use cache::Place;
use client::{Client, Refusal};
use transfer::{OnProgress, Transfer};

use super::hub::{Hub, HubFile};
use crate::error::{Error, Result};

/// A connection that delivers no data for this long is treated as broken.
const SILENCE: Duration = Duration::from_secs(60);

/// Downloads the first of `sources` that exists. The inner error describes why none could be downloaded.
pub(super) fn first(hub: &Hub, sources: &[HubFile], progress: &mut OnProgress<'_>) -> Result<Result<PathBuf, String>> {
    let client = match Client::new(hub, SILENCE) {
        Ok(client) => client,
        Err(why) => return Ok(Err(why)),
    };
    let mut reasons = Vec::new();
    for source in sources {
        match fetch(&client, source, progress) {
            Ok(path) => return Ok(Ok(path)),
            Err(Refusal::Local(error)) => return Err(error),
            Err(Refusal::Failed(why)) => {
                reasons.push(why);
                break;
            }
            Err(Refusal::Absent(why)) => reasons.push(why),
            Err(Refusal::Denied(why)) => reasons.push(format!("{why} (does HF_TOKEN hold a token with access?)")),
        }
    }
    Ok(Err(reasons.join("; ")))
}

fn fetch(client: &Client<'_>, source: &HubFile, progress: &mut OnProgress<'_>) -> Result<PathBuf, Refusal> {
    let about = client.about(source)?;
    let place = Place::new(client.hub(), source, &about.etag, &about.commit);
    // Held until the file is in place. Released with the file handle, even if the process dies.
    let _lock = place.lock()?;
    let blob = place.blob();
    if !blob.exists() {
        let incomplete = place.incomplete()?;
        let mut transfer = Transfer { client, source, len: about.len, file: &incomplete, progress };
        transfer.run()?;
        if !place.is_intact(&incomplete)? {
            // An earlier process may have left other data there: try once more from the beginning.
            cache::remove(&incomplete)?;
            transfer.run()?;
            if !place.is_intact(&incomplete)? {
                cache::remove(&incomplete)?;
                return Err(Refusal::Failed(format!("{} was damaged in transit (its SHA-256 differs)", source.file)));
            }
        }
        std::fs::rename(&incomplete, &blob).map_err(Error::io(&blob, "write"))?;
    }
    Ok(place.publish()?)
}
