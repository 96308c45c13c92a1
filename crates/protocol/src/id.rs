//! Identifiers: short, lower-case, safe in logs, labels, file names and DNS labels.

use std::{fmt, sync::Arc};

/// The longest identifier: what fits one DNS label (RFC 1035 §2.3.4).
pub const ID_BYTES_MAX: usize = 63;

/// Why a text is no identifier.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("must be 1 to {ID_BYTES_MAX} characters of a-z, 0-9 and -, and neither begin nor end with -")]
pub struct InvalidId;

fn parse(text: &str) -> Result<Arc<str>, InvalidId> {
    let well_formed = !text.is_empty()
        && text.len() <= ID_BYTES_MAX
        && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
        && !text.starts_with('-')
        && !text.ends_with('-');
    if well_formed { Ok(text.into()) } else { Err(InvalidId) }
}

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        ///
        /// 1 to 63 characters of `a-z`, `0-9` and `-`; cheap to clone.
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Arc<str>);

        impl $name {
            /// The identifier's text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }
        impl std::str::FromStr for $name {
            type Err = InvalidId;
            fn from_str(text: &str) -> Result<Self, InvalidId> {
                parse(text).map(Self)
            }
        }
        impl std::borrow::Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({})", stringify!($name), &self.0)
            }
        }
    };
}

id!(
    /// A point of presence.
    PopId
);
id!(
    /// One machine of a PoP.
    NodeId
);
id!(
    /// An origin shield.
    ShieldId
);
id!(
    /// A site: hosts that share origins and a policy.
    SiteId
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_sides_of_the_limit() {
        assert!("a".repeat(ID_BYTES_MAX).parse::<PopId>().is_ok());
        assert!("a".repeat(ID_BYTES_MAX + 1).parse::<PopId>().is_err());
    }

    #[test]
    fn shapes() {
        for good in ["fra", "shield-eu", "0", "a1"] {
            assert!(good.parse::<SiteId>().is_ok(), "{good}");
        }
        for bad in ["", "-a", "a-", "A", "a_b", "ä", "a.b", "a b"] {
            assert!(bad.parse::<SiteId>().is_err(), "{bad}");
        }
    }
}
