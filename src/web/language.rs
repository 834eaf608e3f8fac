//! The language of an answer: `lang`, or else `Accept-Language`, or else English.

use http::{HeaderMap, HeaderValue, header};
use url::form_urlencoded;

use super::extract::Params;
use super::problem::Problem;
use crate::texts::Language;

/// Takes the parameter `lang`; without it, `Accept-Language` decides.
///
/// # Errors
/// A problem that names the parameter, if it names no language of ours.
pub fn take(params: &mut Params, headers: &HeaderMap) -> Result<Language, Problem> {
    Ok(params.take("lang", Language::parse)?.unwrap_or_else(|| accepted(headers)))
}

/// The language of a page for people. A `lang` that names none of ours is ignored: a person must not get an error for it.
pub fn of_reader(query: Option<&str>, headers: &HeaderMap) -> Language {
    let mut pairs = form_urlencoded::parse(query.unwrap_or_default().as_bytes());
    let wanted = pairs.find(|(name, _)| name == "lang");
    wanted.and_then(|(_, tag)| Language::parse(&tag).ok()).unwrap_or_else(|| accepted(headers))
}

fn accepted(headers: &HeaderMap) -> Language {
    let values = headers.get_all(header::ACCEPT_LANGUAGE).iter();
    Language::preferred(values.filter_map(|value| value.to_str().ok()))
}

/// Says in which language an answer is, and that another caller may get another one.
pub fn label(headers: &mut HeaderMap, language: Language) {
    headers.insert(header::CONTENT_LANGUAGE, HeaderValue::from_static(language.tag()));
    headers.append(header::VARY, HeaderValue::from_static("accept-language"));
}
