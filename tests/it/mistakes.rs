//! Typical mistakes on the command line and in the configuration: each message names the place and the cure.

use std::fmt::Write as _;
use std::fs;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use crate::support::snapshots::assert_text;

const HASH: &str = "2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae";
/// Set in every run that needs a valid secret.
const SECRET: (&str, &str) = ("KEY", "hushhushdonttellthis");

/// A mistake whose message quotes the system as a whole.
const IMPORT: &str = "an import of a missing file";

/// The mistake, the place its message names, the arguments and the variables.
type Case<'a> = (&'a str, &'a str, &'a [&'a str], &'a [(&'a str, &'a str)]);

/// A configuration without an error; each mistake changes a line of it.
fn valid() -> String {
    format!(
        "\
[server]
listen = \"127.0.0.1:0\"
admin_listen = \"\"
[auth.clients.lms]
key_sha256 = [\"{HASH}\"]
scopes = [\"candidates:write\"]
connections = [\"main\"]
[store]
url = \"sqlite:examgate.db\"
retention = \"30d\"
[connections.main]
vendor = \"examtesting\"
base_url = \"http://127.0.0.1:1\"
institution_id = \"1\"
api_key = \"env:KEY\"
api_pass = \"env:KEY\"
"
    )
}

/// Returns the valid configuration with this text replaced.
fn with(old: &str, new: &str) -> String {
    let valid = valid();
    assert!(valid.contains(old), "{old}");
    valid.replace(old, new)
}

/// Returns the valid configuration with more lines at its end.
fn and(more: &str) -> String {
    valid() + more + "\n"
}

fn run(folder: &Path, arguments: &[&str], variables: &[(&str, &str)]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_examgate"))
        .args(arguments)
        .current_dir(folder)
        .env_clear()
        .env("COLUMNS", "100")
        .envs(variables.iter().copied())
        .stdin(Stdio::null())
        .output()
        .expect("the program runs")
}

/// Adds the output to the text that is compared with the stored one.
fn show(shown: &mut String, (mistake, place): (&str, &str), folder: &Path, output: &Output) {
    let text = |bytes: &[u8]| {
        let text = String::from_utf8(bytes.to_vec()).expect("text");
        text.replace(&folder.canonicalize().expect("a folder").display().to_string(), "[folder]")
    };
    let (out, err) = (text(&output.stdout), text(&output.stderr));
    let both = format!("{out}{err}");
    assert!(both.contains(place), "{mistake}: {place} is not named:\n{both}");
    assert!(output.status.code().is_some_and(|code| [1, 2].contains(&code)), "{mistake}: {output:?}");
    assert!(!both.contains(SECRET.1) && !both.contains("panicked"), "{mistake}: {both}");
    let number = both.lines().any(|line| line.contains("os error") && !line.contains("does not accept connections"));
    assert!(!number || mistake == IMPORT, "{mistake}: the number of the system's error helps nobody: {both}");
    let code = output.status.code().unwrap_or_default();
    // What `check` and `serve` report about the rest is another test's.
    let told = |line: &&str| line.contains("fault") && (!line.contains("connection") || mistake.contains("vendor"));
    let out = out.lines().filter(told).fold(String::new(), |text, line| text + line + "\n");
    writeln!(shown, "## {mistake} (exit code {code})\n{out}{err}").expect("a text");
}

#[test]
fn mistakes_on_the_command_line_are_answered_with_place_and_cure() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let folder = folder.path();
    fs::write(folder.join("people.csv"), "externalId\ne1\n").expect("a file");
    fs::write(folder.join("examgate.toml"), valid()).expect("a configuration");
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = taken.local_addr().expect("an address").port().to_string();
    let address = format!("127.0.0.1:{port}");
    let cases: [Case<'_>; 24] = [
        ("a misspelt command", "'serve'", &["srve"], &[]),
        ("a misspelt option", "'--config'", &["serve", "--confg", "examgate.toml"], &[]),
        ("an option of another command", "--port", &["serve", "--port", "8080"], &[]),
        ("no command of several", "new", &["key"], &[]),
        ("a file without its option", "'examgate.toml'", &["check", "examgate.toml"], &[]),
        ("a wrong word", "text, json", &["check", "--output", "yaml"], &[]),
        ("an unknown shell", "bash", &["completions", "tcsh"], &[]),
        ("a directory that is missing", "--dir nowhere", &["man", "--dir", "nowhere"], &[]),
        ("no address", "--host", &["sandbox", "--host", "localhost"], &[]),
        ("no port", "--port-base", &["sandbox", "--port-base", "70000"], &[]),
        ("too few ports", "--port-base", &["sandbox", "--port-base", "65535"], &[]),
        ("ports in use", "--port-base", &["sandbox", "--port-base", &port], &[]),
        ("ports that are not known", "--port-base", &["sandbox", "--port-base", "0", "--print-config"], &[]),
        ("the demo's port in use", "--port", &["demo", "--port", &port], &[]),
        ("no address to probe", "--url", &["probe", "--url", "localhost"], &[]),
        ("an import without a file", "<FILE>", &["import", "--connection", "main"], &[]),
        ("an import without a connection", "--connection", &["import", "people.csv"], &[]),
        ("an import without a key", "EXAMGATE_API_KEY", &["import", "people.csv", "--connection", "main"], &[]),
        (IMPORT, "nowhere.csv", &["import", "nowhere.csv", "--connection", "main"], &[("EXAMGATE_API_KEY", "k")]),
        ("a backup without a file", "<FILE>", &["backup"], &[]),
        ("a backup before there is data", "examgate.key", &["backup", "copy.db"], &[SECRET]),
        ("a restore without the key", "examgate.key", &["restore", "copy.db"], &[SECRET]),
        ("the gateway's port in use", "server.listen", &["serve"], &[SECRET, ("EXAMGATE__SERVER__LISTEN", &address)]),
        ("a setting that is misspelt", "RUST_LOG", &["serve"], &[("RUST_LOG", "examgate=loud")]),
    ];
    let mut shown = String::new();
    for (mistake, place, arguments, variables) in cases {
        show(&mut shown, (mistake, place), folder, &run(folder, arguments, variables));
    }
    let last = (taken.local_addr().expect("an address").port() + 3).to_string();
    assert_text("mistakes-command-line", &shown.replace(&port, "[port]").replace(&last, "[port]"));
}

#[test]
fn mistakes_in_the_configuration_are_answered_with_place_and_cure() {
    let second_client = format!("[auth.clients.other]\nkey_sha256 = [\"{HASH}\"]\nscopes = [\"candidates:read\"]");
    let jwt = "[auth]\nmode = \"jwt\"\n[auth.jwt]\nissuer = \"https://id.example.com/\"\njwks = \"https://id.example.com/jwks\"\n";
    let cases = [
        ("not TOML", ":2: ", with("listen = \"127.0.0.1:0\"", "listen = 127.0.0.1:0")),
        ("a key without quotes", ":16: ", with("api_pass = \"env:KEY\"", "api_pass = env:KEY")),
        ("a misspelt key", "connections.main.base_ulr", with("base_url", "base_ulr")),
        ("a misspelt section", ": conections", and("[conections.other]\nvendor = \"startexam\"")),
        ("a key in the wrong section", "connections.main.retention", and("retention = \"30d\"")),
        ("a number for a text", "server.listen", with("\"127.0.0.1:0\"", "8080")),
        ("a text for a number", "connections.main.max_in_flight", and("max_in_flight = \"four\"")),
        ("a negative number", "connections.main.max_in_flight", and("max_in_flight = -1")),
        ("a text for a list", "auth.clients.lms.scopes", with("[\"candidates:write\"]", "\"candidates:write\"")),
        ("a text for a flag", "connections.main.allow_http", and("allow_http = \"yes\"")),
        ("a port alone", "server.listen", with("127.0.0.1:0", ":8080")),
        ("a host name to listen on", "server.listen", with("127.0.0.1:0", "localhost:8080")),
        ("a secret that is none", "connections.main.api_key", with("api_key = \"env:KEY\"", "api_key = \"abc\"")),
        ("a missing variable", "KEZ", with("api_key = \"env:KEY\"", "api_key = \"env:KEZ\"")),
        ("a missing secret file", "nowhere.txt", with("api_key = \"env:KEY\"", "api_key = \"file:nowhere.txt\"")),
        ("a directory as a secret", "examgate.d", with("api_key = \"env:KEY\"", "api_key = \"file:examgate.d\"")),
        ("a duration without a unit", "connections.main.timeout", and("timeout = 20")),
        ("a duration in words", "store.retention", with("\"30d\"", "\"a month\"")),
        ("too long a duration", "connections.main.timeout", and("timeout = \"2h\"")),
        ("a retention too short", "store.retention", with("\"30d\"", "\"1h\"")),
        ("a size without a unit", "connections.main.max_response_bytes", and("max_response_bytes = \"4M\"")),
        ("no URL", "connections.main.base_url", with("http://127.0.0.1:1", "api.examtesting.com")),
        ("plain http", "connections.main.base_url", with("http://127.0.0.1:1", "http://api.examtesting.com")),
        (
            "a public URL with a query",
            "server.public_url",
            with("[auth.cl", "public_url = \"https://a.b?c\"\n[auth.cl"),
        ),
        ("a path without a slash", "server.base_path", with("[auth.cl", "base_path = \"exam-api\"\n[auth.cl")),
        ("an unknown vendor", "connections.main.vendor", with("\"examtesting\"", "\"exam-testing\"")),
        ("no vendor", "connections.main.vendor", with("vendor = \"examtesting\"\n", "")),
        ("a missing account", "connections.main.institution_id", with("institution_id = \"1\"\n", "")),
        ("a connection twice", "main", and("[connections.main]\nvendor = \"startexam\"")),
        ("a name with a space", "connections.\"a b\"", and("[connections.\"a b\"]\nvendor = \"examtesting\"")),
        ("a client's unknown connection", "auth.clients.lms.connections", with("[\"main\"]", "[\"mian\"]")),
        ("an unknown scope", "auth.clients.lms.scopes", with("candidates:write", "candidate:write")),
        ("no scope", "auth.clients.lms.scopes", with("[\"candidates:write\"]", "[]")),
        ("the key for its hash", "auth.clients.lms.key_sha256", with(HASH, "egk_hushhushdonttellthis")),
        ("one key for two clients", "key_sha256", and(&second_client)),
        ("no clients", "auth.clients", "[store]\nurl = \"sqlite:examgate.db\"\n".to_owned()),
        (
            "no authentication in public",
            "auth.mode",
            "[server]\nlisten = \"0.0.0.0:8080\"\n[auth]\nmode = \"none\"\n".to_owned(),
        ),
        ("no audience", "auth.jwt.audience", jwt.to_owned() + &valid()),
        (
            "keys of an issuer over http",
            "auth.jwt.jwks",
            jwt.replace("https://id.example.com/jwks", "http://i.d/j") + &valid(),
        ),
        (
            "a catalogue's unknown connection",
            "assessments.a.connection",
            and("[assessments.a]\nconnection = \"mian\"\nref = \"1\""),
        ),
        ("a catalogue entry without its id", "assessments.a.ref", and("[assessments.a]\nconnection = \"main\"")),
        ("another database", "store.url", with("sqlite:examgate.db", "mysql://examgate")),
        ("a database in a missing folder", "missing", with("sqlite:examgate.db", "sqlite:missing/examgate.db")),
        (
            "a key of the wrong length",
            "store.encryption_key",
            with("retention", "encryption_key = \"plain:c2hvcnQ=\"\nretention"),
        ),
        ("a certificate without its key", "server.tls.key", and("[server.tls]\ncertificate = \"file:tls.crt\"")),
        (
            "a certificate that is none",
            "server.tls.certificate",
            and("[server.tls]\ncertificate = \"file:examgate.toml\"\nkey = \"file:examgate.toml\""),
        ),
    ];
    let mut shown = String::new();
    for (mistake, place, configuration) in cases {
        let folder = tempfile::tempdir().expect("a temporary folder");
        fs::create_dir(folder.path().join("examgate.d")).expect("a folder");
        fs::write(folder.path().join("examgate.toml"), configuration).expect("a configuration");
        show(&mut shown, (mistake, place), folder.path(), &run(folder.path(), &["check"], &[SECRET]));
    }
    assert_text("mistakes-configuration", &shown);
}

#[test]
fn mistakes_in_naming_the_configuration_are_answered_with_place_and_cure() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let folder = folder.path();
    fs::create_dir(folder.join("examgate.d")).expect("a folder");
    fs::write(folder.join("latin1.toml"), b"# f\xfcr\n").expect("a file");
    fs::write(folder.join("valid.toml"), valid()).expect("a configuration");
    let config = ("EXAMGATE_CONFIG", "valid.toml");
    let cases: [Case<'_>; 9] = [
        ("no configuration", "examgate config example", &["serve"], &[]),
        ("no such file", "nowhere.toml", &["check", "--config", "nowhere.toml"], &[]),
        ("a folder as the file", "examgate.d", &["serve", "--config", "examgate.d"], &[]),
        ("a file in another encoding", "UTF-8", &["check", "--config", "latin1.toml"], &[]),
        ("a variable that names no file", "EXAMGATE_CONFIG", &["check"], &[("EXAMGATE_CONFIG", "nowhere.toml")]),
        (
            "a list in a variable",
            "EXAMGATE__AUTH__CLIENTS__LMS__SCOPES",
            &["check"],
            &[SECRET, config, ("EXAMGATE__AUTH__CLIENTS__LMS__SCOPES", "candidates:read")],
        ),
        (
            "a misspelt variable",
            "EXAMGATE__SERVER__LISTN",
            &["check"],
            &[SECRET, config, ("EXAMGATE__SERVER__LISTN", "127.0.0.1:1")],
        ),
        (
            "a variable with one underscore too many",
            "EXAMGATE__SERVER____LISTEN",
            &["check"],
            &[SECRET, config, ("EXAMGATE__SERVER____LISTEN", "127.0.0.1:1")],
        ),
        ("a vendor that does not respond", "127.0.0.1:1", &["check"], &[SECRET, config]),
    ];
    let mut shown = String::new();
    for (mistake, place, arguments, variables) in cases {
        show(&mut shown, (mistake, place), folder, &run(folder, arguments, variables));
    }
    assert_text("mistakes-configuration-file", &shown);
}
