//! A handler that panics: its request gets a 500 without the cause, and all other requests are served.
//!
//! The test adds a route that panics to the routes of a real service, and calls it together with real webhooks.

use axum::Router;
use axum::routing::get;
use esim_status::listener::{Limits, serve};
use esim_status::web::{self, AppState};
use esim_status_testing::{Client, TestApp};
use futures_util::future::join_all;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::iccid;
use super::turn::{beside_others, measured};

#[tokio::test]
async fn a_panic_in_a_handler_is_one_500_and_affects_no_other_request() {
    let _turn = beside_others().await;
    let app = TestApp::start().await;
    let faulty: Router<AppState> =
        Router::new().route("/panic", get(|| async { assert_eq!(1, 2, "on purpose") }));
    let state = app.service.app().clone();
    let routes = web::routes(state.clone()).merge(web::wrap(faulty, state));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let client = Client::new(format!("http://{}", listener.local_addr().unwrap()));
    let end = CancellationToken::new();
    let limits = Limits::default();
    let serving = tokio::spawn(serve(listener, routes, limits, end.clone(), limits.half_closed));

    join_all((0..20).map(async |number| {
        let answer = client.get("/panic").await;
        assert_eq!((answer.status.as_u16(), &*answer.problem()), (500, "internal"));
        assert!(!answer.text.contains("on purpose"), "{answer:?}");
        let body = format!(r#"{{"iccid":"{}","profileState":"INSTALLED"}}"#, iccid(number));
        assert_eq!(client.post(&TestApp::hook_path(), body).await.outcome(), "moved");
        assert_eq!(app.profile(&iccid(number)).await["seq"], 1);
    }))
    .await;
    end.cancel();
    assert_eq!(serving.await.unwrap().cut, 0);
    measured(
        "a panic in a handler",
        "20 of 20 answered 500, the 20 concurrent deliveries accepted",
    );
}
