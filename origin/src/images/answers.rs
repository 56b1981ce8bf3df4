//! How a picture looks in an answer.

use serde::Serialize;

use crate::error::ApiError;
use crate::publish::{LinkOptions, Publisher};
use crate::state::images::ImageRow;

/// A picture with a link that opens it.
#[derive(Clone, Debug, Serialize)]
pub struct ImageAnswer {
    /// UUID version 7.
    pub id: String,
    /// The object's key.
    pub key: String,
    /// The signed link.
    pub url: String,
    /// When the link ends.
    pub expires_at: String,
    /// Pixels.
    pub width: u32,
    /// Pixels.
    pub height: u32,
    /// `png`, `webp` or `jpeg`.
    pub format: String,
    /// Size in bytes.
    pub bytes: u64,
    /// What it was made from.
    pub seed: u64,
}

/// Signs a link to the picture at `now` (Unix seconds).
///
/// # Errors
/// Options that no link can have.
pub fn image_answer(
    row: &ImageRow,
    publisher: &Publisher,
    epoch: u64,
    options: &LinkOptions,
    now: u64,
) -> Result<ImageAnswer, ApiError> {
    let link = publisher
        .link(&row.key, epoch, options, now)
        .map_err(|error| ApiError::Invalid(error.to_string()))?;
    Ok(ImageAnswer {
        id: row.id.clone(),
        key: row.key.as_str().into(),
        url: link.url,
        expires_at: link.expires_at,
        width: row.width,
        height: row.height,
        format: row.format.clone(),
        bytes: row.bytes,
        seed: row.seed,
    })
}
