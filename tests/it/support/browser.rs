//! A browser without a script: follows the console's forms as a person would.

use http::header::{COOKIE, LOCATION, SET_COOKIE};
use http::{Method, StatusCode};

use super::gateway::{Gateway, http, key};

/// A page of the console.
#[derive(Debug)]
pub struct ConsolePage {
    pub status: StatusCode,
    pub text: String,
    /// `Location`, as it was sent.
    pub location: Option<String>,
}

impl ConsolePage {
    /// Returns the values of the hidden fields with this name, in order.
    pub fn hidden(&self, name: &str) -> Option<String> {
        let start = format!("name=\"{name}\" value=\"");
        let (_, rest) = self.text.split_once(&start)?;
        Some(rest.split('"').next().unwrap_or_default().to_owned())
    }

    /// Returns the field that is selected in the list with this name.
    pub fn selected(&self, name: &str) -> String {
        let (_, rest) = self.text.split_once(&format!("<select name=\"{name}\">")).expect("the list is there");
        let list = rest.split("</select>").next().unwrap_or_default();
        let chosen = list.split("<option").find_map(|option| option.strip_prefix(" selected>"));
        chosen.map_or_else(String::new, |chosen| chosen.split('<').next().unwrap_or_default().to_owned())
    }
}

/// A field of a multipart form: a text, or a file with its name.
pub enum Part<'a> {
    Text(&'a str, &'a str),
    File(&'a str, &'a str, &'a [u8]),
}

/// A browser that is signed in.
pub struct Browser {
    base: String,
    cookie: String,
    csrf: String,
}

impl Browser {
    /// Signs in as this client.
    pub async fn sign_in(gateway: &Gateway, client: &str) -> Self {
        let base = format!("http://{}/console/", gateway.address);
        let mut browser = Self { base, cookie: String::new(), csrf: String::new() };
        let page = browser.send(Method::GET, "sign-in", None).await;
        browser.csrf = page.hidden("csrf").expect("a token");
        let form = format!("csrf={}&apiKey={}&to=", browser.csrf, key(client));
        let kind = "application/x-www-form-urlencoded".to_owned();
        let signed_in = browser.send(Method::POST, "sign-in", Some((kind, form.into_bytes()))).await;
        assert_eq!(signed_in.status, StatusCode::SEE_OTHER, "{signed_in:?}");
        let page = browser.get("").await;
        browser.csrf = page.hidden("csrf").expect("a token");
        browser
    }

    pub async fn get(&mut self, path: &str) -> ConsolePage {
        self.send(Method::GET, path, None).await
    }

    /// Posts a multipart form, with the session's token.
    pub async fn post(&mut self, path: &str, parts: &[Part<'_>]) -> ConsolePage {
        let csrf = self.csrf.clone();
        let body = multipart(parts.iter().chain([&Part::Text("csrf", &csrf)]));
        self.send(Method::POST, path, Some((format!("multipart/form-data; boundary={BOUNDARY}"), body))).await
    }

    /// Posts a multipart form as it is.
    pub async fn post_without_token(&mut self, path: &str, parts: &[Part<'_>]) -> ConsolePage {
        let body = multipart(parts.iter());
        self.send(Method::POST, path, Some((format!("multipart/form-data; boundary={BOUNDARY}"), body))).await
    }

    async fn send(&mut self, method: Method, path: &str, body: Option<(String, Vec<u8>)>) -> ConsolePage {
        let mut request = http().request(method, format!("{}{path}", self.base)).header(COOKIE, &self.cookie);
        if let Some((kind, body)) = body {
            request = request.header("content-type", kind).body(body);
        }
        let response = request.send().await.expect("the gateway responds");
        for cookie in response.headers().get_all(SET_COOKIE) {
            let pair = cookie.to_str().expect("text").split(';').next().unwrap_or_default();
            if !pair.ends_with('=') {
                pair.clone_into(&mut self.cookie);
            }
        }
        let location = response.headers().get(LOCATION).map(|value| value.to_str().expect("text").to_owned());
        ConsolePage { status: response.status(), location, text: response.text().await.expect("a page") }
    }
}

const BOUNDARY: &str = "----boundary-of-a-form";

fn multipart<'a>(parts: impl Iterator<Item = &'a Part<'a>>) -> Vec<u8> {
    let mut body = Vec::new();
    for part in parts {
        let (head, content) = match part {
            Part::Text(name, value) => (format!("name=\"{name}\""), value.as_bytes()),
            Part::File(name, file, content) => {
                (format!("name=\"{name}\"; filename=\"{file}\"\r\nContent-Type: application/octet-stream"), *content)
            }
        };
        body.extend(format!("--{BOUNDARY}\r\nContent-Disposition: form-data; {head}\r\n\r\n").into_bytes());
        body.extend_from_slice(content);
        body.extend(b"\r\n");
    }
    body.extend(format!("--{BOUNDARY}--\r\n").into_bytes());
    body
}
