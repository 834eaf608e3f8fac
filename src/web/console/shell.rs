//! What all pages of the console have around their content, and how they are answered.

use askama::Template;
use axum::extract::{FromRequestParts, Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};
use url::Url;

use super::super::AppState;
use super::super::middleware::HTML;
use super::super::problem::{Code, Problem};
use super::session::Session;
use crate::domain::{Iccid, Timestamp};
use crate::telemetry;

/// Everything comes from this origin, nothing is inline, and no other page may frame it.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src data:; connect-src 'self'; \
                      base-uri 'none'; form-action 'self'; frame-ancestors 'none'";

/// The pages that the navigation leads to: path below the console, and title.
const PAGES: [(&str, &str); 6] = [
    ("", "Search"),
    ("/overdue", "Overdue"),
    ("/refused", "Refused"),
    ("/hooks", "Hooks"),
    ("/endpoints", "Endpoints"),
    ("/funnel", "Funnel"),
];

/// What a page has around its content.
pub(super) struct Shell {
    /// The path of the console.
    pub base: String,
    /// Who has signed in.
    pub person: Option<Person>,
    /// The pages that the navigation leads to.
    pub links: Vec<Link>,
}

/// Who has signed in.
pub(super) struct Person {
    /// The name of their API key.
    pub name: String,
    /// The token of their forms.
    pub form_token: String,
}

/// A link of the navigation.
pub(super) struct Link {
    /// Where it leads.
    pub to: String,
    /// Its text.
    pub title: &'static str,
    /// Whether it is the present page.
    pub is_here: bool,
}

impl Shell {
    /// The shell of a page of a session. `here` is the page's path below the console.
    pub fn of(app: &AppState, session: &Session, here: &str) -> Self {
        let base = base_path(app);
        let link =
            |(path, title)| Link { to: format!("{base}{path}"), title, is_here: path == here };
        let links = PAGES.into_iter().map(link).collect();
        let person = Person { name: session.name.clone(), form_token: session.form_token() };
        Self { base, person: Some(person), links }
    }

    /// The shell for somebody who has not signed in.
    pub fn of_nobody(app: &AppState) -> Self {
        Self { base: base_path(app), person: None, links: Vec::new() }
    }

    /// The token of the forms of this page.
    pub fn form_token(&self) -> &str {
        self.person.as_ref().map_or("", |person| &person.form_token)
    }
}

/// The path of the console as a browser knows it: a proxy may have the service below a path.
pub(super) fn base_path(app: &AppState) -> String {
    let path = Url::parse(&app.public_url).map(|url| url.path().trim_end_matches('/').to_owned());
    format!("{}/console", path.unwrap_or_default())
}

/// Answers with a page.
///
/// # Errors
/// `internal` if it cannot be rendered.
pub(super) fn page(page: &impl Template) -> Result<Response, Problem> {
    let text = page.render().map_err(|error| {
        tracing::error!(error = &error as &dyn std::error::Error, "a page could not be rendered");
        Problem::new(Code::Internal)
    })?;
    Ok(([(header::CONTENT_TYPE, HTML)], text).into_response())
}

/// Has the browser get another page.
pub(super) fn see_other(to: &str) -> Response {
    (StatusCode::SEE_OTHER, [(header::LOCATION, to)]).into_response()
}

/// Notes who has looked at which profile.
pub(super) fn note(session: &Session, iccid: &Iccid, what: &'static str) {
    tracing::info!(key = session.name, ?iccid, what, "support looked at a profile");
}

/// A time as a page shows it.
pub(super) struct When {
    /// For machines.
    pub exact: String,
    /// For people, in UTC.
    pub text: String,
}

impl From<Timestamp> for When {
    fn from(at: Timestamp) -> Self {
        let exact = at.to_string();
        let text = exact.chars().take(19).map(|c| if c == 'T' { ' ' } else { c }).collect();
        Self { exact, text }
    }
}

/// A duration in its two largest units.
pub(super) fn lasting(seconds: u64) -> String {
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3_600 => format!("{} min {} s", seconds / 60, seconds % 60),
        3_600..86_400 => format!("{} h {} min", seconds / 3_600, seconds % 3_600 / 60),
        _ => format!("{} d {} h", seconds / 86_400, seconds % 86_400 / 3_600),
    }
}

/// A number with its thousands apart.
pub(super) fn grouped(n: i64) -> String {
    let digits = n.unsigned_abs().to_string();
    let mut text = if n < 0 { "-".to_owned() } else { String::new() };
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[derive(Template)]
#[template(path = "console/problem.html")]
struct ProblemPage {
    shell: Shell,
    title: &'static str,
    detail: String,
}

/// Renders problems as pages, leads those who have not signed in to the form, and gives every answer its headers.
pub(super) async fn around(State(app): State<AppState>, request: Request, next: Next) -> Response {
    let (mut parts, body) = request.into_parts();
    let request = Request::from_parts(parts.clone(), body);
    let mut response = next.run(request).await;
    if let Some(problem) = response.extensions_mut().remove::<Problem>() {
        telemetry::count_problem(problem.entry().name);
        let allow = response.headers_mut().remove(header::ALLOW);
        response = if response.status() == StatusCode::UNAUTHORIZED && parts.method.is_safe() {
            see_other(&format!("{}/sign-in", base_path(&app)))
        } else {
            let session = Session::from_request_parts(&mut parts, &app).await.ok();
            render(&app, session.as_ref(), &problem)
        };
        response.headers_mut().extend(allow.map(|allow| (header::ALLOW, allow)));
    }
    let headers = response.headers_mut();
    for (name, value) in [
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_FRAME_OPTIONS, "DENY"),
        // With `no-referrer`, browsers send `Origin: null` with a form.
        (header::REFERRER_POLICY, "same-origin"),
    ] {
        // An evidence sheet has a stricter policy.
        headers.entry(name).or_insert(HeaderValue::from_static(value));
    }
    response
}

fn render(app: &AppState, session: Option<&Session>, problem: &Problem) -> Response {
    let entry = problem.entry();
    let shell = match session {
        Some(session) => Shell::of(app, session, "/problem"),
        None => Shell::of_nobody(app),
    };
    let shown = ProblemPage { shell, title: entry.title, detail: problem.detail().to_owned() };
    match page(&shown) {
        Ok(mut response) => {
            *response.status_mut() = entry.status;
            response
        }
        Err(problem) => problem.into_response(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_has_its_two_largest_units_and_a_number_its_thousands_apart() {
        let shown = [0, 59, 60, 3_599, 3_600, 86_399, 90_000].map(lasting);
        assert_eq!(
            shown,
            ["0 s", "59 s", "1 min 0 s", "59 min 59 s", "1 h 0 min", "23 h 59 min", "1 d 1 h"]
        );
        let shown = [0, 999, 1_000, -12_345, 1_234_567].map(grouped);
        assert_eq!(shown, ["0", "999", "1,000", "-12,345", "1,234,567"]);
    }
}
