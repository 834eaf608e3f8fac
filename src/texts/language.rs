//! The languages that users can read, and which of them a caller wants.

use thiserror::Error;

use super::Texts;

/// Defines the languages: the variant, its tag (BCP 47), its module, and whether it is written from right to left.
macro_rules! languages {
    ($($variant:ident $tag:literal $module:ident $direction:literal),+ $(,)?) => {
        /// A language that users can read.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Language {
            $(#[doc = concat!("`", $tag, "`.")] $variant,)+
        }

        impl Language {
            /// Every language; English, which stands in for all others, is the first.
            pub const ALL: &[Self] = &[$(Self::$variant),+];

            /// The tag, as in `Content-Language`, `lang` and the names of files.
            pub const fn tag(self) -> &'static str {
                match self { $(Self::$variant => $tag,)+ }
            }

            /// `ltr` or `rtl`.
            pub const fn direction(self) -> &'static str {
                match self { $(Self::$variant => $direction,)+ }
            }

            /// What the service says in this language.
            pub const fn texts(self) -> &'static Texts {
                match self { $(Self::$variant => &super::$module::TEXTS,)+ }
            }

            /// What `<esim-install>` says in this language, as JSON.
            pub const fn page(self) -> &'static str {
                match self { $(Self::$variant => include_str!(concat!($tag, ".json")),)+ }
            }
        }
    };
}

languages! {
    English "en" en "ltr",
    German "de" de "ltr",
    French "fr" fr "ltr",
    Spanish "es" es "ltr",
    Italian "it" it "ltr",
    Portuguese "pt-BR" pt_br "ltr",
    Dutch "nl" nl "ltr",
    Polish "pl" pl "ltr",
    Turkish "tr" tr "ltr",
    Russian "ru" ru "ltr",
    Ukrainian "uk" uk "ltr",
    Arabic "ar" ar "rtl",
    Hebrew "he" he "rtl",
    Vietnamese "vi" vi "ltr",
    SimplifiedChinese "zh-Hans" zh_hans "ltr",
    TraditionalChinese "zh-Hant" zh_hant "ltr",
    Japanese "ja" ja "ltr",
    Korean "ko" ko "ltr",
}

/// A tag names none of our languages.
#[derive(Debug, Error)]
#[error("must be one of {}", Language::ALL.iter().map(|it| it.tag()).collect::<Vec<_>>().join(", "))]
pub struct UnknownLanguage;

/// Subtags of Chinese that is written in traditional characters. `zh` alone, and with any other region, is simplified.
const TRADITIONAL: [&str; 4] = ["hant", "hk", "mo", "tw"];

impl Language {
    /// The language that a tag such as `pt-PT` names. Regions are ignored, except that they choose the script of Chinese.
    ///
    /// # Errors
    /// If it names none of ours.
    pub fn parse(tag: &str) -> Result<Self, UnknownLanguage> {
        let tag = tag.trim().to_ascii_lowercase();
        let mut parts = tag.split(['-', '_']);
        let primary = match parts.next() {
            // The code of Hebrew before 1989, which Java and Android still send.
            Some("iw") => "he",
            primary => primary.unwrap_or_default(),
        };
        if primary == "zh" {
            let rest: Vec<_> = parts.collect();
            let is_traditional =
                !rest.contains(&"hans") && rest.iter().any(|part| TRADITIONAL.contains(part));
            return Ok(if is_traditional {
                Self::TraditionalChinese
            } else {
                Self::SimplifiedChinese
            });
        }
        let of = |language: &&Self| language.tag().split('-').next() == Some(primary);
        Self::ALL.iter().find(of).copied().ok_or(UnknownLanguage)
    }

    /// The language that the values of `Accept-Language` prefer (RFC 9110, section 12.5.4), or English.
    pub fn preferred<'a>(values: impl IntoIterator<Item = &'a str>) -> Self {
        let mut best = (0.0, Self::English);
        for range in values.into_iter().flat_map(|value| value.split(',')) {
            let mut parts = range.split(';').map(str::trim);
            let tag = parts.next().unwrap_or_default();
            let given = parts.find_map(|part| part.strip_prefix(['q', 'Q'])?.strip_prefix('='));
            let weight: f32 = given.map_or(1.0, |text| text.parse().unwrap_or_default());
            // Of equal weights the first counts.
            if weight > best.0
                && let Ok(language) = Self::parse(tag)
            {
                best = (weight, language);
            }
        }
        best.1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tag_names_a_language_and_regions_choose_only_the_script_of_chinese() {
        for (tag, expected) in [
            ("de", "de"),
            ("DE-at", "de"),
            ("en_GB", "en"),
            ("pt", "pt-BR"),
            ("pt-PT", "pt-BR"),
            ("pt-br", "pt-BR"),
            ("es-419", "es"),
            ("zh", "zh-Hans"),
            ("zh-CN", "zh-Hans"),
            ("zh-SG", "zh-Hans"),
            ("zh-Hans", "zh-Hans"),
            ("zh-Hans-HK", "zh-Hans"),
            ("zh-TW", "zh-Hant"),
            ("zh-HK", "zh-Hant"),
            ("zh-MO", "zh-Hant"),
            ("zh-hant", "zh-Hant"),
            ("zh-Hant-CN", "zh-Hant"),
            ("he-IL", "he"),
            ("iw", "he"),
            (" ru ", "ru"),
        ] {
            assert_eq!(Language::parse(tag).unwrap().tag(), expected, "{tag}");
        }
        for tag in ["", "-", "*", "e", "eng", "sv", "deu", "x-de", "d e"] {
            assert!(Language::parse(tag).is_err(), "{tag}");
        }
        for language in Language::ALL {
            assert_eq!(Language::parse(language.tag()).unwrap(), *language);
        }
        assert!(UnknownLanguage.to_string().starts_with("must be one of en, de, fr, "));
    }

    #[test]
    fn the_weightiest_known_language_is_preferred() {
        for (values, expected) in [
            (&[][..], "en"),
            (&[""], "en"),
            (&["*"], "en"),
            (&["sv"], "en"),
            (&["de"], "de"),
            (&["de-AT, en;q=0.5"], "de"),
            (&["en;q=0.5, de"], "de"),
            (&["sv, fr;q=0.8, de;q=0.9"], "de"),
            (&["fr, de"], "fr"),
            (&["fr;q=0.5, de;q=0.5"], "fr"),
            (&["en;q=0, de;q=0.1"], "de"),
            (&["de;q=0"], "en"),
            (&["de;q=much, it;q=0.1"], "it"),
            (&["de;q=-1"], "en"),
            (&["de;q=NaN, it;q=0.1"], "it"),
            (&["de; Q=0.2 , it ;q=0.3"], "it"),
            (&["sv", "ja"], "ja"),
            (&["zh-TW,zh;q=0.9,en-US;q=0.8,en;q=0.7"], "zh-Hant"),
            (&["zh-CN,zh;q=0.9,en;q=0.8"], "zh-Hans"),
            (&["*, de;q=0.5"], "de"),
        ] {
            assert_eq!(Language::preferred(values.iter().copied()).tag(), expected, "{values:?}");
        }
    }
}
