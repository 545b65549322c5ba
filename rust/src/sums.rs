//! Sums in f64 of spans of f32 values, with the same bits on every processor.

/// Add the sum of every span of a row to the totals, in f64.
pub fn add_sums(row: &[f32], spans: &[(usize, usize)], totals: &mut [f64]) {
    #[cfg(target_arch = "x86_64")]
    if is_x86_feature_detected!("avx512f") {
        // SAFETY: the processor has the instructions, as was just checked.
        return unsafe { add_sums_avx512(row, spans, totals) };
    }
    for (total, &(start, end)) in totals.iter_mut().zip(spans) {
        *total += sum(&row[start..end]);
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f")]
fn add_sums_avx512(row: &[f32], spans: &[(usize, usize)], totals: &mut [f64]) {
    use std::arch::x86_64::{_mm512_add_pd, _mm512_loadu_pd, _mm512_storeu_pd};
    let (eights, rest) = spans.as_chunks::<8>();
    let (totals_of_eights, totals_of_rest) = totals[..spans.len()].as_chunks_mut::<8>();
    for (totals, spans) in totals_of_eights.iter_mut().zip(eights) {
        if let Some(eight) = side_by_side(row, spans) {
            let sums = sums_of_eight_avx512(eight);
            // SAFETY: the slice has eight numbers, which are read and written.
            unsafe {
                let before = _mm512_loadu_pd(totals.as_ptr());
                _mm512_storeu_pd(totals.as_mut_ptr(), _mm512_add_pd(before, sums));
            }
        } else {
            for (total, &(start, end)) in totals.iter_mut().zip(spans) {
                *total += sum_avx512(&row[start..end]);
            }
        }
    }
    for (total, &(start, end)) in totals_of_rest.iter_mut().zip(rest) {
        *total += sum_avx512(&row[start..end]);
    }
}

/// The values of eight adjacent spans of 16 values each; None if a span has another size or place.
#[cfg(target_arch = "x86_64")]
fn side_by_side<'a>(row: &'a [f32], spans: &[(usize, usize); 8]) -> Option<&'a [[f32; 16]; 8]> {
    let first = spans[0].0;
    let expected = (0..8).map(|at| (first + 16 * at, first + 16 * (at + 1)));
    let values = row[first..].as_chunks::<16>().0;
    if spans.iter().copied().eq(expected) {
        values.first_chunk()
    } else {
        None
    }
}

/// The sums of eight chunks of 16 values, with the same bits as `sum`. The partial sums of all eight are added at once.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f")]
fn sums_of_eight_avx512(chunks: &[[f32; 16]; 8]) -> std::arch::x86_64::__m512d {
    use std::arch::x86_64::{
        _mm256_loadu_ps, _mm512_add_pd, _mm512_cvtps_pd, _mm512_shuffle_f64x2, _mm512_unpackhi_pd, _mm512_unpacklo_pd,
    };
    let lanes = |values: &[f32; 16]| {
        // SAFETY: the array has sixteen numbers; eight are read from the first on and eight from the ninth on.
        let (low, high) = unsafe {
            (
                _mm256_loadu_ps(values.as_ptr()),
                _mm256_loadu_ps(values.as_ptr().add(8)),
            )
        };
        _mm512_add_pd(_mm512_cvtps_pd(low), _mm512_cvtps_pd(high))
    };
    // Add lanes 0-3 and 4-7 of two chunks at a time, then lanes 0-1 and 2-3 of four chunks, then lanes 0 and 1 of
    // eight.
    let four = |a: usize, b: usize| {
        let (a, b) = (lanes(&chunks[a]), lanes(&chunks[b]));
        _mm512_add_pd(_mm512_shuffle_f64x2::<0x44>(a, b), _mm512_shuffle_f64x2::<0xEE>(a, b))
    };
    let two = |a, b| _mm512_add_pd(_mm512_shuffle_f64x2::<0x88>(a, b), _mm512_shuffle_f64x2::<0xDD>(a, b));
    let even = two(four(0, 2), four(4, 6));
    let odd = two(four(1, 3), four(5, 7));
    _mm512_add_pd(_mm512_unpacklo_pd(even, odd), _mm512_unpackhi_pd(even, odd))
}

/// Like `sum`, with the same bits. It uses intrinsics, because the compiler alone uses a quarter of each register.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f")]
fn sum_avx512(values: &[f32]) -> f64 {
    use std::arch::x86_64::{
        _mm_add_pd, _mm_cvtsd_f64, _mm_unpackhi_pd, _mm256_add_pd, _mm256_castpd256_pd128, _mm256_extractf128_pd,
        _mm256_loadu_ps, _mm512_add_pd, _mm512_castpd512_pd256, _mm512_cvtps_pd, _mm512_extractf64x4_pd,
        _mm512_setzero_pd,
    };
    // SAFETY: the array has the eight numbers that are read.
    let upcast = |eight: &[f32; 8]| _mm512_cvtps_pd(unsafe { _mm256_loadu_ps(eight.as_ptr()) });
    let (whole, rest) = values.as_chunks::<8>();
    let lanes = whole
        .iter()
        .fold(_mm512_setzero_pd(), |lanes, eight| _mm512_add_pd(lanes, upcast(eight)));
    let four = _mm256_add_pd(_mm512_castpd512_pd256(lanes), _mm512_extractf64x4_pd::<1>(lanes));
    let two = _mm_add_pd(_mm256_castpd256_pd128(four), _mm256_extractf128_pd::<1>(four));
    let total = _mm_cvtsd_f64(two) + _mm_cvtsd_f64(_mm_unpackhi_pd(two, two));
    rest.iter().fold(total, |total, &value| total + f64::from(value))
}

/// Sum in f64. Eight partial sums are added in a fixed order, so every machine gives the same bits.
fn sum(values: &[f32]) -> f64 {
    let whole = values.chunks_exact(8);
    let rest = whole.remainder();
    let mut lanes = [0.0_f64; 8];
    for eight in whole {
        for (lane, &value) in lanes.iter_mut().zip(eight) {
            *lane += f64::from(value);
        }
    }
    let four: [f64; 4] = std::array::from_fn(|lane| lanes[lane] + lanes[lane + 4]);
    let total = (four[0] + four[2]) + (four[1] + four[3]);
    rest.iter().fold(total, |total, &value| total + f64::from(value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_processor_gives_the_same_bits() {
        let row: Vec<f32> = (0..220).map(|at| (at as f32 * 0.7).sin() * 9.0).collect();
        let growing: Vec<(usize, usize)> = (0..100).map(|at| (at, 2 * at)).collect();
        let tiles = |size: usize, first: usize| (0..8).map(move |at| (first + size * at, first + size * (at + 1)));
        let usual: Vec<(usize, usize)> = tiles(16, 5).chain(tiles(8, 0)).chain([(3, 19)]).collect();
        let mut cut: Vec<(usize, usize)> = tiles(17, 0).collect();
        cut[7].1 = 128; // the spans have the same total length as eight spans of 16 values
        for spans in [growing, usual, cut] {
            let mut totals = vec![0.5; spans.len() + 3];
            add_sums(&row, &spans, &mut totals);
            for (total, (start, end)) in totals.iter().zip(&spans) {
                assert_eq!(
                    total.to_bits(),
                    (0.5 + sum(&row[*start..*end])).to_bits(),
                    "{start}..{end}"
                );
            }
            assert!(
                totals[spans.len()..]
                    .iter()
                    .all(|total| total.to_bits() == 0.5_f64.to_bits())
            );
        }
    }
}
