//! German.

use super::{EarlyTexts, JourneyTexts, Text, Texts};

pub(super) const TEXTS: Texts = Texts {
    journey: JourneyTexts {
        wait: Text(
            "Ihre eSIM wird vorbereitet",
            "Das dauert meist nur ein paar Minuten. Diese Seite sagt Ihnen, wenn sie bereit ist.",
        ),
        install: Text(
            "Installieren Sie Ihre eSIM",
            "Sie brauchen das Handy, auf dem Sie sie nutzen wollen, und eine Internetverbindung.",
        ),
        reinstall: Text(
            "Ihre eSIM wurde vom Handy entfernt",
            "Sie können sie noch einmal installieren.",
        ),
        installs: " Bisherige Installationen: {seen} von {limit}.",
        finish: Text(
            "Schließen Sie die Installation auf dem Handy ab",
            "Ihr Handy hat die eSIM geladen. Folgen Sie den Anweisungen auf dem Bildschirm, um die Installation \
             abzuschließen.",
        ),
        unconfirmed: Text(
            "Die Installation ist noch nicht bestätigt",
            "Wenn Ihr Handy die eSIM in den Einstellungen anzeigt, ist sie installiert, und die Bestätigung kommt \
             möglicherweise später. Wenn nicht, wenden Sie sich an den Support.",
        ),
        turn_on: Text(
            "Schalten Sie Ihre eSIM ein",
            "Sie ist installiert, aber ausgeschaltet. Schalten Sie sie in den Einstellungen Ihres Handys ein.",
        ),
        installed: Text(
            "Ihre eSIM ist installiert",
            "Schalten Sie in den Einstellungen Ihres Handys das Datenroaming für sie ein, und wählen Sie sie nach der \
             Ankunft für mobile Daten aus.",
        ),
        connected: Text(
            "Ihre eSIM ist verbunden",
            "Sie hat sich mit einem Mobilfunknetz verbunden. Falls das Internet nicht funktioniert, schalten Sie in den \
             Einstellungen Ihres Handys das Datenroaming für sie ein.",
        ),
        failed: Text(
            "Die Installation ist fehlgeschlagen",
            "Bitte lassen Sie sich vom Support Ersatz geben. Ein neuer Versuch hilft nicht.",
        ),
        used_up: Text(
            "Ihre eSIM kann nicht noch einmal installiert werden",
            "Sie wurde vom Handy entfernt. Bitte lassen Sie sich vom Support Ersatz geben.",
        ),
        deleted: Text(
            "Ihre eSIM wurde vom Handy gelöscht",
            "Bitte wenden Sie sich an den Support: Dort erfahren Sie, ob sie noch einmal installiert werden kann.",
        ),
        unavailable: Text(
            "Diese eSIM kann nicht mehr installiert werden",
            "Bitte lassen Sie sich vom Support Ersatz geben.",
        ),
    },
    early: EarlyTexts {
        name: "Ihre eSIM",
        loading: "Ihre eSIM wird gesucht …",
        stuck: "Es passiert nichts? Laden Sie diese Seite neu. Wenn das nicht hilft, ist Ihr Browser zu alt: Aktualisieren \
                Sie ihn, oder öffnen Sie diesen Link auf einem anderen Gerät.",
        no_script: "Diese Seite braucht JavaScript, um Ihre eSIM zu zeigen und ihre Installation zu verfolgen. Bitte \
                    schalten Sie es ein, und laden Sie die Seite neu.",
        footer: "Diese Seite ist nur für Sie: Wer ihren Link hat, kann Ihre eSIM installieren. Geben Sie ihn nicht weiter.",
    },
};
