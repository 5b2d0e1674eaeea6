//! Instructions that multiply bf16: AMX, which multiplies tiles of 16 × 32 and 32 × 16 numbers (Intel's server processors since
//! Sapphire Rapids), and AVX-512 BF16 (those, and AMD's since Zen 4).
//!
//! Rust has no stable functions for AMX, and Linux wants to be asked for the tiles, so that this needs inline assembly.
//! [`units`](super::super::units) has a portable form of the products, to which the tests compare these.

use std::arch::asm;
use std::arch::x86_64::{
    __cpuid, __cpuid_count, __m512bh, __m512i, _mm512_dpbf16_ps, _mm512_loadu_si512, _mm512_set1_epi32,
    _mm512_setzero_ps, _mm512_storeu_ps,
};
use std::marker::PhantomData;

use super::super::layout::NR;
use super::super::parts::{PairTile, Products, ROWS, Sums};

/// Proof that the processor has AMX, and that the operating system lets this process use it.
#[derive(Clone, Copy)]
pub(in super::super) struct Amx(());

impl Amx {
    /// Asks the processor, then the operating system.
    pub(in super::super) fn try_new() -> Option<Self> {
        (processor_has_tiles() && request_tiles()).then_some(Self(()))
    }

    /// Gives this thread eight tiles of 16 rows of 64 bytes.
    pub(in super::super) fn configure(self) -> Configured {
        /// The operand of `ldtilecfg`: palette 1, the bytes per row of each tile, and the number of their rows.
        #[repr(C, align(64))]
        struct Configuration {
            palette: u8,
            start_row: u8,
            reserved: [u8; 14],
            bytes_per_row: [u16; 16],
            rows: [u8; 16],
        }
        let mut configuration =
            Configuration { palette: 1, start_row: 0, reserved: [0; 14], bytes_per_row: [0; 16], rows: [0; 16] };
        configuration.bytes_per_row[..8].fill(64);
        configuration.rows[..8].fill(16);
        // SAFETY: `self` proves that the instruction may be executed. It reads the 64 bytes of a valid configuration.
        unsafe {
            asm!("ldtilecfg [{}]", in(reg) &raw const configuration, options(nostack, preserves_flags, readonly));
        }
        Configured(PhantomData)
    }
}

/// A thread with tiles. They are released when it is dropped: as long as a thread has tiles, the operating system saves and
/// restores 8 KiB with its other registers.
// The pointer keeps it on its thread.
pub(in super::super) struct Configured(PhantomData<*const ()>);

impl Drop for Configured {
    fn drop(&mut self) {
        // SAFETY: there is a `Configured`, so the processor has the instruction. It changes nothing but the tiles.
        unsafe { asm!("tilerelease", options(nostack, nomem, preserves_flags)) }
    }
}

/// Loads part `$part` of both strips.
macro_rules! left {
    ($part:literal) => {
        concat!(
            "tileloadd tmm4, [{a0} + {row} + 1024*",
            $part,
            "]\ntileloadd tmm5, [{a1} + {row} + 1024*",
            $part,
            "]\n"
        )
    };
}

/// Loads part `$part` of both panels.
macro_rules! right {
    ($part:literal) => {
        concat!(
            "tileloadd tmm6, [{b0} + {row} + 1024*",
            $part,
            "]\ntileloadd tmm7, [{b1} + {row} + 1024*",
            $part,
            "]\n"
        )
    };
}

/// Adds the four products of the loaded parts.
macro_rules! multiply {
    () => {
        "tdpbf16ps tmm0, tmm4, tmm6\n\
         tdpbf16ps tmm1, tmm4, tmm7\n\
         tdpbf16ps tmm2, tmm5, tmm6\n\
         tdpbf16ps tmm3, tmm5, tmm7\n"
    };
}

/// Executes `$step` for each of `$chunks` depths, then writes the sums.
macro_rules! multiply_tiles {
    ($left:expr, $right:expr, $sums:expr, $chunks:expr, parts: $left_parts:literal, $right_parts:literal, $step:expr) => {
        asm!(
            "tilezero tmm0\ntilezero tmm1\ntilezero tmm2\ntilezero tmm3",
            "2:",
            $step,
            concat!("add {a0}, 1024*", $left_parts),
            concat!("add {a1}, 1024*", $left_parts),
            concat!("add {b0}, 1024*", $right_parts),
            concat!("add {b1}, 1024*", $right_parts),
            "dec {chunks}",
            "jnz 2b",
            "tilestored [{sums} + 2*{row}], tmm0",
            "tilestored [{sums} + 2*{row} + 64], tmm1",
            "tilestored [{sums} + 2*{row} + 2048], tmm2",
            "tilestored [{sums} + 2*{row} + 2112], tmm3",
            a0 = inout(reg) $left[0].as_ptr() => _,
            a1 = inout(reg) $left[1].as_ptr() => _,
            b0 = inout(reg) $right[0].as_ptr() => _,
            b1 = inout(reg) $right[1].as_ptr() => _,
            chunks = inout(reg) $chunks => _,
            sums = in(reg) $sums.0.as_mut_ptr(),
            // Bytes from one row of a tile to the next. Those of the sums are twice as far apart.
            row = in(reg) 64usize,
            out("tmm0") _,
            out("tmm1") _,
            out("tmm2") _,
            out("tmm3") _,
            out("tmm4") _,
            out("tmm5") _,
            out("tmm6") _,
            out("tmm7") _,
            options(nostack),
        )
    };
}

impl Configured {
    /// The products of two strips and two panels, all of the same depth.
    pub(in super::super) fn multiply(
        &self,
        products: Products,
        left: [&[PairTile]; 2],
        right: [&[PairTile]; 2],
        sums: &mut Sums,
    ) {
        let (left_parts, right_parts) = products.parts();
        let chunks = left[0].len() / left_parts;
        let have = |sides: [&[PairTile]; 2], parts| sides.iter().all(|tiles| tiles.len() == chunks * parts);
        assert!(chunks > 0 && have(left, left_parts) && have(right, right_parts), "tiles of different depths");
        // The tiles of two parts stay loaded while one of them changes, in the order of `Products::pairs`.
        //
        // SAFETY: there is a `Configured`, so the processor has the instructions and this thread has tiles of 16 rows of
        // 64 bytes. Each step reads all parts of one of `chunks` depths, that is `left_parts` and `right_parts` tiles of
        // 1 KiB, so that all reads are inside the slices. 32 rows of 32 sums are written, which is the size of `Sums`.
        unsafe {
            match products {
                Products::ThreeByThree => multiply_tiles!(
                    left, right, sums, chunks, parts: 3, 3,
                    concat!(
                        left!(1), right!(1), multiply!(), left!(0), multiply!(), right!(2), multiply!(),
                        right!(0), multiply!(), left!(1), multiply!(), left!(2), multiply!()
                    )
                ),
                Products::TwoByTwo => multiply_tiles!(
                    left, right, sums, chunks, parts: 2, 2,
                    concat!(left!(0), right!(1), multiply!(), right!(0), multiply!(), left!(1), multiply!())
                ),
                Products::ThreeByOne => multiply_tiles!(
                    left, right, sums, chunks, parts: 3, 1,
                    concat!(right!(0), left!(2), multiply!(), left!(1), multiply!(), left!(0), multiply!())
                ),
                Products::OneByOne => multiply_tiles!(
                    left, right, sums, chunks, parts: 1, 1,
                    concat!(left!(0), right!(0), multiply!())
                ),
            }
        }
    }
}

/// Whether the processor has AMX for bf16, with tiles of the expected size, and the operating system knows them.
fn processor_has_tiles() -> bool {
    const OSXSAVE: u32 = 1 << 27;
    const AMX_BF16: u32 = 1 << 22;
    const AMX_TILE: u32 = 1 << 24;
    const TILE_INFORMATION: u32 = 0x1d;
    if __cpuid(0).eax < TILE_INFORMATION || __cpuid(1).ecx & OSXSAVE == 0 {
        return false;
    }
    let wanted = AMX_BF16 | AMX_TILE;
    let palette = __cpuid_count(TILE_INFORMATION, 1);
    let (tile_bytes, row_bytes) = (palette.eax >> 16, palette.ebx & 0xffff);
    let (num_tiles, max_rows) = (palette.ebx >> 16, palette.ecx & 0xffff);
    __cpuid_count(7, 0).edx & wanted == wanted
        && (tile_bytes, row_bytes, num_tiles, max_rows) == (1024, 64, 8, 16)
        && operating_system_saves_tiles()
}

/// Whether the operating system saves the tiles' configuration and data when it switches threads.
fn operating_system_saves_tiles() -> bool {
    const TILES: u32 = 0b11 << 17;
    let saved: u32;
    // SAFETY: only called where the processor reports OSXSAVE, which is what this instruction needs.
    unsafe {
        asm!("xgetbv", in("ecx") 0, out("eax") saved, out("edx") _, options(nostack, nomem, preserves_flags));
    }
    saved & TILES == TILES
}

/// Other operating systems are not asked for the tiles.
#[cfg(not(target_os = "linux"))]
fn request_tiles() -> bool {
    false
}

/// Asks Linux to let this process use the tiles' data. Kernels without AMX refuse.
#[cfg(target_os = "linux")]
fn request_tiles() -> bool {
    const ARCH_PRCTL: u64 = 158;
    const ARCH_REQ_XCOMP_PERM: u64 = 0x1023;
    const XTILEDATA: u64 = 18;
    let result: i64;
    // SAFETY: this system call reads no memory. It changes nothing but what later system calls and the instructions of this
    // module may do.
    unsafe {
        asm!(
            "syscall",
            inout("rax") ARCH_PRCTL => result,
            in("rdi") ARCH_REQ_XCOMP_PERM,
            in("rsi") XTILEDATA,
            out("rcx") _,
            out("r11") _,
            options(nostack),
        );
    }
    result == 0
}

/// Proof that the processor has AVX-512 BF16.
#[derive(Clone, Copy)]
pub(in super::super) struct Avx512(());

impl Avx512 {
    /// Asks the processor.
    pub(in super::super) fn try_new() -> Option<Self> {
        (is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512bf16")).then_some(Self(()))
    }

    /// The products of two strips and two panels, all of the same depth. Other than AMX, it adds the products of even and odd
    /// depths to the same sum.
    pub(in super::super) fn multiply(
        self,
        products: Products,
        left: [&[PairTile]; 2],
        right: [&[PairTile]; 2],
        sums: &mut Sums,
    ) {
        for (i, left) in left.into_iter().enumerate() {
            for (j, right) in right.into_iter().enumerate() {
                let (rows, _) = sums.0[i * ROWS..].as_chunks_mut::<ROWS>();
                // SAFETY: `self` proves that the processor has the instructions.
                unsafe { multiply_vectors(products, left, right, &mut rows[0], j * NR) }
            }
        }
    }
}

/// Writes the product of a strip and a panel to the columns of `sums` from `column` on.
#[target_feature(enable = "avx512f,avx512bf16")]
fn multiply_vectors(
    products: Products,
    left: &[PairTile],
    right: &[PairTile],
    sums: &mut [[f32; 2 * NR]; ROWS],
    column: usize,
) {
    let (left_parts, right_parts) = products.parts();
    let mut tile = [_mm512_setzero_ps(); ROWS];
    for (left, right) in left.chunks_exact(left_parts).zip(right.chunks_exact(right_parts)) {
        for (x, y) in products.pairs() {
            let (left, right) = (&left[*x].0, &right[*y].0);
            for (k, pairs) in right.iter().enumerate() {
                // SAFETY: a row has 64 bytes.
                let pairs = bf16s(unsafe { _mm512_loadu_si512(pairs.as_ptr().cast()) });
                for i in 0..ROWS {
                    let pair = bf16s(_mm512_set1_epi32(left[i][k].cast_signed()));
                    tile[i] = _mm512_dpbf16_ps(tile[i], pair, pairs);
                }
            }
        }
    }
    for (sums, tile) in sums.iter_mut().zip(tile) {
        // SAFETY: the slice has room for 16 sums, or this panics.
        unsafe { _mm512_storeu_ps(sums[column..column + NR].as_mut_ptr(), tile) }
    }
}

/// The same bits as bf16.
#[target_feature(enable = "avx512f")]
fn bf16s(bits: __m512i) -> __m512bh {
    // SAFETY: both types are 512 bits, all of which may have any value.
    unsafe { std::mem::transmute(bits) }
}
