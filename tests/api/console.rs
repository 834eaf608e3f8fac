//! `/console`: the pages for support.
//!
//! The tests sign in over a socket as a browser would, follow the links that the pages have, and read the pages as text. That
//! they are usable is tested in a real browser.

use esim_status::access::{ApiKeys, Rights, Scope};
use esim_status::clock;
use esim_status::delivery::Secrets;
use esim_status::store::upkeep;
use esim_status_testing::{API_KEY, Answer, Client, TOKEN_SECRET, TestApp};
use futures_util::stream::{FuturesUnordered, StreamExt};
use reqwest::Method;
use serde_json::json;

use super::esim::{object_with, register};
use super::overdue::look;
use super::{ICCID, iccid};

pub(super) const SUPPORT: &str = "77b1c0e4d2a95f386e01";
const READER: &str = "9f2c41d07be8835a6610";
const MARKUP: &str = "<script>alert(1)</script>\"'&";

/// A service with a key for everything, one for the console, and one that may only read.
async fn app() -> TestApp {
    TestApp::start_with(|settings| {
        let secrets = Secrets::parse("test", [API_KEY, SUPPORT, READER]).unwrap();
        let rights = vec![
            Rights::new("shop", Scope::ALL),
            Rights::new("helpdesk", [Scope::Support]),
            Rights::new("reader", [Scope::Read]),
        ];
        settings.access.api_keys = ApiKeys::new(secrets, rights);
    })
    .await
}

/// A browser that has signed in.
pub(super) struct Visitor<'a> {
    app: &'a TestApp,
    pub cookie: String,
}

pub(super) fn encoded(fields: &[(&str, &str)]) -> String {
    url::form_urlencoded::Serializer::new(String::new()).extend_pairs(fields).finish()
}

/// Posts a form as a browser does from a page of this service.
async fn post(client: &Client, path: &str, cookie: &str, fields: &[(&str, &str)]) -> Answer {
    let request = client.request(Method::POST, path).header("sec-fetch-site", "same-origin");
    Answer::of(request.header("cookie", cookie).body(encoded(fields))).await
}

async fn sign_in(app: &TestApp, key: &str) -> Answer {
    post(&app.anybody, "/console/sign-in", "", &[("key", key)]).await
}

/// What stands between two texts in a page.
pub(super) fn between<'a>(page: &'a str, before: &str, after: &str) -> &'a str {
    let (_, rest) = page.split_once(before).unwrap_or_else(|| panic!("no {before}: {page}"));
    rest.split_once(after).unwrap().0
}

impl<'a> Visitor<'a> {
    async fn new(app: &'a TestApp) -> Self {
        Self::with(app, SUPPORT).await
    }

    /// Signs in with this key.
    pub async fn with(app: &'a TestApp, key: &str) -> Self {
        let answer = sign_in(app, key).await;
        assert_eq!((answer.status.as_u16(), answer.header("location")), (303, "/console"));
        let cookie = answer.header("set-cookie").split(';').next().unwrap().to_owned();
        Self { app, cookie }
    }

    pub async fn get(&self, path: &str) -> Answer {
        self.app.anybody.get_with(path, "cookie", &self.cookie).await
    }

    pub async fn page(&self, path: &str) -> String {
        let answer = self.get(path).await;
        assert_eq!(answer.status, 200, "{path}: {answer:?}");
        assert_eq!(answer.header("content-type"), "text/html; charset=utf-8");
        answer.text
    }

    /// Posts a form with the token of a page of the session.
    pub async fn post(&self, path: &str, fields: &[(&str, &str)]) -> Answer {
        let page = self.page("/console").await;
        let token = between(&page, "name=\"form\" value=\"", "\"");
        let fields = [&[("form", token)], fields].concat();
        post(&self.app.anybody, path, &self.cookie, &fields).await
    }

    async fn search(&self, wanted: &str) -> Answer {
        self.post("/console", &[("wanted", wanted)]).await
    }

    /// The path of the page of a profile, which the search leads to.
    async fn find(&self, wanted: &str) -> String {
        let found = self.search(wanted).await;
        assert_eq!(found.status, 303, "{wanted}: {found:?}");
        found.header("location").to_owned()
    }
}

#[tokio::test]
async fn only_a_key_for_the_console_opens_it() {
    let app = app().await;
    app.report(ICCID, "RELEASED").await;
    let made = app.backend.post(&format!("/v1/profiles/{ICCID}/tokens"), "").await.json();
    let access_token = made["token"].as_str().unwrap().to_owned();
    for key in ["", READER, &SUPPORT[1..], TOKEN_SECRET, &access_token] {
        let refused = sign_in(&app, key).await;
        assert_eq!((refused.status.as_u16(), refused.header("set-cookie")), (403, ""), "{key}");
        assert!(refused.text.contains("This is no API key for the console"), "{refused:?}");
        assert!(key.is_empty() || !refused.text.contains(key), "{refused:?}");
    }
    for key in [API_KEY, SUPPORT] {
        let answer = sign_in(&app, key).await;
        let cookie = answer.header("set-cookie");
        assert!(!cookie.contains(key), "{cookie}");
        assert!(
            cookie.ends_with("; Path=/console; Max-Age=3600; HttpOnly; SameSite=Strict"),
            "{cookie}"
        );
    }
    for path in ["/console", "/console/overdue", "/console/refused", "/console/profiles/x"] {
        let answer = app.anybody.get(path).await;
        assert_eq!((answer.status.as_u16(), answer.header("location")), (303, "/console/sign-in"));
        assert_eq!(app.backend.get(path).await.status, 303, "{path}: a key in a header");
    }
}

#[tokio::test]
async fn nobody_is_kept_out_by_others_who_try_wrong_keys() {
    let app = TestApp::start().await;
    let wrong = async || sign_in(&app, "wrong-wrong-wrong-wrong").await.status.as_u16();
    let mut guesses: FuturesUnordered<_> = (0..60).map(|_| wrong()).collect();
    // Some wait for their turn now: at eight a second, the last ones of them get none.
    assert_eq!(guesses.next().await, Some(403));
    tokio::select! {
        answer = sign_in(&app, API_KEY) => assert_eq!(answer.status, 303),
        () = async { while guesses.next().await.is_some() {} } => panic!("all wrong keys were answered first"),
    }
}

#[tokio::test]
async fn a_cookie_is_secure_where_the_public_address_has_tls() {
    let app = TestApp::start_with(|settings| {
        settings.public_url = Some("https://esim.example/base".to_owned());
    })
    .await;
    let cookie = sign_in(&app, API_KEY).await;
    assert_eq!(cookie.header("location"), "/base/console");
    let cookie = cookie.header("set-cookie");
    assert!(cookie.contains("; Path=/base/console;") && cookie.ends_with("; Secure"), "{cookie}");
}

#[tokio::test]
async fn a_key_reads_and_writes_only_within_its_scopes() {
    let app = app().await;
    app.report(ICCID, "RELEASED").await;
    let profile = format!("/v1/profiles/{ICCID}");
    let tokens = format!("{profile}/tokens");
    let (reader, support) = (app.anybody.with_bearer(READER), app.anybody.with_bearer(SUPPORT));
    assert_eq!(reader.get(&profile).await.status, 200);
    assert_eq!(reader.get("/v1/profiles").await.status, 200);
    for refused in [
        reader.post(&tokens, "").await,
        Answer::of(reader.request(Method::DELETE, &profile)).await,
        support.get(&profile).await,
        support.get("/v1/summary").await,
        support.post(&tokens, "").await,
    ] {
        assert_eq!((refused.status.as_u16(), &*refused.problem()), (403, "forbidden"));
        assert!(refused.text.contains("this API key may not"), "{refused:?}");
    }
    assert_eq!(app.backend.post(&tokens, "").await.status, 200);
}

#[tokio::test]
async fn a_form_from_elsewhere_or_of_another_session_is_refused() {
    let app = app().await;
    app.report(ICCID, "RELEASED").await;
    let visitor = Visitor::new(&app).await;
    let page = visitor.find(ICCID).await;
    let erase = format!("{page}/erase");
    let text = visitor.page("/console").await;
    let token = between(&text, "name=\"form\" value=\"", "\"").to_owned();
    let digits = &ICCID[ICCID.len() - 6..];
    let send = |site: &'static str, origin: &'static str, token: String| {
        let mut request =
            app.anybody.request(Method::POST, &erase).header("cookie", &visitor.cookie);
        for (name, value) in [("sec-fetch-site", site), ("origin", origin)] {
            if !value.is_empty() {
                request = request.header(name, value);
            }
        }
        Answer::of(request.body(encoded(&[("form", &token), ("digits", digits)])))
    };
    let other = Visitor::new(&app).await.page("/console").await;
    let other = between(&other, "name=\"form\" value=\"", "\"").to_owned();
    for (site, origin, token) in [
        ("", "", token.clone()),
        ("cross-site", "", token.clone()),
        ("same-site", "", token.clone()),
        ("", "https://evil.example", token.clone()),
        ("same-origin", "null", token.clone()),
        ("same-origin", "", String::new()),
        ("same-origin", "", other),
    ] {
        let refused = send(site, origin, token).await;
        assert_eq!(refused.status, 403, "{site} {origin}");
        assert!(refused.text.contains("open the page again"), "{refused:?}");
    }
    assert_eq!(app.backend.get(&format!("/v1/profiles/{ICCID}")).await.status, 200);
    let signed_out = sign_in_from_elsewhere(&app).await;
    assert_eq!((signed_out.status.as_u16(), signed_out.header("set-cookie")), (403, ""));
    assert_eq!(send("same-origin", "", token).await.status, 303);
}

async fn sign_in_from_elsewhere(app: &TestApp) -> Answer {
    let request = app.anybody.request(Method::POST, "/console/sign-in");
    let request = request.header("origin", "https://evil.example");
    Answer::of(request.body(encoded(&[("key", SUPPORT)]))).await
}

#[tokio::test]
async fn signing_out_ends_every_copy_of_the_cookie_at_every_replica() {
    let app = app().await;
    let replica = TestApp::start_on(app.database.clone(), |settings| {
        let secrets = Secrets::parse("test", [SUPPORT]).unwrap();
        let rights = vec![Rights::new("helpdesk", [Scope::Support])];
        settings.access.api_keys = ApiKeys::new(secrets, rights);
    })
    .await;
    app.report(ICCID, "RELEASED").await;
    let (visitor, other) = (Visitor::new(&app).await, Visitor::new(&app).await);
    let profile = visitor.find(ICCID).await;
    let copy = Visitor { app: &replica, cookie: visitor.cookie.clone() };
    assert_eq!(copy.get(&profile).await.status, 200);
    let text = visitor.page("/console").await;
    let token = between(&text, "name=\"form\" value=\"", "\"").to_owned();
    let answer = visitor.post("/console/sign-out", &[]).await;
    assert_eq!((answer.status.as_u16(), answer.header("location")), (303, "/console/sign-in"));
    assert!(
        answer.header("set-cookie").starts_with("esim-status-console=; Path=/console; Max-Age=0")
    );
    for copy in [&visitor, &copy] {
        for path in ["/console", &profile, "/console/overdue"] {
            let refused = copy.get(path).await;
            let led = (refused.status.as_u16(), refused.header("location"));
            assert_eq!(led, (303, "/console/sign-in"), "{path}");
        }
        let digits = &ICCID[ICCID.len() - 6..];
        let fields = [("form", &*token), ("digits", digits)];
        let erase = format!("{profile}/erase");
        assert_eq!(post(&copy.app.anybody, &erase, &copy.cookie, &fields).await.status, 401);
    }
    assert_eq!(app.profile(ICCID).await["state"], "RELEASED");
    // Another session of the same key goes on.
    assert_eq!(other.get("/console").await.status, 200);
}

#[tokio::test]
async fn an_address_that_is_no_page_is_answered_by_the_console_and_tells_strangers_nothing() {
    let app = app().await;
    let visitor = Visitor::new(&app).await;
    for path in [
        "/console/nothing",
        "/console/nothing/at/all",
        "/console/profiles",
        "/console/profiles/x/erase",
        "/console/sign-out",
    ] {
        let stranger = app.anybody.get(path).await;
        let led = (stranger.status.as_u16(), stranger.header("location"));
        assert_eq!(led, (303, "/console/sign-in"), "{path}");
        let person = visitor.get(path).await;
        let exists = path.ends_with("/erase") || path.ends_with("/sign-out");
        assert_eq!(person.status, if exists { 405 } else { 404 }, "{path}");
        assert_eq!(person.header("allow"), if exists { "POST" } else { "" }, "{path}");
        assert_eq!(person.header("content-type"), "text/html; charset=utf-8");
        assert!(person.header("content-security-policy").contains("default-src 'none'"));
        // With the way back.
        assert!(person.text.contains("<nav aria-label=\"Console\">"), "{person:?}");
    }
    let known = post(&app.anybody, "/console/overdue", "", &[]).await;
    let unknown = post(&app.anybody, "/console/nothing", "", &[]).await;
    assert_eq!((known.status.as_u16(), unknown.status.as_u16()), (401, 401));
    assert_eq!(known.text, unknown.text);
    assert_eq!(visitor.post("/console/nothing", &[]).await.status, 404);
    // A slash at the end is the same page.
    let home = app.anybody.get("/console/").await;
    assert_eq!((home.status.as_u16(), home.header("location")), (303, "/console/sign-in"));
    assert_eq!(visitor.get("/console/").await.status, 200);
    let metrics = app.admin.get("/metrics").await.text;
    assert!(!metrics.contains("nothing"), "{metrics}");
}

#[tokio::test]
async fn every_number_of_a_profile_leads_to_its_page_and_none_is_in_an_address() {
    let app = app().await;
    let body = json!({ "iccid": ICCID, "profileState": "INSTALLED", "imsi": "260216611193634",
                       "eid": "89049032123451234512345678901235" });
    app.deliver(body.to_string()).await;
    register(&app, &object_with(ICCID, "reference", "A-1002")).await;
    let uid = app.profile(ICCID).await["uid"].as_str().unwrap().to_owned();
    let visitor = Visitor::new(&app).await;
    let page = visitor.find(ICCID).await;
    let imsi = app.profile(ICCID).await["imsi"].as_str().unwrap().to_owned();
    let grouped = format!("{} {}", &ICCID[..8], &ICCID[8..]);
    for wanted in [&imsi, "89049032123451234512345678901235", &uid, "A-1002", &grouped] {
        assert_eq!(visitor.find(wanted).await, page, "{wanted}");
    }
    let end = &ICCID[ICCID.len() - 6..];
    // The upkeep builds the index for that.
    upkeep::run_whole(&mut app.database.connect().await, clock::now(), 90).await.unwrap();
    assert_eq!(visitor.find(end).await, page);
    // Four digits are enough, unless they are the number of an order.
    assert_eq!(visitor.find(&ICCID[ICCID.len() - 4..]).await, page);
    register(&app, &object_with(&iccid(1), "reference", &ICCID[ICCID.len() - 4..])).await;
    let other = visitor.find(&iccid(1)).await;
    assert_eq!(visitor.find(&ICCID[ICCID.len() - 4..]).await, other);
    assert!(!page.contains(&ICCID[4..]), "{page}");
    let text = visitor.page(&page).await;
    for link in text.split("href=\"").chain(text.split("action=\"")).skip(1) {
        let link = link.split('"').next().unwrap();
        assert!(!link.contains(end) && !link.contains(&imsi), "{link}");
    }
    let none = visitor.search("89972123300991848999").await;
    assert!(none.text.contains("No profile has this number"), "{none:?}");
    // A handle is of its session.
    let other = Visitor::new(&app).await.get(&page).await;
    assert_eq!(other.status, 404);
    assert!(other.text.contains("search for the profile again"), "{other:?}");
}

#[tokio::test]
async fn several_profiles_are_a_list() {
    let app = app().await;
    for n in [1, 2] {
        register(&app, &object_with(&iccid(n), "reference", "A-1002")).await;
    }
    let found = Visitor::new(&app).await.search("A-1002").await;
    assert_eq!(found.status, 200);
    assert!(found.text.contains("2 profiles"), "{found:?}");
    assert!(found.text.contains(&iccid(1)) && found.text.contains(&iccid(2)));
}

#[tokio::test]
async fn the_page_of_a_profile_tells_its_story_and_masks_bodies_until_asked() {
    let app = app().await;
    for state in ["RELEASED", "INSTALLED", "INSTALLED", "GREEN"] {
        app.report(ICCID, state).await;
    }
    let visitor = Visitor::new(&app).await;
    let path = visitor.find(ICCID).await;
    let page = visitor.page(&path).await;
    for expected in [
        ICCID,
        "<h3>RELEASED → INSTALLED</h3>",
        "<h3>The same state again</h3>",
        "<h3>A word that is not understood</h3>",
        "Is data roaming on for this eSIM",
    ] {
        assert!(page.contains(expected), "{expected}: {page}");
    }
    assert!(!page.contains("&#34;iccid&#34;"), "{page}");
    let delivery = between(&page, "name=\"delivery\" value=\"", "\"");
    let body = visitor.post(&format!("{path}/body"), &[("delivery", delivery)]).await;
    assert!(body.status == 200 && body.text.contains("&#34;iccid&#34;"), "{body:?}");
    assert!(body.text.contains("&#34;GREEN&#34;"), "{body:?}");

    let activation = json!({ "uid": "customer-4711", "activatedItem": "EU 5 GB" });
    assert_eq!(app.deliver(activation.to_string()).await.outcome(), "ignored");
    let object = json!({ "iccid": ICCID, "state": "INSTALLED", "uid": "customer-4711" });
    register(&app, &object).await;
    let page = visitor.page(&path).await;
    let title = "<h3>About the customer, not this eSIM</h3>";
    assert!(page.contains(title) && !page.contains("EU 5 GB"), "{page}");
    let about = &page[page.find(title).unwrap()..];
    let about = between(about, "name=\"delivery\" value=\"", "\"");
    let body = visitor.post(&format!("{path}/body"), &[("delivery", about)]).await;
    assert!(body.text.contains("EU 5 GB"), "{body:?}");

    // The delivery of one profile is not shown as one of another.
    app.report(&iccid(1), "RELEASED").await;
    let other = visitor.find(&iccid(1)).await;
    let refused = visitor.post(&format!("{other}/body"), &[("delivery", delivery)]).await;
    assert_eq!(refused.status, 404);
    let refused = visitor.post(&format!("{other}/body"), &[("delivery", about)]).await;
    assert_eq!(refused.status, 404);
    let sheet = visitor.page(&format!("{path}/evidence")).await;
    assert!(sheet.contains("Evidence about an eSIM"), "{sheet}");
}

#[tokio::test]
async fn a_page_learns_of_a_change() {
    let app = app().await;
    app.report(ICCID, "RELEASED").await;
    let visitor = Visitor::new(&app).await;
    let page = visitor.page(&visitor.find(ICCID).await).await;
    let changes = between(&page, "data-changes=\"", "\"").to_owned();
    let wait = visitor.get(&changes);
    let change = async {
        // Whether the change comes before or after the request, it is noticed.
        app.report(ICCID, "INSTALLED").await;
    };
    let (answer, ()) = tokio::join!(wait, change);
    assert_eq!(answer.status, 200);
}

#[tokio::test]
async fn support_makes_a_link_that_works_once_shown() {
    let app = app().await;
    app.report(ICCID, "RELEASED").await;
    let visitor = Visitor::new(&app).await;
    let path = visitor.find(ICCID).await;
    let answer = visitor.post(&format!("{path}/link"), &[]).await;
    let url = between(&answer.text, "id=\"url\" value=\"", "\"");
    let (_, token) = url.split_once("/install#").unwrap();
    let user = app.anybody.with_bearer(token);
    assert_eq!(user.get("/v1/profiles/self").await.json()["iccid"], ICCID);
    assert!(!visitor.page(&path).await.contains("/install#"));
    // Nobody can be asked here.
    assert_eq!(visitor.post(&format!("{path}/ask"), &[]).await.status, 409);
}

#[tokio::test]
async fn an_erasure_needs_the_last_six_digits() {
    let app = app().await;
    app.report(ICCID, "RELEASED").await;
    let visitor = Visitor::new(&app).await;
    let path = visitor.find(ICCID).await;
    let erase = format!("{path}/erase");
    let end = ICCID.len();
    for wrong in ["", "000000", &ICCID[end - 5..], &ICCID[end - 7..], ICCID] {
        let answer = visitor.post(&erase, &[("digits", wrong)]).await;
        assert_eq!(answer.status, 400, "{wrong}");
        assert!(answer.text.contains("Nothing was erased"), "{answer:?}");
    }
    assert_eq!(app.profile(ICCID).await["state"], "RELEASED");
    let answer = visitor.post(&erase, &[("digits", &ICCID[end - 6..])]).await;
    assert_eq!((answer.status.as_u16(), answer.header("location")), (303, "/console?erased"));
    assert!(visitor.page("/console?erased").await.contains("The profile was erased."));
    assert_eq!(app.backend.get(&format!("/v1/profiles/{ICCID}")).await.status, 404);
    assert_eq!(visitor.get(&path).await.status, 404);
}

#[tokio::test]
async fn what_others_have_written_is_text_and_never_markup() {
    let app = app().await;
    let body = json!({ "iccid": ICCID, "profileState": MARKUP, "note": MARKUP });
    app.report(ICCID, "RELEASED").await;
    assert_eq!(app.deliver(body.to_string()).await.outcome(), "unrecognised");
    register(&app, &object_with(ICCID, "reference", MARKUP)).await;
    let endpoint = json!({ "url": "https://93.184.215.14/hook", "description": MARKUP });
    let made = app.backend.post("/v1/endpoints", endpoint.to_string()).await;
    assert_eq!(made.status, 201, "{made:?}");
    let visitor = Visitor::new(&app).await;
    let path = visitor.find(MARKUP).await;
    let mut pages = vec![visitor.search(&format!("{MARKUP}?")).await.text];
    let endpoint = format!("/console/endpoints/{}", made.json()["id"].as_str().unwrap());
    for page in [&*path, "/console/refused", "/console/endpoints", &endpoint, "/console/hooks"] {
        pages.push(visitor.page(page).await);
    }
    let delivery = between(&pages[1], "name=\"delivery\" value=\"", "\"");
    pages.push(visitor.post(&format!("{path}/body"), &[("delivery", delivery)]).await.text);
    for page in &pages {
        assert!(!page.contains("<script>") && !page.contains("alert(1)</script>"), "{page}");
    }
    for place in [0, 1, 3, 4, 6] {
        assert!(pages[place].contains("&#60;script&#62;alert(1)"), "{}", pages[place]);
    }
}

#[tokio::test]
async fn what_was_refused_is_grouped_by_its_cause_with_an_example() {
    let app = app().await;
    for body in ["[1]", "[2]", "[3]"] {
        assert_eq!(app.deliver(body).await.status, 400);
    }
    app.report(ICCID, "RELEASED").await;
    app.report(ICCID, "GREEN").await;
    let visitor = Visitor::new(&app).await;
    let page = visitor.page("/console/refused").await;
    let row = between(&page, "<span class=\"state\">malformed</span>", "</tr>");
    assert!(row.contains("<td class=\"number\">3</td>"), "{row}");
    assert!(page.contains("<span class=\"state\">unrecognised</span>") && !page.contains("[3]"));
    let example = between(row, "name=\"delivery\" value=\"", "\"");
    let fields = [("delivery", example), ("outcome", "malformed")];
    let body = visitor.post("/console/body", &fields).await;
    assert!(body.text.contains(">[3]</pre>"), "{body:?}");
}

#[tokio::test]
async fn what_is_overdue_is_listed_by_reason_those_first_that_have_waited_longest() {
    let app = app().await;
    // Reported from the last number to the first, so that the order is not that of the numbers.
    let reported: Vec<_> = (0..52).rev().map(iccid).collect();
    for iccid in &reported {
        app.report(iccid, "ERROR").await;
    }
    app.report(&iccid(60), "DOWNLOADED").await;
    assert_eq!(look(&app, 7_200).await, 53);
    let visitor = Visitor::new(&app).await;
    let numbers = |page: &str| {
        let rows = page.split("<th scope=\"row\">").skip(1).map(|row| between(row, "\">", "</a>"));
        rows.map(str::to_owned).collect::<Vec<_>>()
    };
    let first = visitor.page("/console/overdue").await;
    for count in ["Failed<span class=\"count\">52<", "Not finished<span class=\"count\">1<"] {
        assert!(first.contains(count), "{count}: {first}");
    }
    assert_eq!(numbers(&first), reported[..50]);
    let next = between(&first, "<a class=\"button quiet\" href=\"", "\"").replace("&#38;", "&");
    assert!(!reported.iter().any(|iccid| next.contains(iccid)), "{next}");
    let second = visitor.page(&next).await;
    assert_eq!(numbers(&second), reported[50..]);
    assert!(!second.contains("Next page"), "{second}");
    let other = visitor.page("/console/overdue?reason=not-finished").await;
    assert_eq!(numbers(&other), [iccid(60)]);
}

#[tokio::test]
async fn the_funnel_shows_how_far_profiles_come() {
    let app = app().await;
    for n in 0..4 {
        app.report(&iccid(n), "RELEASED").await;
    }
    app.report(&iccid(0), "INSTALLED").await;
    let page = Visitor::new(&app).await.page("/console/funnel").await;
    for (step, profiles, share) in [("Ready", 4, 100), ("Installed", 1, 25), ("Connected", 0, 0)] {
        let row = between(&page, &format!("<th scope=\"row\">{step}</th>"), "</tr>");
        assert!(row.contains(&format!(">{profiles}</td>")), "{row}");
        assert!(row.contains(&format!("<rect width=\"{share}\"")), "{row}");
    }
    assert!(page.contains("Time from ready to installed"), "{page}");
}

#[tokio::test]
async fn every_answer_has_its_headers_and_every_page_of_the_navigation_exists() {
    let app = app().await;
    app.report(ICCID, "INSTALLED").await;
    let visitor = Visitor::new(&app).await;
    let home = visitor.page("/console").await;
    let nav = between(&home, "<nav aria-label=\"Console\">", "</nav>");
    let links: Vec<_> =
        nav.split("href=\"").skip(1).map(|it| it.split('"').next().unwrap()).collect();
    assert_eq!(links.len(), 6, "{nav}");
    let profile = visitor.find(ICCID).await;
    for path in links.into_iter().chain([&*profile, "/console/sign-in", "/console/profiles/none"]) {
        let answer = visitor.get(path).await;
        let policy = answer.header("content-security-policy");
        for part in ["default-src 'none'", "frame-ancestors 'none'", "script-src 'self'"] {
            assert!(policy.contains(part), "{path}: {policy}");
        }
        assert!(!policy.contains("unsafe"), "{policy}");
        let headers =
            ["cache-control", "x-frame-options", "referrer-policy"].map(|it| answer.header(it));
        assert_eq!(headers, ["no-store", "DENY", "same-origin"], "{path}");
        assert!(!answer.text.contains(" style=") && !answer.text.contains(" onclick="));
    }
}
