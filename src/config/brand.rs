//! How the install page presents itself.

use url::Url;

use super::BrandArgs;

/// The branding of the install page.
#[derive(Debug, Clone, Default)]
pub struct Brand {
    /// The company's name; empty: none.
    pub name: String,
    /// The page's colour as `#rrggbb`; empty: a neutral one.
    pub color: String,
    /// The page's help link; empty: none.
    pub support_url: String,
}

pub(super) fn check(args: &BrandArgs) -> Result<Brand, String> {
    let color = args.brand_color.clone().unwrap_or_default();
    let is_color = color
        .strip_prefix('#')
        .is_some_and(|hex| hex.len() == 6 && hex.bytes().all(|b| b.is_ascii_hexdigit()));
    if !color.is_empty() && !is_color {
        return Err("ESIM_STATUS_BRAND_COLOR must be a colour such as #0a7d5a".to_owned());
    }
    let support_url = args.support_url.clone().unwrap_or_default();
    let is_link = Url::parse(&support_url)
        .is_ok_and(|url| matches!(url.scheme(), "https" | "http" | "mailto" | "tel"));
    if !support_url.is_empty() && !is_link {
        return Err("ESIM_STATUS_SUPPORT_URL must be a link such as https://help.example.org or mailto:help@example.org".to_owned());
    }
    Ok(Brand { name: args.brand_name.clone().unwrap_or_default(), color, support_url })
}
