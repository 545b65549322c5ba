//! Contiguous rows: each row of a batch reads the stream window after window. This module says which window a row reads
//! at a step.
//!
//! The windows of the split form a ring. Each epoch starts at its own place on the ring and cuts it into equal
//! stretches, one for each row of all ranks; step p of the epoch reads window p of every stretch. With R rows in all,
//! an epoch leaves out `num_windows % R` windows, different ones in every epoch. The windows of any step are computed
//! in constant time.

use crate::error::{Error, Result};
use crate::window::{Sampling, mix};

/// The window that one row reads at a step, and whether the row jumped there instead of coming from the window before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ContiguousWindow {
    /// Index of the window.
    pub window: u64,
    /// The row begins a stretch here, or the stream begins again: the row did not read the text before this window.
    pub jumped: bool,
}

/// Steps of an epoch: the number of windows that a row reads before it jumps.
///
/// # Errors
/// When the split has fewer windows than there are rows.
pub fn steps_per_epoch(sampling: &Sampling) -> Result<u64> {
    let num_rows = sampling.batch_size.checked_mul(sampling.world_size);
    let steps = num_rows.and_then(|rows| sampling.num_windows.checked_div(rows));
    steps.filter(|&steps| steps > 0).ok_or_else(|| {
        Error::Value(format!(
            "expected at least one window for each contiguous row, got {} windows for {} x {} rows",
            sampling.num_windows, sampling.world_size, sampling.batch_size
        ))
    })
}

/// The windows that the rows of this rank read at `step`.
///
/// # Errors
/// When the split has fewer windows than there are rows.
pub fn windows(sampling: &Sampling, step: u64) -> Result<Vec<ContiguousWindow>> {
    let steps = steps_per_epoch(sampling)?;
    let (epoch, position) = (step / steps, step % steps);
    let first = mix(sampling.seed ^ mix(epoch.wrapping_add(1))) % sampling.num_windows;
    let rows = (0..sampling.batch_size).map(|row| sampling.rank * sampling.batch_size + row);
    let windows = rows.map(|row| {
        let ahead = row * steps + position;
        let to_end = sampling.num_windows - first;
        let window = if ahead < to_end { first + ahead } else { ahead - to_end };
        ContiguousWindow {
            window,
            jumped: position == 0 || window == 0,
        }
    });
    Ok(windows.collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn an_epoch_reads_no_window_twice_and_each_row_reads_consecutive_windows(
            num_windows in 1_u64..300, seed: u64, batch_size in 1_u64..6, world_size in 1_u64..4,
        ) {
            let rank = |rank| Sampling { num_windows, batch_size, seed, rank, world_size };
            let Ok(steps) = steps_per_epoch(&rank(0)) else {
                prop_assert!(num_windows < batch_size * world_size);
                return Ok(());
            };
            for epoch in 0..2 {
                let mut seen = std::collections::HashSet::new();
                for rank in (0..world_size).map(rank) {
                    let mut before: Option<Vec<ContiguousWindow>> = None;
                    for step in epoch * steps..(epoch + 1) * steps {
                        let rows = windows(&rank, step).expect("enough windows");
                        for (row, current) in rows.iter().enumerate() {
                            prop_assert!(current.window < num_windows && seen.insert(current.window));
                            let follows = before.as_ref().is_some_and(|rows| rows[row].window + 1 == current.window);
                            prop_assert_eq!(current.jumped, !follows);
                        }
                        before = Some(rows);
                    }
                }
                prop_assert_eq!(seen.len() as u64, steps * batch_size * world_size);
            }
        }
    }
}
