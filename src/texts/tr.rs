//! Turkish.

use super::{EarlyTexts, JourneyTexts, Text, Texts};

pub(super) const TEXTS: Texts = Texts {
    journey: JourneyTexts {
        wait: Text(
            "eSIM’iniz hazırlanıyor",
            "Bu genellikle birkaç dakika sürer. Hazır olduğunda bu sayfa size bildirir.",
        ),
        install: Text(
            "eSIM’inizi yükleyin",
            "Kullanacağınız telefona ve internet bağlantısına ihtiyacınız var.",
        ),
        reinstall: Text("eSIM’iniz telefondan kaldırıldı", "Yeniden yükleyebilirsiniz."),
        installs: " Şimdiye kadarki yükleme sayısı: {seen}, en fazla: {limit}.",
        finish: Text(
            "Telefonunuzda tamamlayın",
            "Telefonunuz eSIM’i indirdi. Yüklemeyi tamamlamak için ekrandaki adımları izleyin.",
        ),
        unconfirmed: Text(
            "Yükleme henüz onaylanmadı",
            "Telefonunuzun ayarlarında eSIM görünüyorsa yüklenmiştir ve onay daha sonra gelebilir. Görünmüyorsa destek \
             ekibine başvurun.",
        ),
        turn_on: Text("eSIM’inizi açın", "Yüklü ancak kapalı. Telefonunuzun ayarlarından açın."),
        installed: Text(
            "eSIM’iniz yüklendi",
            "Telefonunuzun ayarlarında bu eSIM için veri dolaşımını açın ve vardığınızda mobil veri için onu seçin.",
        ),
        connected: Text(
            "eSIM’iniz bağlandı",
            "Bir mobil şebekeye bağlandı. İnternet çalışmıyorsa telefonunuzun ayarlarında bu eSIM için veri dolaşımını \
             açın.",
        ),
        failed: Text(
            "Yükleme başarısız oldu",
            "Yeni bir eSIM için lütfen destek ekibine başvurun. Yeniden denemek işe yaramaz.",
        ),
        used_up: Text(
            "eSIM’iniz artık yeniden yüklenemez",
            "Telefondan kaldırıldı ve yükleme sınırına ulaşıldı. Yeni bir eSIM için lütfen destek ekibine başvurun.",
        ),
        deleted: Text(
            "eSIM’iniz telefondan silindi",
            "Lütfen destek ekibine başvurun: Yeniden yüklenip yüklenemeyeceğini söyleyebilirler.",
        ),
        unavailable: Text(
            "Bu eSIM artık yüklenemez",
            "Yeni bir eSIM için lütfen destek ekibine başvurun.",
        ),
    },
    early: EarlyTexts {
        name: "eSIM’iniz",
        loading: "eSIM’iniz aranıyor…",
        stuck: "Bir şey olmuyor mu? Sayfayı yenileyin. İşe yaramazsa tarayıcınız çok eski olabilir: Tarayıcıyı güncelleyin veya \
                bu bağlantıyı başka bir cihazda açın.",
        no_script: "Bu sayfanın eSIM’inizi göstermesi ve yüklemeyi izlemesi için JavaScript gerekir. Lütfen açın ve sayfayı \
                    yenileyin.",
        footer: "Bu sayfa yalnızca size aittir: Bağlantıya sahip olan herkes eSIM’inizi yükleyebilir. Kimseyle paylaşmayın.",
    },
};
