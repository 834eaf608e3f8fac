//! Any text as an activation code: an accepted code is kept unchanged, is masked in `Debug`, and gives links and a QR
//! code that contain it.

#![no_main]

use std::collections::HashSet;
use std::sync::{LazyLock, Mutex};

use esim_status_fuzz::domain::ActivationCode;
use fast_qr::ECL;
use fast_qr::convert::{Builder, svg::SvgBuilder};
use fast_qr::qr::QRBuilder;
use libfuzzer_sys::fuzz_target;
use url::Url;

/// The lengths that were drawn already. Drawing takes much longer than parsing, and depends almost only on the length.
static DRAWN: LazyLock<Mutex<HashSet<usize>>> = LazyLock::new(Mutex::default);

fuzz_target!(|text: &str| {
    let Ok(code) = ActivationCode::parse(text) else {
        return;
    };
    assert_kept(text, &code);
    for link in [code.apple_link(), code.android_link()] {
        let link = Url::parse(&link).expect("the link is a URL");
        let pairs: Vec<_> = link.query_pairs().collect();
        assert!(
            matches!(&pairs[..], [(name, value)] if name == "carddata" && value == code.as_str())
        );
        assert_eq!(link.fragment(), None);
    }
    assert_eq!(format!("{code:?}"), "ActivationCode(…)");
    if DRAWN.lock().is_ok_and(|mut drawn| drawn.insert(code.as_str().len())) {
        assert_drawn(&code);
    }
});

fn assert_kept(text: &str, code: &ActivationCode) {
    assert!(text.len() <= 512);
    assert_eq!(text[4..], code.as_str()[4..], "only the prefix may change");
    assert!(code.as_str().bytes().all(|b| b.is_ascii_alphanumeric() || b"$:.-".contains(&b)));

    let again = ActivationCode::parse(code.as_str()).expect("an accepted code is accepted again");
    assert_eq!(&again, code);

    let parts: Vec<_> = code.as_str().split('$').collect();
    assert_eq!(parts[..3], ["LPA:1", code.smdp_address(), code.matching_id()]);
    assert!((3..=5).contains(&parts.len()));
    assert_eq!(parts.get(4) == Some(&"1"), code.confirmation_code_required());
    assert!(!code.smdp_address().is_empty());
}

/// Draws the code as `web::qr` does.
fn assert_drawn(code: &ActivationCode) {
    let drawn = QRBuilder::new(code.as_str()).ecl(ECL::M).build().expect("it fits into a QR code");
    assert!(SvgBuilder::default().margin(4).to_str(&drawn).starts_with("<svg"));
}
