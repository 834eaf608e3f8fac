//! `/console/endpoints`: what support sees of the servers of backends, and what it may do about them.

use esim_status::access::{ApiKeys, Rights, Scope};
use esim_status::delivery::Secrets;
use esim_status::domain::Reach;
use esim_status_testing::receiver::{Receiver, Reply};
use esim_status_testing::{API_KEY, Answer, TestApp, wait_until};
use reqwest::Method;
use serde_json::{Value, json};

use super::console::{SUPPORT, Visitor, between, encoded};
use super::iccid;

/// A service that may call this machine, with a key for everything, and one for the console alone.
async fn start() -> TestApp {
    TestApp::start_with(|settings| {
        settings.reach = Reach::this_machine();
        let secrets = Secrets::parse("test", [API_KEY, SUPPORT]).unwrap();
        let rights =
            vec![Rights::new("shop", Scope::ALL), Rights::new("helpdesk", [Scope::Support])];
        settings.access.api_keys = ApiKeys::new(secrets, rights);
    })
    .await
}

/// Creates an endpoint, and returns its id.
async fn create(app: &TestApp, receiver: &Receiver) -> String {
    let body = json!({ "url": receiver.url(), "description": "the shop" }).to_string();
    let created = app.backend.post("/v1/endpoints", body).await;
    assert_eq!(created.status, 201, "{created:?}");
    created.json()["id"].as_str().unwrap().to_owned()
}

async fn shown(app: &TestApp, id: &str) -> Value {
    app.backend.get(&format!("/v1/endpoints/{id}")).await.json()
}

#[tokio::test]
async fn an_endpoint_is_switched_off_and_on_and_gets_what_has_waited() {
    let (app, receiver) = (start().await, Receiver::start().await);
    let id = create(&app, &receiver).await;
    app.report(&iccid(1), "RELEASED").await;
    receiver.has_accepted(1).await;
    let visitor = Visitor::with(&app, API_KEY).await;
    let list = visitor.page("/console/endpoints").await;
    let page = between(&list, "<th scope=\"row\" class=\"long\"><a href=\"", "\"").to_owned();
    assert_eq!(page, format!("/console/endpoints/{id}"));
    let text = visitor.page(&page).await;
    for expected in [&*receiver.url(), "the shop", ">Active<", "Nothing is held back"] {
        assert!(text.contains(expected), "{expected}: {text}");
    }
    let off = visitor.post(&format!("{page}/off"), &[]).await;
    assert_eq!((off.status.as_u16(), off.header("location")), (303, &*format!("{page}?off")));
    assert_eq!(shown(&app, &id).await["disabledBecause"], "request");
    app.report(&iccid(1), "INSTALLED").await;
    // Whoever reads the changes gives them their positions.
    app.backend.get("/v1/changes").await;
    let text = visitor.page(&format!("{page}?off")).await;
    for expected in [
        "It is switched off",
        "Off: somebody asked for it",
        "that wait, and are delivered then: 1.",
    ] {
        assert!(text.contains(expected), "{expected}: {text}");
    }
    assert!(!text.contains(">Switch off<"), "{text}");
    assert_eq!(receiver.requests().len(), 1);
    let on = visitor.post(&format!("{page}/on"), &[]).await;
    assert_eq!((on.status.as_u16(), on.header("location")), (303, &*format!("{page}?on")));
    receiver.has_accepted(2).await;
    assert_eq!(shown(&app, &id).await["status"], "active");
}

#[tokio::test]
async fn changes_are_sent_again_from_a_time_once_the_host_was_typed() {
    let (app, receiver) = (start().await, Receiver::start().await);
    let id = create(&app, &receiver).await;
    for n in 1..=3 {
        app.report(&iccid(n), "RELEASED").await;
        receiver.has_accepted(n).await;
    }
    let first: Vec<_> = receiver.requests().iter().map(|it| it.id().to_owned()).collect();
    wait_until("all is noted", async || shown(&app, &id).await["delivered"] == 3).await;
    let changes = app.backend.get("/v1/changes").await.json();
    let at = changes["items"][1]["at"].as_str().unwrap().trim_end_matches('Z').to_owned();
    let visitor = Visitor::with(&app, API_KEY).await;
    let replay = format!("/console/endpoints/{id}/replay");
    let look = visitor.post(&replay, &[("from", "time"), ("time", &at)]).await;
    assert_eq!(look.status, 200, "{look:?}");
    assert!(look.text.contains("Up to <strong>2</strong> changes"), "{look:?}");
    assert_eq!(shown(&app, &id).await["cursor"], changes["nextCursor"], "looking changes nothing");
    let after = between(&look.text, "name=\"after\" value=\"", "\"").to_owned();
    let confirm = |host| {
        let (visitor, after, replay) = (&visitor, &after, &replay);
        async move {
            let fields =
                [("from", "cursor"), ("after", &**after), ("confirmed", "yes"), ("host", host)];
            visitor.post(replay, &fields).await
        }
    };
    for wrong in ["", "yes", "127.0.0.2"] {
        let refused = confirm(wrong).await;
        assert_eq!(refused.status, 400, "{wrong}");
        assert!(refused.text.contains("Nothing was changed"), "{refused:?}");
    }
    assert_eq!(receiver.requests().len(), 3);
    let done = confirm("127.0.0.1").await;
    let page = format!("/console/endpoints/{id}?replayed");
    assert_eq!((done.status.as_u16(), done.header("location")), (303, &*page), "{done:?}");
    let again = receiver.has_accepted(5).await;
    // Those of different profiles come in any order.
    let mut again: Vec<_> = again[3..].iter().map(|it| it.id().to_owned()).collect();
    again.sort_unstable();
    assert_eq!(again, first[1..], "the same changes, with the same ids");
    assert!(visitor.page(&page).await.contains("Its place was set."));

    // Further on instead of back: it is said that changes are lost.
    receiver.answers(|_| Reply::status(500));
    app.report(&iccid(4), "RELEASED").await;
    wait_until("one waits", async || shown(&app, &id).await["behind"] == 1).await;
    let look = visitor.post(&replay, &[("from", "now")]).await;
    assert!(look.text.contains("<strong>1</strong> changes that wait are never"), "{look:?}");
    for (field, value) in [("from", ""), ("from", "time"), ("from", "cursor")] {
        let refused = visitor.post(&replay, &[(field, value), ("time", "soon")]).await;
        assert_eq!(refused.status, 400, "{value}");
    }
}

#[tokio::test]
async fn profiles_that_an_endpoint_does_not_accept_are_listed_and_lead_to_their_pages() {
    let (app, receiver) = (start().await, Receiver::start().await);
    let poison = iccid(3);
    receiver
        .answers(move |request| Reply::status(if request.iccid() == poison { 400 } else { 200 }));
    let id = create(&app, &receiver).await;
    for n in 1..5 {
        app.report(&iccid(n), "RELEASED").await;
    }
    receiver.has_accepted(3).await;
    wait_until("one is held back", async || shown(&app, &id).await["heldProfiles"] == 1).await;
    let visitor = Visitor::with(&app, SUPPORT).await;
    let text = visitor.page(&format!("/console/endpoints/{id}")).await;
    let row = between(&text, "<tbody>", "</tbody>");
    assert!(row.contains(&iccid(3)) && !row.contains(&iccid(2)), "{row}");
    let path = between(row, "href=\"", "\"");
    assert!(!path.contains(&iccid(3)[8..]), "{path}");
    assert!(visitor.page(path).await.contains(&format!("<h1>{}</h1>", iccid(3))));
}

#[tokio::test]
async fn only_a_key_that_may_write_changes_an_endpoint() {
    let (app, receiver) = (start().await, Receiver::start().await);
    let id = create(&app, &receiver).await;
    let page = format!("/console/endpoints/{id}");
    let (helpdesk, lead) = (Visitor::with(&app, SUPPORT).await, Visitor::with(&app, API_KEY).await);
    let text = helpdesk.page(&page).await;
    assert!(text.contains("Your key may look only"), "{text}");
    assert!(!text.contains(&format!("action=\"{page}")), "{text}");
    let fields = [("from", "beginning"), ("confirmed", "yes"), ("host", "127.0.0.1")];
    for action in ["on", "off", "replay"] {
        let path = format!("{page}/{action}");
        let refused = helpdesk.post(&path, &fields).await;
        assert_eq!(refused.status, 403, "{action}");
        assert!(refused.text.contains("may look at endpoints, and not change them"), "{refused:?}");
        // From another site, and with the form of another session.
        let home = lead.page("/console").await;
        let token = between(&home, "name=\"form\" value=\"", "\"");
        let other = helpdesk.page("/console").await;
        let other = between(&other, "name=\"form\" value=\"", "\"");
        for (site, token) in [("cross-site", token), ("same-origin", other), ("same-origin", "")] {
            let request = app.anybody.request(Method::POST, &path);
            let request = request.header("cookie", &lead.cookie).header("sec-fetch-site", site);
            let form = [&[("form", token)], &fields[..]].concat();
            let refused = Answer::of(request.body(encoded(&form))).await;
            assert_eq!(refused.status, 403, "{action} {site}");
            assert!(refused.text.contains("open the page again"), "{refused:?}");
        }
    }
    let now = shown(&app, &id).await;
    assert_eq!((&now["status"], &now["behind"]), (&json!("active"), &json!(0)));
    for unknown in ["ep_0", "%20"] {
        let path = format!("/console/endpoints/{unknown}");
        assert_eq!(lead.get(&path).await.status, 404);
        assert_eq!(lead.post(&format!("{path}/off"), &[]).await.status, 404);
    }
}
