//! Lists of results with every filter, as a table too; the reports behind them; and what a client may see.

use serde_json::{Value, json};

use super::*;
use crate::support::connections::{client, client_with};
use crate::support::gateway::key;

/// Starts a gateway with a result in each stage: `e1` finished, `e2` in progress, `t1` finished.
async fn start_with_results() -> (Sandbox, Gateway, [Value; 3]) {
    let (sandbox, gateway) = start().await;
    let booked =
        [book(&gateway, START, "e1").await, book(&gateway, START, "e2").await, book(&gateway, THINK, "t1").await];
    sit(&sandbox, &finished(text(&booked[0], "/vendorRef/id"), 5.0)).await;
    sit(&sandbox, &json!({ "participantId": text(&booked[1], "/vendorRef/id") })).await;
    read_feed(&gateway).await;
    deliver(&sandbox, &gateway, &[marks("t1", 31.0)]).await;
    wait_for_count(&gateway, "/results?limit=10", 3).await;
    (sandbox, gateway, booked)
}

#[tokio::test]
async fn every_filter_of_the_list_does_what_it_says() {
    let (_sandbox, gateway, booked) = start_with_results().await;
    let [first, second, _] = &booked;
    for (filter, people) in [
        (format!("assignment={}", text(first, "/id")), vec!["e1"]),
        (format!("candidate={}", text(second, "/candidate/id")), vec!["e2"]),
        ("externalId=t1".to_owned(), vec!["t1"]),
        (format!("assessment={RUST}"), vec!["e1", "e2"]),
        (format!("assessment={TEST}"), vec!["e1", "e2"]),
        (format!("connection={THINK}"), vec!["t1"]),
        ("activity=in_progress".to_owned(), vec!["e2"]),
        ("grading=fully_graded".to_owned(), vec!["e1", "t1"]),
        ("counts=true".to_owned(), vec!["e1", "t1"]),
        ("counts=false".to_owned(), vec!["e2"]),
        ("modifiedSince=2020-01-01T00:00:00Z".to_owned(), vec!["e1", "e2", "t1"]),
        ("modifiedSince=2999-01-01T00:00:00Z".to_owned(), vec![]),
        (format!("connection={START}&activity=completed"), vec!["e1"]),
    ] {
        let found = all(&gateway, &format!("/results?limit=1&{filter}")).await;
        let mut found: Vec<&str> = found.iter().map(|result| text(result, "/candidate/externalId")).collect();
        found.sort_unstable();
        assert_eq!(found, people, "{filter}");
    }
    for wrong in [
        "activity=done",
        "grading=good",
        "counts=perhaps",
        "modifiedSince=yesterday",
        "assignment=cand_1",
        "colour=red",
    ] {
        let refused = gateway.get(&format!("/results?{wrong}")).await;
        assert_eq!(refused.problem(), (422, "validation_failed", "not_applied"), "{wrong}: {refused:?}");
    }
    let shown = all(&gateway, "/assignments?limit=10").await;
    assert!(shown.iter().all(|assignment| assignment["progress"]["attempts"] == 1), "a list shows progress: {shown:?}");
}

#[tokio::test]
async fn a_summary_counts_the_results_and_the_tenths_of_their_scores() {
    let (_sandbox, gateway, _) = start_with_results().await;
    let all = gateway.get("/results/summary").await;
    assert_eq!(all.status, 200, "{all:?}");
    assert_eq!((&all.body["results"], &all.body["complete"]), (&json!(3), &json!(true)), "{all:?}");
    assert_eq!(all.body["activity"], json!({ "in_progress": 1, "completed": 2 }), "{all:?}");
    assert_eq!(all.body["grading"]["fully_graded"], 2, "{all:?}");
    let percents: Vec<f64> = self::all(&gateway, "/results?limit=10")
        .await
        .iter()
        .filter_map(|result| {
            let score = result.get("score")?;
            score
                .get("percent")
                .and_then(Value::as_f64)
                .or_else(|| Some(score["given"].as_f64()? * 100.0 / score.get("maximum")?.as_f64()?))
        })
        .collect();
    let scores = &all.body["scores"];
    assert_eq!(scores["count"], percents.len(), "{all:?}");
    let tenths: Vec<usize> = (0..10_u32)
        .map(|tenth| {
            let range = f64::from(tenth) * 10.0..f64::from(tenth + 1) * 10.0;
            percents.iter().filter(|percent| range.contains(percent)).count()
        })
        .collect();
    assert_eq!(scores["tenths"], json!(tenths), "{all:?}");
    for (filter, count) in [
        (format!("?connection={THINK}"), 1),
        (format!("?assessment={RUST}"), 2),
        (format!("?assessment={RUST}&connection={THINK}"), 0),
        ("?assessment=unheard-of".to_owned(), 0),
    ] {
        let summary = gateway.get(&format!("/results/summary{filter}")).await;
        assert_eq!((summary.status, &summary.body["results"]), (200, &json!(count)), "{filter}: {summary:?}");
    }
    let refused = gateway.get("/results/summary?connection=none-such").await;
    assert_eq!(refused.problem(), (404, "connection_not_found", "not_applied"), "{refused:?}");
    let refused = gateway.get("/results/summary?candidate=x").await;
    assert_eq!(refused.problem(), (422, "validation_failed", "not_applied"), "{refused:?}");
}

#[tokio::test]
async fn results_are_a_table_that_no_spreadsheet_program_calculates_with() {
    let (sandbox, gateway, booked) = start_with_results().await;
    let evil = with(finished(text(&booked[1], "/vendorRef/id"), 5.0), "scaleLevel", json!("=HYPERLINK(\"x\")"));
    sit(&sandbox, &evil).await;
    read_feed(&gateway).await;
    wait_for_version(&gateway, &booked[1], 2).await;
    let table = gateway.request(Method::GET, "/results").header("accept", "text/csv").send().await;
    assert_eq!(table.status, 200, "{table:?}");
    assert!(table.header("content-type").is_some_and(|kind| kind.starts_with("text/csv")), "{table:?}");
    let content = table.body.as_str().expect("text");
    let mut reader = csv::Reader::from_reader(content.trim_start_matches('\u{feff}').as_bytes());
    let names: Vec<String> = reader.headers().expect("a head").iter().map(str::to_owned).collect();
    let rows: Vec<Vec<String>> =
        reader.records().map(|row| row.expect("a row").iter().map(str::to_owned).collect()).collect();
    assert_eq!(rows.len(), 3, "{content}");
    let column = |name: &str| {
        names.iter().position(|other| other.eq_ignore_ascii_case(name)).unwrap_or_else(|| panic!("{name}: {names:?}"))
    };
    let mut people: Vec<&str> = rows.iter().map(|row| row[column("candidate.externalId")].as_str()).collect();
    people.sort_unstable();
    assert_eq!(people, ["e1", "e2", "t1"], "{content}");
    assert!(rows.iter().flatten().all(|cell| !cell.starts_with(['=', '+', '@'])), "{content}");
    let filtered = gateway.request(Method::GET, "/results?externalId=e1").header("accept", "text/csv").send().await;
    assert_eq!(filtered.body.as_str().map(|text| text.trim_end().lines().count()), Some(2), "{filtered:?}");
}

#[tokio::test]
async fn the_command_prints_the_same_table() {
    let (_sandbox, gateway, _) = start_with_results().await;
    let run = tokio::process::Command::new(env!("CARGO_BIN_EXE_examgate"))
        .args(["results", "--csv"])
        .env("EXAMGATE_URL", format!("http://{}", gateway.address))
        .env("EXAMGATE_API_KEY", key("lms"))
        .output()
        .await
        .expect("the program runs");
    assert_eq!(run.status.code(), Some(0), "{run:?}");
    let served = gateway.request(Method::GET, "/results").header("accept", "text/csv").send().await;
    assert_eq!(Some(String::from_utf8_lossy(&run.stdout).trim_end()), served.body.as_str().map(str::trim_end));
}

#[tokio::test]
async fn a_client_sees_results_of_its_connections_and_with_its_scopes_only() {
    let sandbox = sandbox().await;
    let clients = client("lms", "t", "[\"*\"]")
        + &client("think-only", "t", &format!("[\"{THINK}\"]"))
        + &client_with("no-scope", "t", "[\"*\"]", "[\"assignments:read\"]");
    let gateway = Gateway::start_with(&connections(&sandbox, "", ""), &clients).await;
    let booked = book(&gateway, START, "e1").await;
    sit(&sandbox, &finished(text(&booked, "/vendorRef/id"), 5.0)).await;
    read_feed(&gateway).await;
    let result = wait_for_version(&gateway, &booked, 1).await;
    let get = async |who: &str, path: &str| gateway.request_as(&key(who), Method::GET, path).send().await;
    assert_eq!(get("think-only", "/results").await.body["items"], json!([]));
    assert_eq!(get("think-only", &format!("/results/{}", text(&result, "/id"))).await.status, 404);
    assert_eq!(get("think-only", &format!("/results?connection={START}")).await.status, 403);
    assert_eq!(get("think-only", "/reports").await.body["items"], json!([]));
    for path in ["/results", "/reports"] {
        assert_eq!(get("no-scope", path).await.problem().0, 403, "{path}");
    }
    // How far a booking has got is part of the booking.
    let shown = get("no-scope", &path_of(&booked)).await;
    assert_eq!(shown.text("/progress/activity"), "completed", "{shown:?}");
}

#[tokio::test]
async fn a_reports_body_is_shown_on_request_only_and_reading_it_is_on_record() {
    let (_sandbox, gateway, _) = start_with_results().await;
    let reports = all(&gateway, &format!("/reports?limit=10&connection={THINK}")).await;
    let path = format!("/reports/{}", text(&reports[0], "/id"));
    let lines = async || {
        let audit = gateway.request(Method::GET, "/audit").header("accept", "application/x-ndjson").send().await;
        let text = audit.body.as_str().expect("lines").to_owned();
        text.lines().filter(|line| line.contains(path.trim_start_matches("/reports/"))).count()
    };
    let plain = gateway.get(&path).await;
    assert_eq!((plain.status, plain.body.get("body"), lines().await), (200, None, 0), "{plain:?}");
    assert!(!plain.body.to_string().contains("@example.com"), "{plain:?}");
    let whole = gateway.get(&format!("{path}?include=body")).await;
    assert!(whole.body["body"].to_string().contains("t1@example.com"), "{whole:?}");
    assert_eq!(lines().await, 1);
    assert_eq!(gateway.get(&format!("{path}?include=answers")).await.status, 422);
}

#[tokio::test]
async fn vendors_say_what_they_tell() {
    let (_sandbox, gateway) = start().await;
    for (vendor, source, refresh) in
        [("startexam", "feed", true), ("thinkexam", "webhook", false), ("examtesting", "none", false)]
    {
        let shown = gateway.get(&format!("/vendors/{vendor}")).await;
        let results = &shown.body["results"];
        assert_eq!((text(results, "/source"), results["refresh"].as_bool()), (source, Some(refresh)), "{shown:?}");
    }
}
