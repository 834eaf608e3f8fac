//! Every reason and remark that an adapter may give, with each run of digits replaced by `#`. The list is closed, so a
//! reason that echoes a part of the body is found. A new reason must be added here.

/// Panics if `text` is not in the list.
pub(crate) fn assert_known(text: &str) {
    let shape = shape(text);
    let known = match shape.strip_prefix("the body is not one strict JSON object: ") {
        Some(flaw) => {
            let flaw = flaw.strip_suffix(" at line # column #").unwrap_or(flaw);
            SYNTAX.contains(&flaw) || OURS.contains(&flaw)
        }
        None => REASONS.contains(&&*shape),
    };
    assert!(known, "a reason is not in the list, or echoes the body: {text:?}");
}

fn shape(text: &str) -> String {
    let mut shape = String::new();
    for char in text.chars() {
        match char {
            '0'..='9' if shape.ends_with('#') => {}
            '0'..='9' => shape.push('#'),
            other => shape.push(other),
        }
    }
    shape
}

const REASONS: [&str; 71] = [
    "the body is empty; send one JSON object",
    "the body begins with a byte order mark; send plain UTF-#",
    "the body is not one JSON object; it must begin with {",
    "iccid must be a string of # to # digits",
    "iccid must be a string of # to # digits, not another type",
    "iccid must be a string of # to # digits; as a number it may have been rounded already",
    "iccid is missing; send it as a string of # to # digits",
    "eid must be a string, not a number",
    "eid was left out: eid must be a string of # to # hexadecimal digits",
    "eid was left out: it is not a string",
    "imsi must be a string, not a number",
    "imsi was left out: imsi must be a string of # to # digits",
    "imsi was left out: it is not a string",
    "iccid is missing: it should be at /iccid or /data/iccid, a string of # to # digits",
    "two different iccids are at /iccid or /data/iccid; send one",
    "an event of another kind, by its member /event_category",
    "an event of another kind, by its member /event_type",
    "the state is missing: it should be at /status or /data/status",
    "two different states are at /status or /data/status; send one",
    "the state at /status or /data/status must be a text or a number",
    "a word that says nothing about where the profile is",
    "the state is a word that the declaration does not know",
    "occurred_at was left out: it is neither a text nor a number",
    "occurred_at was left out: it is no time in seconds",
    "occurred_at was left out: it is before there were eSIMs",
    "notifyType must be a string that is not empty",
    "smdpStatus must be a string that is not empty",
    "the portal's test of the URL",
    "an event of another kind",
    "a step that is under way",
    "notifyStatus does not say that the step was executed",
    "smdpStatus is a word that this service does not know",
    "timestamp was left out: it is missing, or no time by RFC #",
    "alertType must be a string that is not empty",
    "event must be a string that is not empty",
    "alertType and event differ; send one",
    "alertType or event must name the kind of event",
    "profileStatus must be a string that is not empty",
    "profileStatus is a word that this service does not know",
    "the event's type is not one that reports a profileStatus",
    "the time was left out: timestamp or date is missing, or no time",
    "country was left out: its code must be the two letters of a country",
    "notificationType must be a string that is not empty",
    "NotificationType must be a string that is not empty",
    "notificationType and NotificationType differ; send one",
    "notificationType is missing",
    "notificationType is a word that this service does not know",
    "notificationStatus says neither success nor failure",
    "a step that failed, and changes nothing",
    "timestamp is missing",
    "timestamp was left out: it is neither a text nor a number",
    "timestamp was left out: it is no time in milliseconds",
    "timestamp was left out: it is before there were eSIMs",
    "an ESIM_STATUS that says nothing about the install",
    "an ESIM_STATUS that does not say whether it is installed",
    "profileState is missing",
    "profileState must be a string that is not empty",
    "profileState is a word that this service does not know",
    "newCountry was left out: it must be the two letters of a country",
    "a Balance Alert event, which says nothing about the profile's state",
    "a Balance Activation event, which says nothing about the profile's state",
    "state is missing; send the provider's word for it",
    "activationCode must be an activation code, LPA:#$<SM-DP+ address>$<matching id>, exactly as the provider gave it",
    "uid must be at most # bytes long",
    "state must be a string or null",
    "activationCode must be a string or null",
    "uid must be a string or null",
    "activatedAt must be a string or null",
    "lastSeen must be a string or null",
    "appleUniversalLink must be a string or null",
    "installationUrl must be a string or null",
];

/// The strict reader's own errors.
const OURS: [&str; 3] =
    ["a member is given twice", "a text holds a NUL character", "nested more than # deep"];

/// The errors of `serde_json` for a text that is not JSON.
const SYNTAX: [&str; 20] = [
    "EOF while parsing a list",
    "EOF while parsing an object",
    "EOF while parsing a string",
    "EOF while parsing a value",
    "expected `:`",
    "expected `,` or `]`",
    "expected `,` or `}`",
    "expected ident",
    "expected value",
    "invalid escape",
    "invalid number",
    "number out of range",
    "invalid unicode code point",
    "control character (\\u#-\\u#F) found while parsing a string",
    "key must be a string",
    "trailing comma",
    "trailing characters",
    "lone leading surrogate in hex escape",
    "unexpected end of hex escape",
    "recursion limit exceeded",
];
