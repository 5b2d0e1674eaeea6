//! Strassen's algorithm around the loops of [`block`](mod@super::block): seven products of half the size instead of
//! eight.
//!
//! Both operands and the result are divided into quarters (Strassen, "Gaussian Elimination is not Optimal", 1969):
//!
//! ```text
//! M₁ = (A₁₁ + A₂₂)(B₁₁ + B₂₂)    C₁₁ = M₁ + M₄ − M₅ + M₇
//! M₂ = (A₂₁ + A₂₂) B₁₁           C₁₂ = M₃ + M₅
//! M₃ = A₁₁ (B₁₂ − B₂₂)           C₂₁ = M₂ + M₄
//! M₄ = A₂₂ (B₂₁ − B₁₁)           C₂₂ = M₁ − M₂ + M₃ + M₆
//! M₅ = (A₁₁ + A₁₂) B₂₂
//! M₆ = (A₂₁ − A₁₁)(B₁₁ + B₁₂)
//! M₇ = (A₁₂ − A₂₂)(B₂₁ + B₂₂)
//! ```
//!
//! Any rows, columns and depths can form a quarter, so the division happens inside the blocks: the upper and lower rows
//! of a block, the columns of neighbouring tiles, and two consecutive depths. The sums therefore use data that is
//! already in the cache, no matrix is stored twice, and a product's tile is added to both of its targets while it is in
//! registers. The targets of one group of panels are next to each other in memory, and are written to the result once. The sums
//! of the right-hand side are computed while they are multiplied for the first time.

mod algorithm;
mod block;
mod parts;
mod update;

pub(super) use parts::Parts;
