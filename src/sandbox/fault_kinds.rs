//! The faults that every simulator offers: delays, cut connections, other responses, damaged responses.
//!
//! No vendor documents any of these; they are what networks, proxies and busy servers do. Each fault works on whatever
//! response the vendor gave and does not depend on the operation.

use std::time::Duration;

use crate::sandbox::faults::{Behaviour, FaultKind};
use crate::sandbox::http_types::{Answer, Body, End, Reply};
use crate::sandbox::ordered_json::{Json, Layout};
use crate::sandbox::parameters::{Parameter, Parameters, choice, count, flag, optional_count, signed, status, text};

const PROXY_PAGE: &str = "<!DOCTYPE html>\r\n<html><head><title>Error</title></head>\r\n<body><center><h1>Service error</h1></center><hr><center>nginx</center></body></html>\r\n";
const SIGN_IN_PAGE: &str = "<!DOCTYPE html>\n<html><head><title>Sign in</title></head><body><form action=\"/login\" method=\"post\"><input name=\"user\"><input name=\"password\" type=\"password\"></form></body></html>\n";
const PHP_WARNING: &str = "<br />\n<b>Warning</b>:  Undefined array key \"course\" in <b>/var/www/html/app/Api.php</b> on line <b>217</b><br />\n";

const ACCENTED: &str = "\u{e9}t\u{e9}";

const FORMAT: Parameter = choice(
    "format",
    &["html", "vendor", "json", "text", "empty"],
    "the body: a proxy's HTML page, the vendor's own error format, {\"message\"}, plain text, or nothing",
);
const EFFECT: Parameter = flag("effect", false, "true: the call takes effect before this response");
const EFFECT_HAPPENS: Parameter = flag("effect", true, "false: the call takes no effect");
const MESSAGE: Parameter = text("message", "Simulated failure", "the message for the formats vendor, json and text");
const RETRY_AFTER_MEANING: &str = "seconds for the Retry-After header; null for none";
const RETRY_AFTER: Parameter = optional_count("retryAfter", None, RETRY_AFTER_MEANING);

/// The switch, common to all vendors, that limits the size of request bodies.
pub(super) const BODY_LIMIT: Parameter = optional_count(
    "body_limit_bytes",
    None,
    "a longer body gets 413 with a proxy's page (undocumented); 16 MiB if not set",
);

/// The faults common to all vendors.
pub(super) const GENERAL: &[FaultKind] = &[
    FaultKind {
        name: "delay_before_effect",
        only: &[],
        meaning: "waits, then handles the call as usual, even if the caller has hung up",
        parameters: &[count("delayMs", 1000, "milliseconds to wait")],
        behaviour: Behaviour::DelayBefore,
    },
    FaultKind {
        name: "delay_after_effect",
        only: &[],
        meaning: "handles the call, then waits before responding",
        parameters: &[count("delayMs", 1000, "milliseconds to wait")],
        behaviour: Behaviour::DelayAfter,
    },
    FaultKind {
        name: "reset_before_effect",
        only: &[],
        meaning: "resets the connection (RST) without sending a byte; the call has no effect",
        parameters: &[],
        behaviour: Behaviour::Cut { after_effect: false, reset: true },
    },
    FaultKind {
        name: "reset_after_effect",
        only: &[],
        meaning: "resets the connection (RST) without sending a byte; the call takes effect",
        parameters: &[],
        behaviour: Behaviour::Cut { after_effect: true, reset: true },
    },
    FaultKind {
        name: "close_before_effect",
        only: &[],
        meaning: "closes the connection (FIN) without sending a byte; the call has no effect",
        parameters: &[],
        behaviour: Behaviour::Cut { after_effect: false, reset: false },
    },
    FaultKind {
        name: "close_after_effect",
        only: &[],
        meaning: "closes the connection (FIN) without sending a byte; the call takes effect",
        parameters: &[],
        behaviour: Behaviour::Cut { after_effect: true, reset: false },
    },
    FaultKind {
        name: "rate_limited",
        only: &[],
        meaning: "responds with 429",
        parameters: &[status(429), optional_count("retryAfter", Some(1), RETRY_AFTER_MEANING), FORMAT, MESSAGE, EFFECT],
        behaviour: Behaviour::Replace,
    },
    FaultKind {
        name: "unavailable",
        only: &[],
        meaning: "responds with 503, with Retry-After if given",
        parameters: &[status(503), RETRY_AFTER, FORMAT, MESSAGE, EFFECT],
        behaviour: Behaviour::Replace,
    },
    FaultKind {
        name: "server_error",
        only: &[],
        meaning: "responds with 500 (or another status) and an HTML page or another body",
        parameters: &[status(500), FORMAT, MESSAGE, EFFECT],
        behaviour: Behaviour::Replace,
    },
    FaultKind {
        name: "gateway_timeout",
        only: &[],
        meaning: "responds with 504 at once, like a proxy that timed out; the call takes effect later",
        parameters: &[
            status(504),
            FORMAT,
            MESSAGE,
            count("effectDelayMs", 1000, "milliseconds from the response to the effect"),
        ],
        behaviour: Behaviour::AnswerFirst,
    },
    FaultKind {
        name: "other_status",
        only: &[],
        meaning: "sends the vendor's own response with another status; the call takes effect",
        parameters: &[status(500)],
        behaviour: Behaviour::Distort(|knobs, answer| {
            answer.status = knobs.number("status").and_then(|status| u16::try_from(status).ok()).unwrap_or(500);
        }),
    },
    FaultKind {
        name: "status",
        only: &[],
        meaning: "responds with any status and body, whatever the request",
        parameters: &[
            status(418),
            FORMAT,
            MESSAGE,
            RETRY_AFTER,
            text("body", "", "the literal body; if given, format and message are ignored"),
            text("contentType", "", "the content type for body"),
            EFFECT,
        ],
        behaviour: Behaviour::Replace,
    },
    FaultKind {
        name: "redirect",
        only: &[],
        meaning: "responds with a redirect",
        parameters: &[
            status(302),
            text("location", "/moved", "the Location header"),
            choice("format", &["html", "empty"], "the body"),
            EFFECT,
        ],
        behaviour: Behaviour::Replace,
    },
    FaultKind {
        name: "html_page",
        only: &[],
        meaning: "responds with 200 and an HTML sign-in page",
        parameters: &[
            status(200),
            text("body", SIGN_IN_PAGE, "the page"),
            text("contentType", "text/html; charset=utf-8", "its content type"),
            EFFECT_HAPPENS,
        ],
        behaviour: Behaviour::Replace,
    },
    FaultKind {
        name: "empty_body",
        only: &[],
        meaning: "responds with 200 and an empty body",
        parameters: &[status(200), choice("format", &["empty"], "the body"), EFFECT_HAPPENS],
        behaviour: Behaviour::Replace,
    },
    FaultKind {
        name: "control_characters",
        only: &[],
        meaning: "responds with an error in the vendor's own format whose message contains CR LF, ESC, NUL and a forged log line",
        parameters: &[
            status(400),
            choice("format", &["vendor", "json", "text"], "the body"),
            text("message", "Bad value\r\nlevel=ERROR forged=true\u{1b}[31m red\u{0}end", "the message"),
            EFFECT,
        ],
        behaviour: Behaviour::Replace,
    },
    FaultKind {
        name: "truncated_json",
        only: &[],
        meaning: "cuts the body in half, with the Content-Length of the half",
        parameters: &[],
        behaviour: Behaviour::Distort(|_, answer| {
            let mut bytes = answer.body.to_bytes();
            bytes.truncate(bytes.len() / 2);
            answer.body = Body::Bytes(bytes);
        }),
    },
    FaultKind {
        name: "bom",
        only: &[],
        meaning: "puts a UTF-8 byte order mark before the body",
        parameters: &[],
        behaviour: Behaviour::Distort(|_, answer| surround(answer, "\u{feff}", "")),
    },
    FaultKind {
        name: "content_type",
        only: &[],
        meaning: "sends the correct body with another content type",
        parameters: &[text("value", "text/plain", "the content type")],
        behaviour: Behaviour::Distort(|knobs, answer| {
            answer.set_header("Content-Type", knobs.text("value"));
        }),
    },
    FaultKind {
        name: "text_before",
        only: &[],
        meaning: "puts text before the body, such as a warning of the server's programming language",
        parameters: &[text("text", PHP_WARNING, "the text")],
        behaviour: Behaviour::Distort(|knobs, answer| surround(answer, &knobs.text("text"), "")),
    },
    FaultKind {
        name: "text_after",
        only: &[],
        meaning: "puts text after the body, such as an HTML page",
        parameters: &[text("text", SIGN_IN_PAGE, "the text")],
        behaviour: Behaviour::Distort(|knobs, answer| surround(answer, "", &knobs.text("text"))),
    },
    FaultKind {
        name: "latin1",
        only: &[],
        meaning: "sends the body in ISO 8859-1 with an accented word in it (a field \"note\" in JSON)",
        parameters: &[],
        behaviour: Behaviour::Distort(|_, answer| {
            let text = match &mut answer.body {
                Body::Json(Json::Object(members), _) => {
                    members.push(("note".to_owned(), ACCENTED.into()));
                    // PHP's layout would escape the accented characters.
                    Json::Object(members.clone()).write(Layout::Indented("\n"))
                }
                other => String::from_utf8_lossy(&other.to_bytes()).into_owned() + " " + ACCENTED,
            };
            let latin1 = text.chars().map(|c| u8::try_from(u32::from(c)).unwrap_or(b'?'));
            answer.body = Body::Bytes(latin1.collect());
        }),
    },
    FaultKind {
        name: "extra_fields",
        only: &[],
        meaning: "adds an unknown field to every JSON object of the response",
        parameters: &[],
        behaviour: Behaviour::Distort(|_, answer| {
            if let Body::Json(json, _) = &mut answer.body {
                json.each_object(&mut |members| {
                    members.insert(0, ("apiVersion".to_owned(), "2026-11".into()));
                });
            }
        }),
    },
    FaultKind {
        name: "pascal_case",
        only: &[],
        meaning: "capitalises every JSON field name",
        parameters: &[],
        behaviour: Behaviour::Distort(|_, answer| {
            if let Body::Json(json, _) = &mut answer.body {
                json.each_object(&mut |members| {
                    for (name, _) in members {
                        capitalise(name);
                    }
                });
            }
        }),
    },
    FaultKind {
        name: "numbers_as_strings",
        only: &[],
        meaning: "writes JSON numbers as strings",
        parameters: &[],
        behaviour: Behaviour::Distort(|_, answer| {
            each_leaf(answer, |leaf| match leaf {
                Json::Integer(number) => *leaf = number.to_string().into(),
                Json::Decimal(number) => *leaf = number.to_string().into(),
                _ => {}
            });
        }),
    },
    FaultKind {
        name: "strings_as_numbers",
        only: &[],
        meaning: "writes JSON strings of digits as numbers",
        parameters: &[],
        behaviour: Behaviour::Distort(|_, answer| {
            each_leaf(answer, |leaf| {
                if let Json::Text(digits) = leaf
                    && let Ok(number) = digits.parse::<i64>()
                {
                    *leaf = number.into();
                }
            });
        }),
    },
    FaultKind {
        name: "json_in_string",
        only: &[],
        meaning: "writes the whole body as one JSON string",
        parameters: &[],
        behaviour: Behaviour::Distort(|_, answer| {
            let text = String::from_utf8_lossy(&answer.body.to_bytes()).into_owned();
            answer.body = Body::Text(serde_json::Value::from(text).to_string());
        }),
    },
    FaultKind {
        name: "huge_body",
        only: &[],
        meaning: "pads the body with spaces to a large size",
        parameters: &[count("bytes", 10 << 20, "the size of the body in bytes; at most 256 MiB")],
        behaviour: Behaviour::Distort(|knobs, answer| {
            let mut bytes = answer.body.to_bytes();
            let size = knobs.size("bytes").min(256 << 20).max(bytes.len());
            bytes.resize(size, b' ');
            answer.body = Body::Bytes(bytes);
        }),
    },
    FaultKind {
        name: "truncated_body",
        only: &[],
        meaning: "announces the full Content-Length, sends half of the body and ends the connection",
        parameters: &[flag("reset", false, "true: with RST instead of FIN")],
        behaviour: Behaviour::Send(|knobs, answer| {
            let body = answer.body.to_bytes();
            let end = if knobs.flag("reset") { End::Reset } else { End::Close };
            Reply::Raw { bytes: answer.to_http(&body[..body.len() / 2], body.len()), pace: None, end }
        }),
    },
    FaultKind {
        name: "wrong_content_length",
        only: &[],
        meaning: "sends the whole body with another Content-Length and closes the connection",
        parameters: &[signed("difference", -5, "bytes added to the true length")],
        behaviour: Behaviour::Send(|knobs, answer| {
            let body = answer.body.to_bytes();
            let difference = isize::try_from(knobs.number("difference").unwrap_or(0)).unwrap_or(0);
            let claimed = body.len().saturating_add_signed(difference);
            Reply::Raw { bytes: answer.to_http(&body, claimed), pace: None, end: End::Close }
        }),
    },
    FaultKind {
        name: "drip",
        only: &[],
        meaning: "sends the response a few bytes at a time",
        parameters: &[
            count("bytes", 16, "bytes at a time, at least 1"),
            count("intervalMs", 100, "milliseconds between them"),
        ],
        behaviour: Behaviour::Send(|knobs, answer| {
            let body = answer.body.to_bytes();
            let interval = u64::try_from(knobs.number("intervalMs").unwrap_or(0)).unwrap_or(0);
            let pace = Some((knobs.size("bytes").max(1), Duration::from_millis(interval)));
            Reply::Raw { bytes: answer.to_http(&body, body.len()), pace, end: End::Close }
        }),
    },
    FaultKind {
        name: "garbage",
        only: &[],
        meaning: "sends bytes that are not HTTP; the call takes effect",
        parameters: &[],
        behaviour: Behaviour::Send(|_, _| Reply::Raw {
            bytes: b"\x16\x03\x01\x02\x00 this is not HTTP\r\n\r\n".to_vec(),
            pace: None,
            end: End::Close,
        }),
    },
];

/// Returns the response to a request body that is too long.
pub(super) fn too_large() -> Answer {
    Answer::html(413, PROXY_PAGE)
}

/// Builds the response of a fault that replaces the vendor's own; `vendor_error` writes the vendor's error format.
pub(super) fn replacement(knobs: &Parameters, vendor_error: impl FnOnce(u16, &str) -> Answer) -> Answer {
    let status = knobs.number("status").and_then(|status| u16::try_from(status).ok()).unwrap_or(500);
    let message = knobs.text("message");
    let body = knobs.text("body");
    let mut answer = if body.is_empty() {
        match knobs.text("format").as_str() {
            "html" => Answer::html(status, PROXY_PAGE),
            "vendor" => vendor_error(status, &message),
            "json" => {
                let text = serde_json::json!({ "message": message }).to_string();
                Answer::new(status, "application/json", Body::Text(text))
            }
            "text" => Answer::new(status, "text/plain; charset=utf-8", Body::Text(message)),
            _ => Answer::empty(status),
        }
    } else {
        Answer::new(status, "text/plain; charset=utf-8", Body::Text(body))
    };
    let content_type = knobs.text("contentType");
    if !content_type.is_empty() {
        answer.set_header("Content-Type", content_type);
    }
    if let Some(seconds) = knobs.number("retryAfter") {
        answer.set_header("Retry-After", seconds.to_string());
    }
    let location = knobs.text("location");
    if !location.is_empty() {
        answer.set_header("Location", location);
    }
    answer
}

fn surround(answer: &mut Answer, before: &str, after: &str) {
    answer.body = Body::Bytes([before.as_bytes(), &answer.body.to_bytes(), after.as_bytes()].concat());
}

fn each_leaf(answer: &mut Answer, mut change: impl FnMut(&mut Json)) {
    if let Body::Json(json, _) = &mut answer.body {
        json.each_leaf(&mut change);
    }
}

fn capitalise(name: &mut String) {
    if let Some(first) = name.get(..1) {
        let first = first.to_ascii_uppercase();
        name.replace_range(..1, &first);
    }
}
