//! Metrics of `api`.

use super::{Counter, Gauge, Histogram};

/// Labels: `operation`, `door` (http, grpc), `outcome` (ok, refused, limited, unavailable).
pub const REQUESTS: Counter =
    Counter { name: "pushmesh_api_requests_total", help: "Requests answered, by operation, door and outcome." };
/// Labels: `operation`, `door`.
pub const REQUEST_SECONDS: Histogram = Histogram {
    name: "pushmesh_api_request_seconds",
    help: "From a request's head to its answer, by operation and door.",
};
/// Label: `code`.
pub const REFUSALS: Counter =
    Counter { name: "pushmesh_api_refusals_total", help: "Requests that were not done, by the code they were told." };
pub const GIFTS_WAITING: Gauge = Gauge { name: "pushmesh_api_gifts_waiting", help: "Gifts that wait to be stored." };
pub const GIFTS_REPEATED: Counter =
    Counter { name: "pushmesh_api_gifts_repeated_total", help: "Gifts that were stored before, and said again." };
pub const GIFT_BATCH: Histogram = Histogram { name: "pushmesh_api_gift_batch_gifts", help: "Gifts stored at once." };
pub const GIFT_SECONDS: Histogram =
    Histogram { name: "pushmesh_api_gift_store_seconds", help: "How long a batch of gifts took to be stored." };
pub const MESSAGES_WAITING: Gauge =
    Gauge { name: "pushmesh_api_messages_waiting", help: "Messages, events and notes that wait to be stored." };
pub const LIKES_ACCEPTED: Counter = Counter { name: "pushmesh_api_likes_accepted_total", help: "Likes accepted." };
pub const LIKES_FAKE: Counter =
    Counter { name: "pushmesh_api_likes_fake_total", help: "Likes not counted: more than one user makes." };
pub const LIKES_UNTOLD: Counter = Counter {
    name: "pushmesh_api_likes_untold_total",
    help: "Sums of likes that could not be told at a tick; the next one tells them.",
};
pub const LIKE_ROOMS: Gauge = Gauge { name: "pushmesh_api_like_rooms", help: "Rooms with likes of late." };
pub const LIMITED: Gauge =
    Gauge { name: "pushmesh_api_limits_remembered", help: "Users, backends and rooms whose rates are remembered." };
pub const COMETS_SILENT: Counter = Counter {
    name: "pushmesh_api_comets_silent_total",
    help: "Comets that did not say in which rooms a user is: those rooms were not told of his mute everywhere.",
};
pub const MALFORMED: Counter = Counter {
    name: "pushmesh_api_malformed_records_total",
    help: "Records of rooms and mutes that nobody can read. Alarm above zero.",
};
