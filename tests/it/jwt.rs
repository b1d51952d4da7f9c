//! Tokens of an identity provider: every key type, every known attack, and key rotation.

use examgate::domain::scope::Scope;
use reqwest::Method;
use serde_json::{Value, json};

use crate::support::gateway::{ApiResponse, Gateway};
use crate::support::issuer::{AUDIENCE, ISSUER, Key, base64url, claims, jwk_set, now, sign_with_secret, signing_input};
use crate::support::vendor::{Stub, json_response};

/// Returns all scopes as a token names them.
fn all_scopes() -> String {
    Scope::ALL.iter().map(|scope| scope.as_str()).collect::<Vec<_>>().join(" ")
}

fn configuration(jwks: &str) -> String {
    let scopes: Vec<&str> = Scope::ALL.iter().map(|scope| scope.as_str()).collect();
    format!(
        "[auth]\nmode = \"jwt\"\n[auth.jwt]\nissuer = \"{ISSUER}\"\naudience = \"{AUDIENCE}\"\njwks = \"{jwks}\"\n\
         leeway = \"10s\"\n[auth.clients.lms]\nscopes = {scopes:?}\nconnections = [\"*\"]\n\
         [auth.clients.reader]\ntenant = \"lms\"\nscopes = [\"catalogue:read\"]\nconnections = [\"*\"]\n"
    )
}

/// Starts a gateway that accepts tokens signed with these keys, which are in a file.
async fn gateway(keys: &[Value]) -> Gateway {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("jwks.json");
    std::fs::write(&path, jwk_set(keys).to_string()).expect("the keys can be written");
    // The file is read at startup and not needed afterwards.
    Gateway::start_with("", &configuration(&format!("file:{}", path.display()))).await
}

async fn get_with_token(gateway: &Gateway, token: &str, path: &str) -> ApiResponse {
    gateway.request_as(token, Method::GET, path).send().await
}

/// Returns a token with these claims besides the required ones.
fn provider_token(key: &Key, claims: &Value) -> String {
    let mut all = json!({ "iss": ISSUER, "aud": "api://examgate", "iat": now(), "exp": now() + 300 });
    all.as_object_mut().expect("an object").extend(claims.as_object().expect("an object").clone());
    key.token("k", &all)
}

/// Returns the detail of the rejection of a token.
async fn rejection_detail(gateway: &Gateway, token: &str) -> String {
    let response = get_with_token(gateway, token, "/vendors").await;
    assert_eq!(response.problem(), (401, "unauthenticated", "not_applied"), "{token}");
    assert!(response.header("www-authenticate").is_some_and(|value| value.starts_with("Bearer")));
    let bearer = !token.contains(char::is_whitespace) && !token.is_empty();
    let challenge = response.header("www-authenticate").unwrap_or_default();
    assert!(!bearer || challenge.contains("error=\"invalid_token\""), "{token}: {challenge}");
    let signature = token.rsplit('.').next().unwrap_or_default();
    assert!(signature.len() < 20 || !response.body.to_string().contains(signature), "{response:?}");
    response.text("/detail").to_owned()
}

#[tokio::test]
async fn tokens_of_every_key_type_are_accepted_with_the_scopes_both_sides_grant() {
    let (rsa, p256, ed25519) = (Key::rsa(), Key::p256(), Key::ed25519());
    let unknown = json!({ "kty": "AKP", "kid": "pq", "alg": "ML-DSA-44", "pub": "AAAA" });
    let gateway = gateway(&[unknown, rsa.jwk("r"), p256.jwk("p"), ed25519.jwk("e")]).await;
    for (key, id) in [(&rsa, "r"), (&p256, "p"), (&ed25519, "e")] {
        let response = get_with_token(&gateway, &key.token(id, &claims("lms", &all_scopes())), "/vendors").await;
        assert_eq!(response.status, 200, "{response:?}");
        assert!(
            response.header("ratelimit").is_some() && response.header("ratelimit-policy").is_some(),
            "{response:?}"
        );
        // The only key of its type needs no key id.
        let nameless = key.sign(&json!({ "alg": key.algorithm() }), &claims("lms", &all_scopes()));
        assert_eq!(get_with_token(&gateway, &nameless, "/vendors").await.status, 200);
    }
    let status_of = async |client: &str, scope: &Value, path: &str| {
        let mut claims = claims(client, "");
        claims["scope"] = scope.clone();
        let response = get_with_token(&gateway, &ed25519.token("e", &claims), path).await;
        (response.status, response.text("/detail").to_owned())
    };
    assert_eq!(status_of("lms", &json!("openid catalogue:read"), "/vendors").await.0, 200);
    assert_eq!(status_of("lms", &json!(["catalogue:read"]), "/vendors").await.0, 200);
    let (status, detail) = status_of("lms", &json!("catalogue:reader"), "/vendors").await;
    assert_eq!((status, detail.as_str()), (403, "The token lacks the scope `catalogue:read`."));
    assert_eq!(status_of("lms", &Value::Null, "/vendors").await.0, 403, "a token without scopes permits nothing");
    let (status, detail) = status_of("reader", &json!(all_scopes()), "/operations").await;
    assert_eq!((status, detail.as_str()), (403, "The client lacks the scope `operations:read`."));
}

#[tokio::test]
async fn scopes_are_read_from_the_claims_of_each_provider() {
    const APP: &str = "00000000-0000-4000-8000-000000000001";
    let key = Key::p256();
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("jwks.json");
    std::fs::write(&path, jwk_set(&[key.jwk("k")]).to_string()).expect("the keys can be written");
    let base = configuration(&format!("file:{}", path.display()))
        .replace(&format!("audience = \"{AUDIENCE}\""), "audience = \"api://examgate\"")
        + &format!("[auth.clients.{APP}]\nscopes = [\"catalogue:read\", \"audit:read\"]\n");
    let app_only = json!({ "ver": "2.0", "azp": APP, "roles": ["catalogue:read"] });
    let delegated = json!({ "ver": "2.0", "azp": APP, "scp": "openid catalogue:read" });
    let okta = json!({ "azp": APP, "scp": ["catalogue:read"] });
    let keycloak = json!({
        "azp": "lms", "aud": ["account", "api://examgate"], "scope": "email profile",
        "resource_access": { "examgate": { "roles": ["catalogue:read"] }, "account": { "roles": ["audit:read"] } },
    });
    let auth0 = json!({ "azp": "lms", "scope": "openid", "https://examgate.example.com/scopes": ["catalogue:read"] });
    let cognito = json!({ "app": { "client": "lms" }, "scope": "examgate/catalogue:read audit:read" });
    let with = |keys: &str| base.replace("leeway = \"10s\"", &format!("leeway = \"10s\"\n{keys}"));
    for (keys, allowed, refused) in [
        ("client_claim = \"azp\"", vec![&delegated, &okta], vec![&app_only, &keycloak, &auth0]),
        (
            "client_claim = \"azp\"\nscope_claims = [\"scp\", \"roles\"]",
            vec![&app_only, &delegated, &okta],
            vec![&keycloak],
        ),
        (
            "client_claim = \"azp\"\nscope_claims = [\"resource_access.examgate.roles\"]",
            vec![&keycloak],
            vec![&delegated],
        ),
        (
            "client_claim = \"azp\"\nscope_claims = [\"https://examgate.example.com/scopes\"]",
            vec![&auth0],
            vec![&keycloak],
        ),
        ("client_claim = \"app.client\"\nscope_prefix = \"examgate/\"", vec![&cognito], vec![]),
    ] {
        let gateway = Gateway::start_with("", &with(keys)).await;
        for claims in allowed {
            let token = provider_token(&key, claims);
            assert_eq!(get_with_token(&gateway, &token, "/vendors").await.status, 200, "{keys} {claims}");
            let client = get_with_token(&gateway, &token, "/client").await;
            assert_eq!(
                (&client.body["scopes"], client.body.get("key")),
                (&json!(["catalogue:read"]), None),
                "{client:?}"
            );
            let response = get_with_token(&gateway, &token, "/audit").await;
            assert_eq!(response.problem().1, "insufficient_scope", "{keys} {claims}");
            assert_eq!(
                response.header("www-authenticate"),
                Some("Bearer realm=\"examgate\", error=\"insufficient_scope\", scope=\"audit:read\"")
            );
        }
        for claims in refused {
            let response = get_with_token(&gateway, &provider_token(&key, claims), "/vendors").await;
            assert_eq!(response.problem(), (403, "insufficient_scope", "not_applied"), "{keys} {claims}");
        }
    }
}

#[tokio::test]
async fn forged_tokens_are_rejected() {
    let (rsa, p256, ed25519, stranger) = (Key::rsa(), Key::p256(), Key::ed25519(), Key::rsa());
    let shared = json!({ "kty": "oct", "kid": "s", "k": base64url(b"a secret that everybody can read") });
    let gateway = gateway(&[rsa.jwk("r"), p256.jwk("p"), ed25519.jwk("e"), shared]).await;
    let good = claims("lms", &all_scopes());
    assert_eq!(get_with_token(&gateway, &rsa.token("r", &good), "/vendors").await.status, 200);

    let header = |algorithm: &str, id: &str| json!({ "alg": algorithm, "kid": id });
    for algorithm in ["none", "None", "NONE", "nOnE", ""] {
        for signature in ["", "AAAA"] {
            let token = format!("{}.{signature}", signing_input(&header(algorithm, "r"), &good));
            rejection_detail(&gateway, &token).await;
        }
    }
    // The public key misused as a shared secret, in every form it is published in; and a shared key that is published.
    let jwk = rsa.jwk("r");
    for secret in
        [jwk["n"].as_str().unwrap().as_bytes(), jwk.to_string().as_bytes(), b"", b"a secret that everybody can read"]
    {
        for (algorithm, id) in [("HS256", "r"), ("HS256", "s"), ("RS256", "r"), ("RS256", "s"), ("HS256", "nobody")] {
            rejection_detail(&gateway, &sign_with_secret(&header(algorithm, id), &good, secret)).await;
        }
    }
    // Another key: under a known key id, an unknown one, none, and one the token brings along.
    rejection_detail(&gateway, &stranger.token("r", &good)).await;
    rejection_detail(&gateway, &stranger.token("x", &good)).await;
    let mut header_with_key = header("RS256", "x");
    header_with_key["jwk"] = stranger.jwk("x");
    rejection_detail(&gateway, &stranger.sign(&header_with_key, &good)).await;
    header_with_key["jku"] = json!("https://evil.example.com/jwks.json");
    rejection_detail(&gateway, &stranger.sign(&header_with_key, &good)).await;
    // The algorithm of another key, and one that is not accepted although the key supports it.
    for (key, algorithm, id) in [
        (&rsa, "ES256", "r"),
        (&rsa, "RS256", "p"),
        (&p256, "RS256", "p"),
        (&rsa, "RS512", "r"),
        (&rsa, "PS256", "r"),
        (&ed25519, "ES256", "e"),
    ] {
        rejection_detail(&gateway, &key.sign(&header(algorithm, id), &good)).await;
    }
    // An unknown critical header.
    let mut critical = header("RS256", "r");
    critical["crit"] = json!(["b64"]);
    critical["b64"] = json!(false);
    rejection_detail(&gateway, &rsa.sign(&critical, &good)).await;
    // Tampered tokens: the claims, the signature, a part too few or too many.
    let token = rsa.token("r", &good);
    let parts: Vec<&str> = token.split('.').collect();
    let other = base64url(claims("reader", &all_scopes()).to_string().as_bytes());
    for changed in [
        format!("{}.{other}.{}", parts[0], parts[2]),
        format!("{}.{}.", parts[0], parts[1]),
        format!("{}.{}", parts[0], parts[1]),
        format!("{token}.{}", parts[2]),
        format!("{}.{}.{}=", parts[0], parts[1], parts[2]),
        parts[2].to_owned(),
        "..".to_owned(),
        "é".to_owned(),
    ] {
        rejection_detail(&gateway, &changed).await;
    }
}

#[tokio::test]
async fn a_valid_signature_is_not_enough_and_the_error_says_why() {
    let key = Key::p256();
    let gateway = gateway(&[key.jwk("p")]).await;
    let with = |claim: &str, value: Value| {
        let mut claims = claims("lms", &all_scopes());
        claims[claim] = value;
        key.token("p", &claims)
    };
    for (claim, value, detail) in [
        ("exp", json!(now() - 60), "The token has expired."),
        ("exp", Value::Null, "The token lacks one of the claims `exp`, `iss` and `aud`."),
        ("nbf", json!(now() + 60), "The token is not valid yet."),
        ("iss", json!("https://id.example.com"), "The token is from another issuer."),
        ("iss", Value::Null, "The token lacks one of the claims `exp`, `iss` and `aud`."),
        ("aud", json!("another"), "The token's `aud` does not include this gateway."),
        ("aud", json!(["another", "third"]), "The token's `aud` does not include this gateway."),
        ("aud", json!([]), "The token's `aud` does not include this gateway."),
        ("aud", Value::Null, "The token lacks one of the claims `exp`, `iss` and `aud`."),
        ("client_id", Value::Null, "The token has no claim that names a client."),
        ("client_id", json!(["lms"]), "The token has no claim that names a client."),
        ("client_id", json!("nobody"), "The token names an unknown client."),
        ("client_id", json!("default"), "The token names an unknown client."),
    ] {
        assert_eq!(rejection_detail(&gateway, &with(claim, value.clone())).await, detail, "{claim} {value}");
    }
    for wrong in [json!("soon"), json!(-1), json!([1]), json!(1e300)] {
        rejection_detail(&gateway, &with("exp", wrong)).await;
    }
    // The issuer's clock may be slightly off, and `aud` may name other recipients, too.
    for (claim, value) in [("exp", json!(now() - 2)), ("nbf", json!(now() + 2)), ("aud", json!(["another", AUDIENCE]))]
    {
        assert_eq!(get_with_token(&gateway, &with(claim, value), "/vendors").await.status, 200, "{claim}");
    }
    // API keys belong to the other mode.
    let response = gateway.anonymous(Method::GET, "/vendors").header("x-api-key", "egk_any").send().await;
    assert_eq!(response.problem(), (401, "unauthenticated", "not_applied"));
}

#[tokio::test]
async fn published_keys_are_fetched_once_and_again_for_an_unknown_key_id() {
    let (first, second) = (Key::ed25519(), Key::ed25519());
    let provider = Stub::start(|_| json_response(503, &json!({}))).await;
    let gateway = Gateway::start_with("", &configuration(&format!("{}/jwks.json", provider.url()))).await;
    let good = claims("lms", &all_scopes());
    let unknown = get_with_token(&gateway, &first.token("one", &good), "/vendors").await;
    assert_eq!(unknown.problem(), (503, "issuer_unavailable", "not_applied"));
    assert!(unknown.header("retry-after").is_some(), "{unknown:?}");
    assert_eq!(
        gateway.anonymous(Method::GET, "/readyz").send().await.status,
        200,
        "it is not the gateway that is down"
    );

    let published = jwk_set(&[first.jwk("one")]);
    provider.respond_with(move |_| json_response(200, &published));
    let mut response = unknown;
    for _ in 0..600 {
        response = get_with_token(&gateway, &first.token("one", &good), "/vendors").await;
        if response.status != 503 {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    assert_eq!(response.status, 200, "{response:?}");
    let (fetches, began) = (provider.seen().len(), std::time::Instant::now());
    for _ in 0..20 {
        assert_eq!(get_with_token(&gateway, &first.token("one", &good), "/vendors").await.status, 200);
        // Unknown key ids do not make the gateway fetch the keys more often.
        rejection_detail(&gateway, &second.token("two", &good)).await;
    }
    // One fetch in five seconds is allowed; a slow machine may take longer for the above.
    let allowed = began.elapsed().as_secs() / 5 + 1;
    let more = provider.seen().len() - fetches;
    assert!(more as u64 <= allowed, "{more} fetches, {allowed} allowed");

    // The old key is withdrawn: its tokens are rejected as soon as the new keys are known.
    let published = jwk_set(&[second.jwk("two")]);
    provider.respond_with(move |_| json_response(200, &published));
    for _ in 0..600 {
        response = get_with_token(&gateway, &second.token("two", &good), "/vendors").await;
        if response.status == 200 {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    assert_eq!(response.status, 200, "{response:?}");
    rejection_detail(&gateway, &first.token("one", &good)).await;
    assert!(provider.seen().iter().all(|seen| !seen.headers.contains_key("authorization")));
}

#[tokio::test]
async fn keys_in_a_file_are_reloaded_and_a_bad_file_changes_nothing() {
    let (first, second) = (Key::ed25519(), Key::p256());
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("jwks.json");
    std::fs::write(&path, jwk_set(&[first.jwk("one")]).to_string()).expect("the keys can be written");
    let mut gateway = Gateway::start_with("", &configuration(&format!("file:{}", path.display()))).await;
    let good = claims("lms", &all_scopes());
    assert_eq!(get_with_token(&gateway, &first.token("one", &good), "/vendors").await.status, 200);
    std::fs::write(&path, "{}").expect("the keys can be written");
    gateway.signal("HUP").await;
    gateway.wait_for_log("configuration reload rejected").await;
    assert_eq!(get_with_token(&gateway, &first.token("one", &good), "/vendors").await.status, 200);
    std::fs::write(&path, jwk_set(&[second.jwk("two")]).to_string()).expect("the keys can be written");
    gateway.signal("HUP").await;
    gateway.wait_for_log("configuration reloaded").await;
    assert_eq!(get_with_token(&gateway, &second.token("two", &good), "/vendors").await.status, 200);
    rejection_detail(&gateway, &first.token("one", &good)).await;
}
