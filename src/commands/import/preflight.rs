//! What an import finds out before it sends anything: whether the key may do it, and whether the connection works.

use super::super::Failure;
use crate::commands::import::api_types::{Access, readable};
use crate::commands::import::client::Client;
use crate::commands::import::options::Job;
use crate::commands::import::progress::Screen;
use crate::domain::suggest;

/// The scope that lets a client read a connection's status.
const READ_CONNECTIONS: &str = "catalogue:read";

/// Checks that the key has the rights for the import and warns of a connection that does not work.
///
/// # Errors
/// [`Failure::Usage`] with every obstacle: nothing is sent.
pub(super) async fn check_rights(client: &Client<'_>, job: &Job, screen: &Screen) -> Result<(), Failure> {
    let access = client.access().await.map_err(|failure| {
        let cure = "is this the address of the gateway, and is it running? (--url or EXAMGATE_URL)";
        let cure = if failure.is_silence() { format!("\nnothing was sent; {cure}") } else { String::new() };
        Failure::Usage(vec![failure.message + &cure])
    })?;
    // A gateway of an earlier version does not tell; the upload then shows what is missing.
    let Some(access) = access else { return Ok(()) };
    let obstacles = find_obstacles(&access, job);
    if !obstacles.is_empty() {
        return Err(Failure::Usage(obstacles));
    }
    if !access.scopes.iter().any(|scope| scope == READ_CONNECTIONS) {
        return Ok(());
    }
    match client.connection(&job.connection).await {
        Ok(connection) => {
            if matches!(&*connection.status, "circuit_open" | "credentials_invalid" | "clock_skew") {
                let (name, status, detail) =
                    (&job.connection, readable(&connection.status), readable(&connection.detail));
                screen.warn(&format!("warning: connection {name}: {status}: {detail}"));
            }
            Ok(())
        }
        Err(failure) if failure.is("connection_not_found") => Err(Failure::Usage(vec![failure.message])),
        Err(failure) => {
            screen.note(&format!("the status of connection {} cannot be read: {}", job.connection, failure.message));
            Ok(())
        }
    }
}

fn find_obstacles(access: &Access, job: &Job) -> Vec<String> {
    let retry = job.retry.then_some(("operations:write", "--retry"));
    let needed = [(job.kind.scope(), "sending the rows"), ("operations:read", "reading their results")];
    let mut obstacles = missing_scopes(access, &needed.into_iter().chain(retry).collect::<Vec<_>>());
    obstacles.extend(forbidden_connection(access, &job.connection));
    obstacles
}

fn missing_scopes(access: &Access, needed: &[(&str, &str)]) -> Vec<String> {
    let client = readable(&access.client);
    let missing = needed.iter().filter(|(scope, _)| !access.scopes.iter().any(|held| held == scope));
    missing
        .map(|(scope, purpose)| {
            format!(
                "the key of client {client} lacks the scope {scope}, which {purpose} needs; ask the gateway's operator to \
                 add it to the scopes in [auth.clients.{client}] (with a token: to the token, too), or use another key"
            )
        })
        .collect()
}

fn forbidden_connection(access: &Access, name: &str) -> Option<String> {
    if access.connections.iter().any(|allowed| allowed == "*" || allowed == name) {
        return None;
    }
    let client = readable(&access.client);
    let allowed = access.connections.iter().map(String::as_str);
    let meant = suggest::word(name, allowed.clone());
    let names = allowed.map(readable).collect::<Vec<_>>().join(", ");
    let names = if names.is_empty() { "none".to_owned() } else { names };
    Some(format!(
        "the key of client {client} may not use the connection {name}{meant}; it may use: {names}. Give one of these with \
         --connection, or ask the gateway's operator to add it to the connections in [auth.clients.{client}]"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn access(scopes: &[&str], connections: &[&str]) -> Access {
        let owned = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
        Access { client: "lms".to_owned(), scopes: owned(scopes), connections: owned(connections) }
    }

    #[test]
    fn every_missing_scope_is_named_with_its_cure() {
        let needed = [("candidates:write", "sending the rows"), ("operations:read", "reading their results")];
        let missing = missing_scopes(&access(&["operations:read"], &[]), &needed);
        assert_eq!(
            missing,
            [
                "the key of client lms lacks the scope candidates:write, which sending the rows needs; ask the gateway's \
              operator to add it to the scopes in [auth.clients.lms] (with a token: to the token, too), or use another key"
            ]
        );
        assert_eq!(missing_scopes(&access(&[], &[]), &needed).len(), 2);
        assert!(missing_scopes(&access(&["candidates:write", "operations:read"], &[]), &needed).is_empty());
    }

    #[test]
    fn a_connection_must_be_one_of_the_clients_own() {
        for allowed in [&["*"][..], &["a", "main"]] {
            assert_eq!(forbidden_connection(&access(&[], allowed), "main"), None);
        }
        let told = forbidden_connection(&access(&[], &["startexam-main", "other"]), "startexam-mian").unwrap();
        assert!(told.contains("may not use the connection startexam-mian (did you mean startexam-main?)"), "{told}");
        assert!(told.contains("it may use: startexam-main, other."), "{told}");
        assert!(forbidden_connection(&access(&[], &[]), "main").unwrap().contains("it may use: none."));
    }
}
