//! The share of one process in work that several do together.

use std::fmt;
use std::str::FromStr;

use crate::error::{Error, Result};

/// The share of one process in work that several processes do together.
///
/// As text it is `I/N`, where the first of N processes is 1: `2/3` is the second of three.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shard {
    /// The number of this process, from 0.
    pub rank: usize,
    /// The total number of processes.
    pub world: usize,
}

impl Shard {
    /// The only shard of a run in a single process.
    pub const WHOLE: Self = Self { rank: 0, world: 1 };

    /// Whether the item at position `index` of a list belongs to this shard: it takes every `world`-th one.
    pub fn contains(self, index: usize) -> bool {
        index % self.world.max(1) == self.rank
    }
}

impl fmt::Display for Shard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.rank + 1, self.world)
    }
}

impl FromStr for Shard {
    type Err = Error;

    /// Parses `I/N`.
    ///
    /// # Errors
    /// [`Error::Argument`] unless 1 ≤ I ≤ N.
    fn from_str(text: &str) -> Result<Self> {
        let number = |text: &str| text.trim().parse::<usize>().ok();
        match text.split_once('/').and_then(|(i, n)| number(i).zip(number(n))) {
            Some((number, world)) if 1 <= number && number <= world => Ok(Self { rank: number - 1, world }),
            _ => Err(Error::argument("shard", "I/N with I from 1 to N, such as 2/3", text)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shards_of_a_list_are_named_from_one() {
        for (text, rank, world) in [("1/1", 0, 1), ("2/3", 1, 3), ("3/3", 2, 3), (" 1 / 2 ", 0, 2)] {
            let shard: Shard = text.parse().unwrap();
            assert_eq!(shard, Shard { rank, world });
            assert_eq!(shard.to_string(), text.replace(' ', ""));
            assert_eq!((0..7).filter(|&index| shard.contains(index)).collect::<Vec<_>>(), {
                (rank..7).step_by(world).collect::<Vec<_>>()
            });
        }
        for text in ["0/3", "4/3", "1/0", "1", "/", "-1/2", "1/2/3", "one/two", ""] {
            let error = text.parse::<Shard>().unwrap_err();
            assert!(matches!(&error, Error::Argument { found, .. } if found == text), "{error:?}");
        }
    }
}
