//! What the queue needs of an engine. The tests have a second one that needs no model.

use crate::infer::{BatchKey, Draft, Engine, ImageSpec, InferError, Pixels, Row};

/// Rows of pictures that move one step at a time.
pub trait Work: Send + Sync + 'static {
    /// One picture under way.
    type Row: Send;
    /// What rows must have in common to share a call.
    type Key: Copy + Eq;
    /// A preview that is still to be drawn.
    type Draft: Send;

    /// Whether rows are laid out and decoded on threads of their own, beside the steps.
    fn overlaps(&self) -> bool;
    /// Whether the request's model is there.
    fn has_model(&self, _: &ImageSpec) -> bool {
        true
    }
    /// Does what of a request's rows can be done before its turn; a failure shows in its turn.
    fn prepare(&self, _: &ImageSpec) {}
    /// Whether the rows of a request are a matter of microseconds by now.
    fn is_ready(&self, _: &ImageSpec) -> bool {
        false
    }
    /// The rows of a request, one a picture.
    fn rows(&self, spec: &ImageSpec) -> Result<Vec<Self::Row>, InferError>;
    /// Pixels of the smallest call that can carry a picture of the request.
    fn call_pixels(&self, spec: &ImageSpec) -> u64 {
        spec.width as u64 * spec.height as u64 * spec.branches() as u64
    }
    /// Most denoiser rows that the device's memory allows in a call with pictures of the request.
    fn most_slots(&self, _: &ImageSpec) -> usize {
        usize::MAX
    }
    /// Bytes of the device's memory that one picture of the request would lack.
    fn shortage(&self, _: &ImageSpec) -> u64 {
        0
    }
    /// One step with rows of equal key; each row's own outcome, in order.
    fn step(&self, rows: &mut [&mut Self::Row], max_slots: usize) -> Vec<Result<(), InferError>>;
    /// The picture of a row that has taken all its steps.
    fn decode(&self, row: &Self::Row) -> Result<Pixels, InferError>;
    /// Asks for a preview of a row's next step.
    fn want_preview(&self, row: &mut Self::Row);
    /// The preview asked for, once the step is taken.
    fn draft(&self, row: &mut Self::Row) -> Option<Self::Draft>;
    /// Draws it, small.
    fn draw(&self, draft: &Self::Draft) -> Option<Pixels>;
    /// Where a row stands.
    fn facts(row: &Self::Row) -> Facts<Self::Key>;
    /// A request to measure the rate with, if there is one.
    fn rehearsal(&self) -> Option<ImageSpec>;
}

/// Where a row stands.
#[derive(Debug, Clone, Copy)]
pub struct Facts<K> {
    /// What other rows must have in common to share a call.
    pub key: K,
    /// Denoiser rows it takes in a call.
    pub slots: usize,
    /// Pixels of the picture.
    pub area: usize,
    /// Most denoiser rows that the device's memory allows in a call with it.
    pub most_slots: usize,
    /// Steps taken.
    pub done: usize,
    /// Steps in all.
    pub calls: usize,
}

impl<K> Facts<K> {
    /// Work in one step, in pixels times denoiser rows.
    pub fn step_cost(&self) -> u64 {
        self.area as u64 * self.slots as u64
    }

    /// Work still to do.
    pub fn cost_left(&self) -> u64 {
        self.step_cost() * self.calls.saturating_sub(self.done) as u64
    }
}

impl Work for Engine {
    type Row = Row;
    type Key = BatchKey;
    type Draft = Draft;

    /// On a GPU. A CPU has nothing to give: its cores are inside ONNX Runtime for over 99 % of the
    /// time where stages take turns (demo model, sixteen users, two cores, of which a picture's text
    /// takes 0.6 % and its decoding 3.4 %), and with threads the pictures a second were the same
    /// within what a busy machine tells apart, while calls had 15.1 to 15.7 rows instead of 16.
    fn overlaps(&self) -> bool {
        self.device() == "cuda"
    }

    fn has_model(&self, spec: &ImageSpec) -> bool {
        self.model(&spec.model).is_ok()
    }

    fn prepare(&self, spec: &ImageSpec) {
        Engine::prepare(self, spec);
    }

    fn is_ready(&self, spec: &ImageSpec) -> bool {
        Engine::is_ready(self, spec)
    }

    fn rows(&self, spec: &ImageSpec) -> Result<Vec<Row>, InferError> {
        Engine::rows(self, spec)
    }

    fn call_pixels(&self, spec: &ImageSpec) -> u64 {
        Engine::call_pixels(self, spec)
    }

    fn most_slots(&self, spec: &ImageSpec) -> usize {
        Engine::most_rows(self, spec)
    }

    fn shortage(&self, spec: &ImageSpec) -> u64 {
        Engine::shortage(self, spec)
    }

    fn step(&self, rows: &mut [&mut Row], max_slots: usize) -> Vec<Result<(), InferError>> {
        Engine::step(self, rows, max_slots)
    }

    fn decode(&self, row: &Row) -> Result<Pixels, InferError> {
        Engine::decode(self, row)
    }

    fn want_preview(&self, row: &mut Row) {
        row.want_preview();
    }

    fn draft(&self, row: &mut Row) -> Option<Draft> {
        Engine::draft(self, row)
    }

    fn draw(&self, draft: &Draft) -> Option<Pixels> {
        Engine::draw(self, draft)
    }

    fn facts(row: &Row) -> Facts<BatchKey> {
        Facts {
            key: row.batch_key(),
            slots: row.slots(),
            area: row.area(),
            most_slots: row.most_rows(),
            done: row.done(),
            calls: row.calls(),
        }
    }

    fn rehearsal(&self) -> Option<ImageSpec> {
        let mut spec = self.model("").ok()?.spec("", 0);
        spec.steps = 2;
        Some(spec)
    }
}
