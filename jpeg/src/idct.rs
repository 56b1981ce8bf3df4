//! The inverse cosine transform: Loeffler, Ligtenberg and Moschytz, "Practical fast 1-D DCT algorithms with 11
//! multiplications" (ICASSP 1989), in whole numbers of 13 bits, rounded where libjpeg's accurate transform rounds.

use std::num::Wrapping;

/// A whole number of which hostile coefficients may overflow nothing but the picture.
type Number = Wrapping<i32>;

/// Bits behind the point of the constants, and those kept between the two passes.
const BITS: usize = 13;
const KEPT: usize = 2;

/// A constant with 13 bits behind the point.
const fn constant(value: f64) -> Number {
    Wrapping((value * 8192.0 + 0.5) as i32)
}

const C0_298: Number = constant(0.298_631_336);
const C0_390: Number = constant(0.390_180_644);
const C0_541: Number = constant(0.541_196_100);
const C0_765: Number = constant(0.765_366_865);
const C0_899: Number = constant(0.899_976_223);
const C1_175: Number = constant(1.175_875_602);
const C1_501: Number = constant(1.501_321_110);
const C1_847: Number = constant(1.847_759_065);
const C1_961: Number = constant(1.961_570_560);
const C2_053: Number = constant(2.053_119_869);
const C2_562: Number = constant(2.562_915_447);
const C3_072: Number = constant(3.072_711_026);

/// One dimension, shifted down by `DOWN` bits with rounding.
#[inline(always)]
fn once<const DOWN: usize>(x: [Number; 8]) -> [Number; 8] {
    let [x0, x1, x2, x3, x4, x5, x6, x7] = x;
    let z1 = (x2 + x6) * C0_541;
    let (low, high) = (z1 - x6 * C1_847, z1 + x2 * C0_765);
    let (sum, difference) = ((x0 + x4) << BITS, (x0 - x4) << BITS);
    let even = [sum + high, difference + low, difference - low, sum - high];
    let (z1, z2, z3, z4) = (x7 + x1, x5 + x3, x7 + x3, x5 + x1);
    let z5 = (z3 + z4) * C1_175;
    let (z1, z2) = (-z1 * C0_899, -z2 * C2_562);
    let (z3, z4) = (z5 - z3 * C1_961, z5 - z4 * C0_390);
    let odd = [
        x1 * C1_501 + z1 + z4,
        x3 * C3_072 + z2 + z3,
        x5 * C2_053 + z2 + z4,
        x7 * C0_298 + z1 + z3,
    ];
    let round = Wrapping(1 << (DOWN - 1));
    let [e0, e1, e2, e3] = even.map(|value| value + round);
    let [o0, o1, o2, o3] = odd;
    [
        e0 + o0,
        e1 + o1,
        e2 + o2,
        e3 + o3,
        e3 - o3,
        e2 - o2,
        e1 - o1,
        e0 - o0,
    ]
    .map(|value| value >> DOWN)
}

#[inline(always)]
fn transposed(m: [[Number; 8]; 8]) -> [[Number; 8]; 8] {
    let mut turned = [[Wrapping(0); 8]; 8];
    for (x, row) in m.iter().enumerate() {
        for (target, &value) in turned.iter_mut().zip(row) {
            if let Some(slot) = target.get_mut(x) {
                *slot = value;
            }
        }
    }
    turned
}

/// A block's samples, row by row, from its coefficients and their steps, both in natural order.
pub fn samples(block: &[i16; 64], steps: &[u16; 64]) -> [[u8; 8]; 8] {
    let level = |value: i32| (value.clamp(-128, 127) + 128) as u8;
    let [first, rest @ ..] = block;
    if rest.iter().all(|&value| value == 0) {
        // Both passes of a block without detail, folded.
        let step = steps.first().copied().unwrap_or(1);
        let flat = (i32::from(*first) * i32::from(step)) << KEPT;
        return [[level((flat + (1 << (KEPT + 2))) >> (KEPT + 3)); 8]; 8];
    }
    let mut rows = [[Wrapping(0); 8]; 8];
    let source = block.as_chunks::<8>().0.iter();
    for ((row, values), steps) in rows.iter_mut().zip(source).zip(steps.as_chunks::<8>().0) {
        for ((slot, &value), &step) in row.iter_mut().zip(values).zip(steps) {
            *slot = Wrapping(i32::from(value) * i32::from(step));
        }
    }
    let columns = transposed(rows).map(once::<{ BITS - KEPT }>);
    transposed(columns).map(|row| once::<{ BITS + KEPT + 3 }>(row).map(|value| level(value.0)))
}
