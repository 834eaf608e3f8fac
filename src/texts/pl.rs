//! Polish.

use super::{EarlyTexts, JourneyTexts, Text, Texts};

pub(super) const TEXTS: Texts = Texts {
    journey: JourneyTexts {
        wait: Text(
            "Twoja karta eSIM jest przygotowywana",
            "Zwykle trwa to kilka minut. Ta strona powiadomi Cię, gdy będzie gotowa.",
        ),
        install: Text(
            "Zainstaluj kartę eSIM",
            "Potrzebujesz telefonu, w którym będziesz jej używać, oraz połączenia z internetem.",
        ),
        reinstall: Text(
            "Karta eSIM została usunięta z telefonu",
            "Możesz zainstalować ją ponownie.",
        ),
        installs: " Liczba dotychczasowych instalacji: {seen} z {limit}.",
        finish: Text(
            "Dokończ na telefonie",
            "Telefon pobrał kartę eSIM. Postępuj zgodnie z tym, co wyświetla, aby dokończyć instalację.",
        ),
        unconfirmed: Text(
            "Instalacja nie została jeszcze potwierdzona",
            "Jeśli karta eSIM jest widoczna w ustawieniach telefonu, jest zainstalowana, a potwierdzenie może nadejść \
             później. Jeśli nie, skontaktuj się z pomocą techniczną.",
        ),
        turn_on: Text(
            "Włącz kartę eSIM",
            "Jest zainstalowana, ale wyłączona. Włącz ją w ustawieniach telefonu.",
        ),
        installed: Text(
            "Karta eSIM jest zainstalowana",
            "Włącz dla niej roaming danych w ustawieniach telefonu, a po przyjeździe wybierz ją do transmisji danych.",
        ),
        connected: Text(
            "Karta eSIM jest połączona",
            "Połączyła się z siecią komórkową. Jeśli internet nie działa, włącz dla niej roaming danych w ustawieniach \
             telefonu.",
        ),
        failed: Text(
            "Instalacja się nie powiodła",
            "Skontaktuj się z pomocą techniczną, aby otrzymać nową kartę. Ponowna próba nie pomoże.",
        ),
        used_up: Text(
            "Karty eSIM nie można już ponownie zainstalować",
            "Została usunięta z telefonu, a limit instalacji jest wyczerpany. Skontaktuj się z pomocą techniczną, aby \
             otrzymać nową kartę.",
        ),
        deleted: Text(
            "Karta eSIM została skasowana z telefonu",
            "Skontaktuj się z pomocą techniczną: powie Ci, czy można ją ponownie zainstalować.",
        ),
        unavailable: Text(
            "Tej karty eSIM nie można już zainstalować",
            "Skontaktuj się z pomocą techniczną, aby otrzymać nową kartę.",
        ),
    },
    early: EarlyTexts {
        name: "Twoja karta eSIM",
        loading: "Szukamy Twojej karty eSIM…",
        stuck: "Nic się nie dzieje? Odśwież tę stronę. Jeśli to nie pomoże, Twoja przeglądarka jest za stara: zaktualizuj ją \
                lub otwórz ten link na innym urządzeniu.",
        no_script: "Ta strona wymaga JavaScriptu, aby pokazać kartę eSIM i śledzić jej instalację. Włącz go i odśwież \
                    stronę.",
        footer: "Ta strona jest tylko dla Ciebie: każdy, kto ma link do niej, może zainstalować Twoją kartę eSIM. Nie \
                 udostępniaj go.",
    },
};
