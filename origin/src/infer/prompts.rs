//! Prompts that were encoded lately: asked for again, or ahead of their turn.

use super::model::Conditioning;
use sha2::{Digest, Sha256};
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

/// Prompts kept for a model: 15 MB of Stable Diffusion 1.5's, 40 MB of SDXL's.
const KEPT: usize = 64;

/// The latest encoded prompts, last used last. They are known by their hash alone.
#[derive(Debug, Default)]
pub struct Prompts {
    kept: Mutex<VecDeque<([u8; 32], Arc<Conditioning>)>>,
}

impl Prompts {
    /// What is kept of a prompt.
    pub fn get(&self, prompt: &str) -> Option<Arc<Conditioning>> {
        let key = hash(prompt);
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let at = kept.iter().position(|(known, _)| *known == key)?;
        let found = kept.remove(at)?;
        let text = Arc::clone(&found.1);
        kept.push_back(found);
        Some(text)
    }

    /// Keeps a prompt in place of the one that nobody asked for longest.
    pub fn put(&self, prompt: &str, text: &Arc<Conditioning>) {
        let key = hash(prompt);
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.retain(|(known, _)| *known != key);
        if kept.len() >= KEPT {
            kept.pop_front();
        }
        kept.push_back((key, Arc::clone(text)));
    }
}

fn hash(prompt: &str) -> [u8; 32] {
    Sha256::digest(prompt.as_bytes()).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(tokens: usize) -> Arc<Conditioning> {
        Arc::new(Conditioning {
            hidden: Vec::new(),
            tokens,
            pooled: Vec::new(),
        })
    }

    #[test]
    fn the_latest_are_kept_and_no_more() {
        let prompts = Prompts::default();
        for i in 0..KEPT {
            prompts.put(&i.to_string(), &text(i));
        }
        assert_eq!(prompts.get("0").unwrap().tokens, 0);
        prompts.put("one more", &text(1000));
        assert!(prompts.get("1").is_none(), "nobody asked for it longest");
        assert_eq!(prompts.get("0").unwrap().tokens, 0);
        assert_eq!(prompts.get("one more").unwrap().tokens, 1000);
        prompts.put("0", &text(7));
        assert_eq!(prompts.get("0").unwrap().tokens, 7);
        assert_eq!(prompts.kept.lock().unwrap().len(), KEPT);
    }
}
