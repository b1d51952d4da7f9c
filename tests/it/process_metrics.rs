//! The standard metrics of the process at `/metrics`.

use std::collections::BTreeMap;

use crate::support::connections::startexam;
use crate::support::gateway::{Gateway, http};
use crate::support::vendor::Stub;

/// Reads the page; returns its text and the values of metrics without labels.
async fn scrape(address: std::net::SocketAddr) -> (String, BTreeMap<String, f64>) {
    let response = http().get(format!("http://{address}/metrics")).send().await.expect("a response");
    let text = response.text().await.expect("text");
    let values = text.lines().filter(|line| !line.starts_with('#') && !line.contains('{')).filter_map(|line| {
        let (name, value) = line.split_once(' ')?;
        Some((name.to_owned(), value.parse().unwrap_or_else(|_| panic!("a number: {line}"))))
    });
    (text.clone(), values.collect())
}

#[tokio::test]
async fn the_page_has_the_standard_metrics_of_the_process() {
    let vendor = Stub::accepting().await;
    let environment = [("EXAMGATE__SERVER__ADMIN_LISTEN", "127.0.0.1:0")];
    let clients = crate::support::connections::client("lms", "", "[\"*\"]");
    let mut gateway = Gateway::start_with_env(&startexam(&vendor.url(), ""), &clients, &environment).await;
    let address = gateway.admin_address().await;
    let (text, first) = scrape(address).await;

    // As promtool would check it: each metric once, its help and type before it, and no blank or malformed line inside.
    for name in first.keys().filter(|name| name.starts_with("process_")) {
        let lines: Vec<&str> = text.lines().filter(|line| line.split(' ').any(|word| word == name)).collect();
        let kind = if name.ends_with("_total") { "counter" } else { "gauge" };
        assert!(
            lines.len() == 3
                && lines[0].starts_with(&format!("# HELP {name} "))
                && lines[1] == format!("# TYPE {name} {kind}")
                && lines[2].starts_with(&format!("{name} ")),
            "{lines:?}"
        );
    }
    let kib = gateway.memory_kib("VmRSS");
    let resident = first["process_resident_memory_bytes"] / 1024.0;
    #[expect(clippy::cast_precision_loss, reason = "no memory reaches 2^52 KiB")]
    let ratio = resident / kib as f64;
    assert!((0.5..2.0).contains(&ratio), "{resident} {kib}");
    assert!(first["process_virtual_memory_bytes"] >= first["process_resident_memory_bytes"]);
    assert!((5.0..=first["process_max_fds"]).contains(&first["process_open_fds"]), "{first:?}");
    assert!(first["process_threads"] >= 2.0, "{first:?}");

    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("a time").as_secs_f64();
    let age = now - first["process_start_time_seconds"];
    // The system rounds its own start to a second.
    assert!((-2.0..600.0).contains(&age), "{age}");
    let (_, second) = scrape(address).await;
    assert!(second["process_cpu_seconds_total"] >= first["process_cpu_seconds_total"]);
    assert!((second["process_start_time_seconds"] - first["process_start_time_seconds"]).abs() < 0.001);
}
