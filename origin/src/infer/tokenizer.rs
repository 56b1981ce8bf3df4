//! CLIP tokens of a prompt, from `tokenizer.json` or from `vocab.json` and `merges.txt`.
//!
//! A prompt longer than the model takes is cut after its 75th token, as diffusers does: start
//! mark, 75 tokens, end mark. Shorter ones are filled up with the model's padding token.

use super::error::InferError;
use super::truncation::Truncated;
use serde_json::Value;
use std::path::{Path, PathBuf};
use tokenizers::models::bpe::BPE;
use tokenizers::normalizers::{self, Lowercase, NFC, Replace};
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::pre_tokenizers::split::{Split, SplitPattern};
use tokenizers::pre_tokenizers::{self};
use tokenizers::processors::roberta::RobertaProcessing;
use tokenizers::{AddedToken, SplitDelimiterBehavior, Tokenizer};

const START: &str = "<|startoftext|>";
const END: &str = "<|endoftext|>";
/// Words, single digits and runs of other signs, with English contractions kept whole.
const WORDS: &str = r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+";

/// The tokenizer of one text encoder.
pub struct PromptTokenizer {
    tokenizer: Tokenizer,
    length: usize,
    end: u32,
    padding: u32,
}

impl PromptTokenizer {
    /// Reads a tokenizer folder; `positions` is how many tokens the text encoder takes, where
    /// its own files say so.
    pub fn load(folder: &Path, positions: Option<usize>) -> Result<Self, InferError> {
        let config = optional_json(&folder.join("tokenizer_config.json"))?;
        let special = optional_json(&folder.join("special_tokens_map.json"))?;
        let whole = folder.join("tokenizer.json");
        let name = |key: &str| named_token(&config, key).or_else(|| named_token(&special, key));
        let (tokenizer, file) = match whole.is_file() {
            true => (from_json(&whole)?, whole),
            false => (
                from_vocabulary(folder, name("pad_token"))?,
                folder.join("vocab.json"),
            ),
        };
        let id = |token: &str| {
            tokenizer
                .token_to_id(token)
                .ok_or_else(|| InferError::broken(&file, format!("holds no token {token:?}")))
        };
        let end = id(&name("eos_token").unwrap_or_else(|| END.to_owned()))?;
        let padding = match name("pad_token") {
            Some(token) => id(&token)?,
            None => end,
        };
        let written = config
            .get("model_max_length")
            .and_then(Value::as_u64)
            .and_then(|length| usize::try_from(length).ok())
            .filter(|length| (3..=4096).contains(length));
        let length = match (written, positions) {
            (Some(written), Some(positions)) => written.min(positions),
            (Some(length), None) | (None, Some(length)) => length,
            (None, None) => 77,
        };
        Ok(Self {
            tokenizer,
            length,
            end,
            padding,
        })
    }

    /// Exactly as many token ids as the text encoder takes.
    pub fn encode(&self, text: &str) -> Result<Vec<i64>, InferError> {
        let encoding = self.tokenizer.encode_fast(text, true);
        let encoding = encoding.map_err(no_tokens)?;
        let mut ids = encoding.get_ids().to_vec();
        if ids.len() > self.length {
            ids.truncate(self.length);
            if let Some(last) = ids.last_mut() {
                *last = self.end;
            }
        }
        ids.resize(self.length, self.padding);
        Ok(ids.into_iter().map(i64::from).collect())
    }

    /// What [`Self::encode`] cuts off a prompt, if it does.
    ///
    /// # Errors
    /// As [`Self::encode`].
    pub fn cut(&self, text: &str) -> Result<Option<Truncated>, InferError> {
        let encoding = self.tokenizer.encode_char_offsets(text, true);
        let encoding = encoding.map_err(no_tokens)?;
        let (all, marks) = (encoding.len(), 2);
        // The start mark, then those that are read; the end mark takes the place of the last.
        let used = self.length.saturating_sub(marks);
        let last = encoding.get_offsets().get(used);
        Ok((all > self.length).then(|| Truncated {
            field: "prompt",
            tokens: all.saturating_sub(marks),
            used_tokens: used,
            used_characters: last.map_or(0, |(_, end)| *end),
        }))
    }

    /// How many ids [`Self::encode`] gives.
    pub fn length(&self) -> usize {
        self.length
    }
}

fn no_tokens(error: tokenizers::Error) -> InferError {
    InferError::BadSpec {
        field: "prompt",
        reason: format!("has no tokens: {error}"),
    }
}

fn from_json(file: &Path) -> Result<Tokenizer, InferError> {
    let bytes = std::fs::read(file).map_err(|error| InferError::broken(file, error))?;
    let mut tokenizer =
        Tokenizer::from_bytes(bytes).map_err(|error| InferError::broken(file, error))?;
    // Lengths are this service's to set, whatever was last used when the file was written.
    tokenizer
        .with_truncation(None)
        .map_err(|error| InferError::broken(file, error))?;
    tokenizer.with_padding(None);
    Ok(tokenizer)
}

fn from_vocabulary(folder: &Path, padding: Option<String>) -> Result<Tokenizer, InferError> {
    let (vocabulary, merges) = (folder.join("vocab.json"), folder.join("merges.txt"));
    for file in [&vocabulary, &merges] {
        if !file.is_file() {
            return Err(InferError::broken(file, "is missing"));
        }
    }
    let text = |path: &PathBuf| path.to_string_lossy().into_owned();
    let broken = |error: tokenizers::Error| InferError::broken(&vocabulary, error);
    let model = BPE::from_file(&text(&vocabulary), &text(&merges))
        .unk_token(END.to_owned())
        .end_of_word_suffix("</w>".to_owned())
        .build()
        .map_err(broken)?;
    let mut tokenizer = Tokenizer::new(model);
    let spaces = Replace::new(
        normalizers::replace::ReplacePattern::Regex(r"\s+".into()),
        " ",
    )
    .map_err(broken)?;
    tokenizer
        .with_normalizer(Some(normalizers::Sequence::new(vec![
            NFC.into(),
            spaces.into(),
            Lowercase.into(),
        ])))
        .map_err(broken)?;
    let words = Split::new(
        SplitPattern::Regex(WORDS.into()),
        SplitDelimiterBehavior::Removed,
        true,
    )
    .map_err(broken)?;
    tokenizer.with_pre_tokenizer(Some(pre_tokenizers::sequence::Sequence::new(vec![
        words.into(),
        ByteLevel::new(false, true, true).into(),
    ])));
    let id = |token: &str| {
        let missing = || InferError::broken(&vocabulary, format!("holds no token {token:?}"));
        tokenizer.token_to_id(token).ok_or_else(missing)
    };
    let (start, end) = (id(START)?, id(END)?);
    tokenizer.with_post_processor(Some(
        RobertaProcessing::new((END.to_owned(), end), (START.to_owned(), start))
            .trim_offsets(false)
            .add_prefix_space(false),
    ));
    // The reference takes the padding token out of a prompt whole, even where it is a plain "!".
    let marks = [START.to_owned(), END.to_owned()]
        .into_iter()
        .chain(padding);
    let marks = marks.map(|token| AddedToken::from(token, true));
    tokenizer.add_special_tokens(marks).map_err(broken)?;
    Ok(tokenizer)
}

fn optional_json(file: &Path) -> Result<Value, InferError> {
    match std::fs::read(file) {
        Ok(bytes) => {
            serde_json::from_slice(&bytes).map_err(|error| InferError::broken(file, error))
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Value::Null),
        Err(error) => Err(InferError::broken(file, error)),
    }
}

/// A token is written as a string or as an object with its `content`.
fn named_token(config: &Value, key: &str) -> Option<String> {
    let value = config.get(key)?;
    value
        .as_str()
        .or_else(|| value.get("content")?.as_str())
        .map(str::to_owned)
}
