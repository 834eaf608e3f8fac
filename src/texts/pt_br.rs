//! Portuguese of Brazil, also for readers of other varieties.

use super::{EarlyTexts, JourneyTexts, Text, Texts};

pub(super) const TEXTS: Texts = Texts {
    journey: JourneyTexts {
        wait: Text(
            "Seu eSIM está sendo preparado",
            "Isso costuma levar alguns minutos. Esta página avisa quando ele estiver pronto.",
        ),
        install: Text(
            "Instale seu eSIM",
            "Você precisa do celular que vai usá-lo e de uma conexão com a internet.",
        ),
        reinstall: Text("Seu eSIM foi removido do celular", "Você pode instalá-lo novamente."),
        installs: " Instalações até agora: {seen} de {limit}.",
        finish: Text(
            "Conclua no celular",
            "Seu celular baixou o eSIM. Siga o que ele mostrar para concluir a instalação.",
        ),
        unconfirmed: Text(
            "A instalação ainda não foi confirmada",
            "Se o celular mostrar o eSIM nas configurações, ele está instalado, e a confirmação pode chegar mais tarde. \
             Se não, fale com o suporte.",
        ),
        turn_on: Text(
            "Ative seu eSIM",
            "Ele está instalado, mas desativado. Ative-o nas configurações do celular.",
        ),
        installed: Text(
            "Seu eSIM está instalado",
            "Ative o roaming de dados para ele nas configurações do celular e escolha-o para os dados móveis quando \
             chegar.",
        ),
        connected: Text(
            "Seu eSIM está conectado",
            "Ele se conectou a uma rede móvel. Se a internet não funcionar, ative o roaming de dados para ele nas \
             configurações do celular.",
        ),
        failed: Text(
            "A instalação falhou",
            "Fale com o suporte para receber outro eSIM. Tentar de novo não vai ajudar.",
        ),
        used_up: Text(
            "Seu eSIM não pode mais ser reinstalado",
            "Ele foi removido do celular e já atingiu o número máximo de instalações. Fale com o suporte para receber \
             outro.",
        ),
        deleted: Text(
            "Seu eSIM foi excluído do celular",
            "Fale com o suporte: ele pode dizer se é possível instalar de novo.",
        ),
        unavailable: Text(
            "Este eSIM não pode mais ser instalado",
            "Fale com o suporte para receber outro.",
        ),
    },
    early: EarlyTexts {
        name: "Seu eSIM",
        loading: "Procurando seu eSIM…",
        stuck: "Nada acontece? Recarregue esta página. Se não adiantar, seu navegador é antigo demais: atualize-o ou abra \
                este link em outro aparelho.",
        no_script: "Esta página precisa de JavaScript para mostrar seu eSIM e acompanhar a instalação. Ative-o e recarregue \
                    a página.",
        footer: "Esta página é só sua: quem tiver o link pode instalar seu eSIM. Não o compartilhe.",
    },
};
