//! What is read: defaults, file and environment.

use super::*;

#[test]
fn the_embedded_defaults_are_the_documented_ones() {
    let config = loaded(&client(""), &[]);
    let server = &config.server;
    assert_eq!(server.listen.to_string(), "127.0.0.1:8080");
    assert_eq!(server.admin_listen.unwrap().to_string(), "127.0.0.1:9090");
    assert_eq!((server.base_path.as_str(), &server.public_url), ("", &None));
    assert!(server.cors_origins.is_empty(), "no CORS unless configured");
    assert_eq!((server.body_limit.to_string(), server.bulk_body_limit.to_string()), ("8MiB".into(), "256MiB".into()));
    assert_eq!(
        (server.request_timeout, server.shutdown_grace),
        (ConfigDuration::parse("60s").unwrap(), ConfigDuration::parse("30s").unwrap())
    );
    assert_eq!(server.receiver_listen, None);
    let ConsoleSettings { enabled, listen, idle, absolute, sign_in_rate } = config.console.clone();
    assert_eq!((enabled, listen, sign_in_rate), (true, None, 10));
    assert_eq!((idle.to_string(), absolute.to_string()), ("30m".into(), "12h".into()));
    let store = &config.store;
    let spans = [
        store.retention,
        store.idempotency_retention,
        store.report_retention,
        store.parked_retention,
        store.event_retention,
    ];
    assert_eq!(spans.map(|span| span.to_string()), ["30d", "1d", "90d", "90d", "30d"]);
    assert_eq!(format!("{:?} {:?}", store.encryption_key, store.decryption_keys), "file:examgate.key []");
    let Auth::Keys(clients) = &config.auth else { panic!("{:?}", config.auth) };
    let lms = &clients["lms"];
    assert_eq!(
        (lms.tenant.as_str(), &lms.connections, &lms.default_connection),
        ("lms", &ConnectionAccess::All, &None)
    );
    assert_eq!(lms.rate_limit, RateLimit { requests_per_second: 100, burst: 200 });
}

#[test]
fn the_documented_connection_defaults_are_the_coded_ones() {
    let documented: Vec<&str> = DEFAULTS
        .lines()
        .skip_while(|line| !line.starts_with("# vendor = \"startexam\""))
        .take_while(|line| *line != "#")
        .filter(|line| ConnectionSettings::KEYS.iter().any(|key| line.starts_with(&format!("# {key} = "))))
        .map(|line| line.trim_start_matches("# "))
        .collect();
    assert_eq!(documented.len(), ConnectionSettings::KEYS.len());
    let config = loaded(&(client("") + &startexam(&documented.join("\n"))), &[]);
    let coded = ConnectionSettings::default();
    assert_eq!(format!("{:?}", config.connections["startexam-main"].settings), format!("{coded:?}"));
}

#[test]
fn the_documented_defaults_of_results_are_the_coded_ones() {
    for (name, vendor, optional) in
        [("startexam-main", "startexam", &[][..]), ("thinkexam-main", "thinkexam", &["keys", "path_token"])]
    {
        let heading = format!("# [connections.{name}.results]");
        let documented: Vec<&str> = DEFAULTS
            .lines()
            .skip_while(|line| *line != heading)
            .skip(1)
            .take_while(|line| !line.is_empty())
            .filter_map(|line| {
                line.strip_prefix("# ").filter(|line| {
                    let (name, _) = line.split_once(" = ").unwrap_or_default();
                    !name.is_empty() && !name.contains(' ') && !optional.contains(&name)
                })
            })
            .collect();
        assert!(documented.len() > 8, "{documented:?}");
        let own = if vendor == "startexam" { startexam("") } else { thinkexam("") };
        let with = |more: &str| {
            let config = loaded(&(client("") + &own + &format!("[connections.{name}.results]\n{more}\n")), &[]);
            format!("{:?}", config.connections[name].vendor)
        };
        assert_eq!(with(&documented.join("\n")), with(""), "{vendor}");
    }
}

#[test]
fn every_key_is_accepted_and_documented() {
    let config = loaded(EVERY_KEY, &[]);
    assert_eq!(config.connections.len(), 3);
    for line in EVERY_KEY.lines() {
        let Some((key, _)) = line.trim_start_matches("# ").split_once(" = ") else { continue };
        if !key.contains(' ') {
            assert!(DEFAULTS.contains(&format!("{key} = ")), "default.toml lacks {key}");
        }
    }
}

#[test]
fn environment_overrides_file_and_is_typed_by_key() {
    let config = loaded(
        &(client("") + &startexam("timeout = \"1s\"")),
        &[
            ("EXAMGATE__CONNECTIONS__STARTEXAM_MAIN__TIMEOUT", "7s"),
            ("EXAMGATE__CONNECTIONS__STARTEXAM_MAIN__MAX_IN_FLIGHT", "9"),
            ("EXAMGATE__CONNECTIONS__STARTEXAM_MAIN__ALLOW_HTTP", "true"),
            ("EXAMGATE__CONNECTIONS__STARTEXAM_MAIN__RETRY", "{\"attempts\": 5}"),
            ("EXAMGATE__CONNECTIONS__STARTEXAM_MAIN__CENTER", "007"),
            ("EXAMGATE__AUTH__CLIENTS__LMS__SCOPES", "[\"audit:read\"]"),
            ("EXAMGATE__AUTH__CLIENTS__LMS__TENANT", "42"),
            ("EXAMGATE__CONNECTIONS__SECOND", "{\"vendor\": \"examtesting\", \"api_key\": \"plain:aaaa\"}"),
            ("EXAMGATE__CONNECTIONS__SECOND__API_PASS", "plain:007"),
            ("EXAMGATE__CONNECTIONS__SECOND__INSTITUTION_ID", "1234"),
            ("EXAMGATE_CONFIG", "elsewhere.toml"),
            ("PATH", "/bin"),
        ],
    );
    let connection = &config.connections["startexam-main"];
    assert_eq!(connection.settings.timeout, ConfigDuration::parse("7s").unwrap());
    assert_eq!((connection.settings.max_in_flight, connection.settings.allow_http), (9, true));
    assert_eq!(
        (connection.settings.retry.attempts, connection.settings.retry.max),
        (5, ConfigDuration::parse("5s").unwrap())
    );
    let crate::vendors::Settings::StartExam(startexam) = &connection.vendor else { panic!("{connection:?}") };
    assert_eq!(startexam.center, "007");
    let Auth::Keys(clients) = &config.auth else { panic!("{:?}", config.auth) };
    assert_eq!(clients["lms"].tenant, "42");
    assert!(clients["lms"].scopes.contains(&Scope::AuditRead));
    let crate::vendors::Settings::ExamTesting(second) = &config.connections["second"].vendor else {
        panic!("{config:?}")
    };
    assert_eq!(second.institution_id, "1234");
    assert_eq!(second.api_pass.resolve(&Bench::default()).unwrap().expose(), "007");
}

#[test]
fn variables_set_how_results_are_read() {
    let config = loaded(
        &(client("") + &startexam("") + &thinkexam("")),
        &[
            ("EXAMGATE__SERVER__RECEIVER_LISTEN", "127.0.0.1:8081"),
            ("EXAMGATE__STORE__PARKED_RETENTION", "7d"),
            ("EXAMGATE__CONNECTIONS__STARTEXAM_MAIN__RESULTS__MODE", "feed"),
            ("EXAMGATE__CONNECTIONS__STARTEXAM_MAIN__RESULTS__EVERY", "2m"),
            ("EXAMGATE__CONNECTIONS__STARTEXAM_MAIN__RESULTS__CENTERS", "[\"a\"]"),
            ("EXAMGATE__CONNECTIONS__STARTEXAM_MAIN__RESULTS__MAX_PAGES", "9"),
            ("EXAMGATE__CONNECTIONS__STARTEXAM_MAIN__RESULTS__AUTO_CLOSED_ENDS", "true"),
            ("EXAMGATE__CONNECTIONS__THINKEXAM_MAIN__RESULTS", "{\"mode\": \"webhook\", \"match\": [\"path\"]}"),
            ("EXAMGATE__CONNECTIONS__THINKEXAM_MAIN__RESULTS__PATH_TOKEN", "plain:0000000000000007"),
            ("EXAMGATE__CONNECTIONS__THINKEXAM_MAIN__RESULTS__ON_REFUSAL", "200"),
        ],
    );
    assert_eq!(config.server.receiver_listen.map(|address| address.port()), Some(8081));
    assert_eq!(config.store.kept().parked_reports, std::time::Duration::from_hours(7 * 24));
    let crate::vendors::Settings::StartExam(startexam) = &config.connections["startexam-main"].vendor else {
        panic!("{config:?}")
    };
    let results = &startexam.results;
    assert_eq!((results.every.to_string(), &*results.centers), ("2m".to_owned(), &["a".to_owned()][..]));
    assert_eq!((results.max_pages, results.auto_closed_ends), (9, true));
    let crate::vendors::Settings::ThinkExam(thinkexam) = &config.connections["thinkexam-main"].vendor else {
        panic!("{config:?}")
    };
    let token = thinkexam.results.path_token.as_ref().unwrap().resolve(&Bench::default()).unwrap();
    assert_eq!((token.expose(), thinkexam.results.match_by.len()), ("0000000000000007", 1), "text stays text");
    assert!(format!("{:?}", thinkexam.results).contains("on_refusal: Ok"));
}

#[test]
fn environment_tables_are_merged_over_file_tables() {
    let config = loaded(&fine(""), &[("EXAMGATE__SERVER", "{\"base_path\": \"/x/\"}")]);
    assert_eq!((config.server.base_path.as_str(), config.server.listen.port()), ("/x", 8080));
    let errors = errors_of(&fine(""), &[("EXAMGATE__SERVER", PLANTED)]);
    assert_eq!(errors, ["environment variable EXAMGATE__SERVER: server: expected a table as JSON, { … }"]);
}

#[test]
fn an_ambiguous_variable_is_refused() {
    let text = fine("") + &startexam("").replace("startexam-main", "startexam_main");
    let name = "EXAMGATE__CONNECTIONS__STARTEXAM_MAIN__TIMEOUT";
    let expected = format!(
        "environment variable {name}: is ambiguous: it matches connections.startexam-main and connections.startexam_main"
    );
    assert_eq!(errors_of(&text, &[(name, "1s")]), [expected]);
    let twice = errors_of(
        &fine(""),
        &[("EXAMGATE__SERVER__LISTEN", "127.0.0.1:1"), ("EXAMGATE__server__listen", "127.0.0.1:2")],
    );
    assert_eq!(
        twice,
        [
            "environment variable EXAMGATE__server__listen: sets the same key as environment variable EXAMGATE__SERVER__LISTEN"
        ]
    );
    assert!(errors_of(&fine(""), &[("EXAMGATE__A____B", "1")])[0].contains("must have the form"));
}
