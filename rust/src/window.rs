//! The windows of a step: a keyed permutation gives them without a table and without a history.
//!
//! A Feistel network permutes the smallest power of four that holds all windows. Applying it again to an index that is
//! not below the number of windows (cycle walking) makes it a permutation of exactly the windows. Any step takes
//! constant time and memory, for a billion windows as for ten. Every epoch has its own key.

use crate::error::{Error, Result};

const NUM_ROUNDS: usize = 8;
/// Values that are permuted side by side, in SIMD lanes.
const LANES: usize = 8;
/// Windows that are permuted in one block.
const MANY: usize = 256;

/// The order of `num_windows` windows in one epoch.
pub struct EpochOrder {
    num_windows: u64,
    half_bits: u32,
    keys: [u64; NUM_ROUNDS],
}

impl EpochOrder {
    /// Make the order of `epoch` for `seed`.
    pub fn new(num_windows: u64, seed: u64, epoch: u64) -> Self {
        let bits = u64::BITS - num_windows.saturating_sub(1).leading_zeros();
        let mut state = mix(seed ^ mix(epoch.wrapping_add(1)));
        let keys = std::array::from_fn(|_| {
            state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
            mix(state)
        });
        Self {
            num_windows,
            half_bits: bits.div_ceil(2).max(1),
            keys,
        }
    }

    /// Write the windows at positions `first`, `first + 1`, … to `target`; positions must be below the number of
    /// windows.
    pub fn windows(&self, first: u64, target: &mut [u64]) {
        #[cfg(target_arch = "x86_64")]
        if is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512dq") {
            // SAFETY: the processor has the instructions, as was just checked.
            return unsafe { self.windows_avx512(first, target) };
        }
        self.walk(first, target);
    }

    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx512f,avx512dq")]
    fn windows_avx512(&self, first: u64, target: &mut [u64]) {
        self.walk(first, target);
    }

    /// Permute all values, then permute the values that are out of range again until none is left. There is no branch
    /// per window, because the processor would mispredict it.
    #[inline(always)]
    #[expect(clippy::inline_always, reason = "compiled once for each set of instructions")]
    fn walk(&self, first: u64, target: &mut [u64]) {
        for (chunk, start) in target.chunks_mut(MANY).zip((first..).step_by(MANY)) {
            let mut values: [u64; MANY] = std::array::from_fn(|index| start + index as u64);
            let mut places: [usize; MANY] = std::array::from_fn(|index| index);
            let mut num_open = chunk.len();
            while num_open > 0 {
                for group in values[..num_open.next_multiple_of(LANES)].as_chunks_mut::<LANES>().0 {
                    self.permute(group);
                }
                let mut still_open = 0;
                for index in 0..num_open {
                    let (value, place) = (values[index], places[index]);
                    chunk[place] = value;
                    values[still_open] = value;
                    places[still_open] = place;
                    still_open += usize::from(value >= self.num_windows);
                }
                num_open = still_open;
            }
        }
    }

    #[inline(always)]
    #[expect(clippy::inline_always, reason = "compiled once for each set of instructions")]
    fn permute(&self, values: &mut [u64; LANES]) {
        let mask = (1_u64 << self.half_bits) - 1;
        let mut left = values.map(|value| value >> self.half_bits);
        let mut right = values.map(|value| value & mask);
        for key in self.keys {
            for lane in 0..LANES {
                (left[lane], right[lane]) = (right[lane], left[lane] ^ (mix(right[lane] ^ key) & mask));
            }
        }
        for lane in 0..LANES {
            values[lane] = left[lane] << self.half_bits | right[lane];
        }
    }
}

/// The finalizer of `SplitMix64`: every input bit reaches every output bit.
#[inline]
pub fn mix(mut value: u64) -> u64 {
    value = (value ^ (value >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    value = (value ^ (value >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    value ^ (value >> 31)
}

/// How one rank among several samples windows.
#[derive(Debug, Clone, Copy)]
pub struct Sampling {
    /// Windows in the split.
    pub num_windows: u64,
    /// Windows per rank and step.
    pub batch_size: u64,
    /// Seed of the order.
    pub seed: u64,
    /// Index of this rank.
    pub rank: u64,
    /// Number of ranks.
    pub world_size: u64,
}

impl Sampling {
    /// The windows of this rank at `step`. All ranks and steps together read every epoch without gap or repetition.
    ///
    /// # Errors
    /// When the split has no window, or a count of the step does not fit 64 bits.
    pub fn windows(&self, step: u64) -> Result<Vec<u64>> {
        self.windows_of_steps(step, 1)
    }

    /// The windows of `num_steps` consecutive steps, in order. Many steps cost less together than one by one.
    ///
    /// # Errors
    /// As for `windows`, for any of the steps.
    pub fn windows_of_steps(&self, step: u64, num_steps: u64) -> Result<Vec<u64>> {
        if self.num_windows == 0 {
            return Err(Error::Value("the split holds no full window".into()));
        }
        let out_of_range = || Error::Value(format!("step {step} is out of range"));
        let count = self.batch_size.checked_mul(num_steps).ok_or_else(out_of_range)?;
        let mut windows = vec![0; count as usize];
        // A single rank reads consecutive samples from step to step.
        let stretch = if self.world_size == 1 { count } else { self.batch_size };
        for (index, part) in windows.chunks_mut(stretch.max(1) as usize).enumerate() {
            let first = self
                .first_sample(step.saturating_add(index as u64))
                .ok_or_else(out_of_range)?;
            first.checked_add(part.len() as u64).ok_or_else(out_of_range)?;
            self.draw(first, part);
        }
        Ok(windows)
    }

    /// The number of samples that all ranks read before the samples of this rank at `step`.
    fn first_sample(&self, step: u64) -> Option<u64> {
        step.checked_mul(self.world_size)?
            .checked_add(self.rank)?
            .checked_mul(self.batch_size)
    }

    /// Write the windows of the samples from `first` on to `target`.
    fn draw(&self, first: u64, target: &mut [u64]) {
        let (mut rest, mut sample) = (target, first);
        while !rest.is_empty() {
            let (epoch, position) = (sample / self.num_windows, sample % self.num_windows);
            let count = (self.num_windows - position).min(rest.len() as u64);
            let (head, tail) = rest.split_at_mut(count as usize);
            EpochOrder::new(self.num_windows, self.seed, epoch).windows(position, head);
            (rest, sample) = (tail, sample + count);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn order_is_a_permutation(num_windows in 1_u64..3_000, seed: u64, epoch in 0_u64..1_000_000) {
            let order = EpochOrder::new(num_windows, seed, epoch);
            let mut windows = vec![0; num_windows as usize];
            order.windows(0, &mut windows);
            let mut one = [0];
            order.windows(num_windows / 2, &mut one);
            prop_assert_eq!(one[0], windows[num_windows as usize / 2]);
            windows.sort_unstable();
            prop_assert_eq!(windows, (0..num_windows).collect::<Vec<_>>());
        }

        #[test]
        fn ranks_cover_the_epochs_once(
            num_windows in 1_u64..200, seed: u64, batch_size in 1_u64..9, world_size in 1_u64..5,
        ) {
            let num_steps = (2 * num_windows).div_ceil(batch_size * world_size);
            let mut drawn = Vec::new();
            for step in 0..num_steps {
                for rank in 0..world_size {
                    let sampling = Sampling { num_windows, batch_size, seed, rank, world_size };
                    drawn.extend(sampling.windows(step).unwrap());
                }
            }
            for rank in 0..world_size {
                let sampling = Sampling { num_windows, batch_size, seed, rank, world_size };
                let one_by_one = (3..8).flat_map(|step| sampling.windows(step).unwrap()).collect::<Vec<_>>();
                prop_assert_eq!(sampling.windows_of_steps(3, 5).unwrap(), one_by_one);
            }
            for epoch in 0..2 {
                let mut windows = drawn[(epoch * num_windows) as usize..((epoch + 1) * num_windows) as usize].to_vec();
                windows.sort_unstable();
                prop_assert_eq!(windows, (0..num_windows).collect::<Vec<_>>());
            }
        }

        #[test]
        fn huge_epochs_need_no_table(seed: u64, position in 0_u64..1_000_000_000) {
            let order = EpochOrder::new(1_000_000_000, seed, 3);
            let mut window = [0];
            order.windows(position, &mut window);
            prop_assert!(window[0] < 1_000_000_000);
        }
    }

    #[test]
    fn epochs_differ_and_orders_look_random() {
        let count = 10_000;
        let order = |epoch| {
            let order = EpochOrder::new(count, 1, epoch);
            let mut windows = vec![0; count as usize];
            order.windows(0, &mut windows);
            windows
        };
        let (first, second) = (order(0), order(1));
        assert!(first.iter().zip(&second).filter(|(a, b)| a == b).count() < 20);
        let neighbours = first.windows(2).filter(|pair| pair[1] == pair[0] + 1);
        assert!(neighbours.count() < 20);
    }

    #[test]
    fn out_of_range_is_an_error() {
        let sampling = Sampling {
            num_windows: 0,
            batch_size: 1,
            seed: 0,
            rank: 0,
            world_size: 1,
        };
        assert!(sampling.windows(0).is_err());
        let sampling = Sampling {
            num_windows: 5,
            batch_size: 8,
            ..sampling
        };
        assert!(sampling.windows(u64::MAX / 8).is_err());
    }
}
