use super::*;
#[test]
fn dbg() {
    for v in [
        serde_json::json!(8),
        serde_json::json!("x"),
        serde_json::json!("plain:x"),
        serde_json::json!([]),
        serde_json::json!({}),
        serde_json::json!(true),
    ] {
        let mut t = serde_json::json!({"listen":"a","admin_listen":"","base_path":"","public_url":"","bulk_body_limit":"1MiB","request_timeout":"1s","shutdown_grace":"1s","allow_insecure":true});
        t["body_limit"] = v.clone();
        println!("{v}: {:?}", crate::domain::reading::read::<document::Server>(t).err());
    }
}
