//! The demo's class: fictional people, eight at each vendor. Their e-mail domain is reserved and delivers nothing
//! (RFC 2606).

use serde_json::{Map, Value, json};

use crate::commands::sandbox_config;
use crate::sandbox::accounts;

/// One of the three vendors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Vendor {
    StartExam,
    ThinkExam,
    ExamTesting,
}

/// One person of the class.
#[derive(Debug)]
pub(super) struct Person {
    /// The vendor that registers the person.
    pub(super) vendor: Vendor,
    /// The caller's own id.
    pub(super) external_id: String,
    pub(super) given_name: &'static str,
    family_name: &'static str,
    pub(super) email: String,
}

impl Vendor {
    pub(super) const ALL: [Self; 3] = [Self::StartExam, Self::ThinkExam, Self::ExamTesting];

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::StartExam => "StartExam",
            Self::ThinkExam => "ThinkExam",
            Self::ExamTesting => "ExamTesting",
        }
    }

    /// Returns the connection's name in the demo's configuration.
    pub(super) const fn connection(self) -> &'static str {
        match self {
            Self::StartExam => sandbox_config::STARTEXAM,
            Self::ThinkExam => sandbox_config::THINKEXAM,
            Self::ExamTesting => sandbox_config::EXAMTESTING,
        }
    }

    /// Returns the catalogue id of the assessment that everyone at this vendor is booked for; `None` where the vendor
    /// takes no bookings.
    pub(super) const fn assessment(self) -> Option<&'static str> {
        match self {
            Self::StartExam => Some("rust-101"),
            Self::ThinkExam => Some("data-science-entry"),
            Self::ExamTesting => None,
        }
    }

    /// Returns the vendor's own id of that assessment.
    pub(super) fn test(self) -> Option<&'static str> {
        self.assessment().and_then(sandbox_config::reference_of)
    }

    fn group(self) -> Option<&'static str> {
        match self {
            Self::StartExam => None,
            Self::ThinkExam => accounts::thinkexam::COURSES.last().copied(),
            Self::ExamTesting => accounts::examtesting::GROUPS.first().copied(),
        }
    }
}

impl Person {
    /// Returns the request body for `POST /candidates`.
    pub(super) fn registration(&self) -> Value {
        let mut body = self.members();
        body.insert("connection".to_owned(), json!(self.vendor.connection()));
        Value::Object(body)
    }

    /// Returns a row for `POST /candidates/bulk`, where the request names the connection once for all.
    pub(super) fn row(&self) -> Value {
        Value::Object(self.members())
    }

    fn members(&self) -> Map<String, Value> {
        let mut members = Map::from_iter([
            ("externalId".to_owned(), json!(self.external_id)),
            ("name".to_owned(), json!({ "givenName": self.given_name, "familyName": self.family_name })),
            ("email".to_owned(), json!(self.email)),
        ]);
        members.extend(self.vendor.group().map(|group| ("group".to_owned(), json!(group))));
        members
    }
}

/// For each vendor the number of its first person, and the names.
const NAMES: [(Vendor, u32, &str); 3] = [
    (
        Vendor::StartExam,
        1001,
        "Amara Okafor, Bruno Keller, Chloe Martin, Dmitri Volkov, Elena Rossi, Farid Haddad, Greta Lindgren, Hana Sato",
    ),
    (
        Vendor::ThinkExam,
        2001,
        "Ishaan Mehta, Jaya Nair, Kabir Singh, Lakshmi Iyer, Meera Joshi, Nikhil Rao, Omar Farouk, Priya Das",
    ),
    (
        Vendor::ExamTesting,
        3001,
        "Quentin Adams, Rosa Delgado, Samuel Brooks, Tara Quinn, Umberto Conti, Vera Novak, William Chen, Yara Silva",
    ),
];

/// Returns the whole class, grouped by vendor.
pub(super) fn everybody() -> Vec<Person> {
    let people = NAMES.into_iter().flat_map(|(vendor, first, names)| {
        let names = names.split(", ").filter_map(|name| name.split_once(' '));
        (first..).zip(names).map(move |(number, (given_name, family_name))| Person {
            vendor,
            external_id: format!("emp-{number}"),
            given_name,
            family_name,
            email: format!("{given_name}.{family_name}@example.com").to_lowercase(),
        })
    });
    people.collect()
}
