use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use jiff::Timestamp;

use super::*;
use crate::domain::system::{Clock, SecureRandom};
use crate::secret::Secret;
use crate::transport::ConnectionSettings;

const HASH: &str = "2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae";
const EVERY_KEY: &str = include_str!("../../tests/fixtures/every-key.toml");
/// A unique marker inside secrets; it must never appear in output.
const PLANTED: &str = "hushhushdonttellthis";

struct Fixed;

impl Clock for Fixed {
    fn now(&self) -> Timestamp {
        Timestamp::UNIX_EPOCH
    }
}

impl SecureRandom for Fixed {
    fn fill(&self, bytes: &mut [u8]) {
        bytes.fill(7);
    }
}

fn environment() -> System {
    System { clock: Arc::new(Fixed), entropy: Arc::new(Fixed) }
}

/// In-memory machine: variables and files by name.
#[derive(Default)]
struct Bench {
    held: BTreeMap<&'static str, String>,
    made: RefCell<BTreeMap<PathBuf, String>>,
}

impl SecretSource for Bench {
    fn variable(&self, name: &str) -> Result<Secret, String> {
        self.held.get(name).map(Secret::new).ok_or_else(|| format!("environment variable {name} is not set"))
    }

    fn file(&self, path: &str) -> Result<Secret, String> {
        self.held.get(path).map(Secret::new).ok_or_else(|| format!("file {path} cannot be read"))
    }
}

impl KeyFileStore for Bench {
    fn exists(&self, path: &Path) -> bool {
        path.to_str().is_some_and(|path| self.held.contains_key(path))
    }

    fn create(&self, path: &Path, content: &Secret) -> Result<(), String> {
        self.made.borrow_mut().insert(path.to_owned(), content.expose().to_owned());
        Ok(())
    }
}

fn bench(held: &[(&'static str, &str)]) -> Bench {
    Bench { held: held.iter().map(|(name, value)| (*name, (*value).to_owned())).collect(), ..Bench::default() }
}

fn sources(text: &str, environment: &[(&str, &str)]) -> Sources {
    let environment = environment.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    Sources { file: Some((PathBuf::from("examgate.toml"), text.to_owned())), environment }
}

fn told(text: &str, environment: &[(&str, &str)]) -> Vec<String> {
    load(&sources(text, environment)).unwrap_err().iter().map(ToString::to_string).collect()
}

fn client(more: &str) -> String {
    format!("[auth.clients.lms]\nkey_sha256 = [\"{HASH}\"]\nscopes = [\"candidates:read\"]\n{more}\n")
}

fn startexam(more: &str) -> String {
    format!(
        "[connections.startexam-main]\nvendor = \"startexam\"\naccount_id = 99\nsecret = \"plain:{PLANTED}\"\n\
         center = \"c\"\nprofile_id = \"d51b5efd-fb21-4cb8-94e2-145014839465\"\n{more}\n"
    )
}

/// Returns a valid configuration with these lines added.
fn fine(more: &str) -> String {
    client("") + &startexam("") + more
}

fn loaded(text: &str, environment: &[(&str, &str)]) -> Config {
    load(&sources(text, environment)).unwrap_or_else(|faults| panic!("{faults:#?}"))
}

/// Returns the only error of a configuration.
fn fault(text: &str) -> String {
    let told = told(text, &[]);
    assert_eq!(told.len(), 1, "{told:#?}");
    told[0].clone()
}

#[test]
fn the_embedded_defaults_are_the_documented_ones() {
    let config = loaded(&client(""), &[]);
    let server = &config.server;
    assert_eq!(server.listen.to_string(), "127.0.0.1:8080");
    assert_eq!(server.admin_listen.unwrap().to_string(), "127.0.0.1:9090");
    assert_eq!((server.base_path.as_str(), &server.public_url), ("", &None));
    assert_eq!((server.body_limit.to_string(), server.bulk_body_limit.to_string()), ("8MiB".into(), "256MiB".into()));
    assert_eq!(
        (server.request_timeout, server.shutdown_grace),
        (ConfigDuration::parse("60s").unwrap(), ConfigDuration::parse("30s").unwrap())
    );
    let store = &config.store;
    assert_eq!(
        (store.retention, store.idempotency_retention),
        (ConfigDuration::parse("30d").unwrap(), ConfigDuration::parse("24h").unwrap())
    );
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
fn a_configuration_with_every_key_builds_a_gateway() {
    let vendors = [
        ("STARTEXAM_SECRET", PLANTED),
        ("THINKEXAM_KEY", PLANTED),
        ("THINKEXAM_SECRET", PLANTED),
        ("EXAMTESTING_KEY", PLANTED),
        ("EXAMTESTING_PASS", PLANTED),
    ];
    let bench = bench(&vendors);
    let environment = environment();
    let machine = HostAccess { secrets: &bench, files: &bench, environment: &environment };
    let prepared = prepare(&sources(EVERY_KEY, &[]), &machine).unwrap_or_else(|faults| panic!("{faults:#?}"));
    assert_eq!(prepared.parts.connections.len(), 3);
    let entry = &prepared.parts.catalogue.assessments["rust-101"];
    assert_eq!((entry.name.as_str(), entry.reference.as_str()), ("Rust 101", "fa19e351-36d0-49c0-be92-66d640b17878"));
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
    let Err(faults) = prepare(&sources(&text, &[]), &machine) else { panic!("no fault") };
    let told: Vec<String> = faults.iter().map(ToString::to_string).collect();
    assert_eq!(told.len(), 6, "{told:#?}");
    assert!(told[0].contains("server.listen"), "{told:#?}");
    assert!(told[1].ends_with("connections.startexam-main.secret: environment variable STARTEXAM_SECRET is not set"));
    assert!(bench.made.borrow().is_empty());
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
fn environment_tables_are_merged_over_file_tables() {
    let config = loaded(&fine(""), &[("EXAMGATE__SERVER", "{\"base_path\": \"/x/\"}")]);
    assert_eq!((config.server.base_path.as_str(), config.server.listen.port()), ("/x", 8080));
    let faults = told(&fine(""), &[("EXAMGATE__SERVER", PLANTED)]);
    assert_eq!(faults, ["environment variable EXAMGATE__SERVER: server: expected a table as JSON, { … }"]);
}

#[test]
fn an_ambiguous_variable_is_refused() {
    let text = fine("") + &startexam("").replace("startexam-main", "startexam_main");
    let name = "EXAMGATE__CONNECTIONS__STARTEXAM_MAIN__TIMEOUT";
    let expected = format!(
        "environment variable {name}: is ambiguous: it matches connections.startexam-main and connections.startexam_main"
    );
    assert_eq!(told(&text, &[(name, "1s")]), [expected]);
    let twice =
        told(&fine(""), &[("EXAMGATE__SERVER__LISTEN", "127.0.0.1:1"), ("EXAMGATE__server__listen", "127.0.0.1:2")]);
    assert_eq!(
        twice,
        [
            "environment variable EXAMGATE__server__listen: sets the same key as environment variable EXAMGATE__SERVER__LISTEN"
        ]
    );
    assert!(told(&fine(""), &[("EXAMGATE__A____B", "1")])[0].contains("must have the form"));
}

#[test]
fn errors_name_file_and_line_or_variable() {
    let text = fine("") + "[server]\nlisten = \"x\"\nlisten_too = 1\n";
    let line = text.lines().position(|line| line.starts_with("listen =")).unwrap() + 1;
    let told = told(&text, &[("EXAMGATE__SERVER__BASE_PATH", "x"), ("EXAMGATE__SERVER__ALLOW_INSECURE", "perhaps")]);
    assert!(told[0].starts_with(&format!("examgate.toml:{line}: server.listen: expected an address")), "{told:#?}");
    assert_eq!(told[1], format!("examgate.toml:{}: server.listen_too: unknown key", line + 1));
    assert!(told[3].starts_with("environment variable EXAMGATE__SERVER__BASE_PATH: server.base_path: "), "{told:#?}");
    assert!(told[2].ends_with("server.allow_insecure: expected true or false"), "{told:#?}");
    assert_eq!(told.len(), 4);
}

#[test]
fn invalid_toml_is_reported_by_line_without_quoting_it() {
    let told = told(&format!("[server]\nlisten = {PLANTED} {PLANTED}\n"), &[]);
    assert_eq!(told.len(), 1);
    assert!(told[0].starts_with("examgate.toml:2: is not valid TOML: ") && !told[0].contains(PLANTED), "{told:?}");
}

#[test]
fn no_error_quotes_a_value() {
    let text = EVERY_KEY.lines().map(|line| match line.split_once(" = ") {
        Some((key, _)) if !key.starts_with('#') && key != "vendor" => format!("{key} = \"{PLANTED}\"\n"),
        _ => format!("{line}\n"),
    });
    let faults = told(&text.collect::<String>(), &[("EXAMGATE__SERVER__BODY_LIMIT", PLANTED)]);
    assert!(faults.len() > 40, "{faults:#?}");
    assert!(!faults.concat().contains(PLANTED), "{faults:#?}");
}

#[test]
fn all_missing_keys_of_a_connection_are_reported_at_once() {
    let told = told(&(client("") + "[connections.a]\nvendor = \"startexam\"\ntimeout = 5\n"), &[]);
    let keys: Vec<&str> = told.iter().map(String::as_str).collect();
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
        ("[server]\nbase_path = \"/a/../b\"", "server.base_path: expected"),
        ("[server]\nbase_path = \"/a?b\"", "server.base_path: expected"),
        ("[server]\npublic_url = \"/here\"", "server.public_url: expected an absolute"),
        ("[server]\npublic_url = \"ftp://a\"", "server.public_url: expected an absolute"),
        ("[server]\nbody_limit = \"0B\"", "server.body_limit: must be more than 0"),
        ("[auth]\nmode = \"key\"", "auth.mode: expected \"keys\", \"jwt\" or \"none\" (did you mean keys?)"),
        ("[auth.jwt]\nleeway = \"1h\"", "auth.jwt.leeway: must be at most 5m"),
        ("[auth.jwt]\njwks = \"https://u:p@a\"", "auth.jwt.jwks: must not contain a user"),
        ("[auth.jwt]\njwks = \"http://a\"", "auth.jwt.jwks: expected"),
        ("[auth]\nmode = \"none\"\n[server]\nlisten = \"0.0.0.0:1\"", "auth.mode: \"none\" gives every caller"),
        ("[store]\nurl = \"postgres://u:hush@h\"", "store.url: expected \"postgres://USER:PASSWORD@HOST/DATABASE\""),
        ("[store]\nurl = \"postgres://u:hush@h/d?sslmod=require\"", "store.url: supports only the parameters sslmode"),
        ("[store]\nurl = \"postgresql://u:hush@h/d?sslmode=allow\"", "store.url: sslmode must be disable"),
        ("[store]\nurl = \"mysql:x\"", "store.url: expected \"sqlite:PATH\" or \"postgres://"),
        ("[store]\nurl = \"sqlite::memory:\"", "store.url: must name a file"),
        ("[store]\nretention = \"0s\"", "store.retention: must be more than 0"),
        ("[store]\nretention = \"3s\"", "store.retention: must not be shorter than store.idempotency_retention"),
        ("[store]\nretention = \"3000000d\"", "store.retention: must be at most 3650d"),
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
        let told = fault(&fine(more));
        assert!(told.contains(expected), "{more}\n{told}");
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
        let told = fault(&(client("") + &startexam(more)));
        assert!(told.contains(&format!("connections.startexam-main.{expected}")), "{more}\n{told}");
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
        let told = fault(&(client(more) + &startexam("")));
        assert!(told.contains(&format!("auth.clients.lms.{expected}")), "{more}\n{told}");
    }
    let without = client("").replace("candidates:read", "candidate:read");
    assert!(fault(&without).contains("scopes.0: unknown scope (did you mean candidates:read?)"));
    assert!(fault(&client("").replace(HASH, "egk_key")).contains("key_sha256.0: expected the 64 hexadecimal digits"));
    let other = client("").replace("lms", "other");
    assert!(fault(&(client("") + &other)).contains("auth.clients.other.key_sha256.0: is also a key of client lms"));
    assert!(fault("").contains("auth.clients: no client is configured"));
    let two = startexam("") + &startexam("").replace("startexam-main", "b");
    let only = client("connections = [\"b\"]\ndefault_connection = \"startexam-main\"") + &two;
    assert!(fault(&only).contains("default_connection: is not one of the connections"));
}

#[test]
fn mode_none_beyond_loopback_needs_allow_insecure() {
    let open = "[auth]\nmode = \"none\"\n[server]\nlisten = \"0.0.0.0:1\"\nallow_insecure = true\n";
    assert!(matches!(loaded(open, &[]).auth, Auth::None));
    assert!(matches!(loaded("[auth]\nmode = \"none\"", &[]).auth, Auth::None));
}

fn prepared(text: &str, bench: &Bench) -> Result<Startup, Vec<String>> {
    let environment = environment();
    let machine = HostAccess { secrets: bench, files: bench, environment: &environment };
    prepare(&sources(text, &[]), &machine).map_err(|faults| faults.iter().map(ToString::to_string).collect())
}

#[test]
fn catalogue_entries_are_validated_by_their_vendor() {
    let examtesting = "[connections.e]\nvendor = \"examtesting\"\ninstitution_id = \"1\"\napi_key = \"plain:aaaa\"\napi_pass = \"plain:bbbb\"\n";
    let entry = "[assessments.a]\nconnection = \"e\"\nref = \"1\"\n";
    assert!(
        fault(&fine(&format!("{examtesting}{entry}")))
            .contains("assessments.a.connection: ExamTesting does not support this")
    );
    let wrong = fine(
        "[assessments.a]\nconnection = \"startexam-main\"\nref = \"no-guid\"\n[programs.p]\nconnection = \"startexam-main\"\nexternal_ref = \"\"\n",
    );
    let Err(told) = prepared(&wrong, &Bench::default()) else { panic!("no fault") };
    assert!(told[0].contains("assessments.a.ref: is not a valid id of an assessment at StartExam"), "{told:#?}");
    assert!(told[1].contains("programs.p.external_ref: is not a valid id of a program at StartExam"), "{told:#?}");
    let right = fine("[programs.p]\nconnection = \"startexam-main\"\nexternal_ref = \"our-id\"\n");
    let prepared = prepared(&right, &Bench::default()).unwrap_or_else(|told| panic!("{told:#?}"));
    let program = &prepared.parts.catalogue.programs["p"];
    assert_eq!((program.name.as_str(), program.reference.as_str()), ("p", "ext:our-id"));
}

#[test]
fn the_key_is_created_only_with_a_new_database() {
    let bench = bench(&[]);
    assert!(prepared(&fine(""), &bench).is_ok());
    assert_eq!(bench.made.borrow()[Path::new("examgate.key")], data_encoding::BASE64.encode(&[7; 32]));

    let lost = self::bench(&[("examgate.db", "")]);
    let Err(told) = prepared(&fine(""), &lost) else { panic!("no fault") };
    assert!(told[0].contains("store.encryption_key: file examgate.key is missing, but the database"), "{told:#?}");
    assert!(lost.made.borrow().is_empty());

    for (held, reference) in [(PLANTED, "env:KEY"), ("QUJD", "env:KEY"), (PLANTED, "env:NONE")] {
        let bench = self::bench(&[("KEY", held)]);
        let text = fine(&format!("[store]\nencryption_key = \"{reference}\"\n"));
        let Err(told) = prepared(&text, &bench) else { panic!("no fault") };
        assert!(told.len() == 1 && told[0].contains("store.encryption_key: ") && !told[0].contains(held), "{told:#?}");
    }
}

#[test]
fn the_store_url_may_be_a_reference() {
    let bench = bench(&[("STORE", "sqlite:///var/lib/examgate.db\n"), ("SHARED", "postgres://u:hush@h:6432/d")]);
    let text = fine("[store]\nurl = \"env:STORE\"\n");
    let prepared = prepared(&text, &bench).unwrap_or_else(|told| panic!("{told:#?}"));
    assert!(matches!(&prepared.store.place, StoreLocation::Sqlite(path) if path == Path::new("/var/lib/examgate.db")));

    let key = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
    let text = fine(&format!("[store]\nurl = \"env:SHARED\"\nencryption_key = \"plain:{key}\"\n"));
    let prepared = self::prepared(&text, &bench).unwrap_or_else(|told| panic!("{told:#?}"));
    assert!(
        matches!(&prepared.store.place, StoreLocation::Postgres { url, .. } if url.matches_constant_time("postgres://u:hush@h:6432/d"))
    );
    assert_eq!(prepared.store.place.to_string(), "postgres://h:6432/d");
}

#[test]
fn no_key_is_created_for_postgres() {
    let bench = bench(&[]);
    let Err(told) = prepared(&fine("[store]\nurl = \"postgresql://u:hush@h/d\"\n"), &bench) else { panic!("no fault") };
    assert!(
        told.len() == 1 && told[0].contains("store.encryption_key: file examgate.key is missing, and with PostgreSQL")
    );
    assert!(!told[0].contains("hush"), "{told:#?}");
}
