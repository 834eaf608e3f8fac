//! Spanish.

use super::{EarlyTexts, JourneyTexts, Text, Texts};

pub(super) const TEXTS: Texts = Texts {
    journey: JourneyTexts {
        wait: Text(
            "Tu eSIM se está preparando",
            "Suele tardar unos minutos. Esta página te avisará cuando esté lista.",
        ),
        install: Text(
            "Instala tu eSIM",
            "Necesitas el teléfono que la va a usar y una conexión a internet.",
        ),
        reinstall: Text("Tu eSIM se ha eliminado del teléfono", "Puedes volver a instalarla."),
        installs: " Instalaciones hasta ahora: {seen} de {limit}.",
        finish: Text(
            "Termina en tu teléfono",
            "Tu teléfono ya ha descargado la eSIM. Sigue sus indicaciones para terminar la instalación.",
        ),
        unconfirmed: Text(
            "La instalación aún no está confirmada",
            "Si tu teléfono muestra la eSIM en los ajustes, está instalada y la confirmación puede llegar más tarde. Si \
             no, contacta con el servicio de asistencia.",
        ),
        turn_on: Text(
            "Activa tu eSIM",
            "Está instalada, pero desactivada. Actívala en los ajustes de tu teléfono.",
        ),
        installed: Text(
            "Tu eSIM está instalada",
            "Activa la itinerancia de datos de esta eSIM en los ajustes de tu teléfono y elígela para los datos móviles \
             cuando llegues.",
        ),
        connected: Text(
            "Tu eSIM está conectada",
            "Se ha conectado a una red móvil. Si internet no funciona, activa la itinerancia de datos de esta eSIM en los \
             ajustes de tu teléfono.",
        ),
        failed: Text(
            "La instalación ha fallado",
            "Contacta con el servicio de asistencia para recibir otra eSIM. Volver a intentarlo no servirá de nada.",
        ),
        used_up: Text(
            "Tu eSIM ya no se puede volver a instalar",
            "Se ha eliminado del teléfono y ya se instaló todas las veces posibles. Contacta con el servicio de asistencia para \
             recibir otra.",
        ),
        deleted: Text(
            "Tu eSIM se eliminó del teléfono",
            "Contacta con el servicio de asistencia: allí pueden decirte si se puede volver a instalar.",
        ),
        unavailable: Text(
            "Esta eSIM ya no se puede instalar",
            "Contacta con el servicio de asistencia para recibir otra.",
        ),
    },
    early: EarlyTexts {
        name: "Tu eSIM",
        loading: "Buscando tu eSIM…",
        stuck: "¿No pasa nada? Vuelve a cargar esta página. Si no ayuda, tu navegador es demasiado antiguo: actualízalo o \
                abre este enlace en otro dispositivo.",
        no_script: "Esta página necesita JavaScript para mostrar tu eSIM y seguir su instalación. Actívalo y vuelve a \
                    cargar la página.",
        footer: "Esta página es solo para ti: quien tenga su enlace puede instalar tu eSIM. No lo compartas.",
    },
};
