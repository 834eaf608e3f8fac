//! `GET /v1/export`: all profiles or all transitions as a stream of lines, for a copy, a report or a spreadsheet.
//!
//! Each page is a separate short read, made when the caller takes it: an export holds no transaction and no connection of the
//! database, however long it takes. If it ends early, it continues after the last whole line.

use std::str::FromStr;

use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_util::stream;
use http::{HeaderName, HeaderValue, header};
use serde::Serialize;
use serde_json::Value;
use tokio::sync::OwnedSemaphorePermit;
use utoipa::ToSchema;

use super::AppState;
use super::callers::Backend;
use super::changes::cursor_of;
use super::extract::Params;
use super::followers::Place;
use super::middleware::Waited;
use super::problem::{Problem, Refusals};
use super::views::{ProfileView, TransitionView};
use crate::domain::Iccid;
use crate::store::profiles::Filter;
use crate::store::{StoreError, profiles, transitions};

/// How many lines are read at once.
const PAGE: i64 = 500;

/// What is exported.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ToSchema)]
#[schema(rename_all = "lowercase")]
enum Of {
    Profiles,
    Transitions,
}

/// How a line is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ToSchema)]
#[schema(rename_all = "lowercase")]
enum Format {
    Ndjson,
    Csv,
}

impl FromStr for Of {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "profiles" => Ok(Self::Profiles),
            "transitions" => Ok(Self::Transitions),
            _ => Err("must be profiles or transitions"),
        }
    }
}

impl FromStr for Format {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "ndjson" => Ok(Self::Ndjson),
            "csv" => Ok(Self::Csv),
            _ => Err("must be ndjson or csv"),
        }
    }
}

/// The line after which an export continues.
#[derive(Debug, Clone)]
struct After {
    iccid: Option<Iccid>,
    seq: i64,
}

/// Reads `after`: an ICCID, for transitions with the `seq` behind a colon.
fn parse_after(of: Of, text: &str) -> Result<After, &'static str> {
    let wanted = match of {
        Of::Profiles => "must be the ICCID of the last line that you have",
        Of::Transitions => {
            "must be the ICCID and the seq of the last line that you have, as ICCID:seq"
        }
    };
    let (iccid, seq) = match (of, text.split_once(':')) {
        (Of::Profiles, None) => (text, Some(0)),
        (Of::Transitions, Some((iccid, seq))) => (iccid, seq.parse().ok().filter(|it| *it >= 0)),
        _ => return Err(wanted),
    };
    let iccid = Iccid::parse(iccid).map_err(|_| wanted)?;
    Ok(After { iccid: Some(iccid), seq: seq.ok_or(wanted)? })
}

/// A transition with its profile.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct TransitionLine {
    iccid: String,
    #[serde(flatten)]
    transition: TransitionView,
}

/// The columns of CSV: the members of a line of JSON, those of an inner object with its name in front.
const PROFILE_COLUMNS: [&str; 29] = [
    "iccid",
    "state",
    "enabled",
    "rawState",
    "provider",
    "since",
    "seq",
    "lastDeliveryAt",
    "deliveries",
    "installsSeen",
    "firstConnectedAt",
    "lastConnectedAt",
    "country",
    "overdue",
    "registered",
    "checks.iccidLuhn",
    "checks.eidMod97",
    "imsi",
    "eid",
    "device.make",
    "device.model",
    "device.tac",
    "uid",
    "activatedAt",
    "lastSeen",
    "reference",
    "expectedFrom",
    "replaces",
    "replacedBy",
];
const TRANSITION_COLUMNS: [&str; 12] = [
    "iccid",
    "seq",
    "fromState",
    "toState",
    "enabled",
    "rawState",
    "kind",
    "reason",
    "source",
    "occurredAt",
    "receivedAt",
    "provider",
];

/// Streams all profiles as they are now, in the order of their ICCIDs, or all transitions, in the order of their profiles and
/// `seq`.
///
/// In CSV, a cell that a spreadsheet would take for a formula begins with `'`. A stream that ends early ends with an error of the
/// connection: send the ICCID of the last whole line as `after` (for transitions `ICCID:seq`) to continue. To keep a copy, follow
/// `GET /v1/changes` when the export is done, from the `X-Changes-Cursor` of its first answer.
#[utoipa::path(
    get, path = "/v1/export", tag = "changes",
    security(("apiKey" = [])),
    params(
        ("of" = inline(Of), Query, description = "What is exported"),
        ("format" = inline(Option<Format>), Query, description = "How a line is written; default `ndjson`: one JSON object a line, as `GET /v1/profiles` and `…/transitions` show it"),
        ("after" = Option<String>, Query, description = "Continue after this line: its ICCID, or `ICCID:seq`"),
    ),
    responses(
        (status = 200, content((String = "application/x-ndjson"), (String = "text/csv")), headers(("X-Changes-Cursor" = String, description = "Where the changes begin that this export may not have; absent with `after`"))),
        Refusals,
    )
)]
pub async fn export(
    State(app): State<AppState>,
    _: Backend,
    mut params: Params,
) -> Result<Response, Problem> {
    let of = params.take("of", str::parse::<Of>)?;
    let of = of.ok_or_else(|| {
        Problem::parameter("of", "is missing; it must be profiles or transitions")
    })?;
    let format = params.take("format", str::parse::<Format>)?.unwrap_or(Format::Ndjson);
    let after = params.take("after", |text| parse_after(of, text))?;
    params.finish()?;
    let place = app.followers.follow_all()?;
    let end = app.end_of_changes().await?;
    let is_begun = after.is_some();
    let after = after.unwrap_or(After { iccid: None, seq: 0 });
    // The first page is read before the answer begins, so that a database that is away is a problem like any other.
    let mut export = Export { app, of, format, next: Some(after), _place: place };
    let header = if is_begun { Vec::new() } else { export.header() };
    let first = export.page().await?.unwrap_or_default();
    let begin =
        stream::iter([Ok::<_, std::io::Error>(Bytes::from(header)), Ok(Bytes::from(first))]);
    let rest = stream::try_unfold(export, |mut export| async move {
        let page = export.page().await.map_err(std::io::Error::other)?;
        Ok(page.map(|page| (Bytes::from(page), export)))
    });
    let lines = futures_util::StreamExt::chain(begin, rest);
    let mut response = Body::from_stream(lines).into_response();
    // How long it takes is up to the caller.
    response.extensions_mut().insert(Waited);
    let content_type = match format {
        Format::Ndjson => "application/x-ndjson",
        Format::Csv => "text/csv; charset=utf-8",
    };
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    // If the export was begun by an earlier call, that call's cursor is the right one.
    if let Some(end) = HeaderValue::try_from(cursor_of(end)).ok().filter(|_| !is_begun) {
        headers.insert(HeaderName::from_static("x-changes-cursor"), end);
    }
    Ok(response)
}

/// An export under way.
struct Export {
    app: AppState,
    of: Of,
    format: Format,
    /// `None` at the end.
    next: Option<After>,
    _place: (Place, OwnedSemaphorePermit),
}

impl Export {
    /// The names of the columns.
    fn header(&self) -> Vec<u8> {
        match (self.format, self.of) {
            (Format::Ndjson, _) => Vec::new(),
            (Format::Csv, of) => csv([columns(of).iter().map(|name| (*name).to_owned())]),
        }
    }

    /// The next lines; `None` at the end.
    async fn page(&mut self) -> Result<Option<Vec<u8>>, StoreError> {
        let Some(after) = self.next.take() else { return Ok(None) };
        if self.app.draining.has_begun() {
            // The caller continues on another replica.
            return Err(StoreError::Busy);
        }
        let lines = match self.of {
            Of::Profiles => self.profiles(&after).await?,
            Of::Transitions => self.transitions(&after).await?,
        };
        let cells = |line| columns(self.of).iter().map(move |column| cell(line, column));
        Ok(Some(match self.format {
            Format::Ndjson => ndjson(&lines),
            Format::Csv => csv(lines.iter().map(cells)),
        }))
    }

    async fn profiles(&mut self, after: &After) -> Result<Vec<Value>, StoreError> {
        let listed = self.app.reads.run(async |connection| {
            profiles::list(connection, &Filter::default(), after.iccid.as_ref(), PAGE).await
        });
        let listed = listed.await?;
        self.next = listed.next.map(|iccid| After { iccid: Some(iccid), seq: 0 });
        Ok(listed.profiles.into_iter().map(|it| value(&ProfileView::from(it))).collect())
    }

    async fn transitions(&mut self, after: &After) -> Result<Vec<Value>, StoreError> {
        let rows = self.app.reads.run(async |connection| {
            transitions::list_all(connection, after.iccid.as_ref(), after.seq, PAGE).await
        });
        let rows = rows.await?;
        let is_full = i64::try_from(rows.len()) == Ok(PAGE);
        let last = rows.last().filter(|_| is_full);
        self.next = last.map(|(iccid, it)| After { iccid: Some(iccid.clone()), seq: it.seq });
        let lines = rows.into_iter().map(|(iccid, transition)| {
            let iccid = iccid.as_str().to_owned();
            value(&TransitionLine { iccid, transition: transition.into() })
        });
        Ok(lines.collect())
    }
}

fn columns(of: Of) -> &'static [&'static str] {
    match of {
        Of::Profiles => &PROFILE_COLUMNS,
        Of::Transitions => &TRANSITION_COLUMNS,
    }
}

/// The views are plain structs with names for keys, which always can be written.
fn value(line: &impl Serialize) -> Value {
    serde_json::to_value(line).unwrap_or_default()
}

fn ndjson(lines: &[Value]) -> Vec<u8> {
    lines.iter().flat_map(|line| format!("{line}\n").into_bytes()).collect()
}

/// Lines of CSV (RFC 4180).
fn csv<L: Iterator<Item = String>>(lines: impl IntoIterator<Item = L>) -> Vec<u8> {
    let mut writer =
        csv::WriterBuilder::new().terminator(csv::Terminator::CRLF).from_writer(Vec::new());
    for line in lines {
        // Writing to memory does not fail.
        drop(writer.write_record(line.map(String::into_bytes)));
    }
    writer.into_inner().unwrap_or_default()
}

/// The text of a member of a line; empty if it is null or absent.
fn cell(line: &Value, column: &str) -> String {
    let mut member = Some(line);
    for name in column.split('.') {
        member = member.and_then(|it| it.get(name));
    }
    match member {
        None | Some(Value::Null) => String::new(),
        Some(Value::String(text)) => harmless(text),
        Some(other) => other.to_string(),
    }
}

/// A text that no spreadsheet takes for a formula. Words of providers and references of resellers come from outside.
fn harmless(text: &str) -> String {
    let is_formula = text.starts_with(['=', '+', '-', '@', '\t', '\r']);
    if is_formula { format!("'{text}") } else { text.to_owned() }
}
