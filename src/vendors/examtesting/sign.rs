//! `ExamTesting`'s authentication: three ordinary parameters, no signature, no date, no token
//! (<https://www.examtesting.com/api-doc.aspx>).
//!
//! Pure. With `params_in = "query"` the credentials are part of the URL, so a URL with a query must never be logged or
//! recorded.

use crate::secret::Secret;

/// Credentials of the account.
pub(super) struct Credentials {
    pub(super) institution_id: String,
    pub(super) api_key: Secret,
    pub(super) api_pass: Secret,
}

/// Returns the parameters after the credentials, in the published order and spelling.
pub(super) fn signed<'a>(
    credentials: &'a Credentials,
    parameters: impl IntoIterator<Item = (&'static str, &'a str)>,
) -> Vec<(&'static str, &'a str)> {
    let Credentials { institution_id, api_key, api_pass } = credentials;
    [("Institutionid", institution_id.as_str()), ("Apikey", api_key.expose()), ("ApiPass", api_pass.expose())]
        .into_iter()
        .chain(parameters)
        .collect()
}
