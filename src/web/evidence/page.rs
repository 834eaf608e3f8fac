//! The sheet as a page to print. It is complete in itself, so that it can be saved and sent: its style is inline, there is
//! no script, and nothing is loaded.

use std::fmt::{Display, Write};
use std::sync::LazyLock;

use axum::response::{IntoResponse, Response};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::header;
use sha2::{Digest, Sha256};

use super::super::middleware::HTML;
use super::super::page::escape;
use super::sheet::{CausedView, OtherView, SheetView};
use crate::domain::TransitionKind;

const STYLE: &str = include_str!("sheet.css");

/// Allows this very style and nothing else. The page has the same policy inside, for when it was saved.
static POLICY: LazyLock<String> = LazyLock::new(|| {
    let hash = STANDARD.encode(Sha256::digest(STYLE));
    format!("default-src 'none'; style-src 'sha256-{hash}'; base-uri 'none'; form-action 'none'")
});

/// The answer with the page.
pub(super) fn answer(sheet: &SheetView, signed: Option<&str>, service: &str) -> Response {
    let policy = format!("{}; frame-ancestors 'none'", *POLICY);
    let headers = [
        (header::CONTENT_TYPE, HTML),
        (header::CONTENT_SECURITY_POLICY, &policy),
        (header::REFERRER_POLICY, "no-referrer"),
    ];
    (headers, Page::of(sheet, signed, service).0).into_response()
}

/// The text of the page. Texts from outside get in only through `fact`, `heading` and `signature`, which escape them.
struct Page(String);

impl Page {
    fn of(sheet: &SheetView, signed: Option<&str>, service: &str) -> Self {
        let policy = escape(&POLICY);
        let mut page = Self(format!(
            "<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n\
             <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
             <meta http-equiv=\"Content-Security-Policy\" content=\"{policy}\">\n\
             <title>Evidence about the eSIM {}</title>\n<style>{STYLE}</style>\n\
             <h1>Evidence about an eSIM</h1>\n",
            escape(&sheet.iccid)
        ));
        page.text(
            "What esim-status has recorded about one eSIM profile and about the webhooks that its provider sent. \
             Times are in UTC, by the clock of this service, except where the provider's time is named. \
             Each SHA-256 is that of a webhook's body, exactly as it was received.",
        );
        page.profile(sheet, service);
        page.history(sheet);
        page.others(sheet);
        page.signature(signed, service);
        page
    }

    fn profile(&mut self, sheet: &SheetView, service: &str) {
        self.open("dl");
        self.fact("ICCID", &sheet.iccid);
        self.fact("State", sheet.state);
        self.fact("Since", sheet.since);
        self.fact("The provider's word", &sheet.raw_state);
        self.fact("Switched on", sheet.enabled.map_or("not reported", yes_or_no));
        self.fact("Provider", &sheet.provider);
        self.fact_or("Registered", sheet.registered_at, "never");
        self.known("Order", sheet.reference.as_ref());
        self.fact_or("First connected", sheet.first_connected_at, "not reported");
        self.known("Last connected", sheet.last_connected_at);
        self.known("Country then", sheet.country.as_ref());
        self.fact("Issued", sheet.issued_at);
        self.fact("Issued by", service);
        self.close("dl");
    }

    fn history(&mut self, sheet: &SheetView) {
        self.subtitle("History");
        if !sheet.transitions_complete {
            self.text("This is not the whole history: older entries are left out.");
        }
        if sheet.deliveries_gone > 0 {
            self.text(
                "Webhooks are deleted after a time. Where one is no longer kept, its body has no SHA-256 here.",
            );
        }
        for entry in &sheet.transitions {
            self.entry(entry);
        }
    }

    fn entry(&mut self, entry: &CausedView) {
        let it = &entry.transition;
        let what = match it.from_state {
            _ if it.kind == TransitionKind::Overdue => format!("{} (overdue)", it.to_state),
            Some(from) => format!("{from} → {}", it.to_state),
            None => it.to_state.to_string(),
        };
        self.heading(&format!("{}. {what}", it.seq));
        self.fact(if it.source.is_some() { "Received" } else { "Noticed" }, it.received_at);
        self.known("Provider's time", it.occurred_at);
        self.fact("Kind", it.kind);
        self.known("Source", it.source);
        self.known("Missing", it.reason);
        self.fact("The provider's word", &it.raw_state);
        self.known("Switched on", it.enabled.map(yes_or_no));
        self.fact("Provider", &it.provider);
        self.known("Hook", entry.hook.as_ref());
        self.known("Delivery id", entry.delivery_id);
        self.known("Event id", entry.event_id.as_ref());
        if entry.delivery_id.is_some() {
            self.fact_or("SHA-256", entry.body_sha256.as_ref(), "the webhook is no longer kept");
        }
        self.close("dl");
        self.close("section");
    }

    fn others(&mut self, sheet: &SheetView) {
        self.subtitle("Webhooks that did not change the state");
        if !sheet.other_deliveries_complete {
            self.text("These are not all: older ones are left out.");
        }
        if sheet.other_deliveries.is_empty() {
            self.text("There are none, or they are no longer kept.");
        }
        for delivery in &sheet.other_deliveries {
            let OtherView { delivery_id, received_at, provider, outcome, reason, .. } = delivery;
            self.heading(outcome.as_str());
            self.fact("Received", received_at);
            self.known("Reason", reason.as_ref());
            self.fact("Provider", provider);
            self.fact("Hook", &delivery.hook);
            self.fact("Delivery id", delivery_id);
            self.known("Event id", delivery.event_id.as_ref());
            self.fact("SHA-256", &delivery.body_sha256);
            self.close("dl");
            self.close("section");
        }
    }

    fn signature(&mut self, signed: Option<&str>, service: &str) {
        self.subtitle("Signature");
        let Some(signed) = signed else {
            self.text("This sheet is not signed, because the service has no key: ESIM_STATUS_EVIDENCE_KEYS is not set.");
            return;
        };
        self.text(&format!(
            "A compact JWS (RFC 7515) with Ed25519 over this sheet as JSON, which is its payload. \
             The public key was published at {service}/.well-known/jwks.json. \
             The signature covers the JSON, not this page: to check the page, compare it with the payload."
        ));
        self.0.push_str("<p><code class=\"signature\">");
        self.0.push_str(&escape(signed));
        self.0.push_str("</code></p>\n");
    }

    fn heading(&mut self, title: &str) {
        self.open("section");
        self.element("h3", title);
        self.open("dl");
    }

    fn subtitle(&mut self, text: &str) {
        self.element("h2", text);
    }

    fn text(&mut self, text: &str) {
        self.element("p", text);
    }

    /// A line of a list of facts.
    fn fact(&mut self, name: &str, value: impl Display) {
        self.element("dt", name);
        self.element("dd", &value.to_string());
    }

    /// The same about something that may be unknown.
    fn fact_or(&mut self, name: &str, value: Option<impl Display>, otherwise: &str) {
        match value {
            Some(value) => self.fact(name, value),
            None => self.fact(name, otherwise),
        }
    }

    /// The same, left out if it is unknown.
    fn known(&mut self, name: &str, value: Option<impl Display>) {
        if let Some(value) = value {
            self.fact(name, value);
        }
    }

    fn element(&mut self, name: &str, text: &str) {
        // Writing to a String cannot fail.
        let _ = writeln!(self.0, "<{name}>{}</{name}>", escape(text));
    }

    fn open(&mut self, name: &str) {
        let _ = writeln!(self.0, "<{name}>");
    }

    fn close(&mut self, name: &str) {
        let _ = writeln!(self.0, "</{name}>");
    }
}

fn yes_or_no(it: bool) -> &'static str {
    if it { "yes" } else { "no" }
}
