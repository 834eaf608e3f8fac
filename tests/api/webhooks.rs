//! `POST /webhooks/{provider}/{topic}`.

use esim_status_testing::TestApp;

const ICCID: &str = "89972123300991848961";

#[tokio::test]
async fn install_remove_install_again_is_three_transitions() {
    let app = TestApp::start().await;
    for state in ["INSTALLED", "RELEASED", "INSTALLED"] {
        assert_eq!(app.report(ICCID, state).await, "moved");
        assert_eq!(app.report(ICCID, state).await, "repeated");
    }
    let profile = app.profile(ICCID).await;
    assert_eq!(
        (&profile["seq"], &profile["installsSeen"], &profile["deliveries"]),
        (&3.into(), &2.into(), &6.into())
    );
    app.assert_straight(ICCID).await;
}
