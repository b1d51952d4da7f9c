//! The self-description of the API, wherever it is mounted.

use reqwest::Method;
use serde_json::{Value, json};

use super::{api_parts, send, serve_api};

#[tokio::test]
async fn every_problem_code_has_a_description() {
    let server = serve_api(&api_parts().await).await;
    let response = send(server.anonymous(Method::GET, "/problems/vendor_timeout")).await;
    assert_eq!((response.status, response.header("content-type")), (200, "application/json"));
    assert_eq!((&response.body["origin"], &response.body["status"]), (&json!("vendor"), &json!(504)));
    for code in examgate::domain::error::Code::ALL {
        let response = server.get(&format!("/problems/{}", code.as_str())).await;
        assert_eq!(response.body["status"], examgate::http::status(*code).as_u16());
        assert!(!response.body["meaning"].as_str().unwrap().is_empty());
    }
}

#[tokio::test]
async fn every_vendor_lists_its_capabilities() {
    let server = serve_api(&api_parts().await).await;
    let response = server.get("/vendors").await;
    assert_eq!(response.body["nextCursor"], Value::Null);
    assert_eq!(response.body["items"].as_array().unwrap().len(), 3);
    for vendor in response.body["items"].as_array().unwrap() {
        assert_eq!(vendor["operations"].as_array().unwrap().len(), 7);
        let results = vendor["results"].as_object().unwrap();
        assert!(["feed", "webhook", "none"].contains(&results["source"].as_str().unwrap()), "{results:?}");
        for fact in ["inProgress", "corrections", "attemptTimes", "parts", "refresh"] {
            let told = results[fact].as_bool().unwrap();
            assert!(!told || results["source"] != "none", "{fact} without a source");
        }
        assert!(!results["note"].as_str().unwrap().is_empty());
        let alone = server.get(&format!("/vendors/{}", vendor["vendor"].as_str().unwrap())).await;
        assert_eq!(&alone.body, vendor);
    }
}

#[tokio::test]
async fn lists_are_paginated() {
    let server = serve_api(&api_parts().await).await;
    let mut seen = Vec::new();
    let mut cursor = String::new();
    for _ in 0..3 {
        let response = server.get(&format!("/vendors?limit=1{cursor}")).await;
        seen.push(response.body["items"][0]["vendor"].clone());
        cursor = response.body["nextCursor"].as_str().map(|next| format!("&cursor={next}")).unwrap_or_default();
    }
    assert!(cursor.is_empty(), "three vendors, three parts");
    assert_eq!(seen.len(), 3);
}

#[tokio::test]
async fn the_whole_api_moves_below_its_base_path() {
    let mut api_parts = api_parts().await;
    api_parts.server.base_path = "/exam-api".to_owned();
    let server = serve_api(&api_parts).await;
    for path in ["/exam-api/livez", "/exam-api/docs/", "/exam-api/openapi.json", "/exam-api/vendors"] {
        assert_eq!(server.get(path).await.status, 200, "{path}");
    }
    for path in ["/livez", "/vendors", "/exam-apivendors", "/"] {
        assert_eq!(server.get(path).await.problem(), (404, "not_found"), "{path}");
    }
    for path in ["/exam-api/vendors", "/exam-api", "/exam-api/"] {
        let response = send(server.request(Method::DELETE, path)).await;
        assert_eq!(response.problem(), (405, "method_not_allowed"), "{path}");
    }
}

#[tokio::test]
async fn the_root_leads_to_the_documentation() {
    for (base, cases) in [
        ("", &[("/", "docs/")][..]),
        ("/exam-api", &[("/exam-api", "exam-api/docs/"), ("/exam-api/", "docs/")][..]),
        ("/a/b", &[("/a/b", "b/docs/"), ("/a/b/", "docs/"), ("/a/b/?x=1", "docs/")][..]),
    ] {
        let mut api_parts = api_parts().await;
        api_parts.server.base_path = base.to_owned();
        let server = serve_api(&api_parts).await;
        for (path, location) in cases {
            for method in [Method::GET, Method::HEAD] {
                let response = send(server.anonymous(method, path)).await;
                assert_eq!((response.status, response.header("location")), (303, *location), "{path}");
                assert_eq!(response.body, json!(""), "{path}");
            }
            let page =
                reqwest::Url::parse(&format!("http://{}{path}", server.address)).unwrap().join(location).unwrap();
            let page = send(server.anonymous(Method::GET, page.path())).await;
            assert!(page.header("content-type").starts_with("text/html"), "{path}: {page:?}");
        }
    }
}

#[tokio::test]
async fn the_documentation_needs_no_external_host_and_no_fixed_path() {
    let mut api_parts = api_parts().await;
    api_parts.server.base_path = "/exam-api".to_owned();
    let server = serve_api(&api_parts).await;
    let response = server.get("/exam-api/docs").await;
    assert_eq!((response.status, response.header("location")), (307, "docs/"));
    let page = server.get("/exam-api/docs/").await;
    assert!(page.header("content-type").starts_with("text/html"));
    let policy = page.header("content-security-policy");
    assert!(policy.contains("default-src 'none'") && !policy.contains("http"), "{policy}");
    let text = page.body.as_str().unwrap().to_owned();
    let links = text.split("src=\"").skip(1).chain(text.split("href=\"").skip(1));
    let links: Vec<&str> = links.map(|rest| rest.split('"').next().unwrap()).collect();
    assert!(links.len() >= 5, "{links:?}");
    for link in links {
        assert!(!link.starts_with('/') && !link.contains("://"), "{link}");
        let part = server.get(&format!("/exam-api/docs/{}", link.trim_start_matches("./"))).await;
        assert_eq!(part.status, 200, "{link}");
    }
    assert!(text.contains("<title>examgate API</title>"), "{text}");
    let start = server.get("/exam-api/docs/swagger-initializer.js").await;
    let start = start.body.as_str().unwrap();
    assert!(start.contains("\"../openapi.json\"") && start.contains("validatorUrl: null") && !start.contains("://"));
    assert!(start.contains("persistAuthorization: false"), "a key in the browser's storage would outlive its reader");
}

#[tokio::test]
async fn the_openapi_document_lists_the_public_url() {
    let mut api_parts = api_parts().await;
    api_parts.server.public_url = Some("https://exams.example.com/api".parse().unwrap());
    let server = serve_api(&api_parts).await;
    for path in ["/openapi.json", "/openapi-3.0.json"] {
        let response = server.get(path).await;
        assert_eq!(response.body["servers"][0]["url"], "https://exams.example.com/api", "{path}");
        assert_eq!(response.body["servers"][1]["url"], ".", "{path}");
    }
}

#[tokio::test]
async fn both_forms_of_the_description_have_the_same_operations_schemas_and_examples() {
    let server = serve_api(&api_parts().await).await;
    let [new, old] = ["/openapi.json", "/openapi-3.0.json"].map(|path| server.get(path));
    let (new, old) = (new.await.body, old.await.body);
    let names = |value: &Value| value.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    for pointer in ["/components/schemas", "/components/examples", "/components/parameters", "/paths"] {
        assert_eq!(names(new.pointer(pointer).unwrap()), names(old.pointer(pointer).unwrap()), "{pointer}");
    }
    assert_eq!(new["info"]["title"], old["info"]["title"]);
    let order = &old["components"]["schemas"]["NewAssignment"]["properties"]["notify"];
    let nothing = json!({ "type": "string", "nullable": true, "enum": [null] });
    assert_eq!(order["oneOf"], json!([{ "$ref": "#/components/schemas/Notify" }, nothing]), "what generators can read");
    let rows = &old["components"]["schemas"]["ItemResource"]["oneOf"];
    assert_eq!(rows[0], json!({ "$ref": "#/components/schemas/Candidate" }));
    assert_eq!(old["paths"]["/livez"]["get"]["security"], json!([]));
    assert_eq!(old["security"], json!([{ "bearer": [] }, { "apiKey": [] }]));
}
