//! Dutch.

use super::{EarlyTexts, JourneyTexts, Text, Texts};

pub(super) const TEXTS: Texts = Texts {
    journey: JourneyTexts {
        wait: Text(
            "Je eSIM wordt voorbereid",
            "Dit duurt meestal een paar minuten. Deze pagina laat het weten als hij klaar is.",
        ),
        install: Text(
            "Installeer je eSIM",
            "Je hebt de telefoon nodig waarop je hem gaat gebruiken, en een internetverbinding.",
        ),
        reinstall: Text(
            "Je eSIM is van de telefoon verwijderd",
            "Je kunt hem opnieuw installeren.",
        ),
        installs: " Installaties tot nu toe: {seen} van {limit}.",
        finish: Text(
            "Maak het af op je telefoon",
            "Je telefoon heeft de eSIM gedownload. Volg de stappen op het scherm om de installatie af te ronden.",
        ),
        unconfirmed: Text(
            "De installatie is nog niet bevestigd",
            "Als je telefoon de eSIM in de instellingen toont, is hij geïnstalleerd en kan de bevestiging later komen. Zo \
             niet, neem dan contact op met support.",
        ),
        turn_on: Text(
            "Zet je eSIM aan",
            "Hij is geïnstalleerd, maar staat uit. Zet hem aan in de instellingen van je telefoon.",
        ),
        installed: Text(
            "Je eSIM is geïnstalleerd",
            "Zet dataroaming voor deze eSIM aan in de instellingen van je telefoon en kies hem bij aankomst voor mobiele \
             data.",
        ),
        connected: Text(
            "Je eSIM is verbonden",
            "Hij heeft verbinding gemaakt met een mobiel netwerk. Werkt internet niet, zet dan dataroaming voor deze eSIM \
             aan in de instellingen van je telefoon.",
        ),
        failed: Text(
            "De installatie is mislukt",
            "Vraag support om een nieuwe eSIM. Opnieuw proberen helpt niet.",
        ),
        used_up: Text(
            "Je eSIM kan niet meer opnieuw worden geïnstalleerd",
            "Hij is van de telefoon verwijderd en het maximale aantal installaties is bereikt. Vraag support om een nieuwe \
             eSIM.",
        ),
        deleted: Text(
            "Je eSIM is van de telefoon gewist",
            "Neem contact op met support: daar weten ze of hij opnieuw kan worden geïnstalleerd.",
        ),
        unavailable: Text(
            "Deze eSIM kan niet meer worden geïnstalleerd",
            "Vraag support om een nieuwe eSIM.",
        ),
    },
    early: EarlyTexts {
        name: "Je eSIM",
        loading: "Je eSIM wordt opgezocht…",
        stuck: "Gebeurt er niets? Laad deze pagina opnieuw. Helpt dat niet, dan is je browser te oud: werk hem bij of open \
                deze link op een ander apparaat.",
        no_script: "Deze pagina heeft JavaScript nodig om je eSIM te tonen en de installatie te volgen. Zet het aan en laad \
                    de pagina opnieuw.",
        footer: "Deze pagina is alleen voor jou: wie de link heeft, kan je eSIM installeren. Deel hem niet.",
    },
};
