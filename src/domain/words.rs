//! Closed sets of words: what JSON, the database and metric labels call the variants of an enum.

/// Defines an enum with a word for each variant, and everything that must not miss one: `ALL`, `as_str`, reading, writing, and the
/// error for any other text.
macro_rules! words {
    (
        $(#[doc = $about:literal])+
        pub enum $name:ident or $unknown:ident {
            $($(#[doc = $meaning:literal])+ $variant:ident = $word:tt,)+
        }
    ) => {
        $(#[doc = $about])+
        #[derive(
            Debug,
            Clone,
            Copy,
            PartialEq,
            Eq,
            PartialOrd,
            Ord,
            Hash,
            serde::Serialize,
            serde::Deserialize,
            utoipa::ToSchema,
        )]
        pub enum $name {
            $($(#[doc = $meaning])+ #[serde(rename = $word)] $variant,)+
        }

        impl $name {
            /// Every variant, in their order.
            pub const ALL: [Self; [$($word),+].len()] = [$(Self::$variant),+];

            /// The word in JSON, in the database and in metric labels.
            pub fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $word,)+
                }
            }
        }

        impl std::str::FromStr for $name {
            type Err = $unknown;

            fn from_str(text: &str) -> Result<Self, $unknown> {
                Self::ALL.into_iter().find(|it| it.as_str() == text).ok_or($unknown)
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.as_str())
            }
        }

        #[doc = concat!("A text that names no [`", stringify!($name), "`].")]
        #[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
        #[error("must be one of {}", $name::ALL.map($name::as_str).join(", "))]
        pub struct $unknown;
    };
}

pub(super) use words;

#[cfg(test)]
mod tests {
    use crate::domain::{Outcome, ProfileState, TransitionKind, UnknownState};

    #[test]
    fn word_json_and_text_agree() {
        for state in ProfileState::ALL {
            assert_eq!(state.as_str().parse(), Ok(state));
            assert_eq!(serde_json::to_value(state).unwrap(), state.as_str());
        }
        for outcome in Outcome::ALL {
            assert_eq!(outcome.as_str().parse(), Ok(outcome));
            assert_eq!(serde_json::to_value(outcome).unwrap(), outcome.as_str());
        }
        for kind in TransitionKind::ALL {
            assert_eq!(kind.as_str().parse(), Ok(kind));
            assert_eq!(serde_json::to_value(kind).unwrap(), kind.as_str());
        }
        assert_eq!("installed".parse::<ProfileState>(), Err(UnknownState));
        let kinds = "must be one of normal, unexpected, late, overdue";
        assert_eq!("".parse::<TransitionKind>().unwrap_err().to_string(), kinds);
    }
}
