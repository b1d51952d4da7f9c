//! What every page shares: the frame with its menu, the client, notices, problems and the hidden fields of forms.

use std::collections::BTreeSet;

use askama::Template;
use askama::filters::Safe;
use http::StatusCode;
use uuid::Uuid;

use crate::domain::error::Code;
use crate::domain::scope::Scope;
use crate::http::console::api::{ConsoleError, Problem};
use crate::http::console::format as filters;
use crate::http::console::format::escaped;

/// Notices that several screens use, by their words in `?notice=`.
const COMMON_NOTICES: &[(&str, &str)] =
    &[("signed_in", "You are signed in."), ("begun", "The gateway has begun. This page shows what is known so far.")];

/// A screen of the console.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::http::console) enum Area {
    /// What needs a person.
    Attention,
    /// Candidates and what became of them.
    People,
    /// Bulks and enrolments.
    Operations,
    /// Connections and their state.
    Connections,
    /// Results.
    Results,
    /// Webhooks and their deliveries.
    Webhooks,
    /// Reports that were not applied.
    Reports,
    /// Recent exchanges with vendors.
    Exchanges,
    /// The audit log.
    Audit,
    /// The upload of a file.
    Import,
}

impl Area {
    const ALL: [Self; 10] = [
        Self::Attention,
        Self::People,
        Self::Operations,
        Self::Connections,
        Self::Results,
        Self::Webhooks,
        Self::Reports,
        Self::Exchanges,
        Self::Audit,
        Self::Import,
    ];

    /// Returns its name in the menu, its path below `console/`, and the scopes of which one is needed (none: every client
    /// may open it).
    const fn entry(self) -> (&'static str, &'static str, &'static [Scope]) {
        match self {
            Self::Attention => ("Attention", "", &[]),
            Self::People => ("People", "people", &[Scope::CandidatesRead]),
            Self::Operations => ("Operations", "operations", &[Scope::OperationsRead]),
            Self::Connections => ("Connections", "connections", &[Scope::CatalogueRead]),
            Self::Results => ("Results", "results", &[Scope::ResultsRead]),
            Self::Webhooks => ("Webhooks", "webhooks", &[Scope::WebhooksRead]),
            Self::Reports => ("Parked reports", "reports", &[Scope::ReportsRead]),
            Self::Exchanges => ("Exchanges", "exchanges", &[Scope::ExchangesRead]),
            Self::Audit => ("Audit", "audit", &[Scope::AuditRead]),
            Self::Import => ("Import", "import", &[Scope::CandidatesWrite, Scope::AssignmentsWrite]),
        }
    }
}

/// An entry of the menu.
pub(in crate::http::console) struct MenuEntry {
    /// The screen's name.
    pub(in crate::http::console) name: &'static str,
    /// Its path below `console/`.
    pub(in crate::http::console) path: &'static str,
    /// Whether the page belongs to it.
    pub(in crate::http::console) is_current: bool,
    /// How much there is to do, with its tone.
    pub(in crate::http::console) count: Option<(String, &'static str)>,
}

/// Who looks at a page, and with which permissions.
#[derive(Debug, Clone, Default)]
pub(in crate::http::console) struct Viewer {
    /// The client's name; empty before sign-in.
    pub(in crate::http::console) client: String,
    /// Its tenant.
    pub(in crate::http::console) tenant: String,
    /// What the credentials permit.
    pub(in crate::http::console) scopes: Vec<Scope>,
    /// Whether there is a session to end.
    pub(in crate::http::console) can_sign_out: bool,
    /// The token of the session's forms.
    pub(in crate::http::console) csrf: String,
}

impl Viewer {
    /// Returns whether the credentials permit this.
    pub(in crate::http::console) fn may(&self, scope: Scope) -> bool {
        self.scopes.contains(&scope)
    }
}

/// What a page lacks, and why.
pub(in crate::http::console) struct Lacking {
    /// The names of the parts.
    pub(in crate::http::console) names: String,
    /// Why they could not be read.
    pub(in crate::http::console) reason: String,
}

/// What the frame of a page shows.
pub(in crate::http::console) struct Page {
    /// The relative address of `console/`, with a final slash.
    pub(in crate::http::console) root: String,
    /// The screen, and ids; never anything personal.
    pub(in crate::http::console) title: String,
    /// Who looks at it.
    pub(in crate::http::console) viewer: Viewer,
    /// The menu.
    pub(in crate::http::console) menu: Vec<MenuEntry>,
    /// The parts that could not be read.
    pub(in crate::http::console) lacking: Option<Lacking>,
    /// What the request before has done.
    pub(in crate::http::console) notice: Option<&'static str>,
    /// Why the request failed.
    pub(in crate::http::console) problem: Option<ProblemView>,
    /// The version of the gateway.
    pub(in crate::http::console) version: &'static str,
    /// The addresses of stylesheet and script below `console/`.
    pub(in crate::http::console) assets: (&'static str, &'static str),
    /// The key of the form that led to it.
    key: Option<String>,
    notice_word: String,
}

impl Page {
    /// Creates the frame of a page at this distance from `console/`.
    pub(in crate::http::console) fn new(
        root: &str,
        title: &str,
        area: Option<Area>,
        viewer: Viewer,
        assets: (&'static str, &'static str),
    ) -> Self {
        let permitted = |scopes: &[Scope]| scopes.is_empty() || scopes.iter().any(|scope| viewer.may(*scope));
        let menu = Area::ALL.into_iter().filter(|_| !viewer.client.is_empty()).filter_map(|entry| {
            let (name, path, scopes) = entry.entry();
            let is_current = area == Some(entry);
            permitted(scopes).then_some(MenuEntry { name, path, is_current, count: None })
        });
        Self {
            root: root.to_owned(),
            title: title.to_owned(),
            menu: menu.collect(),
            viewer,
            lacking: None,
            notice: None,
            problem: None,
            version: env!("CARGO_PKG_VERSION"),
            assets,
            notice_word: String::new(),
            key: None,
        }
    }

    /// Says which parts the page lacks, each with the reason.
    pub(in crate::http::console) fn with_lacking(mut self, parts: &[(&'static str, String)]) -> Self {
        self.lacking = parts.first().map(|(_, reason)| {
            let names: BTreeSet<&str> = parts.iter().map(|(name, _)| *name).collect();
            Lacking { names: names.into_iter().collect::<Vec<_>>().join(", "), reason: reason.clone() }
        });
        self
    }

    /// Keeps the key of the form that led to the page.
    pub(in crate::http::console) fn with_key(mut self, key: Option<&str>) -> Self {
        self.key = key.map(str::to_owned);
        self
    }

    /// Shows the notice with this word, if it is a known one.
    pub(in crate::http::console) fn with_notice_word(mut self, word: Option<&str>) -> Self {
        word.unwrap_or_default().clone_into(&mut self.notice_word);
        self.with_notices(COMMON_NOTICES)
    }

    /// Adds the notices of a screen: words of `?notice=`, and their sentences.
    pub(in crate::http::console) fn with_notices(mut self, notices: &[(&str, &'static str)]) -> Self {
        let found = notices.iter().find(|(word, _)| *word == self.notice_word).map(|(_, sentence)| *sentence);
        self.notice = self.notice.or(found);
        self
    }

    /// Shows a problem of the API at the top of the page.
    pub(in crate::http::console) fn with_problem(mut self, problem: Problem) -> Self {
        self.problem = Some(ProblemView::of(problem));
        self
    }

    /// Shows in the menu how much there is to do at a screen, which only the page that looks for it knows.
    pub(in crate::http::console) fn with_count(mut self, area: Area, count: &str, tone: &'static str) -> Self {
        let (name, ..) = area.entry();
        if let Some(entry) = self.menu.iter_mut().find(|entry| entry.name == name) {
            entry.count = Some((count.to_owned(), tone));
        }
        self
    }

    /// Returns whether the credentials permit what this scope permits.
    pub(in crate::http::console) fn may(&self, scope: &str) -> bool {
        Scope::ALL.iter().any(|known| known.as_str() == scope && self.viewer.may(*known))
    }

    /// Returns the hidden fields of a form: the session's token, and a key under which the gateway performs the form once,
    /// however often it is sent. A form that is shown again keeps its key if it may have been performed.
    pub(in crate::http::console) fn guard(&self) -> Safe<String> {
        let may_be_done = self.problem.as_ref().is_some_and(|problem| problem.outcome != "not_applied");
        let key = self.key.as_deref().filter(|_| may_be_done).map_or_else(|| Uuid::new_v4().to_string(), escaped);
        let csrf = escaped(&self.viewer.csrf);
        Safe(format!(
            "<input type=\"hidden\" name=\"csrf\" value=\"{csrf}\"><input type=\"hidden\" name=\"key\" value=\"{key}\">"
        ))
    }
}

/// The page of an error.
#[derive(Template)]
#[template(path = "problem.html", config = "src/http/console/askama.toml")]
pub(in crate::http::console) struct ProblemPage {
    /// The frame.
    pub(in crate::http::console) page: Page,
    /// The error.
    pub(in crate::http::console) problem: ProblemView,
}

/// A failure, as a page shows it.
pub(in crate::http::console) struct ProblemView {
    /// The status of the page.
    pub(in crate::http::console) status: StatusCode,
    /// The kind of problem.
    pub(in crate::http::console) title: String,
    /// What went wrong.
    pub(in crate::http::console) detail: String,
    /// What is known of the write; empty if there was none.
    pub(in crate::http::console) outcome: String,
    /// What to do.
    pub(in crate::http::console) advice: String,
    /// The problem of the API that it is about.
    pub(in crate::http::console) problem: Option<Problem>,
}

impl ProblemView {
    /// Describes a problem of the API.
    pub(in crate::http::console) fn of(problem: Problem) -> Self {
        let status = StatusCode::from_u16(problem.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        Self {
            status,
            title: problem.title.clone(),
            detail: problem.detail.clone(),
            outcome: problem.outcome.clone(),
            advice: advice(&problem),
            problem: Some(problem),
        }
    }

    /// Describes the failure of a page.
    pub(in crate::http::console) fn of_error(error: ConsoleError) -> Self {
        let own = |status, title: &str, detail: String, advice: &str| Self {
            status,
            title: title.to_owned(),
            detail,
            outcome: String::new(),
            advice: advice.to_owned(),
            problem: None,
        };
        match error {
            ConsoleError::Problem(problem) => Self::of(*problem),
            ConsoleError::Ended => {
                let detail = "A proxy in front of the console has to sign you in, and put a bearer token into the Authorization \
                              header. None came with this request, or it is not valid."
                    .to_owned();
                own(StatusCode::UNAUTHORIZED, "You are not signed in", detail, "Open the page again.")
            }
            ConsoleError::Refused(status, detail) if status == StatusCode::NOT_FOUND => {
                own(status, "There is no such page", detail.to_owned(), "Go back, or choose a screen from the menu.")
            }
            ConsoleError::Refused(status, detail) => own(
                status,
                "The console did not accept the form",
                detail.to_owned(),
                "Nothing was done. Open the page again.",
            ),
            ConsoleError::Scope(scope) => {
                let detail =
                    format!("This screen needs the scope {}, which your client does not have.", scope.as_str());
                own(
                    StatusCode::FORBIDDEN,
                    "The scope is lacking",
                    detail,
                    "Ask the operator to add it in auth.clients.",
                )
            }
            ConsoleError::Unshown { status, write: StatusCode::ACCEPTED } => Self {
                outcome: "pending".to_owned(),
                ..own(
                    status,
                    "It was accepted, but its page cannot be shown",
                    "The gateway has accepted it and is still working on it. What the page shows besides could not be read."
                        .to_owned(),
                    "Do not send the form again; open the page again.",
                )
            },
            ConsoleError::Unshown { status, write: _ } => Self {
                outcome: "applied".to_owned(),
                ..own(
                    status,
                    "It was done, but its page cannot be shown",
                    "The gateway has done it. What the page shows besides could not be read.".to_owned(),
                    "Do not send the form again; open the page again.",
                )
            },
            ConsoleError::Unclear => Self {
                outcome: "unknown".to_owned(),
                ..own(
                    StatusCode::INTERNAL_SERVER_ERROR,
                    "The gateway had an internal error",
                    "The page could not be made.".to_owned(),
                    "It may have happened: do not send the form again, look at the record. The log says more.",
                )
            },
            ConsoleError::Internal(_) => {
                let detail = "The page could not be made.".to_owned();
                own(
                    StatusCode::INTERNAL_SERVER_ERROR,
                    "The gateway had an internal error",
                    detail,
                    "The log says more.",
                )
            }
        }
    }

    /// Returns whether it is uncertain what happened.
    pub(in crate::http::console) fn is_unknown(&self) -> bool {
        self.outcome == "unknown"
    }
}

/// Returns what a person can do about a problem.
fn advice(problem: &Problem) -> String {
    let known = match problem.outcome.as_str() {
        "unknown" => {
            "It may have happened. The gateway finds out by itself where it can: do not send it again, look at the record."
        }
        "applied" => "It has happened.",
        _ if problem.retryable => "Nothing has changed; the same can succeed later.",
        _ => "Nothing has changed.",
    };
    let code = Code::ALL.iter().find(|code| code.as_str() == problem.code).filter(|_| problem.outcome != "unknown");
    let action = code.map(|code| format!(" {}", code.action())).unwrap_or_default();
    let wait = problem.retry_after.as_ref().map(|seconds| format!(" The gateway asks to wait {seconds} s."));
    format!("{known}{action}{}", wait.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_write_that_was_only_accepted_is_not_said_to_be_applied() {
        for (write, outcome) in
            [(StatusCode::OK, "applied"), (StatusCode::NO_CONTENT, "applied"), (StatusCode::ACCEPTED, "pending")]
        {
            let status = StatusCode::SERVICE_UNAVAILABLE;
            let view = ProblemView::of_error(ConsoleError::Unshown { status, write });
            assert_eq!((view.status, view.outcome.as_str()), (status, outcome), "{write}");
        }
    }
}
