//! Takes the screenshots of the documentation. `scripts/pictures` stores them; otherwise the test only checks that they
//! can be taken.

use std::path::Path;

use esim_status::config::Brand;
use esim_status_testing::TestApp;

use super::browser::{Browser, Device, IPHONE};
use super::console;
use super::profile::{ICCID, page, register};

/// File name, device, whether the theme is dark, the reported state, and the title to wait for.
const PICTURES: [(&str, Device, bool, &str, &str); 4] = [
    ("released", desktop(1_520), false, "RELEASED", "Install your eSIM"),
    ("phone", Device { height: 1_130, ..IPHONE }, false, "RELEASED", "Install your eSIM"),
    ("installed", desktop(1_110), true, "INSTALLED", "Your eSIM is installed"),
    ("failed", desktop(900), false, "ERROR", "The install failed"),
];

const fn desktop(height: u32) -> Device {
    Device { width: 860, height, user_agent: "", model: "" }
}

/// The page of a profile in the console.
#[tokio::test]
async fn a_picture_of_the_console_can_be_taken() {
    let app = TestApp::start().await;
    register(&app).await;
    for state in ["DOWNLOADED", "INSTALLED", "DISABLED"] {
        app.report(ICCID, state).await;
    }
    let browser = Browser::start(Device { width: 1_120, height: 900, ..desktop(0) }).await;
    console::find(&app, &browser).await;
    let picture = browser.screenshot().await;
    assert!(picture.starts_with(b"\x89PNG"));
    keep("console", &picture);
}

#[tokio::test]
async fn pictures_of_four_states_can_be_taken() {
    for (name, device, is_dark, state, title) in PICTURES {
        let app = TestApp::start_with(|settings| {
            settings.brand = Brand {
                name: "Nordwind Mobile".to_owned(),
                color: "#2456e6".to_owned(),
                support_url: "https://help.example.com/".to_owned(),
            };
        })
        .await;
        register(&app).await;
        app.report(ICCID, state).await;
        let browser = Browser::start(device).await;
        if is_dark {
            browser.prefer_dark().await;
        }
        browser.open(&page(&app, 600)).await;
        browser.wait_for_text("h1", title).await;
        browser.wait_for_text(".link", "Live").await;
        browser
            .wait_for("return all('.qr').every((qr) => qr.querySelector('img')?.complete)")
            .await;
        let picture = browser.screenshot().await;
        assert!(picture.starts_with(b"\x89PNG"));
        keep(name, &picture);
    }
}

fn keep(name: &str, picture: &[u8]) {
    if let Ok(folder) = std::env::var("ESIM_STATUS_PICTURES") {
        std::fs::write(Path::new(&folder).join(name).with_extension("png"), picture)
            .expect("the picture is written");
    }
}
