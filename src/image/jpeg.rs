//! Detects truncated JPEG files, because the decoder silently fills missing parts with grey.

const TEMPORARY: u8 = 0x01;
const START_OF_IMAGE: u8 = 0xD8;
const END_OF_IMAGE: u8 = 0xD9;

/// Walks the segments and scans of `bytes` (ITU-T T.81, Annex B) and returns whether there is an end-of-image marker.
///
/// Data after that marker (a video, a second picture) is ignored; thumbnails inside a segment are skipped.
pub(super) fn is_complete(bytes: &[u8]) -> bool {
    let mut rest = bytes;
    while let Some((marker, after)) = next_marker(rest) {
        rest = match marker {
            END_OF_IMAGE => return true,
            // Without a length: 0xFF00 is a data byte of a scan, 0xFFD0 to 0xFFD7 restart one.
            START_OF_IMAGE | TEMPORARY | 0x00 | 0xD0..=0xD7 => after,
            // A segment; its length counts itself. The search continues in the data after a scan's header.
            _ => {
                let Some(length) = after.first_chunk() else { return false };
                let Some(after) = after.get(usize::from(u16::from_be_bytes(*length)).max(2)..) else { return false };
                after
            }
        };
    }
    false
}

/// The byte after the next run of 0xFF, and what follows it.
fn next_marker(bytes: &[u8]) -> Option<(u8, &[u8])> {
    let start = bytes.iter().position(|&byte| byte == 0xFF)?;
    let length = bytes[start..].iter().position(|&byte| byte != 0xFF)?;
    let (&marker, after) = bytes[start + length..].split_first()?;
    Some((marker, after))
}
