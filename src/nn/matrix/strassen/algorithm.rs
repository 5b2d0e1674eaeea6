//! The seven products, and the quarters that they read and are added to.

use pulp::Simd;

/// A quarter of a matrix: row, then column.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Quarter {
    Q11,
    Q12,
    Q21,
    Q22,
}
use Quarter::{Q11, Q12, Q21, Q22};

impl Quarter {
    pub(super) const ALL: [Self; 4] = [Q11, Q12, Q21, Q22];
}

/// The sign of the second of two terms.
#[derive(Clone, Copy)]
pub(super) enum Sign {
    Plus,
    Minus,
}
use Sign::{Minus, Plus};

impl Sign {
    /// `x ± y`.
    #[inline(always)]
    pub(super) fn apply<S: Simd>(self, simd: S, x: S::f32s, y: S::f32s) -> S::f32s {
        match self {
            Plus => simd.add_f32s(x, y),
            Minus => simd.sub_f32s(x, y),
        }
    }

    /// 1 or −1.
    pub(super) fn factor(self) -> f32 {
        match self {
            Plus => 1.0,
            Minus => -1.0,
        }
    }
}

/// One of the seven products.
pub(super) struct Product {
    /// Which of the seven packed left-hand sides.
    pub(super) left: usize,
    pub(super) right: (Quarter, Option<(Sign, Quarter)>),
    pub(super) targets: [Option<(Sign, Quarter)>; 2],
}

impl Product {
    /// Whether the product reads this quarter of the right-hand side.
    fn reads(&self, quarter: Quarter) -> bool {
        let (x, y) = self.right;
        x == quarter || y.is_some_and(|(_, y)| y == quarter)
    }

    /// The quarter of the right-hand side that this product reads and `before` does not; there is at most one.
    pub(super) fn reads_beside(&self, before: &Self) -> Option<Quarter> {
        Quarter::ALL.into_iter().find(|quarter| self.reads(*quarter) && !before.reads(*quarter))
    }

    /// Whether the left-hand side has no upper rows.
    pub(super) fn reads_lower_rows_only(&self) -> bool {
        matches!(self.left, A22 | A21_AND_A22)
    }
}

/// Indices of the packed left-hand sides, in the order in which they are packed.
const A11: usize = 0;
const A12_LESS_A22: usize = 1;
const A21_LESS_A11: usize = 2;
const A22: usize = 3;
const A11_AND_A22: usize = 4;
const A21_AND_A22: usize = 5;
const A11_AND_A12: usize = 6;

/// In an order in which a product reads at most one quarter that the one before does not: M₁, M₂, M₆, M₃, M₅, M₇, M₄.
#[rustfmt::skip]
pub(super) const PRODUCTS: [Product; 7] = [
    Product { left: A11_AND_A22, right: (Q11, Some((Plus, Q22))), targets: [Some((Plus, Q11)), Some((Plus, Q22))] },
    Product { left: A21_AND_A22, right: (Q11, None), targets: [Some((Plus, Q21)), Some((Minus, Q22))] },
    Product { left: A21_LESS_A11, right: (Q11, Some((Plus, Q12))), targets: [Some((Plus, Q22)), None] },
    Product { left: A11, right: (Q12, Some((Minus, Q22))), targets: [Some((Plus, Q12)), Some((Plus, Q22))] },
    Product { left: A11_AND_A12, right: (Q22, None), targets: [Some((Minus, Q11)), Some((Plus, Q12))] },
    Product { left: A12_LESS_A22, right: (Q21, Some((Plus, Q22))), targets: [Some((Plus, Q11)), None] },
    Product { left: A22, right: (Q21, Some((Minus, Q11))), targets: [Some((Plus, Q11)), Some((Plus, Q21))] },
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_product_reads_at_most_one_new_quarter() {
        for pair in PRODUCTS.windows(2) {
            let new = |quarter: &&Quarter| pair[1].reads(**quarter) && !pair[0].reads(**quarter);
            assert!(Quarter::ALL.iter().filter(new).count() <= 1);
        }
    }
}
