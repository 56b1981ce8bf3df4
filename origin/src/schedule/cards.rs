//! Several engines side by side, a queue for each: a job goes to the one where it ends first.

use super::queue::Queue;
use super::work::Work;
use crate::infer::ImageSpec;
use std::sync::Arc;

/// Engines that can do the same work, each with its queue.
pub struct Cards<W> {
    cards: Vec<(Arc<W>, Queue)>,
}

impl<W> Clone for Cards<W> {
    fn clone(&self) -> Self {
        let cards = self.cards.clone();
        Self { cards }
    }
}

impl<W> std::fmt::Debug for Cards<W> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let queues = self.cards.iter().map(|(_, queue)| queue);
        f.debug_list().entries(queues).finish()
    }
}

impl<W: Work> Cards<W> {
    /// # Errors
    /// `start` gives none for one of them.
    pub fn start(
        engines: impl IntoIterator<Item = Arc<W>>,
        mut start: impl FnMut(Arc<W>) -> std::io::Result<Queue>,
    ) -> std::io::Result<Self> {
        let each = engines.into_iter().map(|engine| {
            let queue = start(Arc::clone(&engine))?;
            Ok((engine, queue))
        });
        let cards = each.collect::<std::io::Result<_>>()?;
        Ok(Self { cards })
    }

    /// The queue where such a job of that user ends first, of those whose engine has the model;
    /// `None` where none has it.
    pub fn best(&self, spec: &ImageSpec, user: &str, weight: u32) -> Option<&Queue> {
        let able = self.cards.iter().filter(|(work, _)| work.has_model(spec));
        let best = able.min_by_key(|(work, queue)| {
            let lacks_memory = work.shortage(spec) > 0;
            let stats = queue.stats();
            // Before a rate is known every time is none.
            let jobs = stats.queued + stats.running;
            let end = queue.time_to_end(spec, user, weight);
            (lacks_memory, queue.is_full(), end, jobs)
        });
        best.map(|(_, queue)| queue)
    }

    /// Every queue.
    pub fn queues(&self) -> impl Iterator<Item = &Queue> {
        self.cards.iter().map(|(_, queue)| queue)
    }
}
