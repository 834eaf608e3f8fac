//! The body of one delivery, which is masked until somebody asks for it.

use askama::Template;
use axum::extract::State;
use axum::response::Response;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use uuid::Uuid;

use super::super::AppState;
use super::super::problem::{Code, Problem};
use super::form::Form;
use super::session::Viewed;
use super::shell::{Shell, When, page};
use crate::domain::Outcome;
use crate::store::customer_deliveries;
use crate::store::deliveries::{self, DeliveryRecord};

#[derive(Template)]
#[template(path = "console/body.html")]
struct BodyPage {
    shell: Shell,
    /// The profile to return to.
    handle: Option<String>,
    received: When,
    hook: String,
    outcome: &'static str,
    reason: String,
    is_text: bool,
    body: String,
}

/// `POST /console/profiles/{profile}/body`: the body of a delivery about this profile, or about its customer.
pub(super) async fn of_profile(
    State(app): State<AppState>,
    viewed: Viewed,
    form: Form,
) -> Result<Response, Problem> {
    let id = id_of(&form)?;
    let iccid = &viewed.iccid;
    let found = app.reads.run(async |connection| {
        let own = deliveries::list_of_profile(connection, iccid, Some(behind(id)), 1).await?;
        if own.iter().any(|it| it.id == id) {
            return Ok(own);
        }
        customer_deliveries::list_of_profile(connection, iccid, Some(behind(id)), 1).await
    });
    let found = found.await?;
    let handle = Some(viewed.session.handle(iccid));
    tracing::info!(key = form.session.name, ?iccid, delivery = %id, "support read the body of a delivery");
    show(&app, &form, handle, only(found, id)?)
}

/// `POST /console/body`: the body of a delivery with this outcome.
pub(super) async fn of_outcome(
    State(app): State<AppState>,
    form: Form,
) -> Result<Response, Problem> {
    let id = id_of(&form)?;
    let outcome = form.get("outcome").parse::<Outcome>();
    let outcome = outcome.map_err(|error| Problem::parameter("outcome", error))?;
    let found = app.reads.run(async |connection| {
        deliveries::list_with_outcome(connection, outcome, None, Some(behind(id)), 1).await
    });
    let record = only(found.await?, id)?;
    let iccid = &record.iccid;
    tracing::info!(key = form.session.name, ?iccid, delivery = %id, "support read the body of a delivery");
    show(&app, &form, None, record)
}

fn id_of(form: &Form) -> Result<Uuid, Problem> {
    let id = form.get("delivery").parse();
    id.map_err(|_| Problem::parameter("delivery", "must be the id of a delivery"))
}

/// The place in a list, newest first, behind which this delivery is the next one.
fn behind(id: Uuid) -> Uuid {
    Uuid::from_u128(id.as_u128().saturating_add(1))
}

fn only(found: Vec<DeliveryRecord>, id: Uuid) -> Result<DeliveryRecord, Problem> {
    let found = found.into_iter().find(|it| it.id == id);
    let gone = "The delivery is no longer kept, or is not about this profile.";
    found.ok_or_else(|| Problem::because(Code::UnknownPath, gone))
}

fn show(
    app: &AppState,
    form: &Form,
    handle: Option<String>,
    delivery: DeliveryRecord,
) -> Result<Response, Problem> {
    let (body, is_text) = match String::from_utf8(delivery.body) {
        Ok(text) => (text, true),
        Err(error) => (STANDARD.encode(error.as_bytes()), false),
    };
    page(&BodyPage {
        shell: Shell::of(app, &form.session, "/body"),
        handle,
        received: delivery.received_at.into(),
        hook: delivery.hook,
        outcome: delivery.outcome.as_str(),
        reason: delivery.reason.unwrap_or_default(),
        is_text,
        body,
    })
}
