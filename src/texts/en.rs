//! English, which stands in for every other language.

use super::{EarlyTexts, JourneyTexts, Text, Texts};

pub(super) const TEXTS: Texts = Texts {
    journey: JourneyTexts {
        wait: Text(
            "Your eSIM is being prepared",
            "This usually takes a few minutes. This page tells you when it is ready.",
        ),
        install: Text(
            "Install your eSIM",
            "You need the phone that will use it, and a connection to the internet.",
        ),
        reinstall: Text("Your eSIM was removed from the phone", "You can install it again."),
        installs: " Installs so far: {seen} of {limit}.",
        finish: Text(
            "Finish on your phone",
            "Your phone has downloaded the eSIM. Follow what it shows to finish the install.",
        ),
        unconfirmed: Text(
            "The install is not confirmed yet",
            "If your phone shows the eSIM in its settings, it is installed, and the confirmation may come later. If not, \
             contact support.",
        ),
        turn_on: Text(
            "Turn your eSIM on",
            "It is installed and switched off. Turn it on in your phone's settings for mobile networks.",
        ),
        installed: Text(
            "Your eSIM is installed",
            "Turn on data roaming for it in your phone's settings, and choose it for mobile data when you arrive.",
        ),
        connected: Text(
            "Your eSIM is connected",
            "It has connected to a mobile network. If the internet does not work, turn on data roaming for it in your \
             phone's settings.",
        ),
        failed: Text(
            "The install failed",
            "Please contact support for a replacement. Trying again will not help.",
        ),
        used_up: Text(
            "Your eSIM was installed as often as it can be",
            "It was removed from the phone. Please contact support for a replacement.",
        ),
        deleted: Text(
            "Your eSIM was deleted from the phone",
            "Please contact support: they can tell whether it can be installed again.",
        ),
        unavailable: Text(
            "This eSIM can no longer be installed",
            "Please contact support for a replacement.",
        ),
    },
    early: EarlyTexts {
        name: "Your eSIM",
        loading: "Looking up your eSIM…",
        stuck: "Nothing happens? Reload this page. If that does not help, your browser is too old for it: update it, or \
                open this link on another device.",
        no_script: "This page needs JavaScript to show your eSIM and to follow its installation. Please switch it on and \
                    reload.",
        footer: "This page is only for you: anyone who has its link can install your eSIM, so do not share it.",
    },
};
