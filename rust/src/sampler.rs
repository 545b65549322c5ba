//! Batches: the windows of a step, gathered from the shards.

use std::mem::MaybeUninit;
use std::sync::{Arc, Mutex};

use crate::encode::lock;
use crate::error::Result;
use crate::split::TokenSplit;
use crate::window::Sampling;

/// Windows that are looked up together when steps are read in sequence.
const WINDOWS_AHEAD: u64 = 512;
/// Windows of the next step whose memory is prefetched: as many as fit the first-level cache.
const ROWS_AHEAD: usize = 64;

/// The windows of one rank, step by step. A batch depends only on its step; reading steps in sequence is faster.
pub struct Sampler {
    split: Arc<TokenSplit>,
    window: u64,
    sampling: Sampling,
    ahead: Mutex<Ahead>,
}

/// The windows of the steps after the last one that was read, as far as they have been looked up.
#[derive(Default)]
struct Ahead {
    step: u64,
    windows: Vec<u64>,
    /// Where the windows of `step` begin in `windows`.
    start: usize,
}

impl Sampler {
    /// Sample windows of `window + 1` tokens from a split as `sampling` says.
    pub fn new(split: Arc<TokenSplit>, window: u64, sampling: Sampling) -> Self {
        Self {
            split,
            window,
            sampling,
            ahead: Mutex::default(),
        }
    }

    /// Length W of a window, without the token that follows it.
    pub fn window(&self) -> u64 {
        self.window
    }

    /// The sampling of this rank.
    pub fn sampling(&self) -> &Sampling {
        &self.sampling
    }

    /// The split that is sampled.
    pub fn split(&self) -> &TokenSplit {
        &self.split
    }

    /// Write the windows of a step, row after row, to `target`. Every element of `target` is written.
    ///
    /// # Errors
    /// When the step is out of range, `target` does not have the size of a batch, or a read fails.
    pub fn gather(&self, step: u64, target: &mut [MaybeUninit<i64>]) -> Result<()> {
        let mut ahead = std::mem::take(&mut *lock(&self.ahead));
        if ahead.step != step || ahead.start >= ahead.windows.len() {
            ahead = self.look_up(step, ahead.step == step)?;
        }
        let (now, later) = ahead.windows[ahead.start..].split_at(self.sampling.batch_size as usize);
        self.split.gather(now, self.window, target)?;
        for &index in later.iter().take(ROWS_AHEAD) {
            self.split.prefetch(index, self.window);
        }
        ahead.start += now.len();
        ahead.step = step.saturating_add(1);
        *lock(&self.ahead) = ahead;
        Ok(())
    }

    /// Look up the windows of a step; if it `follows` the last one, also look up the steps after it.
    fn look_up(&self, step: u64, follows: bool) -> Result<Ahead> {
        let num_steps = if follows {
            WINDOWS_AHEAD / self.sampling.batch_size.max(1)
        } else {
            1
        };
        let many = self.sampling.windows_of_steps(step, num_steps.max(1));
        Ok(Ahead {
            step,
            windows: many.or_else(|_| self.sampling.windows(step))?,
            start: 0,
        })
    }
}
