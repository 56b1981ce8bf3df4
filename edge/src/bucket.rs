//! The R2 bucket: from an admitted link to the bytes it opens. One read for a plain request; a conditional one asks
//! for the object's size and tag first.

use shared::object_key::ObjectKey;
use shared::range::{self, Bytes, Conditions};
use wasm_bindgen::{JsCast, JsValue};
use worker::{Bucket, Conditional, Range, ResponseBody};

use crate::js::{self, WholeObject};
use crate::limits::AdmittedLink;
use crate::serve::ServeError;

/// Name of the binding.
pub const BINDING: &str = "IMAGES";

/// The bucket's binding, whose presence was checked with the configuration.
///
/// # Errors
/// [`ServeError::Store`].
pub fn of(env: &worker::Env) -> Result<Bucket, ServeError> {
    js_sys::Reflect::get(env, &JsValue::from_str(BINDING))
        .map(JsCast::unchecked_into)
        .map_err(|error| ServeError::Store(js::describe(&error)))
}

/// What is asked of the object.
#[derive(Debug, Default)]
pub struct Wanted {
    /// HEAD: everything but the bytes.
    pub head: bool,
    /// `If-None-Match`.
    pub if_none_match: Option<String>,
    /// `If-Range`.
    pub if_range: Option<String>,
    /// `Range`.
    pub range: Option<String>,
}

impl Wanted {
    fn is_plain(&self) -> bool {
        self.if_none_match.is_none() && self.range.is_none()
    }

    fn conditions(&self) -> Conditions<'_> {
        Conditions {
            if_none_match: self.if_none_match.as_deref(),
            if_range: self.if_range.as_deref(),
            range: self.range.as_deref().filter(|_| !self.head),
        }
    }
}

/// Where pictures are read.
pub struct Store<'a> {
    /// The bucket.
    pub bucket: &'a Bucket,
    /// The request's context, where whole pictures may come from the edge's cache: behind every check, under the
    /// object's key, for at most [`CACHED_SECONDS`].
    pub cache: Option<&'a JsValue>,
}

/// A deleted picture is gone from every cache after so long; the contract allows 60 s.
const CACHED_SECONDS: u32 = 50;
/// Larger pictures are not kept, for they would have to fit into memory.
const CACHED_UP_TO: u32 = 4 * 1024 * 1024;

/// A stored picture that an admitted link opened.
pub struct Object {
    /// The link that opened it.
    pub link: AdmittedLink,
    /// What of it is the answer.
    pub content: Content,
}

/// What is answered of a picture.
pub enum Content {
    /// All of it, to a plain GET.
    Whole(WholeObject),
    /// What a HEAD, conditions or a range ask for.
    Asked(Asked),
}

/// The part of a picture that was asked for.
pub struct Asked {
    /// The picture's strong tag, quotes included.
    pub etag: String,
    /// Size of the whole in bytes.
    pub size: u64,
    /// Which of its bytes are the answer.
    pub bytes: Bytes,
    /// The bytes, where there are any to send.
    pub body: ResponseBody,
}

impl Object {
    /// Opens the link's object, or its counterpart when the picture was kept or let go since.
    ///
    /// # Errors
    /// [`ServeError::NotFound`], [`ServeError::Store`].
    pub async fn open(
        store: &Store<'_>,
        link: AdmittedLink,
        wanted: &Wanted,
    ) -> Result<Self, ServeError> {
        let key = link.link().key();
        let mut found = read(store, key, wanted).await?;
        if let (None, Some(other)) = (&found, key.counterpart()) {
            found = read(store, &other, wanted).await?;
        }
        let content = found.ok_or(ServeError::NotFound)?;
        Ok(Self { link, content })
    }
}

/// `None` when there is no such object.
async fn read(
    Store { bucket, cache }: &Store<'_>,
    key: &ObjectKey,
    wanted: &Wanted,
) -> Result<Option<Content>, ServeError> {
    if wanted.is_plain() && !wanted.head {
        let object = match cache {
            Some(context) => {
                let keep = (CACHED_SECONDS, CACHED_UP_TO);
                js::cached_object(bucket.as_ref(), key.as_str(), keep, context).await
            }
            None => js::whole_object(bucket.as_ref(), key.as_str()).await,
        };
        let object = object.map_err(|error| ServeError::Store(js::describe(&error)))?;
        return Ok(object.map(Content::Whole));
    }
    let asked = ask(bucket, key, wanted).await?;
    Ok(asked.map(Content::Asked))
}

/// Reads size and tag first, and then what they leave to be sent.
async fn ask(
    bucket: &Bucket,
    key: &ObjectKey,
    wanted: &Wanted,
) -> Result<Option<Asked>, ServeError> {
    let Some(object) = bucket.head(key.as_str()).await.map_err(store)? else {
        return Ok(None);
    };
    let (etag, size) = (object.http_etag(), object.size());
    let bytes = range::select(&wanted.conditions(), &etag, size);
    let part = match bytes {
        Bytes::Whole => None,
        Bytes::Part { first, last } => Some(Range::OffsetWithLength {
            offset: first,
            length: last - first + 1,
        }),
        Bytes::NotModified | Bytes::Unsatisfiable => {
            return Ok(Some(Asked {
                etag,
                size,
                bytes,
                body: ResponseBody::Empty,
            }));
        }
    };
    if wanted.head {
        return Ok(Some(Asked {
            etag,
            size,
            bytes,
            body: ResponseBody::Empty,
        }));
    }
    // The tag ties the bytes to the size just read: an object replaced in between is not served in mixed parts.
    let same = Conditional {
        etag_matches: Some(object.etag()),
        ..Conditional::default()
    };
    let mut get = bucket.get(key.as_str()).only_if(same);
    if let Some(part) = part {
        get = get.range(part);
    }
    match get.execute().await.map_err(store)? {
        None => Ok(None),
        Some(object) => match object.body() {
            Some(body) => {
                let body = body.response_body().map_err(store)?;
                Ok(Some(Asked {
                    etag,
                    size,
                    bytes,
                    body,
                }))
            }
            None => Err(ServeError::Store(
                "the object changed while it was read".into(),
            )),
        },
    }
}

fn store(error: worker::Error) -> ServeError {
    ServeError::Store(error.to_string())
}
