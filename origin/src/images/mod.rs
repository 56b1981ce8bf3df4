//! A user's pictures: list, link, keep, unkeep, delete.

mod answers;
mod handlers;

pub use answers::{ImageAnswer, image_answer};
pub(crate) use handlers::remove_object;
pub use handlers::{delete, keep, link, list, unkeep, usage};
