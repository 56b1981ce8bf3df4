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
    /// So many plain calls were made.
    Untried(usize),
    /// The graph of that number is captured and waits for a call with other numbers, to be compared.
    Captured(i32),
    /// Plain for good.
    Plain,
    /// Replays the graph of that number.
    Graph(i32),
}

impl Default for Replay {
    fn default() -> Self {
        Self::Untried(0)
    }
}

impl Replay {
    /// A plain call was made; whether a graph is to be captured now.
    pub fn note(&mut self) -> bool {
        let Self::Untried(calls) = self else {
            return false;
        };
        *calls += 1;
        *calls >= PLAIN_CALLS
    }

    /// A captured graph was replayed beside a plain call: whether its output was the `same`, and how
    /// long both took.
    pub fn judge(&mut self, same: bool, plain: Duration, replayed: Duration) {
        if let Self::Captured(number) = *self {
            *self = match same && replayed < plain {
                true => Self::Graph(number),
                false => Self::Plain,
            };
        }
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

    #[test]
    fn a_size_is_worth_a_graph_when_it_comes_again() {
        let mut replay = Replay::default();
        assert_eq!([(); 3].map(|()| replay.note()), [false, false, true]);
        assert!(!Replay::Plain.note() && !Replay::Graph(1).note());
    }

    #[test]
    fn a_graph_is_kept_only_if_it_gives_the_same_in_less_time() {
        let judged = |same, plain, replayed| {
            let mut replay = Replay::Captured(4);
            replay.judge(same, plain, replayed);
            // What is decided stays.
            let decided = replay;
            replay.judge(!same, replayed, plain);
            assert_eq!(replay, decided);
            replay
        };
        assert_eq!(judged(true, SLOW, FAST), Replay::Graph(4));
        assert_eq!(judged(true, FAST, SLOW), Replay::Plain);
        assert_eq!(judged(false, SLOW, FAST), Replay::Plain);
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
