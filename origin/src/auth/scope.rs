//! Scopes: what a token opens. One opens nothing of another.

/// A set of scopes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Scopes(u8);

/// Every scope there is, in the order of its bit.
pub const ALL: [&str; 6] = [
    "images:generate",
    "images:read",
    "images:write",
    "uploads:write",
    "billing:read",
    "admin",
];

impl Scopes {
    /// All but `admin`.
    pub const USER: Self = Self(0b01_1111);

    /// Reads a space-separated list (RFC 6749 section 3.3).
    ///
    /// # Errors
    /// The first name that is no scope.
    pub fn parse(text: &str) -> Result<Self, String> {
        text.split(' ')
            .filter(|name| !name.is_empty())
            .try_fold(Self(0), |set, name| {
                let bit = ALL
                    .iter()
                    .position(|known| *known == name)
                    .ok_or_else(|| name.to_owned())?;
                Ok(Self(set.0 | 1 << bit))
            })
    }

    /// Whether all of `other` are in it.
    pub fn contain(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// What is in both.
    pub fn both(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// Whether the scope of this name is in it.
    pub fn has(self, name: &str) -> bool {
        Self::parse(name).is_ok_and(|one| one.0 != 0 && self.contain(one))
    }

    /// Whether it is empty.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }
}

impl std::fmt::Display for Scopes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let names: Vec<&str> = ALL
            .iter()
            .enumerate()
            .filter(|(bit, _)| self.0 & 1 << bit != 0)
            .map(|(_, name)| *name)
            .collect();
        f.write_str(&names.join(" "))
    }
}

/// A scope as a type, for [`super::Authorized`].
pub trait Scope: 'static {
    /// Its name in tokens.
    const NAME: &'static str;
}

macro_rules! scopes {
    ($($(#[$doc:meta])* $name:ident = $text:literal;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, Debug)]
        pub enum $name {}
        impl Scope for $name {
            const NAME: &'static str = $text;
        }
    )*};
}

scopes! {
    /// Making pictures.
    ImagesGenerate = "images:generate";
    /// Listing pictures and signing links to them.
    ImagesRead = "images:read";
    /// Keeping and deleting pictures.
    ImagesWrite = "images:write";
    /// Sending reference images.
    UploadsWrite = "uploads:write";
    /// Reading limits and usage.
    BillingRead = "billing:read";
    /// Operating the service.
    Admin = "admin";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_read_and_written_in_order() {
        let set = Scopes::parse("images:read images:generate images:read").unwrap();
        assert_eq!(set.to_string(), "images:generate images:read");
        assert_eq!(Scopes::parse("images:read root"), Err("root".into()));
        assert!(Scopes::parse("").unwrap().is_empty());
    }

    #[test]
    fn one_scope_opens_nothing_of_another() {
        for (i, name) in ALL.iter().enumerate() {
            let set = Scopes::parse(name).unwrap();
            for (j, other) in ALL.iter().enumerate() {
                assert_eq!(set.has(other), i == j);
            }
        }
        assert!(!Scopes::USER.has("admin") && Scopes::USER.has("billing:read"));
        assert!(!Scopes::USER.has("") && !Scopes::USER.has("images"));
    }
}
