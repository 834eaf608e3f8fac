//! Italian.

use super::{EarlyTexts, JourneyTexts, Text, Texts};

pub(super) const TEXTS: Texts = Texts {
    journey: JourneyTexts {
        wait: Text(
            "La tua eSIM è in preparazione",
            "Di solito bastano pochi minuti. Questa pagina ti avvisa quando è pronta.",
        ),
        install: Text(
            "Installa la tua eSIM",
            "Ti servono il telefono su cui vuoi usarla e una connessione a Internet.",
        ),
        reinstall: Text("La tua eSIM è stata rimossa dal telefono", "Puoi installarla di nuovo."),
        installs: " Installazioni finora: {seen} su {limit}.",
        finish: Text(
            "Completa sul telefono",
            "Il tuo telefono ha scaricato la eSIM. Segui le indicazioni sullo schermo per completare l’installazione.",
        ),
        unconfirmed: Text(
            "L’installazione non è ancora confermata",
            "Se il telefono mostra la eSIM nelle impostazioni, è installata e la conferma può arrivare più tardi. \
             Altrimenti contatta l’assistenza.",
        ),
        turn_on: Text(
            "Attiva la tua eSIM",
            "È installata ma disattivata. Attivala nelle impostazioni del telefono.",
        ),
        installed: Text(
            "La tua eSIM è installata",
            "Attiva il roaming dati per questa eSIM nelle impostazioni del telefono e, quando arrivi, sceglila per i dati \
             mobili.",
        ),
        connected: Text(
            "La tua eSIM è connessa",
            "Si è connessa a una rete mobile. Se Internet non funziona, attiva il roaming dati per questa eSIM nelle \
             impostazioni del telefono.",
        ),
        failed: Text(
            "L’installazione non è riuscita",
            "Contatta l’assistenza per ricevere un’altra eSIM. Riprovare non serve.",
        ),
        used_up: Text(
            "La tua eSIM non può più essere reinstallata",
            "È stata rimossa dal telefono e ha già raggiunto il numero massimo di installazioni. Contatta l’assistenza \
             per ricevere un’altra eSIM.",
        ),
        deleted: Text(
            "La tua eSIM è stata eliminata dal telefono",
            "Contatta l’assistenza: può dirti se è possibile installarla di nuovo.",
        ),
        unavailable: Text(
            "Questa eSIM non può più essere installata",
            "Contatta l’assistenza per ricevere un’altra eSIM.",
        ),
    },
    early: EarlyTexts {
        name: "La tua eSIM",
        loading: "Ricerca della tua eSIM…",
        stuck: "Non succede nulla? Ricarica questa pagina. Se non basta, il tuo browser è troppo vecchio: aggiornalo o \
                apri questo link su un altro dispositivo.",
        no_script: "Questa pagina ha bisogno di JavaScript per mostrare la tua eSIM e seguirne l’installazione. Attivalo e \
                    ricarica la pagina.",
        footer: "Questa pagina è solo tua: chi ha il link può installare la tua eSIM. Non condividerlo.",
    },
};
