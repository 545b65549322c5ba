//! Lower medians of resamples, by a pass over sorted values.

use rayon::prelude::*;

use super::draws::{LANES, Lanes};

/// A column in ascending order, with the unit of each value.
pub(super) struct Sorted {
    values: Vec<f64>,
    units: Vec<u32>,
}

impl Sorted {
    pub fn columns(values: &[f64], num_columns: usize) -> Vec<Self> {
        let num_rows = values.len() / num_columns;
        let sort = |column: usize| {
            let mut units: Vec<u32> = (0..num_rows as u32).collect();
            let value = |unit: u32| values[unit as usize * num_columns + column];
            units.sort_by(|&a, &b| value(a).total_cmp(&value(b)));
            Self {
                values: units.iter().map(|&unit| value(unit)).collect(),
                units,
            }
        };
        (0..num_columns).into_par_iter().map(sort).collect()
    }

    /// NaN if any value is NaN: those are the first and the last of the order.
    pub fn median(&self) -> f64 {
        let (first, last) = (self.values[0], self.values[self.values.len() - 1]);
        if first.is_nan() || last.is_nan() {
            return f64::NAN;
        }
        self.values[(self.values.len() - 1) / 2]
    }

    /// Lower median of every resample: the first value at which half of the draws are counted.
    pub fn medians(&self, counts: &[Lanes<u16>]) -> Lanes<f64> {
        let half = self.values.len().div_ceil(2) as u16;
        let (mut counted, mut below): (Lanes<u16>, Lanes<u16>) = ([0; LANES], [0; LANES]);
        for &unit in &self.units {
            let lanes = counted.iter_mut().zip(&mut below).zip(&counts[unit as usize]);
            for ((counted, below), count) in lanes {
                *counted += count;
                *below += u16::from(*counted < half);
            }
        }
        below.map(|index| self.values[usize::from(index)])
    }
}

#[cfg(test)]
mod tests {
    use super::super::draws::Draws;
    use super::*;

    #[test]
    fn medians_of_draws_are_those_of_the_drawn_values() {
        let values: Vec<f64> = (0..7).map(|row| f64::from((row * 5) % 7)).collect();
        let draws = Draws::new(7, LANES, 3).unwrap();
        let medians = Sorted::columns(&values, 1)[0].medians(&draws.counts);
        for (lane, median) in medians.into_iter().enumerate() {
            let mut picked: Vec<f64> = (0..7)
                .flat_map(|unit| vec![values[unit]; usize::from(draws.counts[unit][lane])])
                .collect();
            picked.sort_unstable_by(f64::total_cmp);
            assert_eq!((picked.len(), picked[3]), (7, median));
        }
    }
}
