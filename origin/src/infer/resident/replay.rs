//! Whether a prepared call replays a captured CUDA graph: only where that has been seen to give
//! the same numbers in less time.

use std::time::Duration;

/// Plain calls before a graph is tried: a size that comes once is not worth a graph.
const PLAIN_CALLS: usize = 3;

/// Captured graphs a model may have; ONNX Runtime keeps each for as long as the model lives.
pub const MOST_GRAPHS: i32 = 16;

/// What is known of one prepared call.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Replay {
    /// So many plain calls were made, the fastest of them so fast.
    Untried {
        /// Calls.
        calls: usize,
        /// The fastest.
        fastest: Duration,
    },
    /// Plain for good.
    Plain,
    /// Replays the graph of that number.
    Graph(i32),
}

impl Default for Replay {
    fn default() -> Self {
        Self::Untried {
            calls: 0,
            fastest: Duration::MAX,
        }
    }
}

impl Replay {
    /// A plain call was made; whether a graph is to be tried now.
    pub fn note(&mut self, took: Duration) -> bool {
        let Self::Untried { calls, fastest } = self else {
            return false;
        };
        *calls += 1;
        // The first call of a size also sets up what the others find.
        if *calls > 1 {
            *fastest = took.min(*fastest);
        }
        *calls >= PLAIN_CALLS
    }

    /// Graph `number` was tried: its output was `same` as a plain call's, and its replay took so long.
    pub fn judge(&mut self, number: i32, same: bool, took: Duration) {
        let Self::Untried { fastest, .. } = *self else {
            return;
        };
        *self = match same && took < fastest {
            true => Self::Graph(number),
            false => Self::Plain,
        };
    }
}

/// Whether two runs on the same input agree: kernels that are chosen anew may round otherwise.
pub fn agree(plain: &[f32], replayed: &[f32]) -> bool {
    let size = plain.iter().fold(0f32, |most, x| most.max(x.abs()));
    plain.len() == replayed.len()
        && size.is_finite()
        && plain
            .iter()
            .zip(replayed)
            .all(|(a, b)| (a - b).abs() <= size * 2e-3)
}

#[cfg(test)]
mod tests {
    use super::*;

    const FAST: Duration = Duration::from_millis(2);
    const SLOW: Duration = Duration::from_millis(3);

    fn tried(same: bool, took: Duration) -> Replay {
        let mut replay = Replay::default();
        assert!(!replay.note(Duration::ZERO), "the first counts for nothing");
        assert!(!replay.note(SLOW));
        assert!(replay.note(SLOW + FAST));
        replay.judge(4, same, took);
        replay
    }

    #[test]
    fn a_graph_is_kept_only_if_it_gives_the_same_in_less_time() {
        assert_eq!(tried(true, FAST), Replay::Graph(4));
        assert_eq!(tried(true, SLOW), Replay::Plain);
        assert_eq!(tried(false, FAST), Replay::Plain);
    }

    #[test]
    fn what_is_decided_stays() {
        let mut replay = tried(true, SLOW);
        assert!(!replay.note(FAST));
        replay.judge(5, true, Duration::ZERO);
        assert_eq!(replay, Replay::Plain);
    }

    #[test]
    fn outputs_agree_within_what_half_precision_rounds() {
        assert!(agree(&[1.0, -4.0], &[1.001, -4.0]));
        assert!(!agree(&[1.0, -4.0], &[1.1, -4.0]));
        assert!(!agree(&[1.0, 2.0], &[1.0, f32::NAN]));
        assert!(!agree(&[1.0, f32::NAN], &[1.0, f32::NAN]));
        assert!(!agree(&[1.0], &[]));
    }
}
