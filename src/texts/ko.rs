//! Korean.

use super::{EarlyTexts, JourneyTexts, Text, Texts};

pub(super) const TEXTS: Texts = Texts {
    journey: JourneyTexts {
        wait: Text(
            "eSIM을 준비하고 있습니다",
            "보통 몇 분 정도 걸립니다. 준비되면 이 페이지에서 알려 드립니다.",
        ),
        install: Text("eSIM을 설치하세요", "eSIM을 사용할 휴대전화와 인터넷 연결이 필요합니다."),
        reinstall: Text("휴대전화에서 eSIM이 제거되었습니다", "다시 설치할 수 있습니다."),
        installs: " 지금까지 설치 횟수: {seen}회(최대 {limit}회).",
        finish: Text(
            "휴대전화에서 마무리하세요",
            "휴대전화에 eSIM이 다운로드되었습니다. 화면의 안내에 따라 설치를 완료하세요.",
        ),
        unconfirmed: Text(
            "설치가 아직 확인되지 않았습니다",
            "휴대전화 설정에 eSIM이 표시되면 설치된 것이며, 확인은 나중에 도착할 수 있습니다. 표시되지 않으면 고객 지원에 문의하세요.",
        ),
        turn_on: Text("eSIM을 켜세요", "설치되어 있지만 꺼져 있습니다. 휴대전화 설정에서 켜세요."),
        installed: Text(
            "eSIM이 설치되었습니다",
            "휴대전화 설정에서 이 eSIM의 데이터 로밍을 켜고, 도착하면 모바일 데이터용으로 선택하세요.",
        ),
        connected: Text(
            "eSIM이 연결되었습니다",
            "모바일 네트워크에 연결되었습니다. 인터넷이 되지 않으면 휴대전화 설정에서 이 eSIM의 데이터 로밍을 켜세요.",
        ),
        failed: Text(
            "설치하지 못했습니다",
            "고객 지원에 문의하여 새 eSIM을 받으세요. 다시 시도해도 해결되지 않습니다.",
        ),
        used_up: Text(
            "eSIM을 더 이상 다시 설치할 수 없습니다",
            "휴대전화에서 제거되었고 설치 가능 횟수를 모두 사용했습니다. 고객 지원에 문의하여 새 eSIM을 받으세요.",
        ),
        deleted: Text(
            "휴대전화에서 eSIM이 삭제되었습니다",
            "다시 설치할 수 있는지 고객 지원에 문의하세요.",
        ),
        unavailable: Text(
            "이 eSIM은 더 이상 설치할 수 없습니다",
            "고객 지원에 문의하여 새 eSIM을 받으세요.",
        ),
    },
    early: EarlyTexts {
        name: "내 eSIM",
        loading: "eSIM을 찾고 있습니다…",
        stuck: "아무 반응이 없나요? 이 페이지를 새로고침하세요. 그래도 안 되면 브라우저가 너무 오래된 것입니다. 브라우저를 업데이트하거나 다른 기기에서 이 링크를 여세요.",
        no_script: "eSIM을 표시하고 설치 상태를 확인하려면 JavaScript가 필요합니다. 사용하도록 설정한 후 새로고침하세요.",
        footer: "이 페이지는 본인 전용입니다. 링크를 가진 사람은 누구나 eSIM을 설치할 수 있으니 다른 사람에게 전달하지 마세요.",
    },
};
