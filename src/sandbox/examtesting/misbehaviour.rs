//! The faults and lasting switches specific to `ExamTesting`.

use super::super::faults::{Behaviour, FaultKind};
use super::formats::{self, Outcome};
use crate::sandbox::fault_kinds::BODY_LIMIT;
use crate::sandbox::parameters::{Parameter, choice, count, flag, optional_count, status, text};
use crate::sandbox::vendor::Context;

/// The page that ASP.NET returns for a value that looks like markup.
pub(super) const VALIDATION_PAGE: &str = "<!DOCTYPE html>\r\n<html>\r\n    <head>\r\n        <title>A potentially dangerous Request.Form value was detected from the client.</title>\r\n    </head>\r\n    <body bgcolor=\"white\">\r\n            <span><H1>Server Error in '/' Application.<hr width=100% size=1 color=silver></H1>\r\n            <h2> <i>A potentially dangerous Request.Form value was detected from the client.</i> </h2></span>\r\n    </body>\r\n</html>\r\n";
const SERVER_ERROR_PAGE: &str = "<!DOCTYPE html>\r\n<html>\r\n    <head>\r\n        <title>Runtime Error</title>\r\n    </head>\r\n    <body bgcolor=\"white\">\r\n            <span><H1>Server Error in '/' Application.<hr width=100% size=1 color=silver></H1>\r\n            <h2> <i>Runtime Error</i> </h2></span>\r\n    </body>\r\n</html>\r\n";
const FIREWALL_PAGE: &str = "<html><head><title>403 Forbidden</title></head><body><h1>Forbidden</h1><p>Access denied by security policy.</p></body></html>\r\n";
const RESTART_PAGE: &str = "<!DOCTYPE HTML PUBLIC \"-//W3C//DTD HTML 4.01//EN\"\"http://www.w3.org/TR/html4/strict.dtd\">\r\n<HTML><HEAD><TITLE>Service Unavailable</TITLE></HEAD>\r\n<BODY><h2>Service Unavailable</h2>\r\n<hr><p>HTTP Error 503. The service is unavailable.</p>\r\n</BODY></HTML>\r\n";
const STACK_TRACE: &str = "\r\nSystem.Data.SqlClient.SqlException (0x80131904): ERROR: Timeout expired.\r\n   at ManageCandidate.Page_Load(Object sender, EventArgs e)\r\n";
const HTML: &str = "text/html; charset=utf-8";

const EFFECT: Parameter = flag("effect", false, "true: the call takes effect before this response");

/// Defines a fault that replaces the response with a server page.
const fn page(name: &'static str, meaning: &'static str, parameters: &'static [Parameter]) -> FaultKind {
    FaultKind { name, only: &[], meaning, parameters, behaviour: Behaviour::Replace }
}

/// Defines a fault that changes the wording of the vendor's response.
const fn words(name: &'static str, meaning: &'static str, parameters: &'static [Parameter]) -> FaultKind {
    FaultKind { name, only: &["add", "update"], meaning, parameters, behaviour: Behaviour::Vendor }
}

/// The vendor's own faults.
pub(super) const FAULTS: &[FaultKind] = &[
    page(
        "aspnet_error_page",
        "responds with 500 and the page \"Server Error in '/' Application\"",
        &[
            status(500),
            text("body", SERVER_ERROR_PAGE, "the page"),
            text("contentType", HTML, "its content type"),
            EFFECT,
        ],
    ),
    page(
        "request_validation_page",
        "responds with 500 and ASP.NET's page about a potentially dangerous value; the call has no effect",
        &[
            status(500),
            text("body", VALIDATION_PAGE, "the page"),
            text("contentType", HTML, "its content type"),
            EFFECT,
        ],
    ),
    page(
        "firewall",
        "responds with 403 and a firewall's page",
        &[status(403), text("body", FIREWALL_PAGE, "the page"), text("contentType", HTML, "its content type"), EFFECT],
    ),
    page(
        "application_restart",
        "responds with 503 and IIS's page for an application restart",
        &[status(503), text("body", RESTART_PAGE, "the page"), text("contentType", HTML, "its content type"), EFFECT],
    ),
    page(
        "error_redirect",
        "redirects (302) to an error page",
        &[
            status(302),
            text("location", "/Error.aspx?aspxerrorpath=/ManageCandidate.aspx", "the Location header"),
            choice("format", &["html"], "the body"),
            EFFECT,
        ],
    ),
    FaultKind {
        name: "cold_start",
        only: &[],
        meaning: "takes many seconds, like the first call after an idle period",
        parameters: &[count("delayMs", 10_000, "milliseconds to wait")],
        behaviour: Behaviour::DelayBefore,
    },
    words(
        "vendor_error",
        "responds to valid credentials with an error of any code; the call has no effect",
        &[text("code", "1099", "the code"), text("message", "Unknown error", "the message")],
    ),
    words("error_without_code", "responds with ERROR only; the effect is that of the same call without the fault", &[]),
    words("success_without_id", "responds with SUCCESS without an id", &[]),
    words("id_zero", "responds with SUCCESS and the id 0", &[]),
    words("success_and_stack_trace", "responds with SUCCESS followed by a stack trace that contains ERROR", &[]),
    words("leading_blank_lines", "puts blank lines before the response", &[]),
    words("double_creation", "ignores that the user name is taken, as when two identical calls race", &[]),
];

/// The vendor's lasting switches.
pub(super) const SWITCHES: &[Parameter] = &[
    choice("response_format", formats::NAMES, "the format of the response (undocumented; all are guesses)"),
    choice("code_style", &["number", "error_number"], "whether a code is written as 1007 or ERROR 1007 (undocumented)"),
    choice(
        "content_type",
        &["text/html; charset=utf-8", "text/plain; charset=utf-8"],
        "the content type of the response (undocumented)",
    ),
    flag("request_validation", true, "reject values with < or &# with ASP.NET's error page (undocumented)"),
    flag("update_requires_password", false, "whether update requires a password (undocumented)"),
    optional_count(
        "student_limit",
        None,
        "maximum number of students, beyond which code 1008 is returned; no limit if not set",
    ),
    optional_count(
        "next_student_id",
        None,
        "the id of the next new student unless taken, such as 1005, which is also a code; sequential if not set",
    ),
    flag("disabled_count", true, "whether disabled students count towards the limit (undocumented)"),
    BODY_LIMIT,
];

/// Returns the response text that an active wording fault produces; `None` without such a fault.
pub(super) fn distorted(outcome: &Outcome, context: &Context<'_>) -> Option<String> {
    let format = context.switches.text("response_format");
    let plain = formats::write(outcome, context.switches);
    let is_success = matches!(outcome, Outcome::Success(_));
    if context.struck_by("leading_blank_lines") {
        return Some(format!("\r\n\r\n \r\n{plain}"));
    }
    if context.struck_by("error_without_code") {
        return Some("ERROR".to_owned());
    }
    if !is_success {
        return None;
    }
    if context.struck_by("success_without_id") {
        return Some(without_id(&format));
    }
    if context.struck_by("id_zero") {
        return Some(formats::success(&format, "0"));
    }
    context.struck_by("success_and_stack_trace").then(|| format!("{plain}{STACK_TRACE}"))
}

fn without_id(format: &str) -> String {
    match format {
        "pipe" | "comma" | "words" => "SUCCESS".to_owned(),
        "colon" => "Status: SUCCESS".to_owned(),
        "break" => "Status:SUCCESS".to_owned(),
        "json" => "{\"Status\":\"SUCCESS\"}".to_owned(),
        "json_array" => "[{\"Status\":\"SUCCESS\"}]".to_owned(),
        "xml" => "<Response><Status>SUCCESS</Status></Response>".to_owned(),
        _ => "Status=SUCCESS".to_owned(),
    }
}
