//! What is rejected, and with which words.

use super::*;

#[test]
fn errors_name_file_and_line_or_variable() {
    let text = fine("") + "[server]\nlisten = \"x\"\nlisten_too = 1\n";
    let line = text.lines().position(|line| line.starts_with("listen =")).unwrap() + 1;
    let errors =
        errors_of(&text, &[("EXAMGATE__SERVER__BASE_PATH", "x"), ("EXAMGATE__SERVER__ALLOW_INSECURE", "perhaps")]);
    assert!(errors[0].starts_with(&format!("examgate.toml:{line}: server.listen: expected an address")), "{errors:#?}");
    assert_eq!(errors[1], format!("examgate.toml:{}: server.listen_too: unknown key", line + 1));
    assert!(
        errors[3].starts_with("environment variable EXAMGATE__SERVER__BASE_PATH: server.base_path: "),
        "{errors:#?}"
    );
    assert!(errors[2].ends_with("server.allow_insecure: expected true or false"), "{errors:#?}");
    assert_eq!(errors.len(), 4);
}

#[test]
fn invalid_toml_is_reported_by_line_without_quoting_it() {
    let errors = errors_of(&format!("[server]\nlisten = {PLANTED} {PLANTED}\n"), &[]);
    assert_eq!(errors.len(), 1);
    assert!(
        errors[0].starts_with("examgate.toml:2: is not valid TOML: ") && !errors[0].contains(PLANTED),
        "{errors:?}"
    );
}

#[test]
fn no_error_quotes_a_value() {
    let text = EVERY_KEY.lines().map(|line| match line.split_once(" = ") {
        Some((key, _)) if !key.starts_with('#') && key != "vendor" => format!("{key} = \"{PLANTED}\"\n"),
        _ => format!("{line}\n"),
    });
    let errors = errors_of(&text.collect::<String>(), &[("EXAMGATE__SERVER__BODY_LIMIT", PLANTED)]);
    assert!(errors.len() > 40, "{errors:#?}");
    assert!(!errors.concat().contains(PLANTED), "{errors:#?}");
}

#[test]
fn all_missing_keys_of_a_connection_are_reported_at_once() {
    let errors = errors_of(&(client("") + "[connections.a]\nvendor = \"startexam\"\ntimeout = 5\n"), &[]);
    let keys: Vec<&str> = errors.iter().map(String::as_str).collect();
    assert_eq!(
        keys,
        [
            "examgate.toml:7: connections.a.timeout: expected a duration such as \"300ms\", \"30s\", \"5m\", \"24h\" or \"30d\"",
            "connections.a.account_id: is missing",
            "connections.a.center: is missing",
            "connections.a.profile_id: is missing",
            "connections.a.secret: is missing",
        ]
    );
}

#[test]
fn invalid_values_are_rejected() {
    for (more, expected) in [
        ("[server]\nadmin_listen = \":9\"", "server.admin_listen: expected an address"),
        ("[server]\nreceiver_listen = \"8081\"", "server.receiver_listen: expected an address"),
        ("[server]\nbase_path = \"/a/../b\"", "server.base_path: expected"),
        ("[server]\nbase_path = \"/a?b\"", "server.base_path: expected"),
        ("[server]\npublic_url = \"/here\"", "server.public_url: expected an absolute"),
        ("[server]\npublic_url = \"ftp://a\"", "server.public_url: expected an absolute"),
        ("[server]\ncors_origins = [\"*\"]", "server.cors_origins.0: takes no wildcards"),
        ("[server]\ncors_origins = [\"https://*.a.example\"]", "server.cors_origins.0: takes no wildcards"),
        (
            "[server]\ncors_origins = [\"https://a.example\", \"https://A.example/app/\"]",
            "server.cors_origins.1: must be spelt as browsers send it, without a path or a final slash: \"https://a.example\"",
        ),
        (
            "[server]\ncors_origins = [\"https://a.example:443\"]",
            "browsers send it, without a path or a final slash: \"https://a.example\"",
        ),
        (
            "[server]\ncors_origins = [\"https://a.example/\"]",
            "server.cors_origins.0: must be spelt as browsers send it",
        ),
        (
            "[server]\ncors_origins = [\"https://u:hush@a.example\"]",
            "server.cors_origins.0: must be spelt as browsers send it",
        ),
        ("[server]\ncors_origins = [\"null\"]", "server.cors_origins.0: expected an origin"),
        ("[server]\ncors_origins = [\"a.example\"]", "server.cors_origins.0: expected an origin"),
        ("[server]\ncors_origins = [\"file:///a\"]", "server.cors_origins.0: expected an origin"),
        ("[server]\ncors_origins = \"https://a.example\"", "server.cors_origins: expected a list"),
        ("[server]\nbody_limit = \"0B\"", "server.body_limit: must be more than 0"),
        ("[auth]\nmode = \"key\"", "auth.mode: expected \"keys\", \"jwt\" or \"none\" (did you mean keys?)"),
        ("[auth.jwt]\nleeway = \"1h\"", "auth.jwt.leeway: must be at most 5m"),
        ("[auth.jwt]\nscope_claims = []", "auth.jwt.scope_claims: needs at least one claim"),
        ("[auth.jwt]\nscope_claims = [\"scope\", \"\"]", "auth.jwt.scope_claims.1: must not be empty"),
        ("[auth.jwt]\nscope_claims = [\"a b\"]", "auth.jwt.scope_claims.0: must not contain white space"),
        ("[auth.jwt]\nscope_prefix = \"a \"", "auth.jwt.scope_prefix: must not contain white space"),
        ("[auth.jwt]\nclient_claim = \"\"", "auth.jwt.client_claim: must not be empty"),
        ("[auth.jwt]\njwks = \"https://u:p@a\"", "auth.jwt.jwks: must not contain a user"),
        ("[auth.jwt]\njwks = \"http://a\"", "auth.jwt.jwks: expected"),
        ("[auth]\nmode = \"none\"\n[server]\nlisten = \"0.0.0.0:1\"", "auth.mode: \"none\" gives every caller"),
        ("[console]\nidle = \"59s\"", "console.idle: must be at least 1m"),
        ("[console]\nidle = \"25h\"", "console.idle: must be at most 1d"),
        ("[console]\nabsolute = \"29m\"", "console.absolute: must be at least 30m"),
        ("[console]\nabsolute = \"8d\"", "console.absolute: must be at most 7d"),
        ("[console]\nsign_in_rate = 0", "console.sign_in_rate: must be from 1 to 1000"),
        ("[console]\nlisten = \"8082\"", "console.listen: expected an address"),
        ("[auth]\nmode = \"none\"\n[console]\nlisten = \"0.0.0.0:1\"", "console.listen: is not a loopback address"),
        ("[store]\nurl = \"postgres://u:hush@h\"", "store.url: expected \"postgres://USER:PASSWORD@HOST/DATABASE\""),
        ("[store]\nurl = \"postgres://u:hush@h/d?sslmod=require\"", "store.url: supports only the parameters sslmode"),
        ("[store]\nurl = \"postgresql://u:hush@h/d?sslmode=allow\"", "store.url: sslmode must be disable"),
        ("[store]\nurl = \"mysql:x\"", "store.url: expected \"sqlite:PATH\" or \"postgres://"),
        ("[store]\nurl = \"sqlite::memory:\"", "store.url: must name a file"),
        ("[delivery]\ntimeout = \"0s\"", "delivery.timeout: must be more than 0"),
        ("[delivery]\ntimeout = \"61s\"", "delivery.timeout: must be at most 1m"),
        ("[delivery]\nschedule = []", "delivery.schedule: must not be empty: [\"0s\"] attempts each delivery once"),
        ("[delivery]\nschedule = [\"0s\", \"8d\"]", "delivery.schedule.1: must be at most 7d"),
        ("[delivery]\nschedule = [\"soon\"]", "delivery.schedule.0: expected a duration"),
        ("[delivery]\ndisable_after = \"59s\"", "delivery.disable_after: must be at least 1m"),
        ("[delivery]\nallow_hosts = [\"https://a.example\"]", "delivery.allow_hosts.0: must be a host name"),
        (
            "[delivery]\nallow_hosts = [\"a.example\", \"169.254.169.254\"]",
            "delivery.allow_hosts.1: is an address that",
        ),
        ("[delivery]\nallow_hosts = [\"::ffff:169.254.169.254\"]", "delivery.allow_hosts.0: is an address that"),
        (
            "[delivery]\nallow_private = [\"10.0.0.1/8\"]",
            "delivery.allow_private.0: has bits set beyond its prefix; the network is 10.0.0.0/8",
        ),
        ("[delivery]\nallow_private = [\"intranet\"]", "delivery.allow_private.0: must be a network such as"),
        ("[delivery]\nallowed_hosts = []", "delivery.allowed_hosts: unknown key (did you mean allow_hosts?)"),
        ("[store]\nretention = \"0s\"", "store.retention: must be more than 0"),
        ("[store]\nretention = \"3s\"", "store.retention: must not be shorter than store.idempotency_retention"),
        ("[store]\nretention = \"3000000d\"", "store.retention: must be at most 3650d"),
        ("[store]\nreport_retention = \"0s\"", "store.report_retention: must be more than 0"),
        ("[store]\nparked_retention = \"3000000d\"", "store.parked_retention: must be at most 3650d"),
        ("[store]\nevent_retention = \"59m\"", "store.event_retention: must be at least 1h"),
        ("[store]\nparked_retension = \"1d\"", "store.parked_retension: unknown key (did you mean parked_retention?)"),
        ("[store]\nidempotency_retention = \"31d\"", "store.retention: must not be shorter than"),
        ("[server]\nrequest_timeout = \"2h\"", "server.request_timeout: must be at most 1h"),
        ("[server]\nkeep_alive = \"2d\"", "server.keep_alive: must be at most 1d"),
        ("[server]\nshutdown_delay = \"2d\"", "server.shutdown_delay: must be at most 1d"),
        ("[server]\nshutdown_grace = \"2d\"", "server.shutdown_grace: must be at most 1d"),
        ("[connections.x]\nvendor = \"startexm\"", "connections.x.vendor: expected one of"),
        (
            "[connections.\"a b\"]\nvendor = \"examtesting\"\ninstitution_id = \"1\"\napi_key = \"env:A\"\napi_pass = \"env:B\"",
            "is not a valid name",
        ),
        ("[assessments.a]\nconnection = \"startexam-mian\"\nref = \"x\"", "(did you mean startexam-main?)"),
        ("[programs.p]\nconnection = \"startexam-main\"", "programs.p.ref: is missing: set ref or external_ref"),
        (
            "[programs.p]\nconnection = \"startexam-main\"\nref = \"a\"\nexternal_ref = \"b\"",
            "programs.p.external_ref: cannot be combined with ref",
        ),
        ("[serber]\nx = 1", "serber: unknown key (did you mean server?)"),
    ] {
        let error = only_error(&fine(more));
        assert!(error.contains(expected), "{more}\n{error}");
    }
}

#[test]
fn invalid_connection_settings_are_rejected() {
    for (more, expected) in [
        ("timeout = \"0s\"", "timeout: must be more than 0"),
        ("max_in_flight = 0", "max_in_flight: must be at least 1"),
        ("retry = { attempts = 0 }", "retry.attempts: must be at least 1"),
        ("retry = { atempts = 1 }", "retry.atempts: unknown key (did you mean attempts?)"),
        ("base_url = \"http://example.com\"", "base_url: is plain http"),
        ("base_url = \"example.com\"", "base_url: expected an absolute URL"),
        ("time_out = \"1s\"", "time_out: unknown key (did you mean timeout?)"),
        ("settle_grace = \"1\"", "settle_grace: expected a duration"),
        ("settle_grace = \"3000000d\"", "settle_grace: must be at most 3650d"),
        ("settle_grace = \"13h\"", "settle_grace: must be at most 12h"),
        ("timeout = \"11m\"", "timeout: must be at most 10m"),
        ("retry = { base = \"1h\" }", "retry.base: must be at most 10m"),
        ("retry = { max = \"1h\" }", "retry.max: must be at most 10m"),
        ("breaker = { cooldown = \"2h\" }", "breaker.cooldown: must be at most 1h"),
        ("seat_limit_pause = \"2d\"", "seat_limit_pause: must be at most 1d"),
    ] {
        let error = only_error(&(client("") + &startexam(more)));
        assert!(error.contains(&format!("connections.startexam-main.{expected}")), "{more}\n{error}");
    }
}

#[test]
fn invalid_settings_of_results_are_rejected() {
    for (vendor, more, expected) in [
        ("startexam", "mode = \"webhook\"", "mode: expected `off` or `feed`"),
        ("startexam", "evry = \"1m\"", "evry: unknown key (did you mean every?)"),
        ("startexam", "every = 10", "every: expected a duration"),
        ("startexam", "max_pages = -1", "max_pages: expected a whole number"),
        ("startexam", "centers = \"a\"", "centers: expected a list"),
        ("startexam", "regression = \"undo\"", "regression: expected one of `verify`, `ignore`, `accept`"),
        ("startexam", "path_token = \"plain:x\"", "path_token: unknown key"),
        ("thinkexam", "mode = \"feed\"", "mode: expected `off` or `webhook`"),
        ("thinkexam", "keys = [\"hushhushdonttellthis\"]", "keys.0: expected a secret reference"),
        ("thinkexam", "path_token = \"hushhushdonttellthis\"", "path_token: expected a secret reference"),
        ("thinkexam", "match = [\"name\"]", "match.0: expected one of `path`, `test_id`, `only_open`"),
        ("thinkexam", "on_refusal = 403", "on_refusal: must be 401 or 200"),
        ("thinkexam", "on_refusal = \"401\"", "on_refusal: expected a whole number"),
    ] {
        let own = if vendor == "startexam" { startexam("") } else { thinkexam("") };
        let error = only_error(&(client("") + &own + &format!("[connections.{vendor}-main.results]\n{more}\n")));
        assert!(error.contains(&format!("connections.{vendor}-main.results.{expected}")), "{more}\n{error}");
        assert!(!error.contains(PLANTED), "{error}");
    }
    let examtesting = "[connections.e]\nvendor = \"examtesting\"\ninstitution_id = \"1\"\napi_key = \"plain:aaaa\"\napi_pass = \"plain:bbbb\"\n[connections.e.results]\nmode = \"feed\"\n";
    assert!(only_error(&fine(examtesting)).contains("connections.e.results: unknown key"));
}

#[test]
fn invalid_scoring_is_rejected_by_its_key() {
    for (more, expected) in [
        ("pass_percent = 101.0", "pass_percent: must be from 0 to 100"),
        ("pass_percent = nan", "pass_percent: expected a number"),
        ("pass_percent = inf", "pass_percent: expected a number"),
        ("pass_percent = \"70\"", "pass_percent: expected a number"),
        ("pass_percents = 70", "pass_percents: unknown key (did you mean pass_percent?)"),
        ("pass_levels = [\"\"]", "pass_levels: must not contain a blank word"),
        ("pass_levels = \"high\"", "pass_levels: expected a list"),
        ("counts = \"last\"", "counts: expected one of `latest`, `best`, `first`"),
        ("counts = \"best\"\nscored = false", "counts: \"best\" compares scores"),
        ("pass_percent = 50\nscored = false", "scored: cannot be false where pass_percent"),
        ("scored = \"no\"", "scored: expected true or false"),
    ] {
        let entry =
            "[assessments.a]\nconnection = \"startexam-main\"\nref = \"fa19e351-36d0-49c0-be92-66d640b17878\"\n";
        let error = only_error(&fine(&format!("{entry}{more}\n")));
        assert!(error.contains(&format!("assessments.a.{expected}")), "{more}\n{error}");
    }
}

#[test]
fn invalid_client_settings_are_rejected() {
    for (more, expected) in [
        ("connections = [\"nope\"]", "connections.0: unknown connection"),
        ("connections = []", "connections: needs at least one name"),
        ("default_connection = \"startexam-mai\"", "default_connection: unknown connection (did you mean"),
        ("rate_limit = { requests_per_second = 0 }", "rate_limit.requests_per_second: must be at least 1"),
        ("rate_limit = { burst = 0 }", "rate_limit.burst: must be at least 1"),
    ] {
        let error = only_error(&(client(more) + &startexam("")));
        assert!(error.contains(&format!("auth.clients.lms.{expected}")), "{more}\n{error}");
    }
    let without = client("").replace("candidates:read", "candidate:read");
    assert!(only_error(&without).contains("scopes.0: unknown scope (did you mean candidates:read?)"));
    assert!(
        only_error(&client("").replace(HASH, "egk_key")).contains("key_sha256.0: expected the 64 hexadecimal digits")
    );
    let other = client("").replace("lms", "other");
    assert!(
        only_error(&(client("") + &other)).contains("auth.clients.other.key_sha256.0: is also a key of client lms")
    );
    assert!(only_error("").contains("auth.clients: no client is configured"));
    let two = startexam("") + &startexam("").replace("startexam-main", "b");
    let only = client("connections = [\"b\"]\ndefault_connection = \"startexam-main\"") + &two;
    assert!(only_error(&only).contains("default_connection: is not one of the connections"));
}

#[test]
fn mode_none_beyond_loopback_needs_allow_insecure() {
    let open = "[auth]\nmode = \"none\"\n[server]\nlisten = \"0.0.0.0:1\"\nallow_insecure = true\n";
    assert!(matches!(loaded(open, &[]).auth, Auth::None));
    assert!(matches!(loaded("[auth]\nmode = \"none\"", &[]).auth, Auth::None));
    // The address of a console that is not there opens nothing.
    let closed = "[auth]\nmode = \"none\"\n[console]\nenabled = false\nlisten = \"0.0.0.0:1\"\n";
    assert!(!loaded(closed, &[]).console.enabled);
}

#[test]
fn catalogue_entries_are_validated_by_their_vendor() {
    let examtesting = "[connections.e]\nvendor = \"examtesting\"\ninstitution_id = \"1\"\napi_key = \"plain:aaaa\"\napi_pass = \"plain:bbbb\"\n";
    let entry = "[assessments.a]\nconnection = \"e\"\nref = \"1\"\n";
    assert!(
        only_error(&fine(&format!("{examtesting}{entry}")))
            .contains("assessments.a.connection: ExamTesting does not support this")
    );
    let wrong = fine(
        "[assessments.a]\nconnection = \"startexam-main\"\nref = \"no-guid\"\n[programs.p]\nconnection = \"startexam-main\"\nexternal_ref = \"\"\n",
    );
    let Err(errors) = prepared(&wrong, &Bench::default()) else { panic!("no fault") };
    assert!(errors[0].contains("assessments.a.ref: is not a valid id of an assessment at StartExam"), "{errors:#?}");
    assert!(errors[1].contains("programs.p.external_ref: is not a valid id of a program at StartExam"), "{errors:#?}");
    let right = fine("[programs.p]\nconnection = \"startexam-main\"\nexternal_ref = \"our-id\"\n");
    let prepared = prepared(&right, &Bench::default()).unwrap_or_else(|errors| panic!("{errors:#?}"));
    let program = &prepared.parts.catalogue.programs["p"];
    assert_eq!((program.name.as_str(), program.reference.as_str()), ("p", "ext:our-id"));
}

/// Returns a webhook with these lines instead of, or in addition to, its own.
fn webhook(more: &[(&str, &str)]) -> String {
    let mut lines = std::collections::BTreeMap::from([
        ("tenant", "\"lms\""),
        ("url", "\"https://lms.example.com/\""),
        ("secret", "\"plain:whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\""),
    ]);
    lines.extend(more.iter().copied());
    let lines = lines.into_iter().filter(|(_, value)| !value.is_empty());
    let lines: Vec<String> = lines.map(|(key, value)| format!("{key} = {value}\n")).collect();
    format!("[webhooks.lms]\n{}", lines.concat())
}

#[test]
fn webhooks_with_faults_are_rejected() {
    assert!(load(&sources(&fine(&webhook(&[])), &[])).is_ok());
    for (more, expected) in [
        (("tenant", ""), "webhooks.lms.tenant: is missing"),
        (("tenant", "\"lsm\""), "webhooks.lms.tenant: unknown tenant (did you mean lms?)"),
        (("url", ""), "webhooks.lms.url: is missing"),
        (("url", "\"http://lms.example.com/\""), "webhooks.lms.url: must be https"),
        (("url", "\"https://u:hush@lms.example.com/\""), "webhooks.lms.url: must not contain a user name"),
        (("url", "\"https://10.0.0.1/\""), "webhooks.lms.url: has an address that is not public"),
        (("url", "\"https://169.254.169.254/\""), "webhooks.lms.url: has an address that is link-local"),
        (("url", "\"lms\""), "webhooks.lms.url: must be an absolute URL"),
        (("secret", ""), "webhooks.lms.secret: is missing"),
        (("secret", "[]"), "webhooks.lms.secret: must not be empty"),
        (("secret", "7"), "webhooks.lms.secret: expected a secret reference or a list of them"),
        (("secret", "[\"whsec_x\"]"), "webhooks.lms.secret.0: expected a secret reference"),
        (("types", "[\"result.*\", \"result.publish\"]"), "webhooks.lms.types.1: is no type of event"),
        (("types", "[\"ping\"]"), "webhooks.lms.types.0: is no type of event"),
        (
            ("connections", "[\"startexam-mian\"]"),
            "webhooks.lms.connections.0: unknown connection (did you mean startexam-main?)",
        ),
        (("assessments", "[\"rust-101\"]"), "webhooks.lms.assessments.0: unknown assessment"),
        (("payload", "\"fat\""), "webhooks.lms.payload: expected"),
        (("order", "\"time\""), "webhooks.lms.order: expected"),
        (("max_in_flight", "0"), "webhooks.lms.max_in_flight: must be from 1 to 100"),
        (("max_in_flight", "101"), "webhooks.lms.max_in_flight: must be from 1 to 100"),
        (("secrets", "[]"), "webhooks.lms.secrets: unknown key (did you mean secret?)"),
    ] {
        let error = only_error(&fine(&webhook(&[more])));
        assert!(error.contains(expected), "{more:?}: {error}");
        assert!(!error.contains("hush"), "{error}");
    }
    let named = webhook(&[]).replace("webhooks.lms", "webhooks.\"a b\"");
    assert!(only_error(&fine(&named)).contains("is not a valid name"), "{named}");
}

#[test]
fn a_secret_of_a_webhook_has_the_form_of_the_specification() {
    for secret in ["hushhushdonttellthis", "whsec_c2hvcnQ=", "whsec_?"] {
        let errors = prepared(&fine(&webhook(&[("secret", &format!("[\"plain:{secret}\"]"))])), &Bench::default());
        let errors = errors.err().unwrap();
        assert_eq!(errors.len(), 1, "{errors:?}");
        assert!(errors[0].contains("webhooks.lms.secret: must ") && !errors[0].contains(secret), "{errors:?}");
    }
}
