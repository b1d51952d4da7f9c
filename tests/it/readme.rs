//! README: its commands run as they are shown, in their order, in a fresh folder, against a gateway with the
//! configuration that it shows.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::process::Stdio;

use examgate::sandbox::accounts;
use regex::Regex;
use tempfile::TempDir;
use tokio::process::Command;

use crate::support::gateway::{Gateway, key, sandbox};

const README: &str = include_str!("../../README.md");

/// Commands that are not run here, by their beginning, and why.
const EXEMPT: [(&str, &str); 6] = [
    ("cargo run -- demo", "tests/it/demo.rs runs the demo; a build inside a test would take minutes"),
    ("cargo build", "the program under test is the build"),
    ("./scripts/test", "it runs this test"),
    ("docker ", "needs a container engine; docs/DEPLOYMENT.md says what was tried"),
    ("examgate serve --config examgate.toml", "the gateway of this test was started so"),
    ("export ", "each command has a shell of its own; the variables are set for all of them"),
];

/// The exports that README's commands import.
const EXPORTS: [(&str, &str); 5] = [
    ("moodle.csv", "username,firstname,lastname,email,idnumber\nana,Ana,Lima,ana@example.com,m-1\n"),
    ("canvas.csv", "user_id,login_id,first_name,last_name,email,status\nc-1,ana,Ana,Lima,ana@example.com,active\n"),
    (
        "oneroster.csv",
        "sourcedId,status,enabledUser,username,givenName,familyName,role,email\n\
         o-1,active,true,ana,Ana,Lima,student,ana@example.com\n",
    ),
    ("UserDirectory.csv", "STATUS,USERID,USERNAME,FIRSTNAME,LASTNAME,EMAIL\nactive,s-1,ana,Ana,Lima,ana@example.com\n"),
    ("report.csv", "Employee #,Last Name,First Name,Status,Work Email\nb-1,Lima,Ana,Active,ana@example.com\n"),
];

/// The workbooks that README's commands import: name, header and a row.
const WORKBOOKS: [(&str, [&str; 4], [&str; 4]); 2] = [
    (
        "All Workers.xlsx",
        ["Employee ID", "Legal Name - First Name", "Legal Name - Last Name", "Email - Work"],
        ["w-1", "Ana", "Lima", "ana@example.com"],
    ),
    ("staff.xlsx", ["Staff No", "First Name", "email", "Team"], ["x-1", "Ana", "ana@example.com", "Blue"]),
];

/// A command and what README shows below it.
#[derive(Debug)]
struct Example {
    command: String,
    shown: String,
}

/// Reads the commands of the blocks of a shell session.
fn examples(text: &str) -> Vec<Example> {
    let blocks = Regex::new("(?s)```console\n(.*?)```").expect("a pattern");
    let mut examples: Vec<Example> = Vec::new();
    for block in blocks.captures_iter(text) {
        let mut unfinished = false;
        for line in block[1].lines() {
            if let Some(command) = line.strip_prefix("$ ") {
                examples.push(Example { command: command.to_owned(), shown: String::new() });
            } else if unfinished {
                let last = examples.last_mut().expect("a command before");
                write!(last.command, "\n{line}").expect("a text");
            } else {
                writeln!(examples.last_mut().expect("a command before").shown, "{line}").expect("a text");
                continue;
            }
            let command = &examples.last().expect("a command").command;
            unfinished = command.ends_with('\\') || command.matches('\'').count() % 2 == 1;
        }
    }
    examples
}

/// Returns the members of README's output whose values are the same in every run.
fn lasting_members(shown: &str) -> Vec<String> {
    let members =
        r#""(code|outcome|result|externalId|kind|origin|check|connection|assessment|pointer)":"[^"…]+"|"status":\d+"#;
    Regex::new(members).expect("a pattern").find_iter(shown).map(|found| found.as_str().to_owned()).collect()
}

/// Puts ids of earlier responses in place of those that README cuts.
fn with_ids(command: &str, seen: &str) -> String {
    let cut = Regex::new("(cand|asg|op|exc)_[0-9a-f]+…").expect("a pattern");
    let whole = |kind: &str| {
        let whole = Regex::new(&format!("{kind}_[0-9a-f]{{32}}")).expect("a pattern");
        whole.find_iter(seen).last().map_or_else(|| panic!("no {kind}_… before {command}"), |id| id.as_str().to_owned())
    };
    cut.replace_all(command, |found: &regex::Captures<'_>| whole(&found[1])).into_owned()
}

fn configuration() -> String {
    let block = Regex::new("(?s)```toml\n(.*?)```").expect("a pattern");
    let text = block.captures(README).expect("a configuration")[1].to_owned();
    let hash = data_encoding::HEXLOWER.encode(&<sha2::Sha256 as sha2::Digest>::digest(key("lms").as_bytes()));
    assert!(text.contains("[\"…\"]"), "{text}");
    text.replace("[\"…\"]", &format!("[\"{hash}\"]"))
}

fn folder_with(configuration: &str) -> TempDir {
    let folder = tempfile::tempdir().expect("a temporary folder");
    fs::write(folder.path().join("examgate.toml"), configuration).expect("a configuration");
    let people = "externalId,name.givenName,email\nemp-3001,Ada,ada@example.com\nemp-3002,Bo,bo@example.com\nemp-3003,Cy,nobody\n";
    fs::write(folder.path().join("people.csv"), people).expect("a spreadsheet");
    for (name, export) in EXPORTS {
        fs::write(folder.path().join(name), export).expect("an export");
    }
    for (name, header, row) in WORKBOOKS {
        let mut workbook = rust_xlsxwriter::Workbook::new();
        let sheet = workbook.add_worksheet();
        sheet.write_row(0, 0, header).expect("a header");
        sheet.write_row(1, 0, row).expect("a row");
        workbook.save(folder.path().join(name)).expect("a workbook");
    }
    folder
}

async fn run(command: &str, folder: &Path, variables: &[(&str, String)]) -> (Option<i32>, String) {
    let programs = Path::new(env!("CARGO_BIN_EXE_examgate")).parent().expect("a folder").display().to_string();
    let output = Command::new("bash")
        .args(["-c", command])
        .current_dir(folder)
        .env("PATH", format!("{programs}:{}", std::env::var("PATH").unwrap_or_default()))
        .env("NO_PROXY", "*")
        .envs(variables.iter().map(|(name, value)| (name, value)))
        .stdin(Stdio::null())
        .output()
        .await
        .expect("a shell");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code(), text(&output.stdout) + &text(&output.stderr))
}

#[tokio::test]
async fn every_command_of_the_readme_does_what_it_shows() {
    let sandbox = sandbox().await;
    let vendor = format!("http://{}", sandbox.startexam());
    let mut variables = vec![
        ("STARTEXAM_SECRET", accounts::startexam::SECRET.to_owned()),
        ("EXAMGATE__CONNECTIONS__STARTEXAM_MAIN__BASE_URL", vendor.clone()),
        // Otherwise the example of a lost response would wait for half a minute.
        ("EXAMGATE__CONNECTIONS__STARTEXAM_MAIN__SETTLE_GRACE", "0s".to_owned()),
        ("EXAMGATE__SERVER__LISTEN", "127.0.0.1:0".to_owned()),
        ("EXAMGATE__SERVER__ADMIN_LISTEN", "127.0.0.1:0".to_owned()),
        // The database is the folder's, wherever the program was started.
        ("EXAMGATE__STORE__URL", String::new()),
        ("EXAMGATE__STORE__ENCRYPTION_KEY", String::new()),
    ];
    let folder = folder_with(&configuration());
    for (name, value) in &mut variables {
        match *name {
            "EXAMGATE__STORE__URL" => *value = format!("sqlite:{}/examgate.db", folder.path().display()),
            "EXAMGATE__STORE__ENCRYPTION_KEY" => *value = format!("file:{}/examgate.key", folder.path().display()),
            _ => {}
        }
    }
    let environment: Vec<(&str, &str)> = variables.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let gateway = Gateway::start_in_with_env(folder, &environment).await;
    let address = gateway.address.to_string();
    variables.extend([
        ("KEY", key("lms")),
        ("SANDBOX", vendor),
        ("EXAMGATE_URL", format!("http://{address}")),
        ("EXAMGATE_API_KEY", key("lms")),
    ]);

    let examples = examples(README);
    assert!(examples.len() > 20, "{examples:?}");
    for (beginning, reason) in EXEMPT {
        assert!(examples.iter().any(|example| example.command.starts_with(beginning)), "{beginning}: {reason}");
    }
    let mut seen = String::new();
    for Example { command, shown } in examples {
        if EXEMPT.iter().any(|(beginning, _)| command.starts_with(beginning)) || is_for_compose(&command) {
            continue;
        }
        let command = with_ids(&command, &seen).replace("127.0.0.1:8080", &address);
        let (code, output) = run(&command, gateway.folder.path(), &variables).await;
        // One row of the spreadsheet is invalid, to show how that is reported.
        let expected = i32::from(command.starts_with("examgate import people.csv"));
        assert_eq!(code, Some(expected), "{command}\n{output}");
        assert!(!output.contains("insufficient_scope"), "{command}\n{output}");
        let compact = output.replace("\": ", "\":");
        for member in lasting_members(&shown) {
            assert!(compact.contains(&member), "{command}\nREADME shows {member}:\n{output}");
        }
        seen.push_str(&output);
    }
}

/// Returns whether the command belongs to the containers of the command before it.
fn is_for_compose(command: &str) -> bool {
    command.contains("egk_compose-demo-only")
}

#[tokio::test]
async fn the_files_that_the_readme_makes_are_accepted() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    for command in ["examgate config example > example.toml", "examgate sandbox --print-config > sandbox.toml"] {
        assert!(README.contains(command), "{command}");
        assert_eq!(run(command, folder.path(), &[]).await.0, Some(0), "{command}");
    }
    let secrets = ["STARTEXAM_SECRET", "THINKEXAM_KEY", "THINKEXAM_SECRET", "EXAMTESTING_KEY", "EXAMTESTING_PASS"];
    let mut variables: Vec<(&str, String)> = secrets.iter().map(|name| (*name, "secret".to_owned())).collect();
    // Without a network the vendors are unreachable, at once.
    for name in [
        "EXAMGATE__CONNECTIONS__STARTEXAM_MAIN__BASE_URL",
        "EXAMGATE__CONNECTIONS__THINKEXAM_MAIN__BASE_URL",
        "EXAMGATE__CONNECTIONS__EXAMTESTING_MAIN__BASE_URL",
    ] {
        variables.push((name, "http://127.0.0.1:1".to_owned()));
    }
    for file in ["example.toml", "sandbox.toml"] {
        let (code, output) = run(&format!("examgate check --config {file}"), folder.path(), &variables).await;
        assert!(code != Some(2) && output.starts_with("configuration: ok\n"), "{file}: {output}");
    }
}
