//! All objects of a store in the byte order of their keys, a page at a time, read ahead while the page before is worked
//! on.

use tokio::sync::mpsc;

use super::{LIST_MAX, Listing, Store, StoreError};

/// Pages that wait for whoever walks.
const AHEAD: usize = 4;

/// A walk over a store. Ends when it is dropped.
#[derive(Debug)]
pub struct Walk {
    pages: mpsc::Receiver<Result<Listing, StoreError>>,
}

impl Walk {
    /// The next page; its `next` is where a later walk would go on, and missing at the end.
    ///
    /// # Errors
    /// Any [`StoreError`]; the walk is over then.
    pub async fn next(&mut self) -> Option<Result<Listing, StoreError>> {
        self.pages.recv().await
    }
}

impl Store {
    /// Walks over everything after the cursor. A folder is read once, however many objects lie in one of its folders,
    /// where pages of [`Store::list`] would read it again for each.
    pub fn walk(&self, after: Option<String>) -> Walk {
        let (send, pages) = mpsc::channel(AHEAD);
        match self.clone() {
            Self::Folder(folder) => {
                tokio::task::spawn_blocking(move || {
                    let tell = |page| send.blocking_send(page).is_ok();
                    folder.walk(after.as_deref(), tell);
                });
            }
            Self::S3(_) => {
                let store = self.clone();
                tokio::spawn(async move {
                    let mut cursor = after;
                    loop {
                        let page = store.list("", cursor.as_deref(), LIST_MAX).await;
                        cursor = page.as_ref().ok().and_then(|page| page.next.clone());
                        if send.send(page).await.is_err() || cursor.is_none() {
                            return;
                        }
                    }
                });
            }
        }
        Walk { pages }
    }
}
