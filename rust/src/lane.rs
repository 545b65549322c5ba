//! Contiguous lanes: which window each row of a batch reads at a step, so that a row walks on through the stream.
//!
//! The windows of the split form a ring. An epoch cuts it, from a place of its own on, into equal stretches, one per lane of
//! all ranks; step p of the epoch reads window p of every stretch. With L lanes the `num_windows % L` windows left over are
//! left out, others in every epoch. Any step is found in constant time.

use crate::error::{Error, Result};
use crate::window::{Sampling, mix};

/// A window of one row, and whether the row has come here by a jump instead of from the window before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LaneWindow {
    /// Index of the window.
    pub window: u64,
    /// The row begins a stretch here, or the stream begins again: nothing of the row's past leads to this window.
    pub jumped: bool,
}

/// Steps of an epoch: windows that one lane reads before it jumps.
///
/// # Errors
/// When the split has fewer windows than there are lanes.
pub fn steps_per_epoch(sampling: &Sampling) -> Result<u64> {
    let num_lanes = sampling.batch_size.checked_mul(sampling.world_size);
    let steps = num_lanes.and_then(|lanes| sampling.num_windows.checked_div(lanes));
    steps.filter(|&steps| steps > 0).ok_or_else(|| {
        Error::Value(format!(
            "{} windows are too few for {} x {} lanes",
            sampling.num_windows, sampling.world_size, sampling.batch_size
        ))
    })
}

/// The windows of this rank's rows at `step`.
///
/// # Errors
/// When the split has fewer windows than there are lanes.
pub fn windows(sampling: &Sampling, step: u64) -> Result<Vec<LaneWindow>> {
    let steps = steps_per_epoch(sampling)?;
    let (epoch, position) = (step / steps, step % steps);
    let first = mix(sampling.seed ^ mix(epoch.wrapping_add(1))) % sampling.num_windows;
    let lanes = (0..sampling.batch_size).map(|row| sampling.rank * sampling.batch_size + row);
    let rows = lanes.map(|lane| {
        let ahead = lane * steps + position;
        let to_end = sampling.num_windows - first;
        let window = if ahead < to_end { first + ahead } else { ahead - to_end };
        LaneWindow {
            window,
            jumped: position == 0 || window == 0,
        }
    });
    Ok(rows.collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn an_epoch_reads_no_window_twice_and_rows_walk_on(
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
                    let mut before: Option<Vec<LaneWindow>> = None;
                    for step in epoch * steps..(epoch + 1) * steps {
                        let rows = windows(&rank, step).expect("enough windows");
                        for (row, found) in rows.iter().enumerate() {
                            prop_assert!(found.window < num_windows && seen.insert(found.window));
                            let follows = before.as_ref().is_some_and(|rows| rows[row].window + 1 == found.window);
                            prop_assert_eq!(found.jumped, !follows);
                        }
                        before = Some(rows);
                    }
                }
                prop_assert_eq!(seen.len() as u64, steps * batch_size * world_size);
            }
        }
    }
}
