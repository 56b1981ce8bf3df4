//! A user's pictures: list, link, keep, unkeep, delete.

mod answers;
mod handlers;

pub use answers::{ImageAnswer, image_answer};
pub use handlers::{delete, keep, link, list, unkeep, usage};
pub(crate) use handlers::{is_id, remove_object};
