//! `GET /install` and `/assets`: the install page, its headers and its assets; and CORS, for pages of other origins.
//!
//! The tests read the page and its assets as text. `tests/browser` opens them in a real browser.

use esim_status::config::Brand;
use esim_status_testing::{Answer, TestApp};
use http::HeaderValue;
use reqwest::Method;

use super::ICCID;

const ASSETS: [(&str, &str); 4] = [
    ("esim-status.js", "text/javascript; charset=utf-8"),
    ("esim-status.css", "text/css; charset=utf-8"),
    ("install.js", "text/javascript; charset=utf-8"),
    ("install.css", "text/css; charset=utf-8"),
];

#[tokio::test]
async fn the_pages_headers_restrict_what_it_may_load() {
    let app = TestApp::start().await;
    let page = app.anybody.get("/install").await;
    assert_eq!(
        (page.status.as_u16(), page.header("content-type")),
        (200, "text/html; charset=utf-8")
    );
    let mut directives: Vec<_> =
        page.header("content-security-policy").split(';').map(str::trim).collect();
    directives.sort_unstable();
    assert_eq!(
        directives,
        [
            "base-uri 'none'",
            "connect-src 'self'",
            "default-src 'none'",
            "form-action 'none'",
            "frame-ancestors 'none'",
            "img-src 'self' blob: data:",
            "script-src 'self'",
            "style-src 'self'",
        ]
    );
    assert_eq!(page.header("referrer-policy"), "no-referrer");
    assert_eq!(page.header("x-content-type-options"), "nosniff");
    assert_eq!(page.header("cache-control"), "no-cache");
    assert!(page.header("set-cookie").is_empty());
}

#[tokio::test]
async fn the_page_has_no_inline_scripts_or_styles() {
    let app = TestApp::start().await;
    let page = app.anybody.get("/install").await.text.to_lowercase();
    for tag in page.split("<script").skip(1) {
        let (attributes, rest) = tag.split_once('>').unwrap();
        assert!(attributes.contains("src=\"assets/"), "{attributes}");
        assert!(rest.starts_with("</script>"), "an inline script: {rest}");
    }
    assert!(page.contains("<script") && page.contains("<link rel=\"stylesheet\" href=\"assets/"));
    for inline in
        ["<style", " style=", "javascript:", " onclick", " onload", " onerror", "<iframe", "<base"]
    {
        assert!(!page.contains(inline), "{inline}");
    }
}

#[tokio::test]
async fn the_page_makes_no_requests_to_other_origins() {
    let app = TestApp::start().await;
    // A namespace, which is never requested, and the two setup links that open when the user taps them.
    let known = [
        "http://www.w3.org/2000/svg",
        "https://esimsetup.apple.com",
        "https://esimsetup.android.com",
    ];
    let mut texts = vec![("install", app.anybody.get("/install").await.text)];
    for (name, _) in ASSETS {
        texts.push((name, app.anybody.get(&format!("/assets/{name}")).await.text));
    }
    for (name, text) in texts {
        // Comments make no requests, so an example in a comment may contain any URL.
        let code: Vec<_> =
            text.lines().filter(|line| !line.trim_start().starts_with(['*', '/'])).collect();
        for line in code {
            for scheme in ["http://", "https://", "ws://", "wss://", "url(//", "\"//", "'//", "`//"]
            {
                let mut rest = line;
                while let Some(place) = rest.find(scheme) {
                    let from = &rest[place..];
                    assert!(known.iter().any(|known| from.starts_with(known)), "{name}: {line}");
                    rest = &from[scheme.len()..];
                }
            }
        }
        for call in [
            "eval(",
            "new Function",
            "document.write",
            "importScripts",
            "sendBeacon",
            "localStorage",
        ] {
            assert!(!text.contains(call), "{name}: {call}");
        }
    }
}

#[tokio::test]
async fn brand_settings_are_escaped() {
    let brand = Brand {
        name: "</title><script>alert('a & b')</script>\"x".to_owned(),
        color: "#0a7d5a".to_owned(),
        support_url: "https://help.example.test/?a=1&b=\"><script>".to_owned(),
    };
    let app = TestApp::start_with(|settings| settings.brand = brand).await;
    let page = app.anybody.get("/install").await.text;
    assert!(!page.contains("<script>") && !page.contains("alert('"), "{page}");
    let name = "&lt;/title&gt;&lt;script&gt;alert(&#39;a &amp; b&#39;)&lt;/script&gt;&quot;x";
    assert!(page.matches(name).count() >= 2, "{page}");
    assert!(
        page.contains("content=\"https://help.example.test/?a=1&amp;b=&quot;&gt;&lt;script&gt;\"")
    );
    assert!(page.contains("content=\"#0a7d5a\"") && !page.contains("{{"));

    let plain = TestApp::start().await.anybody.get("/install").await.text;
    assert!(!plain.contains("{{") && plain.contains("Your eSIM"));
}

#[tokio::test]
async fn the_page_is_the_same_for_every_token() {
    let app = TestApp::start().await;
    let (one, two) = (app.anybody.get("/install").await, app.user(ICCID).get("/install").await);
    assert_eq!(one.text, two.text);
}

#[tokio::test]
async fn assets_are_cached_by_browsers_until_they_change() {
    let app = TestApp::start().await;
    let mut tags = Vec::new();
    for (name, content_type) in ASSETS {
        let path = format!("/assets/{name}");
        let asset = app.anybody.get(&path).await;
        assert_eq!((asset.status.as_u16(), asset.header("content-type")), (200, content_type));
        assert_eq!(asset.header("x-content-type-options"), "nosniff");
        assert_eq!(asset.header("cache-control"), "no-cache");
        let tag = asset.header("etag").to_owned();
        // The ETag is weak because the bytes differ when they are compressed.
        let strong = tag.strip_prefix("W/").unwrap().to_owned();
        assert!(strong.len() > 4 && strong.starts_with('"') && strong.ends_with('"'), "{tag}");
        for known in [tag.clone(), strong, format!("\"x\", {tag}"), "*".to_owned()] {
            let again = app.anybody.get_with(&path, "if-none-match", &known).await;
            assert_eq!(
                (again.status.as_u16(), &*again.text, again.header("etag")),
                (304, "", &*tag)
            );
        }
        let other = app.anybody.get_with(&path, "if-none-match", "\"x\"").await;
        assert_eq!((other.status.as_u16(), other.text), (200, asset.text.clone()));
        tags.push(tag);
    }
    tags.sort_unstable();
    tags.dedup();
    assert_eq!(tags.len(), ASSETS.len());
}

#[tokio::test]
async fn paths_that_are_not_part_of_the_page_are_unknown() {
    let app = TestApp::start().await;
    for path in [
        "/assets/other.js",
        "/assets/",
        "/assets",
        "/assets/install.html",
        "/assets/..%2Finstall.js",
        "/assets/%2e%2e/Cargo.toml",
        "/assets/x/install.js",
        "/install/",
        "/install/index.html",
    ] {
        let answer = app.anybody.get(path).await;
        assert_eq!((answer.status.as_u16(), &*answer.problem()), (404, "unknown-path"), "{path}");
    }
    for path in ["/install", "/assets/install.js"] {
        let answer = app.anybody.post(path, "").await;
        assert_eq!((answer.status.as_u16(), &*answer.problem()), (405, "method-not-allowed"));
    }
}

const SHOP: &str = "https://shop.example.test";

async fn with_shop() -> TestApp {
    TestApp::start_with(|settings| {
        settings.allowed_origins = vec![HeaderValue::from_static(SHOP)];
    })
    .await
}

async fn preflight(app: &TestApp, path: &str, origin: &str) -> Answer {
    let request = app.anybody.request(Method::OPTIONS, path);
    let request = request
        .header("origin", origin)
        .header("access-control-request-method", "GET")
        .header("access-control-request-headers", "authorization,last-event-id,if-none-match,traceparent,baggage,sentry-trace,x-request-id");
    Answer::of(request).await
}

#[tokio::test]
async fn pages_of_allowed_origins_may_call_the_api() {
    let app = with_shop().await;
    app.report(ICCID, "RELEASED").await;
    let paths = [
        "/v1/profiles/self",
        "/v1/profiles/self/journey",
        "/v1/profiles/self/events",
        "/assets/esim-status.js",
    ];
    for path in paths {
        let allowed = preflight(&app, path, SHOP).await;
        assert!(allowed.status.is_success(), "{allowed:?}");
        assert_eq!(allowed.header("access-control-allow-origin"), SHOP);
        let methods = allowed.header("access-control-allow-methods");
        // The page reads, and reports what its user does.
        assert_eq!(methods.replace(' ', ""), "GET,PUT");
        let headers = allowed.header("access-control-allow-headers");
        for header in
            ["authorization", "last-event-id", "if-none-match", "traceparent", "x-request-id"]
        {
            assert!(headers.contains(header), "{headers}");
        }
        assert_eq!(allowed.header("access-control-max-age"), "7200");
        // The service never uses cookies as credentials.
        assert!(allowed.header("access-control-allow-credentials").is_empty());
    }
    let user = app.user(ICCID);
    for (client, path, status) in [
        (&user, "/v1/profiles/self", 200),
        (&user, "/v1/profiles/self/qr.svg", 404),
        (&app.anybody, "/v1/profiles/self", 401),
        (&app.anybody, "/assets/esim-status.js", 200),
    ] {
        let answer = client.get_with(path, "origin", SHOP).await;
        assert_eq!(answer.status, status, "{path}");
        assert_eq!(answer.header("access-control-allow-origin"), SHOP, "{path}");
        let vary =
            answer.headers.get_all("vary").iter().map(|v| v.to_str().unwrap().to_lowercase());
        assert!(
            vary.collect::<Vec<_>>().join(",").contains("origin"),
            "{path}: caches must distinguish origins"
        );
        let exposed = answer.header("access-control-expose-headers");
        for header in ["date", "etag", "retry-after", "x-request-id"] {
            assert!(exposed.contains(header), "{exposed}");
        }
    }
}

#[tokio::test]
async fn pages_of_other_origins_may_not_call_the_api() {
    let (configured, bare) = (with_shop().await, TestApp::start().await);
    let others = [
        "https://evil.example.test",
        "http://shop.example.test",
        "https://shop.example.test.evil.test",
        "https://shop.example.test:8443",
        "null",
    ];
    for origin in others {
        for path in ["/v1/profiles/self", "/assets/esim-status.js"] {
            for app in [&configured, &bare] {
                let answer = app.anybody.get_with(path, "origin", origin).await;
                assert_ne!(answer.header("access-control-allow-origin"), "*");
                assert_ne!(answer.header("access-control-allow-origin"), origin, "{path}");
                let refused = preflight(app, path, origin).await;
                assert_ne!(refused.header("access-control-allow-origin"), origin, "{path}");
            }
        }
    }
    let answer = bare.anybody.get_with("/v1/profiles/self", "origin", SHOP).await;
    assert!(answer.header("access-control-allow-origin").is_empty());
}

#[tokio::test]
async fn the_base_url_says_what_this_is_and_its_links_lead_somewhere() {
    let app = TestApp::start().await;
    let page = app.anybody.get("/").await;
    assert_eq!(
        (page.status.as_u16(), page.header("content-type")),
        (200, "text/html; charset=utf-8")
    );
    assert!(page.header("content-security-policy").contains("default-src 'none'"));
    assert!(page.text.contains("eSIM"), "{}", page.text);
    let links: Vec<_> = page
        .text
        .split("href=\"")
        .skip(1)
        .filter_map(|rest| rest.split('"').next())
        .filter(|link| !link.starts_with("data:"))
        .collect();
    assert_eq!(links.len(), 4, "{links:?}");
    for link in links {
        // Relative, so that they hold behind a proxy with a prefix too.
        assert!(!link.starts_with('/') && !link.contains(':'), "{link}");
        let answer = app.anybody.get(&format!("/{link}")).await;
        assert!(answer.status.is_success() || answer.status.is_redirection(), "{link}");
    }
}
