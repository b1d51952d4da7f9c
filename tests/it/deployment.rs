//! The files in `deploy/` and the compose file agree with the program: metric names, configuration keys, timeouts and
//! sizes. `scripts/check-deploy` runs the tools that read those files.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use data_encoding::BASE64;
use regex::Regex;
use tempfile::TempDir;

/// An address without a listener, so that a connection check fails immediately.
const NOBODY: &str = "http://127.0.0.1:1";
const NO_DATABASE: &str = "postgres://examgate:secret@127.0.0.1:1/examgate";

fn read(file: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(file);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Returns everything the pattern's first group matches, in order.
fn all(pattern: &str, text: &str) -> Vec<String> {
    let pattern = Regex::new(pattern).expect("a pattern");
    pattern.captures_iter(text).map(|found| found[1].to_owned()).collect()
}

fn one(pattern: &str, text: &str) -> String {
    let found = all(pattern, text);
    assert_eq!(found.len(), 1, "{pattern}: {found:?}");
    found[0].clone()
}

fn number(pattern: &str, text: &str) -> u64 {
    one(pattern, text).parse().expect("a number")
}

#[test]
fn dashboards_and_alerts_use_only_existing_metrics() {
    let known: BTreeSet<String> =
        all("\"(examgate_[a-z_]+)\"", &read("src/telemetry/metrics.rs")).into_iter().collect();
    assert!(known.contains("examgate_http_requests_total") && known.len() > 10, "{known:?}");
    let exists = |name: &str| {
        let histogram = ["_bucket", "_sum", "_count"].iter().find_map(|end| name.strip_suffix(end));
        known.contains(name) || histogram.is_some_and(|name| name.ends_with("_seconds") && known.contains(name))
    };
    for file in [
        "deploy/grafana/examgate.json",
        "deploy/prometheus/alerts.yml",
        "deploy/prometheus/alerts_test.yml",
        "deploy/kubernetes/autoscaling/horizontalpodautoscaler.yaml",
        "docs/DEPLOYMENT.md",
    ] {
        let used = all(r"\b(examgate_[a-z_]+)", &read(file));
        assert!(!used.is_empty(), "{file}");
        let unknown: BTreeSet<_> = used.iter().filter(|name| !exists(name)).collect();
        assert!(unknown.is_empty(), "{file}: {unknown:?}");
    }
}

/// Runs `examgate check` on this configuration, with only these variables.
fn check(text: &str, variables: &BTreeMap<String, String>) -> Output {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let hosts = Regex::new("https?://(sandbox:[0-9]+|thinkexam.example.com)").expect("a pattern");
    fs::write(folder.path().join("examgate.toml"), &*hosts.replace_all(text, NOBODY)).expect("a configuration");
    Command::new(env!("CARGO_BIN_EXE_examgate"))
        .arg("check")
        .current_dir(folder.path())
        .env_clear()
        .env("EXAMGATE__CONNECTIONS__STARTEXAM_MAIN__BASE_URL", NOBODY)
        .envs(variables)
        .stdin(Stdio::null())
        .output()
        .expect("the program runs")
}

/// Asserts that the configuration was read without an error; unreachable vendors do not count.
fn assert_accepted(output: &Output) {
    let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(stdout.starts_with("configuration: ok\n") && output.status.code() != Some(2), "{stdout}{stderr}");
}

/// Returns the variables of the compose file whose names match.
fn compose_variables(names: &str) -> BTreeMap<String, String> {
    let lines = Regex::new(&format!(r"(?m)^ +({names}): (\S+)$")).expect("a pattern");
    let text = read("docker-compose.yml");
    let found: BTreeMap<_, _> =
        lines.captures_iter(&text).map(|line| (line[1].to_owned(), line[2].to_owned())).collect();
    assert!(found.len() > 1, "{names}: {found:?}");
    found
}

/// Creates a folder with these secret files.
fn secrets(files: impl IntoIterator<Item = (String, String)>) -> TempDir {
    let folder = tempfile::tempdir().expect("a temporary folder");
    for (name, value) in files {
        fs::write(folder.path().join(name), value).expect("a secret");
    }
    folder
}

#[test]
fn the_configuration_of_the_compose_file_is_accepted() {
    assert_accepted(&check(&read("deploy/compose/examgate.toml"), &compose_variables("[A-Z]+_SECRET")));
}

#[test]
fn the_configuration_of_the_replicas_in_the_compose_file_is_accepted() {
    let declared = all(r"file: \./deploy/compose/secrets/([a-z_]+)", &read("docker-compose.yml"));
    let folder = secrets(declared.into_iter().map(|name| {
        let value = read(&format!("deploy/compose/secrets/{name}"));
        let value = if name == "database_url" { NO_DATABASE.to_owned() } else { value };
        (name, value)
    }));
    let mut variables = compose_variables("EXAMGATE__[A-Z_]+");
    for value in variables.values_mut() {
        *value = value.replace("/run/secrets", &folder.path().display().to_string());
    }
    assert_accepted(&check(&read("deploy/compose/examgate.toml"), &variables));
}

#[test]
fn the_database_of_the_compose_file_has_the_password_its_replicas_use() {
    let address = read("deploy/compose/secrets/database_url");
    let password = read("deploy/compose/secrets/postgres_password");
    assert_eq!(one("postgres://examgate:(.+)@postgres/examgate\n$", &address), password.trim_end());
}

#[test]
fn the_kubernetes_configuration_is_accepted_with_its_secret_files() {
    let names = all(
        r"(?m)^  ([a-z-]+): \S+$",
        read("deploy/kubernetes/secret.example.yaml").split_once("stringData:").expect("data").1,
    );
    let folder = secrets(names.into_iter().map(|name| {
        let value = match name.as_str() {
            "store-key" => BASE64.encode(&[7; 32]),
            "database-url" => NO_DATABASE.to_owned(),
            "thinkexam-hook-token" => "0123456789abcdef".to_owned(),
            _ => "secret".to_owned(),
        };
        (name, value)
    }));
    let mount_path = one(r"mountPath: (/run/secrets\S*)", &read("deploy/kubernetes/deployment.yaml"));
    let text = read("deploy/kubernetes/examgate.toml").replace(&mount_path, &folder.path().display().to_string());
    assert_accepted(&check(&text, &BTreeMap::new()));
}

#[test]
fn image_and_manifests_name_this_version_and_its_compiler() {
    let image = read("Dockerfile");
    let version = env!("CARGO_PKG_VERSION");
    assert_eq!(one("(?m)^ARG VERSION=(.+)$", &image), version);
    assert_eq!(one("newTag: (.+)", &read("deploy/kubernetes/kustomization.yaml")), version);
    assert_eq!(all("(?m)^(?:version|appVersion): (.+)$", &read("deploy/helm/examgate/Chart.yaml")), [version, version]);
    let changes = read("CHANGELOG.md");
    assert_eq!(all(r"(?m)^## \[([0-9.]+)\] - \d{4}-\d{2}-\d{2}$", &changes).first().map(String::as_str), Some(version));
    assert_eq!(one("(?m)^FROM rust:([0-9.]+)-", &image), env!("CARGO_PKG_RUST_VERSION"));
}

#[test]
fn the_image_and_its_guide_have_the_published_build() {
    let (image, guide) = (read("Dockerfile"), read("docs/DEPLOYMENT.md"));
    let build = "cargo build --profile dist --features jemalloc --locked";
    assert_eq!(all(r"(cargo build .+?) --bin examgate", &image), [build, build]);
    assert!(guide.contains(&format!("$ {build}\n")) && guide.contains("install -m 755 target/dist/examgate "));
    assert!(image.contains("/build/target/dist/examgate ") && !image.contains("target/release"));
}

/// Returns the values of the chart as dotted names.
fn chart_values() -> BTreeSet<String> {
    let line = Regex::new("^( *)([A-Za-z]+):").expect("a pattern");
    let mut parents: Vec<String> = Vec::new();
    let values = read("deploy/helm/examgate/values.yaml");
    let names = values.lines().filter_map(|text| line.captures(text)).map(|found| {
        parents.truncate(found[1].len() / 2);
        parents.push(found[2].to_owned());
        parents.join(".")
    });
    names.collect()
}

#[test]
fn the_chart_uses_its_values_and_matches_the_manifests() {
    let (values, mut used) = (chart_values(), BTreeSet::new());
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/helm/examgate/templates");
    let mut templates = String::new();
    for entry in fs::read_dir(folder).expect("templates") {
        let text = fs::read_to_string(entry.expect("an entry").path()).expect("text");
        used.extend(all(r"\.Values\.([A-Za-z.]+)", &text));
        let blocks = |word: &str| all(&format!(r"\{{\{{-? ?({word})\b"), &text).len();
        assert_eq!(blocks("if") + blocks("with") + blocks("define"), blocks("end"), "{text}");
        templates += &text;
    }
    let unknown: Vec<_> = used.difference(&values).collect();
    assert!(unknown.is_empty(), "{unknown:?}");
    let unused: Vec<_> = values
        .iter()
        .filter(|name| {
            !used.iter().any(|used| {
                used == *name || name.starts_with(&format!("{used}.")) || used.starts_with(&format!("{name}."))
            })
        })
        .collect();
    assert!(unused.is_empty(), "{unused:?}");
    // What the pods of the plain manifests have, those of the chart have, too.
    let manifest = read("deploy/kubernetes/deployment.yaml");
    for pattern in
        [r"(httpGet: .+)", "(failureThreshold: .+)", "(mountPath: .+)", "(readOnlyRootFilesystem: .+)", r"(drop: .+)"]
    {
        assert_eq!(all(pattern, &templates), all(pattern, &manifest), "{pattern}");
    }
    let ingress = |text: &str| all(r"(nginx\.ingress\.kubernetes\.io/.+)", text);
    let of_chart = read("deploy/helm/examgate/values.yaml");
    assert_eq!(ingress(&of_chart), ingress(&read("deploy/kubernetes/ingress/ingress.yaml")));
}

#[test]
fn the_service_monitor_selects_the_port_of_the_pods() {
    let monitor = read("deploy/prometheus/servicemonitor.yaml");
    assert!(read("deploy/kubernetes/deployment.yaml").contains("- name: admin\n              containerPort: 9090\n"));
    assert!(monitor.contains("targetPort: admin\n") && monitor.contains("- port: admin\n      path: /metrics\n"));
    assert_eq!(
        all("(app.kubernetes.io/component: admin)", &monitor).len(),
        2,
        "the Service has what the monitor selects"
    );
}

#[test]
fn the_systemd_unit_starts_commands_that_exist_and_waits_for_their_end() {
    let unit = read("deploy/systemd/examgate.service");
    assert_eq!(one("(?m)^ExecStart=/usr/local/bin/examgate (.+)$", &unit), "serve");
    let default = read("src/config/default.toml");
    let seconds = |key: &str| number(&format!("(?m)^{key} = \"([0-9]+)s\""), &default);
    let stop = number("(?m)^TimeoutStopSec=([0-9]+)$", &unit);
    assert!(stop > seconds("shutdown_grace") + seconds("shutdown_delay"), "{stop}");
    // The store's default files are relative to the folder that the unit may write to.
    assert_eq!(one("(?m)^WorkingDirectory=/var/lib/(.+)$", &unit), one("(?m)^StateDirectory=(.+)$", &unit));
}

#[test]
fn the_data_folder_of_the_image_is_its_groups_as_well() {
    let image = read("Dockerfile");
    assert!(image.contains("chmod 0770 /data") && image.contains("COPY --from=build --chown=65532:0 /data /data\n"));
}

#[test]
fn stop_timeouts_exceed_what_a_replica_needs() {
    let default = read("src/config/default.toml");
    let grace = number(r#"(?m)^shutdown_grace = "([0-9]+)s""#, &default);
    let delay = number(r#"(?m)^shutdown_delay = "([0-9]+)s""#, &default);
    let in_kubernetes = number(r#"(?m)^shutdown_delay = "([0-9]+)s""#, &read("deploy/kubernetes/examgate.toml"));
    let pod = number("terminationGracePeriodSeconds: ([0-9]+)", &read("deploy/kubernetes/deployment.yaml"));
    assert!(pod > grace + in_kubernetes, "{pod}");
    let chart = number("terminationGracePeriodSeconds: ([0-9]+)", &read("deploy/helm/examgate/values.yaml"));
    assert!(chart > grace + in_kubernetes, "{chart}");
    let compose = read("docker-compose.yml");
    let service = number(r"(?s)x-gateway:.*?stop_grace_period: ([0-9]+)s.*?x-replica:", &compose);
    assert!(service > grace + delay, "{service}");
}

#[test]
fn nginx_matches_the_path_limits_and_timeouts_of_the_gateway() {
    let (nginx, default) = (read("deploy/compose/nginx.conf"), read("src/config/default.toml"));
    let path = &compose_variables("EXAMGATE__[A-Z_]+")["EXAMGATE__SERVER__BASE_PATH"];
    assert!(nginx.contains(&format!("location {path}/ {{")), "{path}");
    let sizes = all("client_max_body_size ([0-9]+)m;", &nginx);
    let [body, bulk] =
        ["body_limit", "bulk_body_limit"].map(|key| one(&format!("(?m)^{key} = \"([0-9]+)MiB\""), &default));
    // A webhook has 1 MiB, whatever the settings.
    assert_eq!(sizes, [body, "1".to_owned(), bulk]);
    assert!(nginx.contains("underscores_in_headers on;"), "or the keys of webhooks never arrive");
    let longest = number(r#"(?m)^request_timeout = "([0-9]+)s""#, &default);
    let keep_alive = number(r#"(?m)^keep_alive = "([0-9]+)s""#, &default);
    assert!(number(r"(?m)^ +keepalive_timeout ([0-9]+)s;", &nginx) < keep_alive, "nginx has to be the one that closes");
    assert!(number("proxy_read_timeout ([0-9]+)s;", &nginx) > longest);
    assert!(!nginx.lines().any(|line| line.contains("proxy_next_upstream") && line.contains("non_idempotent")));
}
