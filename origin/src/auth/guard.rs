//! Routes by type: a handler is either guarded by a scope, or said to be open. Both are written in the route table,
//! neither compiles where the other is meant, and what is neither is refused by the lints (`clippy.toml`).

use actix_web::{FromRequest, Handler, Responder, Route};

use super::{Authorized, Scope};
use crate::operator::Operator;

/// Arguments of a handler that begin with a caller of one scope, or an operator: without such a caller it is never run.
pub trait Guarded: FromRequest {}

macro_rules! guarded {
    ($($name:ident)*) => {
        impl<S: Scope, $($name: FromRequest + 'static),*> Guarded for (Authorized<S>, $($name,)*) {}
        impl<$($name: FromRequest + 'static),*> Guarded for (Operator, $($name,)*) {}
    };
}

guarded! {}
guarded! { A }
guarded! { A B }
guarded! { A B C }
guarded! { A B C D }
guarded! { A B C D E }

/// How the route table names handlers.
pub trait Guard: Sized {
    /// A handler whose first argument is [`Authorized`].
    fn guarded<F, Args>(self, handler: F) -> Self
    where
        F: Handler<Args>,
        Args: Guarded + 'static,
        F::Output: Responder + 'static;

    /// A handler that is for everybody, or that finds out itself who asks. A test names each of them.
    fn open<F, Args>(self, handler: F) -> Self
    where
        F: Handler<Args>,
        Args: FromRequest + 'static,
        F::Output: Responder + 'static;
}

#[expect(clippy::disallowed_methods)]
impl Guard for Route {
    fn guarded<F, Args>(self, handler: F) -> Self
    where
        F: Handler<Args>,
        Args: Guarded + 'static,
        F::Output: Responder + 'static,
    {
        self.to(handler)
    }

    fn open<F, Args>(self, handler: F) -> Self
    where
        F: Handler<Args>,
        Args: FromRequest + 'static,
        F::Output: Responder + 'static,
    {
        self.to(handler)
    }
}
