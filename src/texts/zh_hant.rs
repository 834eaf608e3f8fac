//! Chinese in traditional characters.

use super::{EarlyTexts, JourneyTexts, Text, Texts};

pub(super) const TEXTS: Texts = Texts {
    journey: JourneyTexts {
        wait: Text("正在準備您的 eSIM", "通常需要幾分鐘。準備好後，本頁面會通知您。"),
        install: Text("安裝您的 eSIM", "您需要準備好要使用它的手機，並連上網際網路。"),
        reinstall: Text("您的 eSIM 已從手機中移除", "您可以再次安裝。"),
        installs: "已安裝次數：{seen}，上限：{limit}。",
        finish: Text("請在手機上完成安裝", "您的手機已下載 eSIM。請依照手機上的指示完成安裝。"),
        unconfirmed: Text(
            "安裝尚未確認",
            "如果手機設定中顯示此 eSIM，表示已安裝完成，確認訊息可能稍後才會收到。如果沒有顯示，請聯絡客服。",
        ),
        turn_on: Text("開啟您的 eSIM", "它已安裝，但處於關閉狀態。請在手機設定中開啟。"),
        installed: Text(
            "您的 eSIM 已安裝",
            "請在手機設定中為它開啟數據漫遊，並在抵達後選擇用它上網。",
        ),
        connected: Text(
            "您的 eSIM 已連線",
            "它已連上行動網路。如果無法上網，請在手機設定中為它開啟數據漫遊。",
        ),
        failed: Text("安裝失敗", "請聯絡客服更換。再次嘗試不會有幫助。"),
        used_up: Text(
            "您的 eSIM 已無法再次安裝",
            "它已從手機中移除，並且已達到安裝次數上限。請聯絡客服更換。",
        ),
        deleted: Text("您的 eSIM 已從手機中刪除", "請聯絡客服，確認是否可以再次安裝。"),
        unavailable: Text("此 eSIM 已無法安裝", "請聯絡客服更換。"),
    },
    early: EarlyTexts {
        name: "您的 eSIM",
        loading: "正在查詢您的 eSIM…",
        stuck: "沒有反應？請重新載入本頁面。如果仍然不行，表示您的瀏覽器版本過舊：請更新瀏覽器，或在其他裝置上開啟此連結。",
        no_script: "本頁面需要 JavaScript 才能顯示您的 eSIM 並追蹤安裝進度。請啟用 JavaScript 後重新載入。",
        footer: "本頁面僅供您本人使用：任何擁有此連結的人都可以安裝您的 eSIM，請勿轉傳。",
    },
};
