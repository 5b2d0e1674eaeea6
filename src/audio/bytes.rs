//! Reading parts of a file.

use std::io::{self, Read};

/// Reads `N` bytes from the current position, or fewer at the end of the file; the rest are zero. Also returns the
/// count.
pub(super) fn read_up_to<const N: usize>(file: &mut impl Read) -> io::Result<([u8; N], usize)> {
    let mut bytes = [0; N];
    let mut filled = 0;
    while filled < N {
        match file.read(&mut bytes[filled..])? {
            0 => break,
            count => filled += count,
        }
    }
    Ok((bytes, filled))
}
