//! The client that sent a request, and what its credentials permit.

use serde::Serialize;
use serde_json::{Value, json};
use utoipa::ToSchema;

use crate::domain::scope::Scope;
use crate::service::{ConnectionAccess, RequestContext};

/// The client that sent the request, and what the credentials it presented permit.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(examples(client_example))]
#[expect(clippy::struct_field_names, reason = "the field has the word of the configuration")]
pub struct Client {
    /// The client's name, as the operator configured it.
    pub client: String,
    /// The tenant that owns what the client creates; its clients share all their data.
    pub tenant: String,
    /// The scopes of this request. With a token they are those that both the client and the token have.
    pub scopes: Vec<&'static str>,
    /// Names of the connections the client may use; `*` means all.
    pub connections: Vec<String>,
    /// The connection of requests that name none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub default_connection: Option<String>,
    /// Which of the client's API keys it presented: the first eight hexadecimal digits of the key's SHA-256.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
}

impl Client {
    /// Describes this caller, with the scopes and the key of its request.
    pub(in crate::http) fn new(caller: RequestContext, scopes: &[Scope], key: Option<String>) -> Self {
        let connections = match caller.connections {
            ConnectionAccess::All => vec!["*".to_owned()],
            ConnectionAccess::Named(names) => names.into_iter().collect(),
        };
        Self {
            client: caller.client,
            tenant: caller.tenant,
            scopes: scopes.iter().map(|scope| scope.as_str()).collect(),
            connections,
            default_connection: caller.default_connection,
            key,
        }
    }
}

fn client_example() -> Value {
    json!({ "client": "lms", "tenant": "lms", "scopes": ["candidates:read", "candidates:write"], "connections": ["*"],
            "defaultConnection": "startexam-main", "key": "5994471a" })
}
