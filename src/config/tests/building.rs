//! Building everything: secrets, and the key of the store.

use super::*;
use crate::domain::results::{Counts, PassRule, ReportChannel, ScoringRules};

#[test]
fn a_configuration_with_every_key_builds_a_gateway() {
    let vendors = [
        ("LMS_HOOK_SECRET", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"),
        ("STARTEXAM_SECRET", PLANTED),
        ("THINKEXAM_KEY", PLANTED),
        ("THINKEXAM_SECRET", PLANTED),
        ("THINKEXAM_WEBHOOK_KEY", PLANTED),
        ("THINKEXAM_HOOK_TOKEN", PLANTED),
        ("EXAMTESTING_KEY", PLANTED),
        ("EXAMTESTING_PASS", PLANTED),
    ];
    let bench = bench(&vendors);
    let environment = environment();
    let machine = HostAccess { secrets: &bench, files: &bench, environment: &environment };
    let prepared = prepare(&sources(EVERY_KEY, &[]), &machine).unwrap_or_else(|errors| panic!("{errors:#?}"));
    assert_eq!(prepared.parts.connections.len(), 3);
    let entry = &prepared.parts.catalogue.assessments["rust-101"];
    assert_eq!((entry.name.as_str(), entry.reference.as_str()), ("Rust 101", "fa19e351-36d0-49c0-be92-66d640b17878"));
    let pass = PassRule::checked(Some(70.0), Vec::new()).unwrap();
    assert_eq!(entry.scoring, ScoringRules { scored: true, pass, counts: Counts::Latest });
    let sources = prepared.parts.connections.values().map(|setup| setup.connected.vendor.report_source());
    let channels: Vec<bool> =
        sources.map(|source| source.is_some_and(|source| matches!(source.channel(), ReportChannel::Feed(_)))).collect();
    assert_eq!(channels, [false, true, false], "of ExamTesting, StartExam and ThinkExam");
    assert!(prepared.parts.catalogue.programs.contains_key("onboarding-2026"));
    let shown = format!("{:?}", prepared.config);
    assert!(!shown.contains(PLANTED) && shown.contains("env:STARTEXAM_SECRET"), "{shown}");
}

#[test]
fn missing_secrets_are_reported_with_other_errors_and_no_key_is_created() {
    let bench = bench(&[]);
    let environment = environment();
    let machine = HostAccess { secrets: &bench, files: &bench, environment: &environment };
    let text = EVERY_KEY.replace("listen = \"127.0.0.1:8080\"", "listen = \"here\"");
    let Err(errors) = prepare(&sources(&text, &[]), &machine) else { panic!("no fault") };
    let errors: Vec<String> = errors.iter().map(ToString::to_string).collect();
    assert_eq!(errors.len(), 9, "{errors:#?}");
    assert!(errors[0].contains("server.listen"), "{errors:#?}");
    assert!(errors[1].ends_with("webhooks.lms.secret: environment variable LMS_HOOK_SECRET is not set"), "{errors:#?}");
    assert!(errors[2].ends_with("connections.startexam-main.secret: environment variable STARTEXAM_SECRET is not set"));
    assert!(bench.made.borrow().is_empty());
}

#[test]
fn the_owner_of_reports_must_be_a_tenant() {
    let owned = |owner: &str, auth: &str| {
        let results = format!("[connections.startexam-main.results]\nmode = \"feed\"\nowner = \"{owner}\"\n");
        prepared(&(auth.to_owned() + &startexam("") + &results), &bench(&[])).map(|_| ())
    };
    let two = client("tenant = \"school\"") + &client("").replace("lms", "hr").replace(HASH, &HASH.replace('2', "3"));
    let none = "[auth]\nmode = \"none\"\n";
    for (owner, auth) in [("school", two.as_str()), ("hr", &two), ("", &two), ("default", none)] {
        assert_eq!(owned(owner, auth), Ok(()), "{owner}");
    }
    for (owner, auth, hint) in
        [("lms", two.as_str(), ""), ("shcool", &two, " (did you mean school?)"), ("hr", none, "")]
    {
        let errors = owned(owner, auth).unwrap_err();
        assert_eq!(errors.len(), 1, "{errors:?}");
        assert!(
            errors[0].ends_with(&format!("connections.startexam-main.results.owner: unknown tenant{hint}")),
            "{errors:?}"
        );
    }
}

#[test]
fn changed_settings_or_secrets_of_results_make_another_connection() {
    let fingerprint = |results: &str, token: &str| {
        let text = client("") + &thinkexam("") + "[connections.thinkexam-main.results]\nmode = \"webhook\"\n" + results;
        let prepared = prepared(&text, &bench(&[("TOKEN", token)])).unwrap_or_else(|errors| panic!("{errors:#?}"));
        prepared.parts.connections["thinkexam-main"].fingerprint.clone()
    };
    let settings = "path_token = \"env:TOKEN\"\n";
    let before = fingerprint(settings, "0123456789abcdef");
    assert!(before.same(&fingerprint(settings, "0123456789abcdef")));
    assert!(!before.same(&fingerprint(settings, "fedcba9876543210")), "another secret");
    assert!(
        !before.same(&fingerprint(&format!("{settings}form = \"older\"\n"), "0123456789abcdef")),
        "another setting"
    );
}

#[test]
fn the_key_is_created_only_with_a_new_database() {
    let bench = bench(&[]);
    assert!(prepared(&fine(""), &bench).is_ok());
    assert_eq!(bench.made.borrow()[Path::new("examgate.key")], data_encoding::BASE64.encode(&[7; 32]));

    let lost = self::bench(&[("examgate.db", "")]);
    let Err(errors) = prepared(&fine(""), &lost) else { panic!("no fault") };
    assert!(errors[0].contains("store.encryption_key: file examgate.key is missing, but the database"), "{errors:#?}");
    assert!(lost.made.borrow().is_empty());

    for (held, reference) in [(PLANTED, "env:KEY"), ("QUJD", "env:KEY"), (PLANTED, "env:NONE")] {
        let bench = self::bench(&[("KEY", held)]);
        let text = fine(&format!("[store]\nencryption_key = \"{reference}\"\n"));
        let Err(errors) = prepared(&text, &bench) else { panic!("no fault") };
        assert!(
            errors.len() == 1 && errors[0].contains("store.encryption_key: ") && !errors[0].contains(held),
            "{errors:#?}"
        );
    }
}

#[test]
fn the_store_url_may_be_a_reference() {
    let bench = bench(&[("STORE", "sqlite:///var/lib/examgate.db\n"), ("SHARED", "postgres://u:hush@h:6432/d")]);
    let text = fine("[store]\nurl = \"env:STORE\"\n");
    let prepared = prepared(&text, &bench).unwrap_or_else(|errors| panic!("{errors:#?}"));
    assert!(matches!(&prepared.store.place, StoreLocation::Sqlite(path) if path == Path::new("/var/lib/examgate.db")));

    let key = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
    let text = fine(&format!("[store]\nurl = \"env:SHARED\"\nencryption_key = \"plain:{key}\"\n"));
    let prepared = self::prepared(&text, &bench).unwrap_or_else(|errors| panic!("{errors:#?}"));
    assert!(
        matches!(&prepared.store.place, StoreLocation::Postgres { url, .. } if url.matches_constant_time("postgres://u:hush@h:6432/d"))
    );
    assert_eq!(prepared.store.place.to_string(), "postgres://h:6432/d");
}

#[test]
fn no_key_is_created_for_postgres() {
    let bench = bench(&[]);
    let Err(errors) = prepared(&fine("[store]\nurl = \"postgresql://u:hush@h/d\"\n"), &bench) else {
        panic!("no fault")
    };
    assert!(
        errors.len() == 1
            && errors[0].contains("store.encryption_key: file examgate.key is missing, and with PostgreSQL")
    );
    assert!(!errors[0].contains("hush"), "{errors:#?}");
}

#[test]
fn deliveries_and_webhooks_are_built_from_their_sections() {
    let current = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    let former = "whsec_ZXhhbWdhdGUtc2FuZGJveC1sbXMtc2VjcmV0LTAwMDI=";
    let text = fine(
        "[delivery]\nallow_hosts = [\"*.example.com\"]\nallow_private = [\"10.0.0.0/8\"]\ntimeout = \"7s\"\n\
         schedule = [\"0s\", \"1m\"]\n\
         [webhooks.lms]\ntenant = \"lms\"\nurl = \"https://10.1.2.3/hook\"\nsecret = [\"env:CURRENT\", \"env:FORMER\"]\n\
         types = [\"result.*\"]\npayload = \"full\"\norder = \"none\"\nconnections = [\"startexam-main\"]\n\
         [webhooks.audit]\ntenant = \"lms\"\nurl = \"https://audit.example.com/\"\nsecret = \"env:CURRENT\"\n",
    );
    let bench = bench(&[("CURRENT", current), ("FORMER", former)]);
    let delivery = prepared(&text, &bench).unwrap_or_else(|errors| panic!("{errors:#?}")).parts.delivery;
    assert_eq!(delivery.timeout, std::time::Duration::from_secs(7));
    assert!(delivery.policy.judge_named("https://lms.example.com/").is_ok());
    assert!(delivery.policy.judge_named("https://10.1.2.3/").is_err(), "a client cannot name it");
    assert!(delivery.schedule.pause(1, 0).is_some() && delivery.schedule.pause(2, 0).is_none());
    let names: Vec<&str> = delivery.webhooks.iter().map(|webhook| webhook.name.as_str()).collect();
    assert_eq!(names, ["audit", "lms"]);
    let lms = &delivery.webhooks[1];
    let secrets: Vec<&str> = lms.secrets.iter().map(Secret::expose).collect();
    assert_eq!(secrets, [current, former]);
    assert_eq!((lms.tenant.as_str(), lms.settings.max_in_flight), ("lms", 4));
    assert_eq!(lms.settings.payload, crate::domain::webhook::WebhookPayload::Full);
}

#[test]
fn the_documented_defaults_of_webhooks_are_the_coded_ones() {
    let keys = [
        "types",
        "connections",
        "assessments",
        "payload",
        "order",
        "max_in_flight",
        "requests_per_second",
        "description",
    ];
    let documented: Vec<&str> = DEFAULTS
        .lines()
        .skip_while(|line| *line != "# [webhooks.lms]")
        .take_while(|line| !line.is_empty())
        .filter_map(|line| line.strip_prefix("# "))
        .filter(|line| keys.iter().any(|key| line.starts_with(&format!("{key} = "))))
        .map(|line| if line.starts_with("types") { "types = []" } else { line })
        .collect();
    assert_eq!(documented.len(), keys.len(), "{documented:?}");
    let with = |more: &str| {
        let secret = "plain:whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
        let text =
            format!("[webhooks.lms]\ntenant = \"lms\"\nurl = \"https://a.example/\"\nsecret = \"{secret}\"\n{more}\n");
        let bench = bench(&[]);
        prepared(&fine(&text), &bench).unwrap_or_else(|errors| panic!("{errors:#?}")).parts.delivery.webhooks[0]
            .settings
            .clone()
    };
    assert_eq!(with(&documented.join("\n")), with(""));
}
