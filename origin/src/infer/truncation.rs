//! How much of a prompt the text encoders read, told to whoever asks for a picture.

use super::model::Model;
use super::spec::ImageSpec;
use serde::Serialize;

/// A prompt that is longer than the model takes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Truncated {
    /// The request's field.
    pub field: &'static str,
    /// Tokens that it has.
    pub tokens: usize,
    /// Tokens that are read, from its beginning.
    pub used_tokens: usize,
    /// Characters (Unicode scalar values) that they stand for.
    pub used_characters: usize,
}

impl Model {
    /// The prompts of a request that are longer than the model takes. Of several text encoders the one counts that reads
    /// least.
    pub fn truncated(&self, spec: &ImageSpec) -> Vec<Truncated> {
        let (prompt, negative) = self.prompts_of(spec);
        let fields = [("prompt", Some(prompt)), ("negative_prompt", negative)];
        let told = fields.into_iter().filter_map(|(field, text)| {
            let text = text?;
            let cuts = self.encoders.iter().filter_map(|encoder| {
                // A prompt that has no tokens fails when it is encoded.
                encoder.tokenizer.cut(text).ok().flatten()
            });
            let least = cuts.min_by_key(|cut| cut.used_characters)?;
            Some(Truncated { field, ..least })
        });
        told.collect()
    }
}
