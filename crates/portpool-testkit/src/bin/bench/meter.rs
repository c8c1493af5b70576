//! Comparing two operations: short rounds in turn, the median of each, the median of their ratios.

use std::time::{Duration, Instant};

use crate::stage::{Side, Stage};

/// One of the two operations of a comparison.
pub(crate) struct Subject<'a> {
    side: Side,
    prepare: Box<dyn FnMut() + 'a>,
    burst: Box<dyn FnMut() -> f64 + 'a>,
}

impl<'a> Subject<'a> {
    /// An operation done in bursts of `count`, timed together: of a quick one the clock would
    /// otherwise be a good part.
    pub(crate) fn new(side: Side, count: u32, mut operation: impl FnMut() + 'a) -> Subject<'a> {
        Subject::timed(side, move || {
            let start = Instant::now();
            for _ in 0..count {
                operation();
            }
            nanoseconds(start.elapsed(), count)
        })
    }

    /// A burst that takes its own time and answers that of one operation, in nanoseconds.
    pub(crate) fn timed(side: Side, burst: impl FnMut() -> f64 + 'a) -> Subject<'a> {
        Subject {
            side,
            prepare: Box::new(|| {}),
            burst: Box::new(burst),
        }
    }

    /// Has `prepare` done before each round, untimed.
    pub(crate) fn prepared(self, prepare: impl FnMut() + 'a) -> Subject<'a> {
        Subject {
            prepare: Box::new(prepare),
            ..self
        }
    }

    /// One round: adds its samples to `samples` and answers their median.
    fn round(&mut self, stage: &Stage, samples: &mut Vec<f64>) -> f64 {
        stage.enter(self.side);
        (self.prepare)();
        for _ in 0..WARM_UP_COUNT {
            (self.burst)();
        }
        let before = samples.len();
        let start = Instant::now();
        while samples.len() < before + BURST_COUNT_MIN || start.elapsed() < ROUND_TIME {
            samples.push((self.burst)());
        }
        quantile(&mut samples[before..].to_vec(), 0.5)
    }
}

/// Time per operation, in nanoseconds.
pub(crate) fn nanoseconds(time: Duration, count: u32) -> f64 {
    time.as_secs_f64() * 1e9 / f64::from(count)
}

/// What a comparison found.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Comparison {
    /// Median over the rounds, measured over baseline.
    pub(crate) ratio: f64,
    /// The quarter points of the rounds.
    pub(crate) spread: (f64, f64),
    /// Of the measured operation, in nanoseconds.
    pub(crate) p50: f64,
    pub(crate) p99: f64,
}

/// Compares an operation to its baseline.
pub(crate) fn compare(stage: &Stage, measured: Subject<'_>, baseline: Subject<'_>) -> Comparison {
    compare_in(ROUND_COUNT, stage, measured, baseline)
}

/// Likewise, in fewer rounds if one takes long.
pub(crate) fn compare_in(
    round_count: usize,
    stage: &Stage,
    mut measured: Subject<'_>,
    mut baseline: Subject<'_>,
) -> Comparison {
    let mut ratios = Vec::with_capacity(round_count);
    let mut samples = Vec::new();
    let mut ignored = Vec::new();
    for round in 0..round_count {
        // Each goes first in turn: what a round leaves in the caches helps neither more.
        let (over, under) = if round % 2 == 0 {
            let over = measured.round(stage, &mut samples);
            (over, baseline.round(stage, &mut ignored))
        } else {
            let under = baseline.round(stage, &mut ignored);
            (measured.round(stage, &mut samples), under)
        };
        ratios.push(over / under);
        ignored.clear();
    }
    Comparison {
        ratio: quantile(&mut ratios, 0.5),
        spread: (quantile(&mut ratios, 0.25), quantile(&mut ratios, 0.75)),
        p50: quantile(&mut samples, 0.5),
        p99: quantile(&mut samples, 0.99),
    }
}

fn quantile(values: &mut [f64], part: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    let last = values.len().saturating_sub(1) as f64;
    values[(last * part).round() as usize]
}

const ROUND_COUNT: usize = 201;
const ROUND_TIME: Duration = Duration::from_millis(1);
const BURST_COUNT_MIN: usize = 5;
const WARM_UP_COUNT: usize = 2;
