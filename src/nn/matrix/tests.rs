//! Products of every form, and of every distribution over threads, compared with the definition.

use candle_core::quantized::{GgmlDType, QTensor};
use candle_core::{DType, Device, Tensor};
use half::f16;

use super::super::activation::Activation;
use super::super::compressed::CompressedMatrix;
use super::*;

/// Small pseudorandom numbers, the same in every run.
pub(super) fn numbers(len: usize, seed: u32) -> Vec<f32> {
    let mut state = seed.wrapping_mul(2_654_435_761).wrapping_add(1);
    (0..len)
        .map(|_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) as f32 / (1 << 23) as f32 - 1.0
        })
        .collect()
}

fn check(a: MatrixRef<'_>, b: MatrixRef<'_>, bias: Option<&[f32]>) {
    let mut out = vec![f32::NAN; a.rows * b.columns];
    matmul(a, &PackedMatrix::new(b), Epilogue { bias, activation: None }, &mut out);
    for i in 0..a.rows {
        for j in 0..b.columns {
            let mut expected = bias.map_or(0.0, |b| b[j] as f64);
            for k in 0..a.columns {
                expected += a.data[i * a.row_stride + k * a.column_stride] as f64
                    * b.data[k * b.row_stride + j * b.column_stride] as f64;
            }
            let found = out[i * b.columns + j] as f64;
            assert!((found - expected).abs() < 1e-4, "({i}, {j}): {found}, expected {expected}");
        }
    }
}

#[test]
fn products_of_every_remainder_agree_with_the_definition() {
    for (m, k, n) in [(1, 1, 1), (6, 16, 16), (7, 300, 33), (13, 2, 5), (97, 257, 1), (3, 5, 48), (200, 19, 17)] {
        let (a, b, bias) = (numbers(m * k, 1), numbers(k * n, 2), numbers(n, 3));
        let (left, right) = (MatrixRef::new(&a, m, k), MatrixRef::new(&b, k, n));
        check(left, right, None);
        check(left, right, Some(&bias));
        check(MatrixRef::new(&a, k, m).transposed(), MatrixRef::new(&b, n, k).transposed(), Some(&bias));
    }
}

#[test]
fn a_last_block_of_any_height_agrees_with_the_definition() {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(32).build().unwrap();
    // 31 blocks of 102 rows, plus a last one of one, five or six rows.
    for m in [3163, 3167, 3168] {
        let (a, b) = (numbers(m * 64, 1), numbers(64 * 64, 2));
        pool.install(|| check(MatrixRef::new(&a, m, 64), MatrixRef::new(&b, 64, 64), None));
    }
}

#[test]
fn tiles_are_distributed_by_rows_or_by_panels() {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(3).build().unwrap();
    for (m, k, n) in [(7, 70, 300), (300, 70, 33)] {
        let (a, b, bias) = (numbers(m * k, 1), numbers(k * n, 2), numbers(n, 3));
        let (a, b) = (MatrixRef::new(&a, m, k), MatrixRef::new(&b, k, n));
        let panels = parts::TilePanels::new(b, Products::ThreeByThree);
        let packed = PackedMatrix::new(b);
        let product = |method| {
            let mut out = vec![f32::NAN; m * n];
            let epilogue = Epilogue { bias: Some(&bias), activation: Some(Activation::Relu) };
            pool.install(|| matmul_by(method, a, &packed, epilogue, &mut out));
            out
        };
        let found = product(Method::Tiles(TileUnit::Portable, Right::Tiles(&panels)));
        for (x, y) in found.iter().zip(product(Method::Floats)) {
            assert!((x - y).abs() < 1e-5 * (1.0 + y.abs()), "{x}, not {y}, of {m} × {k} × {n}");
        }
    }
}

#[test]
fn overlapping_rows_are_a_sliding_window() {
    let (a, b) = (numbers(40 + 12, 4), numbers(12 * 5, 5));
    let window = MatrixRef { data: &a, rows: 21, columns: 12, row_stride: 2, column_stride: 1 };
    check(window, MatrixRef::new(&b, 12, 5), None);
}

#[test]
fn compressed_products_are_those_of_the_expanded_weights() {
    for (m, k, n) in [(1, 32, 1), (7, 800, 33), (200, 416, 19), (30, 64, 48), (30, 401, 17)] {
        let (a, rows) = (numbers(m * k, 7), numbers(n * k, 8));
        let rows = Tensor::from_vec(rows, (n, k), &Device::Cpu).unwrap();
        let half = |dtype| {
            let half = rows.to_dtype(dtype).unwrap();
            (CompressedMatrix::half(half.clone()).unwrap(), half.to_dtype(DType::F32).unwrap())
        };
        let mut formats = vec![half(DType::F16), half(DType::BF16)];
        if k.is_multiple_of(32) {
            let expanded = QTensor::quantize(&rows, GgmlDType::Q8_0).unwrap().dequantize(&Device::Cpu).unwrap();
            formats.push((quantized(&rows), expanded));
        }
        for (compressed, expanded) in formats {
            let packed = PackedMatrix::stored(&compressed.clone().into_stored(), Precision::Highest).unwrap();
            assert!(packed.panels.is_compressed());
            let expanded = expanded.flatten_all().unwrap().to_vec1::<f32>().unwrap();
            assert_eq!(packed.unpack_transposed(), expanded);
            let full = PackedMatrix::new(MatrixRef::new(&expanded, n, k).transposed());
            let product = |b: &PackedMatrix| {
                let mut out = vec![f32::NAN; m * n];
                matmul_by(Method::Floats, MatrixRef::new(&a, m, k), b, Epilogue::default(), &mut out);
                out
            };
            assert_eq!(product(&packed), product(&full), "{m} {k} {n} {compressed:?}");
        }
    }
}

#[test]
fn products_in_integers_agree_with_floats() {
    let Some(integers) = Integers::available() else { return };
    for (m, k, n) in [(1, 32, 1), (6, 64, 16), (7, 800, 33), (200, 416, 19), (390, 384, 80)] {
        // Blocks of different scales.
        let mut weights = numbers(n * k, 8);
        for (weights, factor) in weights.chunks_mut(32).zip([1.0, 0.03, 0.5, 0.001, 0.0].into_iter().cycle()) {
            weights.iter_mut().for_each(|weight| *weight *= factor);
        }
        let weights = Tensor::from_vec(weights, (n, k), &Device::Cpu).unwrap();
        let packed = PackedMatrix::stored(&quantized(&weights).into_stored(), Precision::Highest).unwrap();
        let weights = packed.unpack_transposed();
        let bias = numbers(n, 3);
        let mut a = numbers(m * k, 7);
        // Massive activations in one row, nothing in another.
        a[(m / 2) * k + 5] = 300.0;
        a[(m - 1) * k..].fill(0.0);
        let left = MatrixRef::new(&a, m, k);
        let mut found = vec![f32::NAN; m * n];
        let epilogue = Epilogue { bias: Some(&bias), activation: Some(Activation::Relu) };
        let method = Method::Integers(integers, packed.panels.quants().unwrap());
        matmul_by(method, left, &packed, epilogue, &mut found);
        for i in 0..m {
            let row = &a[i * k..][..k];
            // Steps of both sides, as often as chance adds them up. Weights are at most 1.
            let step = row.iter().fold(0f32, |most, x| most.max(x.abs())) / 8_191.0;
            let length = row.iter().map(|x| f64::from(x * x)).sum::<f64>().sqrt();
            let allowed = f64::from(step) * (k as f64).sqrt() + length / 1_000.0 + 1e-5;
            for j in 0..n {
                let products = row.iter().zip(&weights[j * k..]).map(|(x, w)| f64::from(*x) * f64::from(*w));
                let expected = (products.sum::<f64>() + f64::from(bias[j])).max(0.0);
                let found = f64::from(found[i * n + j]);
                assert!((found - expected).abs() < allowed, "({i}, {j}) of {m} {k} {n}: {found}, not {expected}");
            }
        }
        // By columns, as in a backward pass.
        let transposed: Vec<f32> = (0..k * m).map(|i| a[i % m * k + i / m]).collect();
        let mut again = vec![f32::NAN; m * n];
        matmul_by(method, MatrixRef::new(&transposed, k, m).transposed(), &packed, epilogue, &mut again);
        assert_eq!(again, found);
    }
}

#[test]
fn integers_keep_what_is_not_finite() {
    let weights = Tensor::from_vec(numbers(20 * 64, 1), (20, 64), &Device::Cpu).unwrap();
    let packed = PackedMatrix::stored(&quantized(&weights).into_stored(), Precision::Highest).unwrap();
    for broken in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        let mut a = numbers(3 * 64, 2);
        a[64 + 7] = broken;
        let mut out = vec![0.0; 3 * 20];
        matmul(MatrixRef::new(&a, 3, 64), &packed, Epilogue::default(), &mut out);
        for (i, row) in out.chunks_exact(20).enumerate() {
            assert!(row.iter().all(|x| x.is_finite() == (i != 1)), "{row:?}");
        }
    }
}

#[test]
fn integers_keep_scales_that_are_not_finite() {
    let Some(integers) = Integers::available() else { return };
    for broken in [f16::NAN, f16::INFINITY] {
        // 16 columns of 64 rows in blocks of 32; the first block of one column is broken.
        let mut bytes: Vec<u8> = (0..32).flat_map(|_| f16::ONE.to_le_bytes().into_iter().chain([3; 32])).collect();
        bytes[5 * 68..][..2].copy_from_slice(&broken.to_le_bytes());
        let rows = Tensor::from_vec(bytes, (16, 68), &Device::Cpu).unwrap();
        let stored = CompressedMatrix::blocks(rows).unwrap().into_stored();
        let packed = PackedMatrix::stored(&stored, Precision::Highest).unwrap();
        let mut out = [0.0; 16];
        let a = numbers(64, 2);
        let method = Method::Integers(integers, packed.panels.quants().unwrap());
        matmul_by(method, MatrixRef::new(&a, 1, 64), &packed, Epilogue::default(), &mut out);
        for (column, x) in out.into_iter().enumerate() {
            assert_eq!(x.is_finite(), column != 5, "{out:?}");
        }
    }
}

/// A matrix in blocks of 8 bits.
fn quantized(rows: &Tensor) -> CompressedMatrix {
    let (n, k) = rows.dims2().unwrap();
    let bytes = QTensor::quantize(rows, GgmlDType::Q8_0).unwrap().data().unwrap().into_owned();
    CompressedMatrix::blocks(Tensor::from_vec(bytes, (n, k / 32 * 34), &Device::Cpu).unwrap()).unwrap()
}

#[test]
fn infinite_weights_stay_infinite() {
    let half = Tensor::from_vec(vec![f16::INFINITY, f16::NAN, f16::ONE, f16::ZERO], (2, 2), &Device::Cpu).unwrap();
    let packed =
        PackedMatrix::stored(&CompressedMatrix::half(half).unwrap().into_stored(), Precision::Highest).unwrap();
    let unpacked = packed.unpack_transposed();
    assert!(unpacked[0] == f32::INFINITY && unpacked[1].is_nan() && unpacked[2..] == [1.0, 0.0]);
    let mut block = vec![1u8; 34];
    block[..2].copy_from_slice(&f16::INFINITY.to_le_bytes());
    let block = Tensor::from_vec(block, (1, 34), &Device::Cpu).unwrap();
    let packed =
        PackedMatrix::stored(&CompressedMatrix::blocks(block).unwrap().into_stored(), Precision::Highest).unwrap();
    assert_eq!(packed.unpack_transposed(), [f32::INFINITY; 32]);
    // A storage type that no constructor produces.
    let odd = Tensor::zeros((1, 32), DType::U8, &Device::Cpu).unwrap();
    assert!(CompressedMatrix::half(odd.clone()).is_err());
    assert!(CompressedMatrix::blocks(odd).is_err());
}

#[test]
fn unpacking_returns_what_was_packed() {
    let b = numbers(37 * 21, 6);
    let packed = PackedMatrix::new(MatrixRef::new(&b, 37, 21).transposed());
    assert_eq!((packed.rows(), packed.columns()), (21, 37));
    assert_eq!(packed.unpack_transposed(), b);
}
