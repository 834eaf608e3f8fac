//! French.

use super::{EarlyTexts, JourneyTexts, Text, Texts};

pub(super) const TEXTS: Texts = Texts {
    journey: JourneyTexts {
        wait: Text(
            "Votre eSIM est en préparation",
            "Cela prend en général quelques minutes. Cette page vous dira quand elle sera prête.",
        ),
        install: Text(
            "Installez votre eSIM",
            "Il vous faut le téléphone qui va l’utiliser et une connexion à Internet.",
        ),
        reinstall: Text(
            "Votre eSIM a été retirée du téléphone",
            "Vous pouvez l’installer de nouveau.",
        ),
        installs: " Installations effectuées : {seen} sur {limit}.",
        finish: Text(
            "Terminez sur votre téléphone",
            "Votre téléphone a téléchargé l’eSIM. Suivez les indications à l’écran pour terminer l’installation.",
        ),
        unconfirmed: Text(
            "L’installation n’est pas encore confirmée",
            "Si l’eSIM apparaît dans les réglages de votre téléphone, elle est installée et la confirmation arrivera \
             peut-être plus tard. Sinon, contactez l’assistance.",
        ),
        turn_on: Text(
            "Activez votre eSIM",
            "Elle est installée mais désactivée. Activez-la dans les réglages de votre téléphone.",
        ),
        installed: Text(
            "Votre eSIM est installée",
            "Activez l’itinérance des données pour cette eSIM dans les réglages de votre téléphone et choisissez-la pour \
             les données mobiles à votre arrivée.",
        ),
        connected: Text(
            "Votre eSIM est connectée",
            "Elle s’est connectée à un réseau mobile. Si Internet ne fonctionne pas, activez l’itinérance des données \
             pour cette eSIM dans les réglages de votre téléphone.",
        ),
        failed: Text(
            "L’installation a échoué",
            "Contactez l’assistance pour obtenir une autre eSIM. Réessayer ne servira à rien.",
        ),
        used_up: Text(
            "Votre eSIM ne peut plus être réinstallée",
            "Elle a été retirée du téléphone, et le nombre d’installations possibles est atteint. Contactez l’assistance \
             pour obtenir une autre eSIM.",
        ),
        deleted: Text(
            "Votre eSIM a été supprimée du téléphone",
            "Contactez l’assistance : elle pourra vous dire s’il est possible de l’installer de nouveau.",
        ),
        unavailable: Text(
            "Cette eSIM ne peut plus être installée",
            "Contactez l’assistance pour obtenir une autre eSIM.",
        ),
    },
    early: EarlyTexts {
        name: "Votre eSIM",
        loading: "Recherche de votre eSIM…",
        stuck: "Rien ne se passe ? Rechargez cette page. Si cela ne suffit pas, votre navigateur est trop ancien : \
                mettez-le à jour ou ouvrez ce lien sur un autre appareil.",
        no_script: "Cette page a besoin de JavaScript pour afficher votre eSIM et suivre son installation. Activez-le, \
                    puis rechargez la page.",
        footer: "Cette page est personnelle : toute personne qui a son lien peut installer votre eSIM. Ne le partagez pas.",
    },
};
