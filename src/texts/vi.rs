//! Vietnamese.

use super::{EarlyTexts, JourneyTexts, Text, Texts};

pub(super) const TEXTS: Texts = Texts {
    journey: JourneyTexts {
        wait: Text(
            "eSIM của bạn đang được chuẩn bị",
            "Việc này thường mất vài phút. Trang này sẽ cho bạn biết khi eSIM sẵn sàng.",
        ),
        install: Text(
            "Cài đặt eSIM của bạn",
            "Bạn cần chiếc điện thoại sẽ dùng eSIM và kết nối internet.",
        ),
        reinstall: Text("eSIM của bạn đã bị gỡ khỏi điện thoại", "Bạn có thể cài đặt lại."),
        installs: " Số lần đã cài đặt: {seen} trên {limit}.",
        finish: Text(
            "Hoàn tất trên điện thoại",
            "Điện thoại đã tải eSIM xuống. Hãy làm theo hướng dẫn trên màn hình để hoàn tất cài đặt.",
        ),
        unconfirmed: Text(
            "Việc cài đặt chưa được xác nhận",
            "Nếu eSIM xuất hiện trong phần cài đặt của điện thoại thì eSIM đã được cài, và xác nhận có thể đến sau. Nếu \
             không, hãy liên hệ bộ phận hỗ trợ.",
        ),
        turn_on: Text(
            "Bật eSIM của bạn",
            "eSIM đã được cài đặt nhưng đang tắt. Hãy bật eSIM trong phần cài đặt của điện thoại.",
        ),
        installed: Text(
            "eSIM của bạn đã được cài đặt",
            "Hãy bật chuyển vùng dữ liệu cho eSIM này trong phần cài đặt của điện thoại, và chọn eSIM này cho dữ liệu di \
             động khi bạn đến nơi.",
        ),
        connected: Text(
            "eSIM của bạn đã kết nối",
            "eSIM đã kết nối với mạng di động. Nếu internet không hoạt động, hãy bật chuyển vùng dữ liệu cho eSIM này \
             trong phần cài đặt của điện thoại.",
        ),
        failed: Text(
            "Cài đặt không thành công",
            "Hãy liên hệ bộ phận hỗ trợ để được đổi eSIM. Thử lại sẽ không có tác dụng.",
        ),
        used_up: Text(
            "eSIM của bạn không thể cài đặt lại nữa",
            "eSIM đã bị gỡ khỏi điện thoại và đã hết số lần cài đặt. Hãy liên hệ bộ phận hỗ trợ để được đổi eSIM.",
        ),
        deleted: Text(
            "eSIM của bạn đã bị xóa khỏi điện thoại",
            "Hãy liên hệ bộ phận hỗ trợ: họ có thể cho biết eSIM có cài đặt lại được không.",
        ),
        unavailable: Text(
            "Không thể cài đặt eSIM này nữa",
            "Hãy liên hệ bộ phận hỗ trợ để được đổi eSIM.",
        ),
    },
    early: EarlyTexts {
        name: "eSIM của bạn",
        loading: "Đang tìm eSIM của bạn…",
        stuck: "Không có gì xảy ra? Hãy tải lại trang này. Nếu vẫn không được, trình duyệt của bạn đã quá cũ: hãy cập nhật \
                hoặc mở liên kết này trên thiết bị khác.",
        no_script: "Trang này cần JavaScript để hiển thị eSIM và theo dõi việc cài đặt. Hãy bật JavaScript rồi tải lại \
                    trang.",
        footer: "Trang này chỉ dành cho bạn: bất kỳ ai có liên kết đều có thể cài đặt eSIM của bạn, vì vậy đừng chia sẻ.",
    },
};
