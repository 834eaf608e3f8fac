//! Chinese in simplified characters.

use super::{EarlyTexts, JourneyTexts, Text, Texts};

pub(super) const TEXTS: Texts = Texts {
    journey: JourneyTexts {
        wait: Text("正在准备您的 eSIM", "通常需要几分钟。准备好后，本页面会告诉您。"),
        install: Text("安装您的 eSIM", "您需要准备好要使用它的手机，并连接互联网。"),
        reinstall: Text("您的 eSIM 已从手机中移除", "您可以再次安装。"),
        installs: "已安装次数：{seen}，上限：{limit}。",
        finish: Text("请在手机上完成安装", "您的手机已下载 eSIM。请按照手机上的提示完成安装。"),
        unconfirmed: Text(
            "安装尚未确认",
            "如果手机设置中显示该 eSIM，则说明已安装成功，确认信息可能稍后才会收到。如果没有显示，请联系客服。",
        ),
        turn_on: Text("开启您的 eSIM", "它已安装，但处于关闭状态。请在手机设置中开启。"),
        installed: Text(
            "您的 eSIM 已安装",
            "请在手机设置中为它开启数据漫游，并在抵达后选择用它上网。",
        ),
        connected: Text(
            "您的 eSIM 已连接",
            "它已连接到移动网络。如果无法上网，请在手机设置中为它开启数据漫游。",
        ),
        failed: Text("安装失败", "请联系客服更换。再次尝试不会有帮助。"),
        used_up: Text(
            "您的 eSIM 已无法再次安装",
            "它已从手机中移除，并且已达到安装次数上限。请联系客服更换。",
        ),
        deleted: Text("您的 eSIM 已从手机中删除", "请联系客服，确认是否可以再次安装。"),
        unavailable: Text("此 eSIM 已无法安装", "请联系客服更换。"),
    },
    early: EarlyTexts {
        name: "您的 eSIM",
        loading: "正在查找您的 eSIM…",
        stuck: "没有反应？请重新加载本页面。如果仍然不行，说明您的浏览器版本过旧：请更新浏览器，或在其他设备上打开此链接。",
        no_script: "本页面需要 JavaScript 才能显示您的 eSIM 并跟踪安装进度。请启用 JavaScript 后重新加载。",
        footer: "本页面仅供您本人使用：任何拥有此链接的人都可以安装您的 eSIM，请勿转发。",
    },
};
