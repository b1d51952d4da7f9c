//! "Did you mean" for columns and fields: the names that HR systems, LMS and people give to what a row holds. They only
//! help to word an error; no column is ever taken for another.

use std::ops::RangeInclusive;
use std::sync::LazyLock;

use crate::domain::table::BulkItem;
use crate::domain::table::columns::names;

/// Usual names of a candidate's fields, folded as by [`folded`].
const CANDIDATES: &[(&str, &str)] = &[
    ("externalId", PERSON_IDS),
    (
        "userName",
        "username user login loginid loginname logonname signinname account accountname benutzername benutzer \
         anmeldename samaccountname upn userprincipalname",
    ),
    ("password", "pass passwd passwort pwd initialpassword kennwort contrasena motdepasse"),
    (
        "name.givenName",
        "firstname first fname forename forenames given christianname preferredname preferredfirstname namefirst \
         vorname rufname prenom prénom nombre nombres imie voornaam fornavn förnamn",
    ),
    (
        "name.familyName",
        "lastname last lname surname secondname family namelast sn nachname zuname familienname nomdefamille \
         apellido apellidos cognome sobrenome achternaam etternavn efternamn nazwisko",
    ),
    (
        "name.formatted",
        "name fullname displayname formattedname completename candidatename studentname employeename personname \
         nomcomplet",
    ),
    ("email", EMAILS),
    (
        "phoneNumbers.mobile",
        "mobile mobilephone mobilenumber mobileno cell cellphone cellnumber handy handynummer mobil mobiltelefon \
         gsm",
    ),
    ("phoneNumbers.work", "workphone businessphone officephone phonework diensttelefon workphonenumber"),
    (PHONES, "phone phones phonenumber phonenumbers telephone telephonenumber tel telefon telefono telefonnummer"),
    (
        "address.streetAddress",
        "address street address1 addressline addressline1 streetaddress1 strasse straße anschrift adresse",
    ),
    ("address.locality", "city town ort stadt wohnort ville ciudad place"),
    ("address.region", "state province county bundesland stateprovince"),
    ("address.postalCode", "zip zipcode postcode plz postleitzahl codepostal postalzip"),
    ("address.country", "countrycode countryregion land pays pais"),
    ("group", "groups groupname cohort cohort1 class classroom course course1 section team gruppe klasse kurs batch"),
    ("birthDate", "dob dateofbirth birthday birthdate born geburtsdatum geburtstag"),
    ("gender", "sex geschlecht genre"),
    ("photo", "picture image foto avatar photobase64"),
    ("active", "isactive enabled enableduser accountenabled status aktiv employmentstatus"),
    ("ifExists", "onexisting existing onduplicate"),
    ("itemId", "row rowid rownumber rowno line nr lfdnr"),
];

/// Usual names of a booking's fields, folded as by [`folded`].
const ASSIGNMENTS: &[(&str, &str)] = &[
    ("candidate.externalId", PERSON_IDS),
    ("candidate.email", EMAILS),
    (
        "assessment",
        "assessmentid assessmentname assessmentcode test testid testname testcode exam examid examname examcode \
         quiz quizid course courseid prüfung pruefung klausur examen",
    ),
    (
        "validFrom",
        "start starts startdate starttime startat startsat from begin opens opensat availablefrom notbefore \
         beginn",
    ),
    (
        "validUntil",
        "validto validtill end ends enddate endtime endat endsat until till to expiry expires expiresat \
         expirydate deadline due duedate availableuntil notafter ende closes",
    ),
    ("center", "centre testcenter testcentre centerid location venue site standort"),
    ("notify", "notification notifications sendemail sendmail invite"),
    ("reference", "ref order orderid orderno ordernumber bookingid bestellnummer"),
    ("passwordless", "nopassword withoutpassword"),
    ("proctoring.enabled", "proctored proctoring supervised invigilated"),
    ("ifExists", "onexisting existing onduplicate"),
    ("itemId", "row rowid rownumber rowno line nr lfdnr"),
];

/// Usual names of the caller's own id of a person.
const PERSON_IDS: &str = "\
    id ids candidateid candidateexternalid employeeid employeenumber employeeno employee empid empno emplid \
    personid personnelid personnelnumber personnelno personalnummer persnr mitarbeiternummer studentid \
    studentnumber studentno matrikelnummer matriculationnumber learnerid userid sisid sisuserid sourcedid \
    idnumber workerid staffid staffnumber memberid badgeid registrationnumber enrollmentno enrolmentno rollno \
    rollnumber extid";

/// Usual names of an e-mail address.
const EMAILS: &str = "\
    mail emailaddress emailaddr mailaddress emailid emailwork workemail primaryemail primaryworkemail homeemail \
    businessemail emails correo correoelectronico courriel emailadresse useremail candidateemail";

/// What a column of any telephone number may mean.
const PHONES: &str = "phoneNumbers.mobile or phoneNumbers.work";

/// Lengths of names for which near ones are sought, one error for every four characters: nearly every short word is near
/// to another, and comparing long ones takes time.
const FUZZY_LENGTHS: RangeInclusive<usize> = 4..=40;

/// Returns ` (did you mean …?)` with the column that this unknown name probably means, or an empty text.
#[must_use]
pub fn suggest_column(kind: BulkItem, name: &str) -> String {
    meant_column(kind, name).map_or_else(String::new, |meant| format!(" (did you mean {meant}?)"))
}

/// Returns ` (did you mean …?)` with the JSON pointer of the field that this unknown path probably means, or an empty
/// text.
#[must_use]
pub fn suggest_field(kind: BulkItem, path: &[String]) -> String {
    let meant = meant_column(kind, &path.join(".")).map(|meant| match meant.strip_prefix("phoneNumbers.") {
        Some(_) => "/phoneNumbers".to_owned(),
        None => format!("/{}", meant.replace('.', "/")),
    });
    // A field within a list, or the field itself, is no help.
    let own = format!("/{}", path.join("/"));
    meant.filter(|meant| *meant != own).map_or_else(String::new, |meant| format!(" (did you mean {meant}?)"))
}

/// Returns the column that the name means if it is a usual name, another spelling or nearly so.
#[must_use]
pub fn meant_column(kind: BulkItem, name: &str) -> Option<&'static str> {
    let given = folded(name);
    let terms = match kind {
        BulkItem::Candidates => &*CANDIDATE_TERMS,
        BulkItem::Assignments => &*ASSIGNMENT_TERMS,
    };
    if let Some((_, column)) = terms.iter().find(|(term, _)| *term == given) {
        return Some(column);
    }
    let length = given.chars().count();
    if !FUZZY_LENGTHS.contains(&length) {
        return None;
    }
    let most = length / *FUZZY_LENGTHS.start();
    let near = terms
        .iter()
        .filter(|(term, _)| {
            term.chars().count() >= *FUZZY_LENGTHS.start() && term.len().abs_diff(given.len()) <= 2 * most
        })
        .map(|(term, column)| (strsim::osa_distance(&given, term), *column))
        .filter(|(distance, _)| *distance <= most);
    near.min_by_key(|(distance, _)| *distance).map(|(_, column)| column)
}

/// A folded name and the column it means.
type Term = (String, &'static str);

static CANDIDATE_TERMS: LazyLock<Vec<Term>> = LazyLock::new(|| terms(BulkItem::Candidates, CANDIDATES));
static ASSIGNMENT_TERMS: LazyLock<Vec<Term>> = LazyLock::new(|| terms(BulkItem::Assignments, ASSIGNMENTS));

/// Returns every name of every column, folded: the whole name, its last part, and its usual names.
fn terms(kind: BulkItem, aliases: &[(&'static str, &str)]) -> Vec<Term> {
    let whole = names(kind).map(|name| (folded(name), name));
    // `enabled` alone says nothing about supervision, and `id` is seldom the gateway's.
    let last = names(kind).filter(|name| !["proctoring.enabled", "candidate.id"].contains(name));
    let last = last.filter_map(|name| name.rsplit_once('.').map(|(_, last)| (folded(last), name)));
    let usual =
        aliases.iter().flat_map(|(column, terms)| terms.split_whitespace().map(|term| (term.to_owned(), *column)));
    whole.chain(last).chain(usual).collect()
}

/// Returns the name without case, white space and punctuation: `First Name`, `first_name` and `firstName` are the same.
#[must_use]
pub fn folded(name: &str) -> String {
    name.chars().filter(|c| c.is_alphanumeric()).flat_map(char::to_lowercase).collect()
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;
    use crate::domain::table::columns::is_known;

    #[rstest]
    #[case::given_name("name.givenName", &["firstname", "first_name", "First Name", "FIRSTNAME", "givenName", "given name", "fname", "Vorname", "name.first", "frist name", "Legal First Name"])]
    #[case::family_name("name.familyName", &["lastname", "last_name", "Last Name", "surname", "Nachname", "family-name", "lastnme"])]
    #[case::name("name.formatted", &["name", "Full Name", "displayName"])]
    #[case::email("email", &["E-Mail", "e-mail", "EMAIL", "Email Address", "mail", "emial", "E-Mail-Adresse", "Work Email"])]
    #[case::id("externalId", &["id", "ID", "employee id", "Employee Number", "externalid", "external_id", "student_id", "userid", "idnumber", "SIS User ID", "Matrikelnummer", "sourcedId", "candidate.externalId"])]
    #[case::user_name("userName", &["username", "login_id", "Login", "user name"])]
    #[case::mobile("phoneNumbers.mobile", &["mobile", "Mobile Phone", "Cell"])]
    #[case::phone(PHONES, &["phone", "Telephone", "phoneNumbers"])]
    #[case::address("address.postalCode", &["zip", "ZIP Code", "PLZ", "postal code", "postcode"])]
    #[case::active("active", &["Active", "status", "is_active", "enabled"])]
    #[case::group("group", &["cohort1", "Class", "groups"])]
    fn column_of_a_candidate_is_suggested(#[case] column: &str, #[case] given: &[&str]) {
        for name in given {
            // `Legal First Name` is too far from any.
            let expected =
                if *name == "Legal First Name" { String::new() } else { format!(" (did you mean {column}?)") };
            assert_eq!(suggest_column(BulkItem::Candidates, name), expected, "{name}");
        }
    }

    #[rstest]
    #[case::candidate("candidate.externalId", &["id", "externalId", "employee id", "student", "candidate.externalid"])]
    #[case::email("candidate.email", &["email", "E-Mail"])]
    #[case::assessment("assessment", &["test", "Exam", "exam id", "assesment", "Prüfung"])]
    #[case::start("validFrom", &["start", "Start Date", "valid_from", "from"])]
    #[case::end("validUntil", &["end", "Expiry", "validTill", "due date", "validuntil"])]
    fn column_of_a_booking_is_suggested(#[case] column: &str, #[case] given: &[&str]) {
        for name in given {
            let expected = if *name == "student" { String::new() } else { format!(" (did you mean {column}?)") };
            assert_eq!(suggest_column(BulkItem::Assignments, name), expected, "{name}");
        }
    }

    #[test]
    fn distant_names_get_no_suggestion() {
        for name in ["", "-", "x", "hr", "foo", "Department", "HIREDATE", "MANAGER", "TIMEZONE", "Cost Centre"] {
            assert_eq!(suggest_column(BulkItem::Candidates, name), "", "{name}");
        }
    }

    #[test]
    fn field_is_suggested_by_its_pointer() {
        for (path, meant) in [
            (&["firstName"][..], " (did you mean /name/givenName?)"),
            (&["name", "first"], " (did you mean /name/givenName?)"),
            (&["name", "givenname"], " (did you mean /name/givenName?)"),
            (&["mobile"], " (did you mean /phoneNumbers?)"),
            (&["phone"], " (did you mean /phoneNumbers?)"),
            (&["odd"], ""),
        ] {
            let path: Vec<String> = path.iter().map(|name| (*name).to_owned()).collect();
            assert_eq!(suggest_field(BulkItem::Candidates, &path), meant, "{path:?}");
        }
    }

    #[test]
    fn usual_names_are_folded_lead_to_columns_and_are_unambiguous() {
        for (kind, aliases) in [(BulkItem::Candidates, CANDIDATES), (BulkItem::Assignments, ASSIGNMENTS)] {
            let mut seen: Vec<&str> = Vec::new();
            for (column, terms) in aliases {
                assert!(*column == PHONES || is_known(kind, column), "{column}");
                for term in terms.split_whitespace() {
                    assert_eq!(folded(term), term);
                    assert!(!seen.contains(&term), "{term} is there twice");
                    seen.push(term);
                }
            }
        }
    }
}
