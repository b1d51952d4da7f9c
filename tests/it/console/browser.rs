//! A browser for the tests: keeps cookies, follows relative addresses, and fills in the forms of pages.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use reqwest::Method;
use reqwest::header::{COOKIE, HeaderMap};
use url::Url;

use crate::support::gateway::http;

/// A browser with its cookies, and where it is.
pub struct Browser {
    base: Url,
    pub cookies: BTreeMap<String, String>,
    /// Headers of every request, such as those a proxy adds.
    pub headers: Vec<(&'static str, String)>,
}

/// An answer to a browser.
#[derive(Debug)]
pub struct Page {
    pub url: Url,
    pub status: u16,
    pub headers: HeaderMap,
    pub text: String,
}

/// A form of a page, with its fields as the page has filled them in.
#[derive(Debug, Clone)]
pub struct Form {
    pub action: Url,
    pub fields: Vec<(String, String)>,
}

impl Browser {
    /// Opens a browser at this server; `prefix` is what comes before `/console/`.
    pub fn at(address: SocketAddr, prefix: &str) -> Self {
        let base = Url::parse(&format!("http://{address}{prefix}/console/")).expect("a URL");
        Self { base, cookies: BTreeMap::new(), headers: Vec::new() }
    }

    /// Opens a browser and signs in with this key.
    pub async fn signed_in(address: SocketAddr, key: &str) -> Self {
        let mut browser = Self::at(address, "");
        let page = browser.sign_in(key).await;
        assert_eq!((page.status, page.header("location")), (303, "./"), "{page:?}");
        browser
    }

    /// Signs in with this key; returns the answer to the form.
    pub async fn sign_in(&mut self, key: &str) -> Page {
        let page = self.get("sign-in").await;
        let form = page.form("sign-in").with("apiKey", key);
        self.submit(&form).await
    }

    /// Opens a page below `console/`; does not follow a redirect.
    pub async fn get(&mut self, path: &str) -> Page {
        let url = self.base.join(path).expect("an address");
        self.send(Method::GET, url, None).await
    }

    /// Opens a page below `console/`, and where it leads to.
    pub async fn open(&mut self, path: &str) -> Page {
        let page = self.get(path).await;
        self.follow(page).await
    }

    /// Goes where an answer leads, as often as it leads somewhere.
    pub async fn follow(&mut self, mut page: Page) -> Page {
        for _ in 0..5 {
            if !(300..400).contains(&page.status) {
                return page;
            }
            let url = page.url.join(page.header("location")).expect("an address");
            page = self.send(Method::GET, url, None).await;
        }
        panic!("it leads in a circle: {page:?}");
    }

    /// Sends a form; does not follow a redirect.
    pub async fn submit(&mut self, form: &Form) -> Page {
        self.send(Method::POST, form.action.clone(), Some(&form.fields)).await
    }

    /// Sends a form with a file in the field `file`; does not follow a redirect.
    pub async fn upload(&mut self, form: &Form, name: &str, file: &[u8]) -> Page {
        const BOUNDARY: &str = "----boundary-of-a-form";
        let mut body = Vec::new();
        let mut add = |head: String, content: &[u8]| {
            body.extend(format!("--{BOUNDARY}\r\nContent-Disposition: form-data; {head}\r\n\r\n").into_bytes());
            body.extend_from_slice(content);
            body.extend(b"\r\n");
        };
        for (name, value) in &form.fields {
            add(format!("name=\"{name}\""), value.as_bytes());
        }
        add(format!("name=\"file\"; filename=\"{name}\"\r\nContent-Type: application/octet-stream"), file);
        body.extend(format!("--{BOUNDARY}--\r\n").into_bytes());
        let media_type = format!("multipart/form-data; boundary={BOUNDARY}");
        self.send_body(Method::POST, form.action.clone(), Some((media_type, body))).await
    }

    /// Sends a request with the browser's cookies, and keeps those of the answer.
    pub async fn send(&mut self, method: Method, url: Url, fields: Option<&[(String, String)]>) -> Page {
        let body = fields.map(|fields| {
            let body = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(fields).finish();
            ("application/x-www-form-urlencoded".to_owned(), body.into_bytes())
        });
        self.send_body(method, url, body).await
    }

    async fn send_body(&mut self, method: Method, url: Url, body: Option<(String, Vec<u8>)>) -> Page {
        let mut request = http().request(method, url.clone());
        if !self.cookies.is_empty() {
            let cookies: Vec<String> = self.cookies.iter().map(|(name, value)| format!("{name}={value}")).collect();
            request = request.header(COOKIE, cookies.join("; "));
        }
        for (name, value) in &self.headers {
            request = request.header(*name, value);
        }
        if let Some((media_type, body)) = body {
            request = request.header("content-type", media_type).body(body);
        }
        let response = request.send().await.expect("an answer");
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        for cookie in headers.get_all("set-cookie") {
            let text = cookie.to_str().expect("text");
            let (pair, rest) = text.split_once(';').expect("attributes");
            let (name, value) = pair.split_once('=').expect("a pair");
            if rest.contains("Max-Age=0") {
                self.cookies.remove(name);
            } else {
                self.cookies.insert(name.to_owned(), value.to_owned());
            }
        }
        Page { url, status, headers, text: response.text().await.expect("a complete answer") }
    }
}

impl Page {
    /// Returns a header as text, or "".
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or("")
    }

    /// Returns the title.
    pub fn title(&self) -> &str {
        let rest = self.text.split_once("<title>").map_or("", |(_, rest)| rest);
        rest.split_once("</title>").map_or("", |(title, _)| title)
    }

    /// Returns the page's text without markup, with single spaces.
    pub fn words(&self) -> String {
        let body = self.text.split_once("<body").map_or(self.text.as_str(), |(_, body)| body);
        let text: Vec<&str> = body.split('<').map(|part| part.split_once('>').map_or(part, |(_, text)| text)).collect();
        text.join(" ").split_whitespace().collect::<Vec<_>>().join(" ")
    }

    /// Returns the first form of the method `post` whose address ends like this.
    pub fn form(&self, action: &str) -> Form {
        self.find_form(action).unwrap_or_else(|| panic!("no form for {action}: {}", self.text))
    }

    /// Like [`Page::form`]; `None` if there is no such form.
    pub fn find_form(&self, action: &str) -> Option<Form> {
        self.text.split("<form ").skip(1).find_map(|rest| {
            let (tag, rest) = rest.split_once('>')?;
            let (inside, _) = rest.split_once("</form>")?;
            let address = attribute(tag, "action")?;
            let is_it = attribute(tag, "method").as_deref() == Some("post") && address.ends_with(action);
            is_it.then(|| Form { action: self.url.join(&address).expect("an address"), fields: fields(inside) })
        })
    }

    /// Returns whether a link leads to this address below `console/`.
    pub fn has_link(&self, path: &str) -> bool {
        self.text.split("<a ").skip(1).filter_map(|rest| rest.split_once('>')).any(|(tag, _)| {
            let address = attribute(tag, "href").and_then(|address| self.url.join(&address).ok());
            address.is_some_and(|address| address.path().ends_with(&format!("/console/{path}")))
        })
    }
}

impl Form {
    /// Fills in a field.
    pub fn with(mut self, name: &str, value: &str) -> Self {
        self.fields.retain(|(known, _)| known != name);
        self.fields.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Takes a field away.
    pub fn without(mut self, name: &str) -> Self {
        self.fields.retain(|(known, _)| known != name);
        self
    }
}

/// Returns the hidden and other text fields of a form.
fn fields(form: &str) -> Vec<(String, String)> {
    let inputs = form.split("<input ").skip(1).filter_map(|rest| rest.split_once('>'));
    let kept = inputs
        .filter(|(tag, _)| !["radio", "checkbox", "file"].contains(&&*attribute(tag, "type").unwrap_or_default()));
    kept.filter_map(|(tag, _)| Some((attribute(tag, "name")?, attribute(tag, "value").unwrap_or_default()))).collect()
}

/// Returns the value of an attribute.
fn attribute(tag: &str, name: &str) -> Option<String> {
    let (_, rest) = tag.split_once(&format!("{name}=\""))?;
    let (value, _) = rest.split_once('"')?;
    let value = value.replace("&lt;", "<").replace("&gt;", ">").replace("&quot;", "\"").replace("&#39;", "'");
    Some(value.replace("&#38;", "&").replace("&#34;", "\"").replace("&amp;", "&"))
}
